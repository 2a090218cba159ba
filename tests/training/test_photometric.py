import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.models.preprocess import MEAN_RGB
from ssd_jax.training import photometric

# 16 pixels: grey ones, pure colours, and some between.
PIXELS = np.array(
    [
        [[0, 0, 0], [255, 255, 255], [128, 128, 128], [255, 0, 0]],
        [[0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]],
        [[255, 0, 255], [10, 200, 30], [200, 10, 30], [30, 10, 200]],
        [[250, 240, 230], [5, 10, 15], [90, 91, 89], [1, 0, 0]],
    ],
    np.float32,
)


def by_hsv(pixels, saturation_factor, hue_degrees):
    """The definition: to HSV and back, pixel by pixel."""
    changed = np.empty_like(pixels)
    for index in np.ndindex(pixels.shape[:-1]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixels[index] / 255).tolist())
        saturation = min(saturation * saturation_factor, 1)
        changed[index] = colorsys.hsv_to_rgb((hue + hue_degrees / 360) % 1, saturation, value)
    return changed * 255


@pytest.mark.parametrize("saturation", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("hue", [-36.0, 0.0, 20.0])
def test_saturation_and_hue_equal_hsv(saturation, hue):
    np.testing.assert_allclose(
        photometric.adjust_saturation_and_hue(PIXELS, saturation, hue),
        by_hsv(PIXELS, saturation, hue),
        atol=1e-3,
    )


def test_brightness_and_contrast_by_hand():
    pixels = jnp.array([0.0, 100.0, 250.0])
    np.testing.assert_allclose(photometric.adjust_brightness(pixels, 20.0), [20, 120, 255])
    np.testing.assert_allclose(photometric.adjust_contrast(pixels, 1.5), [0, 150, 255])


def test_distortion_leaves_some_images_and_changes_the_others():
    keys = jax.random.split(jax.random.key(0), 400)
    changed = np.asarray(jax.vmap(photometric.distort, in_axes=(0, None))(keys, PIXELS))
    assert changed.min() >= -1e-3 and changed.max() <= 255 + 1e-3
    untouched = (np.abs(changed - PIXELS) < 1e-3).all(axis=(1, 2, 3))
    assert 0.03 < untouched.mean() < 0.11  # each of four is left out with chance 1 / 2: 1 / 16
    # White shows brightness and contrast alone, and both can only darken it.
    assert 0.35 < (changed[:, 0, 1, 0] < 254).mean() < 0.55  # 1 - (3 / 4)²


def test_fill_is_the_mean_outside_the_window():
    filled = np.asarray(
        photometric.fill_outside(jnp.zeros((4, 4, 3)), jnp.array([0.5, 0.0, 1.0, 0.75]))
    )
    np.testing.assert_array_equal(filled[:3, 2:], 0)
    np.testing.assert_array_equal(filled[3], np.tile(MEAN_RGB, (4, 1)))
    np.testing.assert_array_equal(filled[:, :2], np.tile(MEAN_RGB, (4, 2, 1)))


def test_mirror_turns_pixels_and_boxes():
    boxes = jnp.array([[0.1, 0.2, 0.4, 0.6], [0.0, 0.0, 0.0, 0.0]])
    labels = jnp.array([3, 0])
    pixels, mirrored = photometric.mirror(jnp.array(True), PIXELS, boxes, labels)
    np.testing.assert_array_equal(pixels, PIXELS[:, ::-1])
    np.testing.assert_allclose(mirrored, [[0.6, 0.2, 0.9, 0.6], [0, 0, 0, 0]], atol=1e-6)
    pixels, kept = photometric.mirror(jnp.array(False), PIXELS, boxes, labels)
    np.testing.assert_array_equal(pixels, PIXELS)
    np.testing.assert_array_equal(kept, boxes)


def test_a_batch_is_mirrored_half_the_time_and_each_image_has_its_own_key():
    batch = 200
    keys = jax.random.split(jax.random.key(1), batch)
    images = np.tile(PIXELS.astype(np.uint8), (batch, 1, 1, 1))
    windows = np.tile([0.0, 0, 1, 1], (batch, 1)).astype(np.float32)
    boxes, labels = np.zeros((batch, 1, 4), np.float32), np.zeros((batch, 1), np.int32)
    pixels, _ = photometric.augment(keys, images, windows, boxes, labels, color=False, flip=True)
    mirrored = (pixels == PIXELS[:, ::-1]).all(axis=(1, 2, 3))
    assert 0.4 < mirrored.mean() < 0.6
