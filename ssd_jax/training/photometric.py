"""Changes of colours on the device. Caffe: `DistortImage` in `im_transforms.cpp`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

BRIGHTNESS = 32.0  # added to pixels in [0, 255], at most
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE = 36.0  # degrees, at most: 18 on the scale of OpenCV, where a turn is 180


def adjust_brightness(pixels: jax.Array, delta: jax.Array) -> jax.Array:
    """Adds a number to `[..., 3]` pixels in [0, 255]."""
    return jnp.clip(pixels + delta, 0, 255)


def adjust_contrast(pixels: jax.Array, factor: jax.Array) -> jax.Array:
    """Multiplies `[..., 3]` pixels in [0, 255]."""
    return jnp.clip(pixels * factor, 0, 255)


def adjust_saturation_and_hue(
    pixels: jax.Array, saturation_factor: jax.Array, hue_degrees: jax.Array
) -> jax.Array:
    """Multiplies the saturation (up to 1) and turns the hue of `[..., 3]` RGB pixels in [0, 255].

    Equal to a conversion to HSV and back: with V the largest and m the smallest channel, C = V - m
    the chroma, and h the hue in sixths of a turn, the channel that peaks at hue n is
    V - C · clip(min(k, 4 - k), 0, 1) with k = (5 - n + h) mod 6 for red, green and blue at n = 0,
    2, 4. Saturation is C / V, so the factor acts on C, whose maximum is V.
    """
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    divisor = jnp.where(chroma > 0, chroma, 1)
    hue = jnp.where(
        value == red,
        (green - blue) / divisor,
        jnp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = hue + hue_degrees / 60
    chroma = jnp.minimum(chroma * saturation_factor, value)

    def channel(offset: int) -> jax.Array:
        # Not with %, which calls a function for each pixel on a CPU: that takes five times as long
        # in total.
        k = offset + hue
        k -= 6 * jnp.floor(k / 6)
        return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


class Distortion(NamedTuple):
    """The change of the colours of one image; all arrays have shape `[]`."""

    brightness: jax.Array  # added to pixels in [0, 255]
    contrast: jax.Array  # factor
    saturation: jax.Array  # factor
    hue: jax.Array  # degrees
    contrast_first: jax.Array  # whether contrast comes before saturation and hue, or after


def draw_distortion(key: jax.Array, strength: ArrayLike = 1.0) -> Distortion:
    """Draws brightness, contrast, saturation and hue, each with probability 0.5, and their order.

    Args:
      key: a random key.
      strength: factor on the ranges, in [0, 1]; with 0 nothing changes.
    """
    coin_key, amount_key = jax.random.split(key)
    applies = jax.random.bernoulli(coin_key, 0.5, (5,))
    neutral = jnp.array([0.0, 1.0, 1.0, 0.0])
    lowest = jnp.array([-BRIGHTNESS, CONTRAST[0], SATURATION[0], -HUE])
    highest = jnp.array([BRIGHTNESS, CONTRAST[1], SATURATION[1], HUE])
    amounts = jax.random.uniform(
        amount_key,
        (4,),
        minval=neutral + strength * (lowest - neutral),
        maxval=neutral + strength * (highest - neutral),
    )
    return Distortion(*jnp.where(applies[:4], amounts, neutral), contrast_first=applies[4])


def distort(pixels: jax.Array, distortion: Distortion) -> jax.Array:
    """Changes the colours of one image as Caffe does.

    Args:
      pixels: `[height, width, 3]` float32 RGB in [0, 255].
      distortion: the changes.
    """
    contrast = distortion.contrast
    pixels = adjust_brightness(pixels, distortion.brightness)
    pixels = adjust_contrast(pixels, jnp.where(distortion.contrast_first, contrast, 1.0))
    pixels = adjust_saturation_and_hue(pixels, distortion.saturation, distortion.hue)
    return adjust_contrast(pixels, jnp.where(distortion.contrast_first, 1.0, contrast))
