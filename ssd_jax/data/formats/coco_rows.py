"""The images and annotations of a COCO file in columns; unusual entries are kept unchanged."""

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from ssd_jax.data.columns import Strings
from ssd_jax.data.formats.coco_values import (
    area_of,
    box_of_entry,
    flag,
    identity,
    is_text,
    name_of,
    size_of,
)
from ssd_jax.data.formats.json_arrays import Decode
from ssd_jax.data.problems import MAX_PIXEL, Problem

Id = int | str

# Larger ids, and ids that are not numbers, get numbers from here on, in order of occurrence.
OTHER_IDS = 2**62
NO_ID = -OTHER_IDS - 1

_Id = Annotated[int, msgspec.Meta(gt=-OTHER_IDS, lt=OTHER_IDS)]
_Number = Annotated[float, msgspec.Meta(ge=-MAX_PIXEL, le=MAX_PIXEL)]
_Side = Annotated[float, msgspec.Meta(ge=0, le=MAX_PIXEL)]
_Area = Annotated[float, msgspec.Meta(ge=-(MAX_PIXEL**2), le=MAX_PIXEL**2)]
_Flag = bool | Annotated[int, msgspec.Meta(ge=-int(MAX_PIXEL), le=int(MAX_PIXEL))] | None


class Object(msgspec.Struct, gc=False):
    """An entry of `annotations` in COCO's form."""

    image_id: _Id
    category_id: _Id
    bbox: tuple[_Number, _Number, _Number, _Number]
    area: _Area | None = None
    iscrowd: _Flag = None
    ignore: _Flag = None


class Image(msgspec.Struct, gc=False):
    """An entry of `images` in COCO's form."""

    id: _Id
    file_name: str
    height: _Side | None = None
    width: _Side | None = None


decode_objects: Decode = msgspec.json.Decoder(list[Object]).decode
decode_images: Decode = msgspec.json.Decoder(list[Image]).decode


class Ids:
    """Maps ids to integers of 64 bits; ids may be texts, or have hundreds of digits."""

    def __init__(self) -> None:
        """Begins without ids."""
        self._numbers: dict[Id, int] = {}
        self._ids: list[Id] = []

    def number(self, value: Id | None) -> int:
        """The number of an id; most ids are their own number."""
        if value is None:
            return NO_ID
        if isinstance(value, int) and abs(value) < OTHER_IDS:
            return value
        if value not in self._numbers:
            self._numbers[value] = OTHER_IDS + len(self._ids)
            self._ids.append(value)
        return self._numbers[value]

    def id(self, number: int) -> Id:
        """The id with this number."""
        return self._ids[number - OTHER_IDS] if number >= OTHER_IDS else number


class _Rows:
    """Columns to which rows can be added."""

    def __init__(self, **types: type):
        """Begins without rows; `types` are the types of the columns by name."""
        self._types = types
        self._columns = {name: bytearray() for name in types}

    def add(self, **values: Iterable) -> None:
        """Adds values to the columns, the same number to each."""
        for name, own in values.items():
            own = own if isinstance(own, np.ndarray) else list(own)
            self._columns[name] += np.asarray(own, self._types[name]).tobytes()

    def column(self, name: str) -> np.ndarray:
        """A column; while it is in use, no rows can be added."""
        return np.frombuffer(self._columns[name], self._types[name])

    def pop(self, name: str) -> np.ndarray:
        """Removes and returns a column."""
        return np.frombuffer(self._columns.pop(name), self._types[name])


