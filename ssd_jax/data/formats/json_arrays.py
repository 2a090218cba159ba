"""Reads the arrays of one large JSON object in slices, so that memory stays bounded.

A slice must end after an item. Its end is guessed: the text up to the guessed end is decoded as an
array, which fails if the guess is wrong. After wrong guesses, the end is searched sign by sign.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

PIECE = 2**22  # the number of bytes that are decoded together
TRIES = 3  # the number of guesses of the end of an item

BETWEEN_OBJECTS = re.compile(rb"\}\s*,\s*\{")
LAST_OBJECT = re.compile(rb"\}\s*\]")
SPACE = re.compile(rb"[ \t\n\r]*")
# A string, which may be incomplete so far, or a sign that opens, closes or separates.
INSIDE = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[\[\]{}]', re.DOTALL)
BETWEEN = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[\[\]{},]', re.DOTALL)

Decode = Callable[[bytes], list]


class Slice(NamedTuple):
    """Consecutive items of an array, or another value instead of an array.

    Attributes:
      name: the key of the array.
      is_first: whether the array begins here; it replaces an earlier one with the same key.
      items: the decoded items; None for a value that is not an array.
      text: the items as a JSON array.
      is_null: whether the value is null.
    """

    name: str
    is_first: bool
    items: list | None
    text: bytes
    is_null: bool = False


class NotJsonError(ValueError):
    """The text is not JSON.

    Attributes:
      reason: the description of the error.
      offset: its position in the text, in bytes.
    """

    def __init__(self, reason: str, offset: int):
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


def read_arrays(
    pieces: Iterator[bytes], decoders: Mapping[str, Decode], at_once: int = PIECE
) -> Iterator[Slice]:
    """Reads the items of some arrays of a JSON object, in the order of the file.

    Args:
      pieces: the text in valid UTF-8, in pieces of any length.
      decoders: functions that decode a JSON array quickly, by the keys of the arrays. They raise
        `msgspec.MsgspecError` or `ValueError` for unusual items; `json.loads` decodes these.
      at_once: the approximate number of bytes that are decoded together.

    Yields:
      Slices; none if the text is not an object.

    Raises:
      NotJsonError: the text is not JSON.
    """
    reader = _Reader(pieces, at_once)
    if reader.next_sign() != b"{":
        reader.skip_value()
        reader.check_end()
        return
    reader.position += 1
    expects_key = False
    while expects_key or reader.next_sign() != b"}":
        reader.forget()
        name = reader.key()
        if reader.next_sign() == b"[":
            for number, (items, text) in enumerate(reader.array(decoders.get(name, _unused))):
                if name in decoders:
                    yield Slice(name, number == 0, items, text)
        else:
            is_null = reader.skip_value() is None
            if name in decoders:
                yield Slice(name, True, None, b"", is_null)
        expects_key = reader.next_sign() == b","
        if expects_key:
            reader.position += 1
        elif reader.next_sign() != b"}":
            raise reader.error("Expecting ',' delimiter")
    reader.position += 1
    reader.check_end()


class _Nothing(msgspec.Struct, gc=False):
    """An item that is not needed."""


_unused: Decode = msgspec.json.Decoder(list[_Nothing]).decode


class _Reader:
    """A text that is read as far as needed.

    Attributes:
      position: the current position in the buffer.
    """

    def __init__(self, pieces: Iterator[bytes], at_once: int):
        """Begins before the text."""
        self._pieces = pieces
        self._at_once = at_once
        self._text = b""
        self._before = 0  # bytes before the buffer
        self.position = 0

    def error(self, reason: str, position: int | None = None) -> NotJsonError:
        """An error at a position of the text."""
        return NotJsonError(
            reason, self._before + (self.position if position is None else position)
        )

    def next_sign(self) -> bytes:
        """Moves `position` to the next sign that is not blank, and returns it; b"" at the end."""
        while True:
            self.position = SPACE.match(self._text, self.position).end()  # type: ignore[union-attr]
            if self.position < len(self._text):
                return self._text[self.position : self.position + 1]
            if not self._read(1):
                return b""

    def check_end(self) -> None:
        """Raises `NotJsonError` if anything except blanks follows."""
        if self.next_sign():
            raise self.error("Extra data")

    def key(self) -> str:
        """Reads the next key and its colon."""
        if self.next_sign() != b'"':
            raise self.error("Expecting property name enclosed in double quotes")
        while not (match := INSIDE.match(self._text, self.position)) or not match[1]:
            if not self._read(len(self._text) - self.position + 1):
                raise self.error("Unterminated string starting at")
        name = self._decoded(self.position, match.end())
        self.position = match.end()
        if self.next_sign() != b":":
            raise self.error("Expecting ':' delimiter")
        self.position += 1
        return name

    def skip_value(self) -> Any:
        """Reads a value as a whole."""
        self.next_sign()
        end = next(self._stops(), -1)
        if end < 0:  # the text ends here
            end = len(self._text)
        value = self._decoded(self.position, end)
        self.position = end
        return value

    def array(self, decode: Decode) -> Iterator[tuple[list, bytes]]:
        """Yields the items of the array that begins here, in one or more slices, with their texts.

        An empty array is one slice.
        """
        self.position += 1
        self._read(self._at_once)
        if self.next_sign() == b"]":
            self.position += 1
            yield [], b"[]"
            return
        while True:
            yield self._some_items(decode)
            sign = self.next_sign()
            if sign not in (b"]", b","):
                raise self.error("Expecting ',' delimiter")
            self.position += 1
            if sign == b"]":
                return
            self.forget()
            self._read(self._at_once)
            self.next_sign()

    def _some_items(self, decode: Decode) -> tuple[list, bytes]:
        """Reads the next items, at least one."""
        for end in self._guesses():
            text = b"[%b]" % self._text[self.position : end]
            try:
                items = decode(text)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
            self.position = end
            return items, text
        end = self._end_of_some()
        text = b"[%b]" % self._text[self.position : end]
        items = self._decoded(self.position, end, in_array=True)
        if not items:
            raise self.error("Expecting value")
        self.position = end
        return items, text

    def _guesses(self) -> Iterator[int]:
        """Guesses the end of the last complete item of the buffer: after a closing brace."""
        end = len(self._text)
        for _ in range(TRIES):
            end = self._text.rfind(b"}", self.position, end)
            if end < 0:
                break
            if BETWEEN_OBJECTS.match(self._text, end):
                yield end + 1
        for match, _ in zip(
            LAST_OBJECT.finditer(self._text, self.position), range(TRIES), strict=False
        ):
            yield match.start() + 1

    def _end_of_some(self) -> int:
        """The end of some complete items; reads more text if there are none."""
        for end in self._stops():
            is_last = self._text[end : end + 1] != b","
            if is_last or end - self.position >= self._at_once // 2:
                return end
        return len(self._text)

    def _stops(self) -> Iterator[int]:
        """Yields the ends of the items of the array, or object, around `position`.

        These are at commas and at the end of the array. Reads more text when the buffer ends.
        """
        start, depth = self.position, 0
        while True:
            match = (INSIDE if depth else BETWEEN).search(self._text, start)
            sign = match[0] if match else b""
            if match and (sign[:1] != b'"' or match[1]):
                start = match.end()
            else:  # no sign, or an incomplete string
                start = match.start() if match else len(self._text)
                # Twice as much each time, so that a long string is not searched too often.
                if not self._read(2 * (len(self._text) - self.position) + 1):
                    return
            if sign in (b"[", b"{"):
                depth += 1
            elif sign == b"," or (sign in (b"]", b"}") and not depth):
                yield start - 1
            elif sign in (b"]", b"}"):
                depth -= 1

    def _decoded(self, start: int, end: int, in_array: bool = False) -> Any:
        """Decodes a part of the text with `json.loads`."""
        try:
            text = self._text[start:end].decode()
            return json.loads(f"[{text}]" if in_array else text)
        except json.JSONDecodeError as error:
            within = len(error.doc[: error.pos].encode()) - in_array
            raise self.error(error.msg, start + min(within, end - start)) from error
        except (ValueError, RecursionError) as error:  # e.g. a number of thousands of digits
            raise self.error(str(error), start) from error

    def _read(self, num_bytes: int) -> bool:
        """Reads until the buffer has `num_bytes` from `position` on, or the text ends.

        Returns:
          Whether anything was read.
        """
        pieces = [self._text]
        missing = num_bytes - (len(self._text) - self.position)
        while missing > 0 and (piece := next(self._pieces, b"")):
            pieces.append(piece)
            missing -= len(piece)
        if len(pieces) > 1:
            self._text = b"".join(pieces)
        return len(pieces) > 1

    def forget(self) -> None:
        """Discards the text before `position`."""
        self._text = self._text[self.position :]
        self._before += self.position
        self.position = 0
