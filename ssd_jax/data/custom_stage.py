"""The user's augmentation function as a stage of the input pipeline; see `custom.py`."""

from collections.abc import Iterator

from ssd_jax.data import rendering
from ssd_jax.data.custom import CustomAugmentation
from ssd_jax.data.damage import Batch, PerImage
from ssd_jax.data.reading import RecordReader
from ssd_jax.data.tensorflow_setup import Tensors, tf


def reading(
    indices: tf.data.Dataset,
    first_position: int,
    reader: RecordReader,
    custom: CustomAugmentation | None,
) -> tuple[tf.data.Dataset, PerImage, PerImage]:
    """The read stage, including the user's function if there is one.

    Args:
      indices: `[] int64` indices of records.
      first_position: the number of indices before these.
      reader: the reader of records.
      custom: the user's function.

    Returns:
      The elements of the stage, its function of an element, and the function that replaces a
      failed element.
    """
    if custom is None:
        return indices, reader.read, reader.read_without_image

    def read(element: Tensors) -> Tensors:
        return changed(custom, reader.read(element["index"]), element["position"])

    def read_blank(element: Tensors) -> Tensors:
        return reader.read_without_image(element["index"])

    pairs = indices.enumerate(first_position)
    numbered = pairs.map(lambda position, index: {"position": position, "index": index})
    return numbered, read, read_blank


def changed(custom: CustomAugmentation, record: Tensors, position: tf.Tensor) -> Tensors:
    """A record changed by the user's function."""
    file = tf.where(record["path"] == b"", record["image_id"], record["path"])
    pixels = rendering.decode_whole(record["image"])
    image, size, boxes, labels = tf.numpy_function(
        custom,
        [pixels, record["boxes"], record["labels"], file, position],
        [tf.string, tf.int32, tf.float32, tf.int32],
        stateful=False,
    )
    labels = tf.ensure_shape(labels, [None])
    return record | {
        "image": tf.ensure_shape(image, []),
        "size": tf.ensure_shape(size, [2]),
        "boxes": tf.ensure_shape(boxes, [None, 4]),
        "labels": labels,
        # Nobody knows which of them were.
        "difficult": tf.zeros_like(labels, tf.bool),
    }


def raise_failure(batches: Iterator[Batch], custom: CustomAugmentation | None) -> Iterator[Batch]:
    """Yields the same batches until the user's function fails, which is not a damaged image.

    Raises:
      UserError: the function has failed; the message describes how.
    """
    for batch in batches:
        if custom and custom.failure:
            raise custom.failure
        yield batch
