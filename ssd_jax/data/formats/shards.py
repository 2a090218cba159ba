"""Random access to the records of TensorFlow Datasets' shards."""

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ssd_jax.data.formats.record_frame import FRAME_BYTES, LENGTH_BYTES, length_in
from ssd_jax.data.tensorflow_setup import tf
from ssd_jax.errors import UserError, reason_of
from ssd_jax.storage.files import check_file, open_file
from ssd_jax.threads import map_ahead, pool_of_threads

BUFFER_BYTES = 2**16  # the number of bytes that are read at once; most images are smaller
FILES_AT_ONCE = 16


class Shards(Protocol):
    """The records of some shards, or of parts of them, in order."""

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Reads the bytes of a record, as `[] string`; `index` is `[] int64`."""
        ...


def open_shards(instructions: Sequence[Any], file_format: str) -> Shards:
    """Opens shards.

    Args:
      instructions: the file instructions of TFDS: files, and the records to read of each.
      file_format: a suffix of `tfds.core.FileFormat`.

    Raises:
      UserError: the format has no random access, or a shard is damaged.
    """
    if file_format == "tfrecord":
        return TFRecordShards(instructions)
    if file_format == "array_record":
        return ArrayRecordShards(instructions)
    raise UserError(
        f"{instructions[0].filename} is a {file_format} file, but only tfrecord and array_record "
        "files can be read: prepare the set again with file_format='tfrecord'"
    )


class TFRecordShards:
    """Shards of TFRecord, the usual format; the headers of records give their offsets."""

    def __init__(self, instructions: Sequence[Any]):
        """Reads the headers of all records, and skips their content."""
        with pool_of_threads(FILES_AT_ONCE) as pool:
            offsets = list(map_ahead(pool, _chosen_offsets, instructions, FILES_AT_ONCE))
        numbers = np.repeat(np.arange(len(offsets)), [len(own) for own in offsets])
        # Created once here, and not in every function that reads.
        self._files = tf.constant([os.fspath(step.filename) for step in instructions])
        self._numbers = tf.constant(numbers, tf.int32)
        self._offsets = tf.constant(np.concatenate(offsets), tf.int64)

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Reads the bytes of a record; see `Shards`."""
        records = tf.raw_ops.TFRecordDatasetV2(
            filenames=self._files[self._numbers[index]][None],
            compression_type="",
            buffer_size=BUFFER_BYTES,
            byte_offsets=self._offsets[index][None],
        )
        form = tf.TensorSpec([], tf.string)
        return tf.data.experimental.from_variant(records, form).take(1).get_single_element()


class ArrayRecordShards:
    """Shards of ArrayRecord, which contain an index."""

    def __init__(self, instructions: Sequence[Any]):
        """Opens the files."""
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        for step in instructions:
            _check(step)
        self._records = ArrayRecordDataSource(instructions)

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """Reads the bytes of a record; see `Shards`."""
        read = functools.partial(tf.numpy_function, self._read, [index], tf.string)
        return tf.ensure_shape(read(stateful=False), [])

    def _read(self, index: np.integer) -> bytes:
        return self._records[int(index)]


def _check(instruction: Any) -> None:
    """Checks that a shard is a regular file, because a library that opens a FIFO waits forever.

    Raises:
      UserError: it is not, or it cannot be read.
    """
    path = os.fspath(instruction.filename)
    try:
        if "://" not in path:
            check_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}") from error


def _chosen_offsets(instruction: Any) -> np.ndarray:
    """The offsets of the records that an instruction selects, in their file."""
    _check(instruction)
    offsets = np.fromiter(record_offsets(os.fspath(instruction.filename)), np.int64)
    chosen = offsets[instruction.skip :][: instruction.take]
    if len(chosen) < instruction.take:
        raise UserError(
            f"{instruction.filename} has {len(offsets)} records, but the set states "
            f"{instruction.examples_in_shard}: copy or prepare the set again"
        )
    return chosen


def record_offsets(path: str) -> Iterator[int]:
    """Yields the offset of each record of a TFRecord file, in bytes."""
    with tf.io.gfile.GFile(path, "rb") if "://" in path else open_file(path, 0) as file:
        end = tf.io.gfile.stat(path).length
        offset = 0
        while offset < end:
            yield offset
            file.seek(offset)
            offset += length_in(file.read(LENGTH_BYTES)) + FRAME_BYTES
