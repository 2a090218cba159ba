import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.training import photometric
from tests.helpers.reference_results import carried

OPENCV = carried("opencv")
# 16 pixels: grey ones, pure colours, and some between.
PIXELS = OPENCV["pixels"].astype(np.float32)


def distortion(brightness=0.0, contrast=1.0, saturation=1.0, hue=0.0, contrast_first=0.0):
    return photometric.Distortion(brightness, contrast, saturation, hue, contrast_first > 0)


def by_hsv(pixels, saturation_factor, hue_degrees):
    """The definition of saturation and hue: to HSV and back, pixel by pixel."""
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


@pytest.mark.parametrize("case", range(len(OPENCV["distortions"])))
def test_distortion_equals_opencv(case):
    drawn = distortion(*OPENCV["distortions"][case])
    np.testing.assert_allclose(
        photometric.distort(PIXELS, drawn), OPENCV["distorted"][case], rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("case", range(len(OPENCV["distortions"])))
def test_distortion_is_near_to_that_in_8_bits(case):
    # Caffe rounds to 8 bits after every operation and keeps hue in steps of two degrees.
    brightness, contrast, saturation, hue, contrast_first = OPENCV["distortions"][case]
    changed = photometric.distort(
        PIXELS, distortion(brightness, contrast, saturation, hue, contrast_first)
    )
    # Its hue also stops at 0 where ours goes round: red does not turn towards magenta.
    brightened = np.clip(PIXELS + brightness, 0, 255).reshape(-1, 3)
    hues = np.array([colorsys.rgb_to_hsv(*pixel)[0] * 360 for pixel in brightened.tolist()])
    difference = np.abs(changed - OPENCV["distorted_8bit"][case]).max(axis=-1).ravel()
    assert difference[hues + hue >= 0].max() < 5


def test_the_order_of_contrast_matters():
    first, last = (
        photometric.distort(PIXELS, distortion(contrast=1.5, saturation=1.5, contrast_first=order))
        for order in (1, 0)
    )
    # Red 200, 10, 30. First: 255, 15, 45, then chroma 240 · 1.5 stopped at 255. Last: chroma
    # 190 · 1.5 stopped at 200, then 300 stopped at 255.
    np.testing.assert_allclose(first[2, 2], [255, 0, 255 / 8], atol=1e-3)
    np.testing.assert_allclose(last[2, 2], [255, 0, 1.5 * 200 / 9.5], atol=1e-3)


def test_distortions_are_drawn_as_in_caffe():
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(photometric.draw_distortion)(keys)
    limits = {"brightness": (0, -32, 32), "contrast": (1, 0.5, 1.5)}
    limits |= {"saturation": (1, 0.5, 1.5), "hue": (0, -36, 36)}
    applied = []
    for name, (neutral, low, high) in limits.items():
        values = np.asarray(getattr(drawn, name))
        applies = values != neutral
        applied.append(applies)
        width = high - low
        np.testing.assert_allclose(applies.mean(), 0.5, atol=0.03, err_msg=name)
        np.testing.assert_allclose(values[applies].mean(), neutral, atol=0.03 * width, err_msg=name)
        # Uniform: the standard deviation is the width over √12.
        np.testing.assert_allclose(values[applies].std(), width / 12**0.5, rtol=0.05, err_msg=name)
        assert low <= values.min() < low + 0.01 * width, name
        assert high - 0.01 * width < values.max() <= high, name
    applied.append(np.asarray(drawn.contrast_first))
    np.testing.assert_allclose(applied[-1].mean(), 0.5, atol=0.03)
    # Each is decided on its own.
    np.testing.assert_allclose(np.corrcoef(applied), np.eye(5), atol=0.06)


def test_strength_scales_the_ranges():
    keys = jax.random.split(jax.random.key(0), 100)
    draw = jax.jit(jax.vmap(photometric.draw_distortion, in_axes=(0, None)))
    full, half, none = (draw(keys, jnp.float32(strength)) for strength in (1.0, 0.5, 0.0))
    # Given as a number or computed, the whole strength is bit for bit the same.
    for ours, theirs in zip(full, jax.vmap(photometric.draw_distortion)(keys), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs, unchanged in zip(half[:4], full[:4], (0, 1, 1, 0), strict=True):
        np.testing.assert_allclose(ours - unchanged, (theirs - unchanged) / 2, atol=1e-5)
    for ours, unchanged in zip(none[:4], (0, 1, 1, 0), strict=True):
        np.testing.assert_array_equal(ours, np.full(100, unchanged))
