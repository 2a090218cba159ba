"""The part of SSD's augmentation that needs no geometry: colours, fill and mirror, on the device.

Caffe: `DistortImage` in `im_transforms.cpp`, then the mean as fill (`ExpandImage`), then the
mirror. Everything is drawn from keys, one an image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssd_jax.models.preprocess import MEAN_RGB

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

    As by way of HSV: with V the largest and m the smallest channel, C = V - m the chroma, and h
    the hue in sixths of a turn, the channel that peaks at hue n is
    V - C · clip(min(k, 4 - k), 0, 1) with k = (5 - n + h) mod 6 for red, green and blue at n = 0,
    2, 4. Saturation is C / V, so the factor acts on C, which V bounds.
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

    def channel(offset):
        k = (offset + hue) % 6
        return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


class Distortion(NamedTuple):
    """How the colours of one image change; all are `[]`."""

    brightness: jax.Array  # added to pixels in [0, 255]
    contrast: jax.Array  # factor
    saturation: jax.Array  # factor
    hue: jax.Array  # degrees
    contrast_first: jax.Array  # whether contrast comes before saturation and hue, or after


def draw_distortion(key: jax.Array) -> Distortion:
    """Brightness, contrast, saturation and hue, each with probability 0.5, in one of two orders."""
    coin_key, amount_key = jax.random.split(key)
    applies = jax.random.bernoulli(coin_key, 0.5, (5,))
    amounts = jax.random.uniform(
        amount_key,
        (4,),
        minval=jnp.array([-BRIGHTNESS, CONTRAST[0], SATURATION[0], -HUE]),
        maxval=jnp.array([BRIGHTNESS, CONTRAST[1], SATURATION[1], HUE]),
    )
    neutral = jnp.array([0.0, 1.0, 1.0, 0.0])
    return Distortion(*jnp.where(applies[:4], amounts, neutral), contrast_first=applies[4])


def distort(pixels: jax.Array, distortion: Distortion) -> jax.Array:
    """Changes the colours of one image as Caffe does.

    Args:
      pixels: `[height, width, 3]` float32 RGB in [0, 255].
      distortion: what changes, and by how much.
    """
    contrast = distortion.contrast
    pixels = adjust_brightness(pixels, distortion.brightness)
    pixels = adjust_contrast(pixels, jnp.where(distortion.contrast_first, contrast, 1.0))
    pixels = adjust_saturation_and_hue(pixels, distortion.saturation, distortion.hue)
    return adjust_contrast(pixels, jnp.where(distortion.contrast_first, 1.0, contrast))


def fill_outside(pixels: jax.Array, window: jax.Array) -> jax.Array:
    """Paints the mean colour where there is no picture.

    Args:
      pixels: `[size, size, 3]`.
      window: `[4] xyxy`: where the picture lies, as fractions of the image.
    """
    size = pixels.shape[0]
    place = (jnp.arange(size) + 0.5) / size
    in_x = (place > window[0]) & (place < window[2])
    in_y = (place > window[1]) & (place < window[3])
    return jnp.where((in_y[:, None] & in_x)[..., None], pixels, MEAN_RGB)


def mirror(
    flip: jax.Array, pixels: jax.Array, boxes: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Swaps left and right of one image and its boxes where `flip` says so.

    Args:
      flip: `[] bool`.
      pixels: `[height, width, 3]`.
      boxes: `[objects, 4] xyxy`.
      labels: `[objects]`, 0 = padding, whose boxes stay zero.
    """
    x_min, y_min, x_max, y_max = jnp.moveaxis(boxes, -1, 0)
    mirrored = jnp.stack([1 - x_max, y_min, 1 - x_min, y_max], axis=-1)
    mirrored = jnp.where((labels > 0)[:, None], mirrored, 0)
    return jnp.where(flip, pixels[:, ::-1], pixels), jnp.where(flip, mirrored, boxes)


def image_keys(seed: int, step: jax.Array, positions: jax.Array) -> jax.Array:
    """`[batch]` random keys of the images at `[batch]` positions of the batch of a step."""
    step_key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key, positions)


@jax.named_scope("augmentation")
def augment(
    keys: jax.Array,
    images: jax.Array,
    windows: jax.Array,
    boxes: jax.Array,
    labels: jax.Array,
    *,
    color: bool,
    flip: bool,
) -> tuple[jax.Array, jax.Array]:
    """Colours, fill and mirror for a batch.

    Args:
      keys: `[batch]` random keys.
      images: `[batch, size, size, 3]` uint8 RGB.
      windows: `[batch, 4] xyxy`: where on the image the picture lies.
      boxes: `[batch, objects, 4] xyxy`.
      labels: `[batch, objects]`, 0 = padding.
      color: whether colours are distorted.
      flip: whether half of the images are mirrored.

    Returns:
      Pixels `[batch, size, size, 3]` float32 RGB in [0, 255], and boxes.
    """

    def augment_image(key, image, window, boxes, labels):
        color_key, flip_key = jax.random.split(key)
        pixels = image.astype(jnp.float32)
        if color:
            pixels = distort(pixels, draw_distortion(color_key))
        pixels = fill_outside(pixels, window)
        if flip:
            pixels, boxes = mirror(jax.random.bernoulli(flip_key), pixels, boxes, labels)
        return pixels, boxes

    return jax.vmap(augment_image)(keys, images, windows, boxes, labels)
