"""The read stage of the input pipeline, with the user's augmentation; see `custom.py`."""

from collections.abc import Iterator

from ssd_jax.data import rendering
from ssd_jax.data.custom import CustomAugmentation
from ssd_jax.data.damage import Batch, PerImage
from ssd_jax.data.reading import RecordReader
from ssd_jax.data.tensorflow_setup import Tensors, tf
from ssd_jax.errors import StoreError


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
    if custom is None and not reader.is_fetched:
        return indices, reader.read, reader.read_without_image

    def read(element: Tensors) -> Tensors:
        record = reader.read(element["index"], element.get("image"))
        return changed(custom, record, element["position"]) if custom else record

    def read_blank(element: Tensors) -> Tensors:
        return reader.read_without_image(element["index"])

    def fetch(positions: tf.Tensor, own: tf.Tensor) -> Tensors:
        return {"position": positions, "index": own, "image": reader.fetch(own)}

    pairs = indices.enumerate(first_position)
    if reader.is_fetched:
        images, calls = reader.fetches
        elements = pairs.batch(images).map(fetch, num_parallel_calls=calls).unbatch()
    else:
        elements = pairs.map(lambda position, index: {"position": position, "index": index})
    return elements, read, read_blank


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
        # The function does not say which of its boxes are difficult.
        "difficult": tf.zeros_like(labels, tf.bool),
    }


def raise_failure(
    batches: Iterator[Batch], reader: RecordReader, custom: CustomAugmentation | None
) -> Iterator[Batch]:
    """Yields the same batches; raises the stored failure of a store or of the user's function.

    Failures of damaged images are passed on: `explain_failure` handles them.

    Raises:
      StoreError: the store has failed; the message describes how.
      UserError: the function has failed; the message describes how.
    """

    def check() -> None:
        if reader.failure:
            raise StoreError(str(reader.failure))  # a new one, which holds no frames of readers
        if custom and custom.failure:
            raise custom.failure

    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except tf.errors.OpError:
            check()
            raise
        check()
        yield batch
