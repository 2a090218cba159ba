"""Mosaics: four images of a batch as the quarters of one."""

import numpy as np
import pytest
import tensorflow as tf

from ssd_jax.data import mosaic
from ssd_jax.data.sources import open_dataset
from ssd_jax.data.training_batches import training_batches
from tests.data.test_training_batches import PLAIN, assert_same, take
from tests.helpers.pictures import write_ten


@pytest.mark.parametrize(
    "is_mosaic, places, shown",
    [
        ("01011", [1, 3, 4], [[1, 3, 4, 0], [3, 4, 0, 1], [4, 0, 1, 3]]),
        ("110111", [0, 1, 3, 4, 5], [[0, 1, 3, 4], [1, 3, 4, 5], [3, 4, 5, 0]]),
        ("11", [0, 1], [[0, 1, 0, 1], [1, 0, 1, 0]]),
        ("0000", [], np.zeros((0, 4))),
    ],
)
def test_a_mosaic_shows_its_own_image_and_those_of_the_next(is_mosaic, places, shown):
    chosen = mosaic.choose_images(tf.constant([sign == "1" for sign in is_mosaic]))
    np.testing.assert_array_equal(chosen.places, places)
    np.testing.assert_array_equal(chosen.shown[:3], shown)


def test_mosaics_are_drawn_with_their_probability_and_with_their_seed():
    seed = tf.constant([3, 4], tf.int64)
    drawn = mosaic.draw_places(seed, 1000, 0.3).numpy()
    assert 0.25 < drawn.mean() < 0.35
    np.testing.assert_array_equal(drawn, mosaic.draw_places(seed, 1000, 0.3))
    assert (drawn != mosaic.draw_places(seed + 1, 1000, 0.3).numpy()).any()
    assert mosaic.draw_places(seed, 1000, 1.0).numpy().all()


def batch_of(size, boxes):
    """Images with one object each, all of different brightness, and padding."""
    boxes = np.array(boxes, np.float32)
    images = np.zeros((len(boxes), size, size, 3), np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes.astype(int)):
        images[number, top:bottom, left:right] = 50 * (number + 1)
    batch = {
        "image": images,
        "window": np.tile(np.float32([0, 0, 1, 1]), (len(boxes), 1)),
        "boxes": np.stack([boxes / size, np.zeros_like(boxes)], axis=1),
        "labels": np.stack([np.arange(len(boxes)) + 1, np.zeros(len(boxes))], 1).astype(np.int32),
        "difficult": np.zeros((len(boxes), 2), bool),
        "dropped": np.arange(len(boxes), dtype=np.int32),
    }
    return {key: tf.constant(values) for key, values in batch.items()}


def test_boxes_surround_their_reduced_pixels():
    batch = batch_of(16, [[0, 2, 8, 6], [4, 4, 6, 16], [0, 0, 16, 2], [6, 6, 10, 10]])
    mosaics = mosaic.choose_images(tf.constant([True, False, True, True]))
    made = mosaic.make_mosaics(batch, mosaics, 16)
    assert made["image"].shape == (3, 16, 16, 3)
    np.testing.assert_array_equal(mosaics.shown[0], [0, 2, 3, 1])
    for image, boxes, labels in zip(made["image"], made["boxes"], made["labels"], strict=True):
        np.testing.assert_array_equal(np.sort(labels), [0, 0, 0, 0, 1, 2, 3, 4])
        for box, label in zip(boxes[labels > 0], labels[labels > 0], strict=True):
            rows, columns = np.nonzero(image.numpy()[..., 0] == 50 * label)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_array_equal(box * 16, around)
    np.testing.assert_array_equal(made["dropped"], [6, 6, 6])
    quarters = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    np.testing.assert_array_equal(made["window"][0], quarters)


def test_quarters_are_means_of_four_pixels_and_windows_hold_no_others():
    random = np.random.default_rng(0)
    image = random.integers(1, 256, (4, 10, 10, 3)).astype(np.uint8)
    window = np.float32([[1, 2, 10, 9], [0, 3, 5, 5], [0, 0, 10, 10], [9, 9, 10, 10]]) / 10
    for pixels, (left, top, right, bottom) in zip(image, (window * 10).round(), strict=True):
        place = np.arange(10)
        pixels[~((place >= top) & (place < bottom))] = 0
        pixels[:, ~((place >= left) & (place < right))] = 0
    batch = batch_of(10, [[0, 0, 1, 1]] * 4) | {"image": image, "window": window}
    made = mosaic.make_mosaics(batch, mosaic.choose_images(tf.ones(4, tf.bool)), 10)
    shown, windows = made["image"][0].numpy(), made["window"][0].numpy() * 10
    np.testing.assert_array_equal(
        shown[:5, 5:], image[1].reshape(5, 2, 5, 2, 3).mean(axis=(1, 3)).round()
    )
    for left, top, right, bottom in windows[:3].round().astype(int):
        assert shown[top:bottom, left:right].all()
    np.testing.assert_allclose(windows[:2], [[1, 1, 5, 4], [5, 2, 7, 2]], atol=1e-5)


def test_mosaics_of_odd_size_lose_one_row_and_one_column():
    batch = batch_of(9, [[0, 0, 9, 9]] * 4)
    made = mosaic.make_mosaics(batch, mosaic.choose_images(tf.ones(4, tf.bool)), 9)
    assert made["image"].shape == (4, 9, 9, 3) and made["image"].numpy().all()
    boxes = made["boxes"][0].numpy()[::2] * 9
    np.testing.assert_allclose(boxes[[0, 3]], [[0, 0, 5, 5], [5, 5, 9, 9]], atol=1e-5)


def test_batches_with_mosaics(tmp_path):
    source = open_dataset(write_ten(tmp_path))
    options = {"model.image_size": 8, "augment.mosaic": 0.6, "augment.plain_end": 0.25}
    # All images would lie on a larger canvas, and no mosaic does.
    options |= {"augment.expand_probability": 1.0, "steps": 4}
    config = PLAIN.replace(options)
    batches = take(training_batches(config, source, 5), 4)
    is_mosaic = [(batch["window"][:, 1:] > 0).any(axis=(1, 2)) for batch in batches]
    assert 0 < np.sum(is_mosaic[:3]) < 15 and not is_mosaic[3].any()
    quarters = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    for batch, mosaics in zip(batches, is_mosaic, strict=True):
        assert batch["boxes"].shape == (5, 3, 4) and batch["window"].shape == (5, 4, 4)
        if mosaics.sum() > 3:
            np.testing.assert_array_equal(batch["window"][mosaics], [quarters] * mosaics.sum())
            # Four images have six objects or more, of which a mosaic keeps three.
            assert (batch["dropped"][mosaics] >= 3).all()
        assert (batch["boxes"] <= 1).all()
    assert max(map(np.sum, is_mosaic)) > 3
    assert_same(batches[2:], take(training_batches(config, source, 5, first_step=2), 2))
