import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.config.schema import AugmentConfig, Config
from ssd_jax.models.preprocess import CAFFE, MEAN_RGB, normalise
from ssd_jax.training import augmentation
from tests.helpers.reference_results import carried

# 16 pixels: grey ones, pure colours, and some between.
PIXELS = carried("opencv")["pixels"].astype(np.float32)


def test_every_image_is_distorted_in_its_own_way_and_filled_afterwards():
    keys = jax.random.split(jax.random.key(0), 400)
    images = np.tile(PIXELS.astype(np.uint8), (400, 1, 1, 1))
    windows = np.tile([0.0, 0, 1, 0.75], (400, 1)).astype(np.float32)
    boxes, labels = np.zeros((400, 1, 4), np.float32), np.zeros((400, 1), np.int32)
    pixels, _ = augmentation.augment(
        keys, images, windows, boxes, labels, AugmentConfig(flip=False)
    )
    pixels = np.asarray(pixels)
    assert pixels.min() >= -1e-3 and pixels.max() <= 255 + 1e-3
    untouched = (np.abs(pixels[:, :3] - PIXELS[:3]) < 1e-3).all(axis=(1, 2, 3))
    assert 0.03 < untouched.mean() < 0.11  # each of four is left out with chance 1 / 2: 1 / 16
    assert len(np.unique(pixels[:, 0, 2, 0].round(2))) > 200
    # The fill is the mean as it is, so that the network reads zeros there.
    assert not np.asarray(normalise(pixels, CAFFE))[:, 3].any()


def test_the_strength_of_colours_depends_on_the_step():
    config = Config(steps=10, augment=AugmentConfig(plain_end=0.2))
    keys = augmentation.image_keys(0, jnp.int32(0), jnp.arange(8))
    images = np.tile(PIXELS.astype(np.uint8), (8, 1, 1, 1))
    windows = np.tile([0.0, 0, 1, 1], (8, 1)).astype(np.float32)
    boxes, labels = np.zeros((8, 1, 4), np.float32), np.zeros((8, 1), np.int32)

    full = jax.jit(functools.partial(augmentation.augment, settings=config.augment))

    def pixels_at(step):
        strength = augmentation.strength_at(config, step)
        return full(keys, images, windows, boxes, labels, strength=strength)[0]

    np.testing.assert_array_equal(pixels_at(7), full(keys, images, windows, boxes, labels)[0])
    plain = np.asarray(pixels_at(8))
    is_mirrored = np.abs(plain - PIXELS).max(axis=(1, 2, 3)) > 1e-3
    assert 0 < is_mirrored.sum() < 8
    np.testing.assert_allclose(plain[is_mirrored], images[is_mirrored][:, :, ::-1], atol=1e-3)
    assert augmentation.strength_at(Config(), 3) == 1.0


def test_fill_is_the_mean_outside_the_window():
    filled = np.asarray(
        augmentation.fill_outside(jnp.zeros((4, 4, 3)), jnp.array([0.5, 0.0, 1.0, 0.75]))
    )
    np.testing.assert_array_equal(filled[:3, 2:], 0)
    np.testing.assert_array_equal(filled[3], np.tile(MEAN_RGB, (4, 1)))
    np.testing.assert_array_equal(filled[:, :2], np.tile(MEAN_RGB, (4, 2, 1)))
    # Of a mosaic, outside all windows.
    windows = jnp.array([[0.0, 0.0, 0.5, 0.25], [0.5, 0.5, 1.0, 1.0], [0.0] * 4])
    is_filled = np.asarray(augmentation.fill_outside(jnp.zeros((4, 4, 3)), windows))[..., 0] > 0
    np.testing.assert_array_equal(is_filled, np.array([[0, 0, 1, 1], [1] * 4, *[[1, 1, 0, 0]] * 2]))


def test_mirror_turns_pixels_and_boxes():
    boxes = jnp.array([[0.1, 0.2, 0.4, 0.6], [0.0, 0.0, 0.0, 0.0]])
    labels = jnp.array([3, 0])
    pixels, mirrored = augmentation.mirror(jnp.array(True), PIXELS, boxes, labels)
    np.testing.assert_array_equal(pixels, PIXELS[:, ::-1])
    np.testing.assert_allclose(mirrored, [[0.6, 0.2, 0.9, 0.6], [0, 0, 0, 0]], atol=1e-6)
    pixels, kept = augmentation.mirror(jnp.array(False), PIXELS, boxes, labels)
    np.testing.assert_array_equal(pixels, PIXELS)
    np.testing.assert_array_equal(kept, boxes)


