import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ssd_jax.data import geometry, rendering
from tests.helpers.reference_results import carried

SIZE = tf.constant([40, 60])  # height, width
BILINEAR = tf.constant(rendering.RESIZE_METHODS.index("bilinear"))


def render(file, placement, side, method):
    return rendering.render(file, placement, rendering.paddings(placement, side), side, method)


def picture() -> np.ndarray:
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, 120 + 0 * x], axis=-1).astype(np.uint8)


def encoded(image_format="PNG", mode="RGB") -> tf.Tensor:
    file = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(file, image_format)
    return tf.constant(file.getvalue())


def test_the_whole_picture_fills_the_canvas():
    placement = rendering.place(tf.constant([0.0, 0.0, 1.0, 1.0]), SIZE, 32)
    np.testing.assert_array_equal(placement.image, [0, 0, 40, 60])
    np.testing.assert_array_equal(placement.canvas, [0, 0, 32, 32])


def test_a_crop_fills_the_canvas():
    placement = rendering.place(tf.constant([0.25, 0.5, 0.75, 0.75]), SIZE, 32)
    np.testing.assert_array_equal(placement.image, [20, 15, 10, 30])
    np.testing.assert_array_equal(placement.canvas, [0, 0, 32, 32])


def test_an_expansion_adds_space_around_the_image():
    placement = rendering.place(tf.constant([-0.5, -1.0, 1.5, 1.0]), SIZE, 32)
    np.testing.assert_array_equal(placement.image, [0, 0, 40, 60])
    np.testing.assert_array_equal(placement.canvas, [16, 8, 16, 16])
    np.testing.assert_array_equal(rendering.canvas_window(placement, 32), [0.25, 0.5, 0.75, 1.0])


def test_a_window_outside_the_image_shows_nothing():
    placement = rendering.place(tf.constant([1.2, 0.0, 1.8, 1.0]), SIZE, 32)
    np.testing.assert_array_equal(placement.canvas[2:], [0, 0])
    image = render(encoded(), placement, 32, BILINEAR)
    assert image.shape == (32, 32, 3) and not image.numpy().any()


def sample(pixels, y, x):
    """Bilinear samples of `[height, width, 3]` at the positions y × x, clipped to the image."""
    for axis, places in ((0, y), (1, x)):
        places = np.clip(places, 0, pixels.shape[axis] - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, pixels.shape[axis] - 1)
        weight = np.expand_dims(places - low, [1 - axis, 2])
        pixels = pixels.take(low, axis) * (1 - weight) + pixels.take(high, axis) * weight
    return pixels


@pytest.mark.parametrize("image_format, seed", [("PNG", 0), ("PNG", 1), ("JPEG", 2)])
def test_pixels_and_boxes_equal_a_plain_implementation(image_format, seed):
    # The slow way: decode all, paste it on the canvas, crop, resize. 500 windows as training
    # draws them, in all.
    draws, side = 200 if image_format == "PNG" else 100, 48
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 0.6, (draws, 3, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0.05, 0.4, (draws, 3, 2))], axis=2)
    boxes = boxes.astype(np.float32)
    windows = geometry.draw_windows(
        tf.constant([0, seed], tf.int64), boxes, 0.5, 4.0, crop_probability=1.0
    )
    windows = windows.numpy()
    for window, true_boxes in zip(windows, boxes, strict=True):
        size = random.integers(24, 80, 2)
        file = io.BytesIO()
        noise = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        noise = noise.resize(size[::-1].tolist(), Image.Resampling.BICUBIC)
        # Where colours have half the resolution, a crop lacks neighbours at its left and right rim.
        noise.save(file, image_format, subsampling=0)
        whole = tf.io.decode_image(file.getvalue(), channels=3).numpy().astype(float)
        placement = rendering.place(tf.constant(window), tf.constant(size), side)
        y, x, height, width = placement.canvas.numpy()
        if not height:
            continue
        image = render(tf.constant(file.getvalue()), placement, side, BILINEAR).numpy()

        # What shows of a box lies where the window has it, but for rounding to whole pixels.
        placed = rendering.place_boxes(true_boxes, placement, tf.constant(size), side).numpy()
        extent = window[2:] - window[:2]
        expected = ((true_boxes.reshape(-1, 2) - window[:2]) / extent).reshape(-1, 4)
        pixel = np.tile(1 / side + 1 / (extent * size[::-1]), 2)
        assert (np.abs(np.clip(placed, 0, 1) - np.clip(expected, 0, 1)) <= pixel).all()

        # And pixels lie where boxes say: the picture itself is a box.
        (picture,) = rendering.place_boxes(
            np.array([geometry.WHOLE_IMAGE], np.float32), placement, tf.constant(size), side
        ).numpy()
        centres = (np.arange(side) + 0.5) / side
        in_picture = (centres[:, None] - picture[:2]) / (picture[2:] - picture[:2])
        in_x, in_y = (in_picture * size[::-1] - 0.5).T
        start = placement.image.numpy()[:2]
        visible = whole[start[0] :, start[1] :][: placement.image[2], : placement.image[3]]
        slow = sample(visible, in_y - start[0], in_x - start[1])
        inside = np.zeros((side, side), bool)
        inside[y : y + height, x : x + width] = True
        np.testing.assert_allclose(image[inside], slow[inside], rtol=0, atol=1)
        assert not image[~inside].any()


