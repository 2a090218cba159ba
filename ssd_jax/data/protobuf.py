"""Parses the fields of protobuf messages, without a schema."""

from collections.abc import Iterator

# The wire types of fields.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class MalformedMessageError(ValueError):
    """Bytes are not a protobuf message, or are damaged."""


def fields(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yields the number, wire type, and (start, end) of the value of each field of a message.

    Raises:
      MalformedMessageError: the bytes are not a message.
    """
    while start < end:
        tag, start = varint(content, start, end)
        wire = tag & 7
        if wire == VARINT:
            _, stop = varint(content, start, end)
        elif wire == BYTES:
            length, start = varint(content, start, end)
            stop = start + length
        elif wire in (FIXED32, FIXED64):
            stop = start + (4 if wire == FIXED32 else 8)
        else:
            raise MalformedMessageError(f"a field has the unknown kind {wire}")
        if stop > end:
            raise MalformedMessageError("a field ends after its message")
        yield tag >> 3, wire, (start, stop)
        start = stop


def varint(content: bytes, start: int, end: int) -> tuple[int, int]:
    """Reads an integer of one to ten bytes; returns it and its end."""
    value = shift = 0
    for place in range(start, min(end, start + 10)):
        byte = content[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), place + 1
        shift += 7
    raise MalformedMessageError("a number does not end")
