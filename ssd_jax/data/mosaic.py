"""Mosaics: four images of a batch as the quarters of one (Bochkovskiy et al. 2020, YOLOv4).

They are made on the host, of images that are decoded already: an image is read and decoded once, as
without mosaics, and what a batch holds does not depend on how many devices share it. Unlike those
of YOLOv4 the quarters are of equal size, and show their images whole.
"""

# The types of TensorFlow that pyright brings know neither slices with `...` nor tensors as seeds.
# pyright: reportArgumentType=false

from typing import NamedTuple

from ssd_jax.data.reading import OBJECT_KEYS
from ssd_jax.data.tensorflow_setup import Tensors, tf

TILES = 4
ROUNDING = 1e-3  # pixels, which are whole but for that


class Mosaics(NamedTuple):
    """Which images of a batch become mosaics, and of which images: places in the batch.

    Attributes:
      places: `[mosaics] int32`.
      shown: `[mosaics, 4] int32`: at the top left, top right, bottom left and bottom right.
    """

    places: tf.Tensor
    shown: tf.Tensor


def draw_places(seed: tf.Tensor, batch_size: tf.Tensor, probability: float) -> tf.Tensor:
    """`[batch] bool`: whether an image becomes a mosaic.

    Args:
      seed: `[2]`, for stateless random numbers; that of the batch, which other draws use too.
      batch_size: how many to draw.
      probability: of each.
    """
    mosaic_seed = tf.random.fold_in(seed, TILES)
    return tf.random.stateless_uniform([batch_size], mosaic_seed) < probability


def choose_images(is_mosaic: tf.Tensor) -> Mosaics:
    """The images that each mosaic shows: its own, and those of the next three mosaics.

    As batches are shuffled, these are any. Where there are fewer than four mosaics, others of the
    batch follow, and where the batch is smaller than four, images are shown several times.

    Args:
      is_mosaic: `[batch] bool`.
    """
    order = tf.argsort(tf.cast(tf.logical_not(is_mosaic), tf.int32), stable=True)  # mosaics first
    count = tf.reduce_sum(tf.cast(is_mosaic, tf.int32))
    num_shown = tf.maximum(count, tf.minimum(TILES, tf.size(order)))
    shown = tf.range(count)[:, None] + tf.range(TILES)
    return Mosaics(order[:count], tf.gather(order, shown % num_shown))


def make_mosaics(batch: Tensors, mosaics: Mosaics, size: int) -> Tensors:
    """The mosaics of a batch, before their objects are brought to a number.

    Args:
      batch: see `training_batches.py`.
      mosaics: which are made.
      size: side of the images, in pixels.

    Returns:
      For each mosaic: `image` `[mosaics, size, size, 3]`, `window` `[mosaics, 4, 4]`, one for each
      quarter, and four times as many objects as an image of the batch has; `dropped` is the sum.
    """
    side = -(-size // 2)  # of a quarter; of odd sizes the last row and column are cut off
    corner = tf.constant([[0, 0], [1, 0], [0, 1], [1, 1]], tf.float32) * side  # x, y
    corner = tf.tile(corner, [1, 2])
    images = {key: tf.gather(batch[key], mosaics.shown) for key in ("window", "dropped")}
    objects = {key: tf.gather(batch[key], mosaics.shown) for key in OBJECT_KEYS}
    # Whole pixels that show nothing but the image.
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
    """`[mosaics, 2 · side, 2 · side, 3] uint8`: four images, each shrunk to a quarter."""
    used, places = tf.unique(tf.reshape(shown, [-1]))
    small = tf.image.resize(tf.gather(images, used), [side, side], method="area")
    small = tf.cast(tf.round(small), tf.uint8)
    four = tf.gather(small, tf.reshape(places, [-1, TILES]))
    top, bottom = (tf.concat([four[:, i], four[:, i + 1]], axis=2) for i in (0, 2))
    return tf.concat([top, bottom], axis=1)


def replace_images(batch: Tensors, made: Tensors, places: tf.Tensor) -> Tensors:
    """The batch with mosaics in some places.

    Args:
      batch: of images.
      made: mosaics, with as many objects each as an image of the batch.
      places: `[mosaics]`.

    Returns:
      The batch; `window` is `[batch, 4, 4]`, and other images have three that are empty.
    """
    window = tf.pad(batch["window"][:, None], [[0, 0], [0, TILES - 1], [0, 0]])
    batch = batch | {"window": window}
    replaced = {
        key: tf.tensor_scatter_nd_update(batch[key], places[:, None], values)
        for key, values in made.items()
    }
    return batch | replaced
