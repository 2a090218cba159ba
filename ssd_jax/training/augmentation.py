"""The augmentation that runs on the device: colours, then the fill, then the mirror.

Caffe: `DistortImage` in `im_transforms.cpp`, then the mean as fill (`ExpandImage`), then the
mirror. Everything is drawn from keys, one an image.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ssd_jax.config.schema import AugmentConfig, Config
from ssd_jax.detection.boxes import mirrored
from ssd_jax.models.preprocess import MEAN_RGB
from ssd_jax.training.photometric import distort, draw_distortion


def image_keys(seed: int, step: jax.Array, positions: jax.Array) -> jax.Array:
    """`[batch]` random keys of the images at `[batch]` positions of the batch of a step."""
    step_key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key, positions)


def strength_at(config: Config, step: jax.Array) -> ArrayLike:
    """The `strength` of `augment` after so many steps: 1, or 0 in those that are plain."""
    if not (config.augment.plain_start or config.augment.plain_end):
        return 1.0
    return jnp.where(config.is_augmented(step), 1.0, 0.0)


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
    """Colours, fill and mirror for a batch.

    Args:
      keys: `[batch]` random keys.
      images: `[batch, size, size, 3]` uint8 RGB.
      windows: `[batch, 4] xyxy`: where on the canvas the image lies.
      boxes: `[batch, objects, 4] xyxy`.
      labels: `[batch, objects]`, 0 = padding.
      settings: `color` and `color_strength`: whether and how far colours change; `flip`: whether
        half of the images are mirrored.
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
    return pixels, boxes


def fill_outside(pixels: jax.Array, window: jax.Array) -> jax.Array:
    """Fills what lies outside the image with the mean colour.

    Args:
      pixels: `[size, size, 3]`.
      window: `[4] xyxy`: where the image lies, as fractions of the canvas.
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
    mirrored_boxes = jnp.where((labels > 0)[:, None], mirrored(boxes), 0)
    return jnp.where(flip, pixels[:, ::-1], pixels), jnp.where(flip, mirrored_boxes, boxes)
