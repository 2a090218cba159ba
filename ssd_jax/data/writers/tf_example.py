"""Writes `tf.train.Example` messages in TFRecord files, without TensorFlow."""

from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from ssd_jax.data.formats.record_frame import checksum, header_of
from ssd_jax.data.formats.tf_example import OF_BYTES, OF_FLOATS, OF_INTEGERS
from ssd_jax.data.protobuf import BYTES


def example(features: Mapping[str, bytes | np.ndarray]) -> bytes:
    """Encodes features: bytes, or `[values]` floats, or integers from 0.

    If the last feature is bytes, the message ends with these bytes.
    """
    entries = [
        _field(1, _field(1, name.encode()) + _field(2, _feature(values)))
        for name, values in features.items()
    ]
    return _field(1, b"".join(entries))


def _feature(values: bytes | np.ndarray) -> bytes:
    if isinstance(values, bytes):
        return _field(OF_BYTES, _field(1, values))
    if np.issubdtype(values.dtype, np.floating):
        packed, kind = values.astype("<f4").tobytes(), OF_FLOATS
    else:
        packed, kind = b"".join(map(_varint, values.astype(int).tolist())), OF_INTEGERS
    return _field(kind, _field(1, packed) if packed else b"")


def _field(number: int, content: bytes) -> bytes:
    return b"".join((_varint(number << 3 | BYTES), _varint(len(content)), content))


def _varint(value: int) -> bytes:
    """Encodes an integer from 0, in 7 bits per byte."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def write_record(file: BinaryIO, content: bytes) -> int:
    """Appends a record to a TFRecord file.

    Returns:
      The position in the file at which its content ends.
    """
    file.write(header_of(len(content)))
    file.write(content)
    end = file.tell()
    file.write(checksum(content))
    return end