@pytest.mark.parametrize("method", range(len(rendering.RESIZE_METHODS)))
def test_every_resize_method_keeps_colours_in_place(method):
    placement = rendering.place(tf.constant([0.0, 0.0, 1.0, 1.0]), SIZE, 20)
    image = render(encoded(), placement, 20, tf.constant(method)).numpy().astype(int)
    np.testing.assert_allclose(image[10, :, 0], np.arange(20) * 12 + 4, atol=12)
    np.testing.assert_allclose(image[:, 10, 1], np.arange(20) * 12 + 3, atol=12)


@pytest.mark.parametrize("image_format, mode", [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA")])
def test_formats_give_three_channels(image_format, mode):
    file = encoded(image_format, mode)
    np.testing.assert_array_equal(rendering.image_size(file), SIZE)
    placement = rendering.place(tf.constant([0.0, 0.0, 1.0, 1.0]), SIZE, 16)
    assert render(file, placement, 16, BILINEAR).shape == (16, 16, 3)


# ---- 16 pixels

SIXTEEN = np.arange(16).reshape(4, 4) * 16


def show(window, canvas_size, method, pixels=SIXTEEN):
    """The red channel of the canvas for a window of an image."""
    file = io.BytesIO()
    Image.fromarray(np.stack([pixels] * 3, axis=-1).astype(np.uint8)).save(file, "PNG")
    placement = rendering.place(tf.constant(window), tf.constant([4, 4]), canvas_size)
    method = tf.constant(rendering.RESIZE_METHODS.index(method))
    return render(tf.constant(file.getvalue()), placement, canvas_size, method)[..., 0]


def test_expansion_of_sixteen_pixels():
    # A canvas of twice the side, with the picture two pixels from the left, one from the top.
    expected = np.zeros((8, 8), int)
    expected[1:5, 2:6] = SIXTEEN
    for method in rendering.RESIZE_METHODS:
        shown = show([-0.5, -0.25, 1.5, 1.75], 8, method)
        np.testing.assert_array_equal(shown, expected, err_msg=method)


def test_crop_of_sixteen_pixels():
    for method in rendering.RESIZE_METHODS:
        shown = show([0.25, 0.5, 0.75, 1.0], 2, method)
        np.testing.assert_array_equal(shown, SIXTEEN[2:4, 1:3], err_msg=method)


def test_crop_and_expansion_of_sixteen_pixels():
    # The left half of the picture, and as much beyond it.
    shown = show([-0.5, 0.0, 0.5, 1.0], 4, "bilinear")
    np.testing.assert_array_equal(shown[:, 2:], SIXTEEN[:, :2])
    np.testing.assert_array_equal(shown[:, :2], 0)


def test_enlarging_sixteen_pixels():
    doubled = SIXTEEN.repeat(2, axis=0).repeat(2, axis=1)
    whole = list(geometry.WHOLE_IMAGE)
    np.testing.assert_array_equal(show(whole, 8, "nearest"), doubled)
    np.testing.assert_array_equal(show(whole, 8, "area"), doubled)
    # Pixels lie a quarter beside the old ones: 3/4 of the nearer and 1/4 of the other neighbour.
    row = [0, 4, 12, 20, 28, 36, 44, 48]
    np.testing.assert_array_equal(show(whole, 8, "bilinear")[0], row)
    np.testing.assert_array_equal(show(whole, 8, "bilinear")[:, 0], np.multiply(row, 4))


def test_shrinking_sixteen_pixels():
    whole = list(geometry.WHOLE_IMAGE)
    means = SIXTEEN.reshape(2, 2, 2, 2).mean(axis=(1, 3))
    np.testing.assert_array_equal(show(whole, 2, "area"), means)
    np.testing.assert_array_equal(show(whole, 2, "bilinear"), means)
    np.testing.assert_array_equal(show(whole, 2, "nearest"), SIXTEEN[1::2, 1::2])


def resize_by_kernel(pixels, size, kernel):
    """Every pixel is the mean of old ones, weighted by their distance from its centre."""
    places = (np.arange(size) + 0.5) * len(pixels) / size - 0.5
    weights = kernel(places[:, None] - np.arange(len(pixels)))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights @ pixels @ weights.T


def cubic(x):
    """Keys' kernel with a = -1/2."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def lanczos(x):
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


@pytest.mark.parametrize("method, kernel", [("bicubic", cubic), ("lanczos3", lanczos)])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_sixteen_pixels_by_kernel(method, kernel, size):
    pixels = np.random.default_rng(0).integers(60, 200, (4, 4))
    shown = show(list(geometry.WHOLE_IMAGE), size, method, pixels)
    expected = np.clip(resize_by_kernel(pixels, size, kernel), 0, 255)
    np.testing.assert_allclose(shown, expected, rtol=0, atol=0.6)


@pytest.mark.parametrize("method", rendering.RESIZE_METHODS)
@pytest.mark.parametrize("size", [(7, 30), (40, 9)])
def test_resizing_equals_tensorflow(method, size):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    resized = rendering._resize(tf.constant(pixels), tf.constant(size), method)
    expected = tf.image.resize(pixels, size, method=method).numpy().astype(float)
    np.testing.assert_array_equal(resized, np.round(np.clip(expected, 0, 255)))


@pytest.mark.parametrize("method", ["bilinear", "area"])
@pytest.mark.parametrize("size", [2, 8])
def test_sixteen_pixels_equal_opencv(method, size):
    reference = carried("opencv")
    shown = show(list(geometry.WHOLE_IMAGE), size, method, reference["picture"][..., 0])
    expected = reference[f"{method}_{size}"][..., 0].astype(int)
    np.testing.assert_allclose(shown, expected, rtol=0, atol=1)


def test_boxes_move_with_their_pixels():
    random = np.random.default_rng(0)
    for _ in range(50):
        corner = random.uniform(-0.6, 0.5, 2)
        window = tf.constant([*corner, *(corner + random.uniform(0.3, 1.5, 2))], tf.float32)
        placement = rendering.place(window, SIZE, 64)
        if not placement.canvas.numpy()[2:].all():
            continue
        # A box round the visible part lands on the canvas's rectangle, to the pixel.
        y, x, height, width = placement.image.numpy()
        box = np.array([[x / 60, y / 40, (x + width) / 60, (y + height) / 40]], np.float32)
        np.testing.assert_allclose(
            rendering.place_boxes(box, placement, SIZE, 64)[0],
            rendering.canvas_window(placement, 64),
            atol=1e-5,
        )


def test_a_large_jpeg_of_several_scans_is_left_to_pillow():
    image = Image.new("RGB", (64, 64))
    for is_progressive, side, wanted in [
        (True, 64, True),
        (True, 7000, False),
        (False, 7000, True),
    ]:
        file = io.BytesIO()
        image.save(file, "JPEG", progressive=is_progressive)
        encoded = tf.constant(file.getvalue())
        assert bool(rendering.has_few_parts(encoded, tf.constant([side, side]))) == wanted