def drawn_boxes(pixels):
    """The box round the pixels of each channel that are not 0."""
    boxes = []
    for channel in np.moveaxis(np.asarray(pixels), 2, 0):
        rows, columns = np.nonzero(channel)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return np.array(boxes) / len(pixels)


def drawn_image():
    """Three boxes, each of them drawn in a channel of an image of 16 × 16 pixels; and padding."""
    boxes = np.array([[1, 2, 5, 4], [0, 9, 3, 16], [8, 8, 9, 9], [0, 0, 0, 0]]) / 16
    pixels = np.zeros((16, 16, 3), np.float32)
    for channel, (left, top, right, bottom) in enumerate((boxes[:3] * 16).astype(int)):
        pixels[top:bottom, left:right, channel] = 100
    return pixels, boxes.astype(np.float32), np.array([1, 2, 1, 0])


@pytest.mark.parametrize("turns", range(4))
def test_quarter_turns_move_boxes_with_their_pixels(turns):
    image, boxes, labels = drawn_image()
    pixels, turned = augmentation.turn(jnp.array(turns), image, boxes, labels)
    np.testing.assert_array_equal(pixels, np.rot90(image, turns))
    np.testing.assert_array_equal(turned[:3], drawn_boxes(pixels))
    assert not np.asarray(turned[3]).any()
    for _ in range(4):
        pixels, turned = augmentation.turn(jnp.array(turns), pixels, turned, labels)
    np.testing.assert_array_equal(pixels, np.rot90(image, turns))
    np.testing.assert_array_equal(turned[:3], drawn_boxes(pixels))


def test_a_vertical_flip_is_a_mirror_and_half_a_turn():
    image, boxes, labels = drawn_image()
    pixels, flipped = augmentation.flip_vertically(jnp.array(True), image, boxes, labels)
    np.testing.assert_array_equal(flipped[:3], drawn_boxes(pixels))
    mirrored = augmentation.mirror(jnp.array(True), image, boxes, labels)
    for ours, theirs in zip(
        (pixels, flipped), augmentation.turn(2, *mirrored, labels), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    unchanged = augmentation.flip_vertically(jnp.array(False), image, boxes, labels)
    np.testing.assert_array_equal(unchanged[0], image)
    np.testing.assert_array_equal(unchanged[1], boxes)


def test_mirrors_and_turns_are_drawn_for_each_image():
    image, boxes, labels = drawn_image()
    count = 400
    data = image.astype(np.uint8), np.array([0.0, 0, 1, 1]), boxes, labels
    data = [np.tile(of, (count, *[1] * of.ndim)) for of in data]
    settings = AugmentConfig(color=False, flip=False, vertical_flip=True, quarter_turns=True)
    augment = jax.jit(functools.partial(augmentation.augment, settings=settings))
    pixels, turned = map(np.asarray, augment(jax.random.split(jax.random.key(2), count), *data))
    variants = {
        (turns, flip): np.rot90(image[::-1] if flip else image, turns)
        for turns in range(4)
        for flip in (False, True)
    }
    shares = {key: (pixels == of).all(axis=(1, 2, 3)).mean() for key, of in variants.items()}
    np.testing.assert_allclose(list(shares.values()), 1 / 8, atol=0.06)
    assert sum(shares.values()) == 1
    for one, own in zip(pixels[:20], turned, strict=False):
        np.testing.assert_array_equal(own[:3], drawn_boxes(one))


def test_images_are_mirrored_with_probability_one_half_and_separate_keys():
    batch = 200
    keys = jax.random.split(jax.random.key(1), batch)
    images = np.tile(PIXELS.astype(np.uint8), (batch, 1, 1, 1))
    windows = np.tile([0.0, 0, 1, 1], (batch, 1)).astype(np.float32)
    boxes, labels = np.zeros((batch, 1, 4), np.float32), np.zeros((batch, 1), np.int32)
    pixels, _ = augmentation.augment(
        keys, images, windows, boxes, labels, AugmentConfig(color=False)
    )
    mirrored = (pixels == PIXELS[:, ::-1]).all(axis=(1, 2, 3))
    assert 0.4 < mirrored.mean() < 0.6
