"""Handles images that cannot be decoded in training: they stop the run, or are left out.

TensorFlow's operations cannot continue after an error. If a damaged image stops the run, the images
of the failed batch are decoded again, one by one, to find it. If damaged images are left out, a
stage works batch by batch. Intact images cost nothing extra: only a batch with a failure is retried
image by image.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ssd_jax.data import rendering
from ssd_jax.data.problems import Problems
from ssd_jax.data.reading import upright
from ssd_jax.data.records import Record
from ssd_jax.data.tensorflow_setup import Tensors, tensorflow_reason, tf
from ssd_jax.errors import UserError
from ssd_jax.images.limits import MAX_BYTES
from ssd_jax.images.opening import open_image
from ssd_jax.storage.files import read_bytes
from ssd_jax.threads import num_cores

Batch = dict[str, np.ndarray]
PerImage = Callable[[Any], Tensors]


def images_at_once() -> int:
    """The number of images that a stage processes in parallel.

    Results are in order: while the first image is slow, the other cores have work.
    """
    return 2 * num_cores()


def each_image(
    elements: tf.data.Dataset,
    function: PerImage,
    blank: PerImage,
    *,
    batch_size: int,
    skips: bool,
    padded: bool = True,
) -> tf.data.Dataset:
    """Applies a function to each image, several in parallel, and batches the results.

    Args:
      elements: one element for each image.
      function: the function of one element; may fail.
      blank: makes a replacement for an element on which `function` fails.
      batch_size: the number of images in a batch.
      skips: whether `blank` replaces failures; otherwise a failure ends the batches.
      padded: whether objects are padded with zeros to the largest number in the batch; otherwise
        all results must have the same shape, which is faster to batch.

    Returns:
      The batches; an incomplete last batch is dropped.
    """

    def batched(results: tf.data.Dataset) -> tf.data.Dataset:
        batch = results.padded_batch if padded else results.batch
        return batch(batch_size, drop_remainder=True)

    if not skips:
        return batched(elements.map(function, num_parallel_calls=images_at_once()))
    # Each batch is one task, so fewer tasks run in parallel.
    guarded = _blank_on_failure(function, blank, batched)
    batches = elements.batch(batch_size, drop_remainder=True)
    return batches.map(guarded, num_parallel_calls=num_cores())


def _blank_on_failure(
    function: PerImage, blank: PerImage, batched: Callable[[tf.data.Dataset], tf.data.Dataset]
) -> PerImage:
    """Turns a function of one element into one of a batch, with blanks for failed elements."""

    def for_batch(elements: Any) -> Tensors:
        each = tf.data.Dataset.from_tensor_slices(elements)

        def try_one(element):
            one = tf.data.Dataset.from_tensors(element)
            return one.map(function).ignore_errors().concatenate(one.map(blank)).take(1)

        quick = batched(each.map(function))
        careful = batched(each.flat_map(try_one))
        # An incomplete batch after an error is dropped.
        return quick.ignore_errors().concatenate(careful).take(1).get_single_element()

    return for_batch


def report_broken(batches: Iterator[Batch], problems: Problems) -> Iterator[Batch]:
    """Yields the same batches; reports their `broken` images to `problems`."""
    for batch in batches:
        for i in np.flatnonzero(batch["broken"]):
            path = batch["file"][i].decode(errors="surrogateescape")
            reason = why_unreadable(path) if path else None
            problems.add_unreadable(
                path, os.fsdecode(batch["image_id"][i]), reason or "the image cannot be decoded"
            )
        yield batch


def explain_failure(
    batches: Iterator[Batch], records: Callable[[int], Iterable[Record]], problems: Problems
) -> Iterator[Batch]:
    """Yields the same batches; if one fails, finds the damaged image and raises its problem.

    Args:
      batches: the batches; may raise errors of TensorFlow.
      records: the records of the batch with this number.
      problems: collects the image.

    Raises:
      UserError: a batch fails; the message names the image and its problem.
    """
    number = 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            for record in records(number):
                if reason := why_unreadable(record.image):
                    problems.add_unreadable(record.path, record.image_id, reason)
            raise UserError(f"the data cannot be read: {tensorflow_reason(error)}") from error
        yield batch
        number += 1


def why_unreadable(file: str | bytes) -> str | None:
    """The reason why an image cannot be decoded, for a message; None if it can."""
    try:
        open_image(file, name="the image")
    except UserError as error:
        return str(error)

    def decode(content):
        return rendering.decode_whole(upright(content)[0])

    try:
        content = file if isinstance(file, bytes) else read_bytes(file, MAX_BYTES)
        tf.data.Dataset.from_tensors(content).map(decode).get_single_element()
    except tf.errors.OpError as error:
        return f"the image cannot be decoded by TensorFlow: {tensorflow_reason(error)}"
    return None
