"""Augmentation on the device: colours, the fill, then mirrors and quarter turns.

Caffe: `DistortImage` in `im_transforms.cpp`, then the mean as fill (`ExpandImage`), then the
mirror. Random numbers come from one key per image.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from ssd_jax.config.schema import AugmentConfig, Config
from ssd_jax.detection.boxes import mirrored
from ssd_jax.models.preprocess import MEAN_RGB
from ssd_jax.training.photometric import distort, draw_distortion

VERTICAL_FLIP, QUARTER_TURNS = 2, 3  # folded into the key of an image


def image_keys(seed: int | jax.Array, step: ArrayLike, positions: jax.Array) -> jax.Array:
    """`[batch]` random keys of the images at `[batch]` positions of the batch of a step.

    Args:
      seed: the seed of the run, or its key from `jax.random.key`.
      step: the number of steps done before.
      positions: of the images.
    """
    run_key = jax.random.key(seed) if isinstance(seed, int) else seed
    step_key = jax.random.fold_in(run_key, step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key, positions)


def strength_at(config: Config, step: npt.ArrayLike) -> np.ndarray:
    """The `strength` of `augment` after `step` steps: 1, or 0 in steps without augmentation."""
    return np.where(config.is_augmented(np.asarray(step)), np.float32(1), np.float32(0))


@jax.named_scope("augmentation")
def augment(
    keys: jax.Array,
    images: jax.Array,
    windows: jax.Array,
    boxes: jax.Array,
    labels: jax.Array,
    settings: AugmentConfig,
    strength: ArrayLike = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Augments a batch: colours, fill, mirrors and quarter turns.

    Args:
      keys: `[batch]` random keys.
      images: `[batch, size, size, 3]` uint8 RGB.
      windows: `[batch, 4] xyxy`: the place of the image on the canvas; `[batch, 4, 4]` with
        mosaics.
      boxes: `[batch, objects, 4] xyxy`.
      labels: `[batch, objects]`, 0 = padding.
      settings: `color` and `color_strength`: whether and how much colours change; `flip`,
        `vertical_flip` and `quarter_turns`: how images are mirrored and turned.
      strength: of the colours, times `color_strength`; see `strength_at`.

    Returns:
      Pixels `[batch, size, size, 3]` float32 RGB in [0, 255], and boxes.
    """
    augment_image = functools.partial(_augment_image, settings, strength)
    return jax.vmap(augment_image)(keys, images, windows, boxes, labels)


def _augment_image(
    settings: AugmentConfig,
    strength: ArrayLike,
    key: jax.Array,
    image: jax.Array,
    window: jax.Array,
    boxes: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """`augment` for one image."""
    color_key, flip_key = jax.random.split(key)
    pixels = image.astype(jnp.float32)
    if settings.color:
        pixels = distort(pixels, draw_distortion(color_key, settings.color_strength * strength))
    pixels = fill_outside(pixels, window)
    if settings.flip:
        pixels, boxes = mirror(jax.random.bernoulli(flip_key), pixels, boxes, labels)
    # Separate keys, so that the random numbers above do not change.
    if settings.vertical_flip:
        is_flipped = jax.random.bernoulli(jax.random.fold_in(key, VERTICAL_FLIP))
        pixels, boxes = flip_vertically(is_flipped, pixels, boxes, labels)
    if settings.quarter_turns:
        turns = jax.random.randint(jax.random.fold_in(key, QUARTER_TURNS), (), 0, 4)
        pixels, boxes = turn(turns, pixels, boxes, labels)
    return pixels, boxes


def fill_outside(pixels: jax.Array, window: jax.Array) -> jax.Array:
    """Fills the canvas outside the image with the mean colour.

    Args:
      pixels: `[size, size, 3]`.
      window: `[4] xyxy`: the place of the image, as fractions of the canvas; or `[quarters, 4]`, of
        the images of a mosaic.
    """
    size = pixels.shape[0]
    place = (jnp.arange(size) + 0.5) / size
    x_min, y_min, x_max, y_max = jnp.moveaxis(window.reshape(-1, 4, 1), 1, 0)
    in_x = (place > x_min) & (place < x_max)
    in_y = (place > y_min) & (place < y_max)
    is_inside = jnp.any(in_y[:, :, None] & in_x[:, None], axis=0)
    return jnp.where(is_inside[..., None], pixels, MEAN_RGB)


def mirror(
    flip: jax.Array, pixels: jax.Array, boxes: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Swaps left and right of one image and its boxes if `flip` is True.

    Args:
      flip: `[] bool`.
      pixels: `[height, width, 3]`.
      boxes: `[objects, 4] xyxy`.
      labels: `[objects]`, 0 = padding, whose boxes stay zero.
    """
    return jnp.where(flip, pixels[:, ::-1], pixels), jnp.where(
        flip, _without_padding(mirrored(boxes), labels), boxes
    )


def flip_vertically(
    flip: jax.Array, pixels: jax.Array, boxes: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Swaps top and bottom of one image and its boxes if `flip` is True; see `mirror`."""
    flipped = transposed(mirrored(transposed(boxes)))
    return jnp.where(flip, pixels[::-1], pixels), jnp.where(
        flip, _without_padding(flipped, labels), boxes
    )


def turn(
    turns: jax.Array, pixels: jax.Array, boxes: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Turns one image and its boxes counterclockwise.

    Args:
      turns: `[] int32`: the number of quarter turns, 0 to 3.
      pixels: `[size, size, 3]`.
      boxes: `[objects, 4] xyxy`.
      labels: `[objects]`, 0 = padding, whose boxes stay zero.
    """
    turned = [boxes]
    for _ in range(3):
        turned.append(transposed(mirrored(turned[-1])))
    pixels = jax.lax.select_n(turns, *(jnp.rot90(pixels, number) for number in range(4)))
    return pixels, _without_padding(jax.lax.select_n(turns, *turned), labels)


def transposed(boxes: jax.Array) -> jax.Array:
    """`[..., 4] xyxy` boxes of images whose x and y are swapped."""
    return boxes[..., jnp.array([1, 0, 3, 2])]


def _without_padding(boxes: jax.Array, labels: jax.Array) -> jax.Array:
    """The boxes `[objects, 4]`, with zeros where the label is 0."""
    return jnp.where((labels > 0)[:, None], boxes, 0)
