"""Tables in text files: their separator, the meaning of their columns, and their lines."""

import array
import csv
import dataclasses
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ssd_jax.data.formats import values
from ssd_jax.data.records import Object
from ssd_jax.storage.files import read_lines

SEPARATORS = (",", ";", "\t")

# The usual names of columns, in small letters without blanks and signs. The first name that a
# file has is used.
COLUMN_NAMES = {
    "file": (
        *("filename", "imagefilename", "imagename", "filepath", "imagepath", "path", "imgpath"),
        *("file", "imagefile", "image", "img", "imageid", "imgid"),
    ),
    "class": (
        *("class", "classname", "label", "labelname", "category", "categoryname", "name"),
        *("classid", "labelid", "categoryid"),
    ),
    "x_min": ("xmin", "x1", "left", "bboxxmin", "minx"),
    "y_min": ("ymin", "y1", "top", "bboxymin", "miny"),
    "x_max": ("xmax", "x2", "right", "bboxxmax", "maxx"),
    "y_max": ("ymax", "y2", "bottom", "bboxymax", "maxy"),
    "width": ("width", "imagewidth", "imgwidth"),
    "height": ("height", "imageheight", "imgheight"),
    "difficult": ("difficult", "isdifficult"),
    "crowd": ("iscrowd", "isgroupof", "crowd"),
}
CORNERS = ("x_min", "y_min", "x_max", "y_max")
NEEDED = ("file", "class", *CORNERS)

# A part of the names of columns with fractions of the image: `xmin_norm`, `rel_x1`.
FRACTIONS = re.compile(r"(norm(ali[sz]ed)?|rel(ative)?)")


@dataclasses.dataclass(frozen=True)
class Header:
    """The columns of a table.

    Attributes:
      separator: the separator of the columns.
      places: the index of each column, by the keys of `COLUMN_NAMES`.
      num_columns: the number of columns.
      names: the columns, in small letters without blanks and signs; empty without a header.
      fractions: whether boxes are fractions of the image, according to the header.
    """

    separator: str
    places: dict[str, int]
    num_columns: int
    names: tuple[str, ...] = ()
    fractions: bool = False

    def text(self, fields: list[str], column: str) -> str:
        """The field of a row in a column; empty if there is no such column."""
        return fields[self.places[column]] if column in self.places else ""

    def number(self, text: str) -> float | None:
        """The number in a field; None if it is not a number. See `values.number`.

        If semicolons separate columns, a comma may be the decimal sign.
        """
        return values.number(text.replace(",", ".") if self.separator == ";" else text)


class Objects:
    """The objects of an image in about forty bytes each: a file may have millions of rows."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._boxes = array.array("d")
        self._flags = bytearray()

    def add(self, name: str, box: Sequence[float], difficult: bool, crowd: bool) -> None:
        """Adds an object; see `Object`."""
        self._names.append(sys.intern(name))
        self._boxes.extend(box)
        self._flags += bytes([difficult, crowd])

    def names(self) -> list[str]:
        """The class of each object."""
        return self._names

    def listed(self) -> list[Object]:
        """All objects."""
        return [
            Object(
                name,
                self._boxes[4 * i : 4 * i + 4],
                bool(self._flags[2 * i]),
                bool(self._flags[2 * i + 1]),
            )
            for i, name in enumerate(self._names)
        ]


def header_of(line: str) -> Header | None:
    """Parses a line as a header; None if it lacks one of the columns `NEEDED`."""
    for separator in SEPARATORS:
        fields = split_line(line, separator)
        if fields is None or len(fields) < len(NEEDED):
            continue
        names = [re.sub(r"[\W_]+", "", field.lower()) for field in fields]
        plain = [FRACTIONS.sub("", name) for name in names]
        if "x3" in plain:  # the corners of a quadrilateral
            continue
        places = {}
        for column, known in COLUMN_NAMES.items():
            found = next((name for name in known if name in plain), None)
            if found:
                places[column] = plain.index(found)
        if all(column in places for column in NEEDED):
            corners = [places[corner] for corner in CORNERS]
            fractions = all(names[place] != plain[place] for place in corners)
            return Header(separator, places, len(fields), tuple(names), fractions)
    return None


def split_line(line: str, separator: str) -> list[str] | None:
    """The fields of a line, without blanks around them; None if a quote is not closed.

    A field cannot contain a line end, so that a missing quote damages only its line.
    """
    if '"' not in line:
        return [field.strip() for field in line.split(separator)]
    try:
        fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:
        return None
    return [field.strip() for field in fields]


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not blank, with their numbers from 1.

    The line in which Excel names the separator is left out.

    Raises:
      UserError: see `read_lines`.
    """
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip() and not (number == 1 and re.fullmatch(r"sep=.", line.strip())):
            yield number, line
