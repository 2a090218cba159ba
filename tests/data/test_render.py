import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ssd_jax.data import render

SIZE = tf.constant([40, 60])  # height, width
BILINEAR = tf.constant(render.RESIZE_METHODS.index("bilinear"))


def picture() -> np.ndarray:
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, 120 + 0 * x], axis=-1).astype(np.uint8)


def encoded(image_format="PNG", mode="RGB") -> tf.Tensor:
    file = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(file, image_format)
    return tf.constant(file.getvalue())


def test_the_whole_picture_fills_the_canvas():
    placement = render.place(tf.constant([0.0, 0.0, 1.0, 1.0]), SIZE, 32)
    np.testing.assert_array_equal(placement.picture, [0, 0, 40, 60])
    np.testing.assert_array_equal(placement.canvas, [0, 0, 32, 32])


def test_a_crop_fills_the_canvas():
    placement = render.place(tf.constant([0.25, 0.5, 0.75, 0.75]), SIZE, 32)
    np.testing.assert_array_equal(placement.picture, [20, 15, 10, 30])
    np.testing.assert_array_equal(placement.canvas, [0, 0, 32, 32])


def test_an_expansion_leaves_room_around():
    placement = render.place(tf.constant([-0.5, -1.0, 1.5, 1.0]), SIZE, 32)
    np.testing.assert_array_equal(placement.picture, [0, 0, 40, 60])
    np.testing.assert_array_equal(placement.canvas, [16, 8, 16, 16])
    np.testing.assert_array_equal(render.canvas_window(placement, 32), [0.25, 0.5, 0.75, 1.0])


def test_a_window_beside_the_picture_shows_nothing():
    placement = render.place(tf.constant([1.2, 0.0, 1.8, 1.0]), SIZE, 32)
    np.testing.assert_array_equal(placement.canvas[2:], [0, 0])
    image = render.render(encoded(), placement, 32, BILINEAR)
    assert image.shape == (32, 32, 3) and not image.numpy().any()


def test_pixels_are_those_of_decode_paste_crop_and_resize():
    whole = picture()
    canvas = np.zeros((80, 120, 3), np.uint8)
    canvas[20:60, 30:90] = whole
    placement = render.place(tf.constant([-0.5, -0.5, 1.5, 1.5]), SIZE, 40)
    fast = render.render(encoded(), placement, 40, BILINEAR).numpy()
    slow = tf.image.resize(canvas, (40, 40), method="bilinear").numpy()
    # The paste blurs the rim of the picture, where the fast way ends sharply.
    np.testing.assert_allclose(fast[11:29, 11:29], slow[11:29, 11:29], atol=1)
    assert not fast[:10].any() and not fast[:, :10].any()


@pytest.mark.parametrize("method", range(len(render.RESIZE_METHODS)))
def test_every_resize_method_keeps_colours_in_place(method):
    placement = render.place(tf.constant([0.0, 0.0, 1.0, 1.0]), SIZE, 20)
    image = render.render(encoded(), placement, 20, tf.constant(method)).numpy().astype(int)
    np.testing.assert_allclose(image[10, :, 0], np.arange(20) * 12 + 4, atol=12)
    np.testing.assert_allclose(image[:, 10, 1], np.arange(20) * 12 + 3, atol=12)


@pytest.mark.parametrize("image_format, mode", [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA")])
def test_formats_give_three_channels(image_format, mode):
    file = encoded(image_format, mode)
    np.testing.assert_array_equal(render.picture_size(file), SIZE)
    placement = render.place(tf.constant([0.0, 0.0, 1.0, 1.0]), SIZE, 16)
    assert render.render(file, placement, 16, BILINEAR).shape == (16, 16, 3)


def test_boxes_go_where_their_pixels_go():
    random = np.random.default_rng(0)
    for _ in range(50):
        corner = random.uniform(-0.6, 0.5, 2)
        window = tf.constant([*corner, *(corner + random.uniform(0.3, 1.5, 2))], tf.float32)
        placement = render.place(window, SIZE, 64)
        if not placement.canvas.numpy()[2:].all():
            continue
        # A box round the visible part lands on the canvas's rectangle, to the pixel.
        y, x, height, width = placement.picture.numpy()
        box = np.array([[x / 60, y / 40, (x + width) / 60, (y + height) / 40]], np.float32)
        np.testing.assert_allclose(
            render.place_boxes(box, placement, SIZE, 64)[0],
            render.canvas_window(placement, 64),
            atol=1e-5,
        )
