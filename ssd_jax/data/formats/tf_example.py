"""Reads TFRecord files of `tf.train.Example` without TensorFlow."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_jax.data.formats.record_frame import (
    CHECKSUM_BYTES,
    FRAME_BYTES,
    HEADER_BYTES,
    checksum,
    header_of,
    length_in,
)
from ssd_jax.data.protobuf import BYTES, FIXED32, VARINT, MalformedMessageError, fields, varint
from ssd_jax.errors import UserError, reason_of
from ssd_jax.storage.files import open_file

# The largest number of bytes that are read for a record; records of one image are smaller.
MAX_RECORD = 2**30
# The field numbers of a `tf.train.Feature`, by the type of its list.
OF_BYTES, OF_FLOATS, OF_INTEGERS = 1, 2, 3
COMPRESSED = {b"\x1f\x8b": "GZIP", b"\x78\x01": "ZLIB", b"\x78\x9c": "ZLIB", b"\x78\xda": "ZLIB"}


class TfRecord(NamedTuple):
    """A record of a file.

    Attributes:
      offset: the position of its content in the file, in bytes.
      content: its bytes.
      intact: whether the content matches its checksum in the file.
    """

    offset: int
    content: bytes
    intact: bool


class Feature(NamedTuple):
    """The values of a `tf.train.Feature`, all of one type.

    Attributes:
      spans: the position of each byte string in the record, as (start, end).
      floats: numbers in float32 precision.
      integers: numbers of 64 bits, signed.
    """

    spans: list[tuple[int, int]]
    floats: list[float]
    integers: list[int]


def read_records(path: Path) -> Iterator[TfRecord]:
    """Yields the records of a TFRecord file.

    Raises:
      UserError: the file is compressed, damaged between records, or not a TFRecord file.
    """
    try:
        with open_file(path) as file:
            offset, end = 0, file.seek(0, io.SEEK_END)
            file.seek(0)
            while header := file.read(HEADER_BYTES):
                length = length_in(header)
                if header != header_of(length):
                    raise _refusal(path, offset, header)
                content = file.read(min(length, end - offset, MAX_RECORD))
                stated = file.read(CHECKSUM_BYTES)
                if len(content) < length or len(stated) < CHECKSUM_BYTES:
                    raise UserError(f"{path} ends inside a record: copy the file again")
                yield TfRecord(offset + HEADER_BYTES, content, stated == checksum(content))
                offset += length + FRAME_BYTES
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}") from error


def is_compressed(path: Path) -> bool:
    """Whether a file begins like a gzip or zlib file."""
    try:
        with open_file(path) as file:
            return file.read(2) in COMPRESSED
    except OSError:
        return False


def _refusal(path: Path, offset: int, header: bytes) -> UserError:
    """The error for a file with an invalid header of a record at an offset in bytes."""
    kind = COMPRESSED.get(header[:2]) if offset == 0 else None
    if kind:
        return UserError(
            f"{path} is compressed with {kind}, so images cannot be read one by one: "
            "decompress the file, or write it without compression"
        )
    if offset:
        return UserError(f"{path} is damaged at byte {offset:,}: copy the file again")
    return UserError(f"{path} is not a TFRecord file, or its beginning is damaged")


def parse_example(content: bytes) -> dict[str, Feature]:
    """Parses a `tf.train.Example` into its features by name.

    Raises:
      MalformedMessageError: the bytes are not such a message.
    """
    features = {}
    for number, _, (start, end) in fields(content, 0, len(content)):
        if number != 1:
            continue
        for number, _, entry in fields(content, start, end):
            if number == 1:
                key, value = b"", (0, 0)
                for number, _, span in fields(content, *entry):
                    if number == 1:
                        key = content[slice(*span)]
                    elif number == 2:
                        value = span
                features[key.decode(errors="replace")] = _feature(content, *value)
    return features


def _feature(content: bytes, start: int, end: int) -> Feature:
    """Parses a feature: a list of bytes, of floats, or of integers."""
    feature = Feature([], [], [])
    for kind, _, values in fields(content, start, end):
        for number, wire, span in fields(content, *values):
            if number != 1:
                continue
            if kind == OF_BYTES and wire == BYTES:
                feature.spans.append(span)
            elif kind == OF_FLOATS and wire in (FIXED32, BYTES) and (span[1] - span[0]) % 4 == 0:
                feature.floats.extend(np.frombuffer(content[slice(*span)], "<f4").tolist())
            elif kind == OF_INTEGERS and wire in (VARINT, BYTES):
                place = span[0]
                while place < span[1]:
                    integer, place = varint(content, place, span[1])
                    feature.integers.append(integer - 2**64 if integer >= 2**63 else integer)
            else:
                raise MalformedMessageError("a list of values has an unknown form")
    return feature
