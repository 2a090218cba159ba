"""Reads large text files in pieces."""

import codecs
from collections.abc import Iterator

from ssd_jax.storage.files import AnyPath, local_path, open_file, reading_text

PIECE = 2**22  # bytes
CONTINUING = bytes(range(0x80, 0xC0))  # the bytes of a character except the first


def utf8_pieces(place: AnyPath, num_bytes: int = PIECE) -> Iterator[bytes]:
    """Yields the text of a file in pieces of UTF-8, from any encoding of `read_text`.

    Args:
      place: the file.
      num_bytes: of the file that are read together.

    Raises:
      UserError: there is no such file, or it is not a text in one of those encodings.
    """
    path = local_path(place)
    with reading_text(path), open_file(path) as file:
        beginning = file.read(2)
        is_utf_16 = beginning in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        file.seek(0 if is_utf_16 else _length_of_mark(beginning + file.read(1)))
        decoder = codecs.getincrementaldecoder("utf-16" if is_utf_16 else "utf-8")()
        is_between = True  # two characters
        while piece := file.read(num_bytes):
            if is_utf_16:
                yield decoder.decode(piece).encode()
                continue
            if not (is_between and piece.isascii()):
                decoder.decode(piece)  # raises the errors of `read_text`
                is_between = not decoder.getstate()[0]
            yield piece
        decoder.decode(b"", final=True)


def _length_of_mark(beginning: bytes) -> int:
    return len(codecs.BOM_UTF8) if beginning == codecs.BOM_UTF8 else 0


def place_of(place: AnyPath, offset: int) -> str:
    """The place of a byte of the text in UTF-8, in the form of Python's `json`.

    Raises:
      UserError: see `utf8_pieces`.
    """
    line, column, characters = 1, 1, 0
    for piece in utf8_pieces(place):
        own = piece[:offset].translate(None, CONTINUING)
        line += own.count(b"\n")
        newline = own.rfind(b"\n")
        column = column + len(own) if newline < 0 else len(own) - newline
        characters += len(own)
        offset -= len(piece)
        if offset <= 0:
            break
    return f"line {line} column {column} (char {characters})"
