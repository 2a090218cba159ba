"""Mosaics: four images of a batch as the quarters of one (Bochkovskiy et al. 2020, YOLOv4).

They are made on the host from decoded images: each image is read and decoded only once, and the
content of a batch does not depend on the number of devices. Unlike in YOLOv4, the quarters have
equal size and show whole images.
"""

# Pyright's types of TensorFlow have neither slices with `...` nor tensors as seeds.
# pyright: reportArgumentType=false

from typing import NamedTuple

from ssd_jax.data.reading import OBJECT_KEYS
from ssd_jax.data.tensorflow_setup import Tensors, tf

TILES = 4
ROUNDING = 1e-3  # the largest rounding error of whole pixel coordinates


class Mosaics(NamedTuple):
    """The mosaics of a batch, as indices in the batch.

    Attributes:
      places: `[mosaics] int32`: the images that become mosaics.
      shown: `[mosaics, 4] int32`: the images at the top left, top right, bottom left and bottom
        right.
    """

    places: tf.Tensor
    shown: tf.Tensor


def draw_places(seed: tf.Tensor, batch_size: tf.Tensor, probability: float) -> tf.Tensor:
    """Draws `[batch] bool`: whether an image becomes a mosaic.

    Args:
      seed: `[2]`, for stateless random numbers; the seed of the batch, shared with other draws.
      batch_size: the number of images.
      probability: the probability of each image.
    """
    mosaic_seed = tf.random.fold_in(seed, TILES)
    return tf.random.stateless_uniform([batch_size], mosaic_seed) < probability


def choose_images(is_mosaic: tf.Tensor) -> Mosaics:
    """Chooses the images in each mosaic: its own image, and the images of the next three mosaics.

    Batches are shuffled, so these are random images. With fewer than four mosaics, other images of
    the batch follow. In a batch of fewer than four images, images are repeated.

    Args:
      is_mosaic: `[batch] bool`.
    """
    order = tf.argsort(tf.cast(tf.logical_not(is_mosaic), tf.int32), stable=True)  # mosaics first
    count = tf.reduce_sum(tf.cast(is_mosaic, tf.int32))
    num_shown = tf.maximum(count, tf.minimum(TILES, tf.size(order)))
    shown = tf.range(count)[:, None] + tf.range(TILES)
    return Mosaics(order[:count], tf.gather(order, shown % num_shown))


def make_mosaics(batch: Tensors, mosaics: Mosaics, size: int) -> Tensors:
    """Makes the mosaics of a batch, with all objects of their images.

    Args:
      batch: see `training_batches.py`.
      mosaics: the mosaics to make.
      size: side of the images, in pixels.

    Returns:
      For each mosaic: `image` `[mosaics, size, size, 3]`, `window` `[mosaics, 4, 4]`, one for each
      quarter, and four times the number of objects of an image in the batch; `dropped` is the sum.
    """
    side = -(-size // 2)  # of a quarter; for odd sizes, the last row and column are removed
    corner = tf.constant([[0, 0], [1, 0], [0, 1], [1, 1]], tf.float32) * side  # x, y
    corner = tf.tile(corner, [1, 2])
    images = {key: tf.gather(batch[key], mosaics.shown) for key in ("window", "dropped")}
    objects = {key: tf.gather(batch[key], mosaics.shown) for key in OBJECT_KEYS}
    # Only pixels that the image covers completely.
    window = images["window"] * side
    window = tf.concat(
        [tf.math.ceil(window[..., :2] - ROUNDING), tf.floor(window[..., 2:] + ROUNDING)], axis=2
    )
    boxes = objects["boxes"] * side + corner[:, None]
    placed = {"window": window + corner, "boxes": boxes}
    placed = {key: tf.minimum(values / size, 1.0) for key, values in placed.items()}
    objects |= {"boxes": placed["boxes"]}
    num_objects = TILES * tf.shape(batch["labels"])[1]
    joined = {
        key: tf.reshape(values, [-1, num_objects, *values.shape[3:]])
        for key, values in objects.items()
    }
    return joined | {
        "image": _quarters(batch["image"], mosaics.shown, side)[:, :size, :size],
        "window": placed["window"],
        "dropped": tf.reduce_sum(images["dropped"], axis=1),
    }


def _quarters(images: tf.Tensor, shown: tf.Tensor, side: int) -> tf.Tensor:
    """`[mosaics, 2 · side, 2 · side, 3] uint8`: four images, each reduced to a quarter."""
    used, places = tf.unique(tf.reshape(shown, [-1]))
    small = tf.image.resize(tf.gather(images, used), [side, side], method="area")
    small = tf.cast(tf.round(small), tf.uint8)
    four = tf.gather(small, tf.reshape(places, [-1, TILES]))
    top, bottom = (tf.concat([four[:, i], four[:, i + 1]], axis=2) for i in (0, 2))
    return tf.concat([top, bottom], axis=1)


def replace_images(batch: Tensors, made: Tensors, places: tf.Tensor) -> Tensors:
    """Replaces some images of a batch by mosaics.

    Args:
      batch: the batch.
      made: mosaics, with the number of objects of an image in the batch.
      places: `[mosaics]` indices in the batch.

    Returns:
      The batch; `window` is `[batch, 4, 4]`, and other images have three empty windows.
    """
    window = tf.pad(batch["window"][:, None], [[0, 0], [0, TILES - 1], [0, 0]])
    batch = batch | {"window": window}
    replaced = {
        key: tf.tensor_scatter_nd_update(batch[key], places[:, None], values)
        for key, values in made.items()
    }
    return batch | replaced