class ObjectRows:
    """The entries of `annotations`, one row each.

    Attributes:
      columns: `image` and `category` (numbers of `Ids`), `box` (the corners, four numbers a row),
        `area` (NaN where not given), `crowd` and `ignored`.
      odd: entries with missing or invalid values, by row. In the columns of these rows, only
        the number of the image is valid.
    """

    def __init__(self, ids: Ids):
        """Begins without rows; `ids` are the ids of images and categories."""
        self.odd: dict[int, Any] = {}
        self.columns = _Rows(
            image=np.int64, category=np.int64, box=np.float64, area=np.float64, crowd=bool,
            ignored=bool,
        )  # fmt: skip
        self._ids = ids
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, items: Sequence) -> None:
        """Adds entries decoded by `decode_objects` or `json.loads`."""
        if not items:
            return
        is_plain = isinstance(items[0], Object)
        read = items if is_plain else list(map(self._read, items, itertools.count(self._count)))
        numbers = itertools.chain.from_iterable([each.bbox for each in read])
        boxes = np.fromiter(numbers, np.float64, 4 * len(read)).reshape(-1, 4)
        if is_plain:
            boxes[:, 2:] += boxes[:, :2]
        self.columns.add(
            image=[each.image_id for each in read],
            category=[each.category_id for each in read],
            box=boxes,
            area=[math.nan if each.area is None else each.area for each in read],
            crowd=[bool(each.iscrowd) for each in read],
            ignored=[bool(each.ignore) for each in read],
        )
        self._count += len(read)

    def _read(self, entry: object, row: int) -> Object:
        """Reads an entry, with the corners of its box; adds it to `odd` if a value is invalid."""
        if not isinstance(entry, dict):
            self.odd[row] = entry
            return Object(NO_ID, NO_ID, (0, 0, 0, 0))
        image_id, category_id = identity(entry.get("image_id")), identity(entry.get("category_id"))
        box, area = box_of_entry(entry), area_of(entry.get("area"))
        crowd, ignored = flag(entry.get("iscrowd")), flag(entry.get("ignore"))
        is_whole = None not in (image_id, box, area, crowd, ignored)
        if not is_whole or not isinstance(category_id, int):
            self.odd[row] = entry
        return Object(
            self._ids.number(image_id), self._ids.number(category_id), box or (0, 0, 0, 0), area,
            crowd, ignored,
        )  # fmt: skip


class ImageRows:
    """The entries of `images`, one row each.

    Attributes:
      columns: `number` (of `Ids`), `height` and `width` (NaN where not given).
      names: the names of the image files.
      odd: entries with missing or invalid values, by row.
    """

    def __init__(self, ids: Ids):
        """Begins without rows; `ids` are the ids of images and categories."""
        self.odd: dict[int, Any] = {}
        self.columns = _Rows(number=np.int64, height=np.float64, width=np.float64)
        self._ids = ids
        self._names = bytearray()
        self._ends = bytearray()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def names(self) -> Strings:
        return Strings.joined(bytes(self._names), np.frombuffer(self._ends, np.int64))

    def add(self, items: Sequence, text: bytes) -> None:
        """Adds entries decoded by `decode_images` or `json.loads`; `text` is their JSON array."""
        if not items:
            return
        if isinstance(items[0], Image) and not all(is_text(each.file_name) for each in items):
            items = json.loads(text)
        is_plain = isinstance(items[0], Image)
        read = items if is_plain else list(map(self._read, items, itertools.count(self._count)))
        names = [each.file_name.encode() for each in read]
        ends = len(self._names) + np.cumsum([len(name) for name in names], dtype=np.int64)
        self._names += b"".join(names)
        self._ends += ends.tobytes()
        self.columns.add(
            number=[each.id for each in read],
            height=[math.nan if each.height is None else each.height for each in read],
            width=[math.nan if each.width is None else each.width for each in read],
        )
        self._count += len(read)

    def _read(self, entry: object, row: int) -> Image:
        """Reads an entry; adds it to `odd` if a value is invalid."""
        if not isinstance(entry, dict):
            self.odd[row] = entry
            return Image(NO_ID, "")
        image_id, name = identity(entry.get("id")), name_of(entry)
        found: list[Problem] = []
        height, width = size_of(entry, "", found) or (None, None)
        if image_id is None or name is None or found:
            self.odd[row] = entry
        return Image(self._ids.number(image_id), name or "", height, width)
