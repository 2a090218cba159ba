"""What becomes of pictures that cannot be decoded, once batches are on their way.

TensorFlow's operations cannot be told to go on after an error. Where damaged pictures stop the
run, the pipeline knows nothing of all this, and who is to blame is looked for when it has failed.
Where they are left out, pictures are worked on batch by batch, and one by one only in a batch in
which some fail: what no picture pays for, no sound picture pays for either.
"""

import os
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from ssd_jax.data import rendering
from ssd_jax.data.problems import Problem, Problems
from ssd_jax.data.sources import with_picture
from ssd_jax.errors import UserError
from ssd_jax.images.opening import open_picture

Batch = dict[str, np.ndarray]
Tensors = dict[str, tf.Tensor]


def for_each(
    function: Callable[[Tensors], Tensors], blank: Callable[[Tensors], Tensors], batch_size: int
) -> Callable[[Tensors], Tensors]:
    """A function of one record as one of a batch, with a blank for each that it fails on.

    Args:
      function: of one record; may fail.
      blank: gives the same form for a record that it fails on.
      batch_size: records a batch.
    """

    def for_batch(records: Tensors) -> Tensors:
        each = tf.data.Dataset.from_tensor_slices(records)

        def try_one(record):
            one = tf.data.Dataset.from_tensors(record)
            return one.map(function).ignore_errors().concatenate(one.map(blank)).take(1)

        quick = each.map(function).batch(batch_size, drop_remainder=True)
        careful = each.flat_map(try_one).batch(batch_size, drop_remainder=True)
        # What is left of a batch after an error is no batch, and dropped.
        return quick.ignore_errors().concatenate(careful).take(1).get_single_element()

    return for_batch


def tell_of_broken(batches: Iterator[Batch], problems: Problems) -> Iterator[Batch]:
    """The same batches; tells `problems` of the pictures that are `broken` in them."""
    for batch in batches:
        for i in np.flatnonzero(batch["broken"]):
            record = {"path": batch["file"][i], "image": b"", "image_id": batch["image_id"][i]}
            reason = why_unreadable(record) if record["path"] else None
            tell(problems, record, reason or "the picture cannot be decoded")
        yield batch


def explain_failure(
    batches: Iterator[Batch], records: Callable[[int], tf.data.Dataset], problems: Problems
) -> Iterator[Batch]:
    """The same batches; where one fails, looks for the picture that is to blame.

    Args:
      batches: may raise errors of TensorFlow.
      records: gives the records that the batch of this number was made of.
      problems: is told of the picture.

    Raises:
      UserError: names the picture and says what is wrong with it.
    """
    number = 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            _blame(records(number), problems)
            raise UserError(f"the data cannot be read: {_first_line(error)}") from error
        yield batch
        number += 1


def why_unreadable(record: dict[str, bytes]) -> str | None:
    """What is wrong with the picture of a record, for a message; None where it can be decoded."""
    file = record["image"] or os.fsdecode(record["path"])
    try:
        open_picture(file, name="the picture")
    except UserError as error:
        return str(error)

    def decode(tensors):
        encoded = with_picture(tensors)["image"]
        return rendering.picture_size(encoded), rendering.decode_whole(encoded)

    tensors = {key: tf.constant(record[key]) for key in ("path", "image")}
    try:
        tf.data.Dataset.from_tensors(tensors).map(decode).get_single_element()
    except tf.errors.OpError as error:
        return f"the picture cannot be decoded by TensorFlow: {_first_line(error)}"
    return None


def tell(problems: Problems, record: dict[str, bytes], reason: str) -> None:
    """Tells `problems` of a picture that cannot be read, named by `path` and `image_id`."""
    image_id = record["image_id"].decode()
    file = os.fsdecode(record["path"]) or image_id  # pictures of TFDS are in no file of their own
    problems.add(file, image_id, [Problem("picture unreadable", reason)])


def _blame(records: tf.data.Dataset, problems: Problems) -> None:
    """Tells `problems` of the first picture that cannot be read."""
    try:
        for record in records.as_numpy_iterator():
            if reason := why_unreadable(record):
                tell(problems, record, reason)
    except tf.errors.OpError:  # not even the records can be read
        return


def _first_line(error: tf.errors.OpError) -> str:
    return (error.message or str(error)).strip().splitlines()[0]
