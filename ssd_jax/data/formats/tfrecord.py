"""Reads TFRecords of TensorFlow's Object Detection API, without TensorFlow.

Each record has an image file and its boxes, as fractions of the image. Images are not copied:
annotations have their positions in the record file.
"""

import functools
import glob
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.discovery import Splits
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.formats.tf_example import (
    Feature,
    TfRecord,
    is_compressed,
    parse_example,
    read_records,
)
from ssd_jax.data.formats.tfds_folder import TFDS_FILES, is_prepared
from ssd_jax.data.image_folders import split_of
from ssd_jax.data.problems import MAX_PIXEL, Problem, Problems
from ssd_jax.data.protobuf import MalformedMessageError
from ssd_jax.data.records import Annotation, Object, annotation
from ssd_jax.data.spec import compose
from ssd_jax.data.split_names import kind_of
from ssd_jax.errors import UserError, counted, shown
from ssd_jax.storage.files import local_path, read_text
from ssd_jax.storage.objects import place_behind

logger = logging.getLogger(__name__)

# train.record, train.tfrecords, train.record-00000-of-00010, train-00000-of-00010.tfrecord
SHARD = r"[-.]\d+-of-\d+"
NAME = re.compile(rf"(.*?)({SHARD})?\.(tf)?records?({SHARD})?", re.IGNORECASE)
BOX = tuple(f"image/object/bbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax"))
OF_TFDS = "a set that TensorFlow Datasets has prepared: read it as tfds:NAME:SPLIT"
MAX_LABEL_MAP = 2**22  # bytes

Features = dict[str, Feature]


def open_tfrecord(files: str, problems: Problems) -> Annotations:
    """Reads record files, in alphabetical order.

    Args:
      files: a file, a pattern like `train.record-*`, or a folder.
      problems: handles damaged images and annotations.

    Raises:
      UserError: there is no such file, one cannot be understood, or `problems` stops; the message
        names the file.
    """
    spec = compose("tfrecord", files)
    paths = _paths(local_path(files), spec)
    for name in TFDS_FILES:
        if (paths[0].parent / name).is_file():
            raise UserError(f"{spec}: {paths[0].parent} is {OF_TFDS}")
    names = _label_map(paths[0])
    reader = _Reader(names, problems)
    annotations = Annotations(reader.read(paths), spec)
    if not len(annotations) and not problems.found:
        raise UserError(f"{spec} has no records")
    if names and set(annotations.names) <= set(names.values()):
        annotations.category_ids = {name: number for number, name in names.items()}
    if reader.numbered:
        logger.warning(
            "%s: numbers, like %s, are the names of classes: the records have no "
            "image/object/class/text, and no label map (*.pbtxt) names them",
            *(spec, min(reader.numbered)),
        )
    return annotations


def find_tfrecord(tree: FileTree) -> Splits:
    """Finds the record files of detection sets below a folder; shards of a set are one source."""
    prepared = {file.rpartition("/")[0] for file in tree.files if _name(file) in TFDS_FILES}
    sets: dict[tuple[str, str], list[str]] = {}
    of_tfds = set()
    for file in tree.files:
        found = NAME.fullmatch(_name(file))
        if found and file.rpartition("/")[0] in prepared:
            of_tfds.add(file.rpartition("/")[0])
        elif found:
            stem = file[: len(file) - len(_name(file))] + found[1]
            total = (found[2] or found[4] or "").rpartition("-")[2]
            sets.setdefault((stem, total), []).append(file)
    for folder in sorted(folder for folder in of_tfds if not is_prepared(tree.path(folder))):
        logger.warning("%s: left out: it is %s", tree.path(folder), OF_TFDS)
    splits: Splits = {}
    for (stem, total), files in sets.items():
        if _is_detection_file(tree.path(files[0])):
            places = [tree.path(file) for file in files]
            # If the user names one shard, only this shard is read.
            pattern = _pattern(places[0]) if total else places[0]
            if total and len(list(pattern.parent.glob(pattern.name))) == len(places):
                places = [pattern]
            sources = [compose("tfrecord", place) for place in places]
            splits.setdefault(kind_of(split_of(f"{stem}.record")), []).extend(sources)
    return splits


def _name(file: str) -> str:
    return file.rpartition("/")[2]


def _pattern(shard: Path) -> Path:
    """The pattern of all shards of a set, from the name of one."""
    before, number, after = re.split(r"(\d+)(?=-of-\d+)", shard.name, maxsplit=1)
    return shard.parent / f"{glob.escape(before)}{'?' * len(number)}{glob.escape(after)}"


def _paths(place: Path, spec: str) -> list[Path]:
    """The files of a source."""
    if place.is_file():
        return [place]
    if place.is_dir():
        there = [path for path in sorted(place.iterdir()) if path.is_file()]
        found = [path for path in there if NAME.fullmatch(path.name)]
    else:
        there = sorted(place.parent.glob(place.name)) if place.parent.is_dir() else []
        found = [path for path in there if path.is_file()]
        _check_shards(found, spec)
    if not found:
        problem = "has no record files" if place.is_dir() else "does not exist"
        raise UserError(f"{spec}: {place} {problem}")
    return found


def _check_shards(paths: Sequence[Path], spec: str) -> None:
    """Rejects a set with missing shards; names of shards state their total."""
    counts = [re.search(r"-of-(\d+)", path.name) for path in paths]
    totals = {int(count[1]) for count in counts if count}
    if len(totals) == 1 and all(counts) and len(paths) < min(totals):
        raise UserError(
            f"{spec}: only {len(paths)} of {min(totals)} files exist: copy the others, or name "
            "each existing file"
        )


def _is_detection_file(path: Path) -> bool:
    """Whether the first record has the form of the detection API; true for an object in a store."""
    if place_behind(path):
        return True
    try:
        record = next(read_records(path), None)
        keys = set(parse_example(record.content)) if record else set()
    except UserError:  # damaged or compressed: opening it reports the error
        return ".tfrecord" in path.name.lower() or is_compressed(path)
    except MalformedMessageError:
        return False
    has_image = bool(keys & {"image/encoded", "image/filename"})
    return has_image and any(key.startswith("image/object/") for key in keys)


class _Reader:
    """Reads the records of several files.

    Attributes:
      numbered: the numbers of classes without a name.
    """

    def __init__(self, names: dict[int, str], problems: Problems):
        """Stores the names of a label map by number, and the collection of damaged images."""
        self.names, self.problems = names, problems
        self.numbered: set[int] = set()
        self._seen: set[str] = set()
        self._tree = functools.cache(FileTree)

    def read(self, paths: Sequence[Path]) -> Iterator[Annotation]:
        """Yields the annotation of every image; `problems` collects damaged ones."""
        for path in paths:
            for number, record in enumerate(read_records(path)):
                self.problems.num_images += 1
                place = f"{path.name}#{number}"
                found: list[Problem] = []
                try:
                    if not record.intact:
                        raise MalformedMessageError("its content does not match its checksum")
                    read = self._read(record, path, place, found)
                except MalformedMessageError as error:
                    message = f"record {number} is damaged: {error}"
                    self.problems.add(path, place, [Problem("annotation form", message)])
                    continue
                if found:
                    self.problems.add(read.file, read.image_id, found)
                else:
                    yield read

    def _read(self, record: TfRecord, path: Path, place: str, found: list[Problem]) -> Annotation:
        """Reads the annotation of a record; adds its problems to `found`."""
        features = parse_example(record.content)
        name = _text(record, features, "image/filename")
        image_id = _stem(name) or _text(record, features, "image/source_id") or place
        if image_id in self._seen:  # images of several folders may have the same name
            image_id = place
        self._seen.add(image_id)
        images = _get(features, "image/encoded").spans
        start, end = images[0] if images else (0, 0)
        image, span = path, (record.offset + start, end - start)
        if start == end:  # some tools store images as separate files next to the record file
            named = self._tree(path.parent).image(name) if name else None
            image, span = (named if isinstance(named, Path) else path), None
        if len(images) > 1 or (span is None and image == path):
            message = "needs one image/encoded, or the name of an image in the folder of the file"
            found.append(Problem("image missing", message))
        sides = [_get(features, f"image/{side}").integers[:1] for side in ("height", "width")]
        height, width = (side[0] if side else 0 for side in sides)
        objects = self._objects(record, features, found)
        file = f"{path}: {name or place}"
        return annotation(image_id, image, file, objects, (height, width), "fractions", span)

    def _objects(self, record: TfRecord, features: Features, found: list[Problem]) -> list[Object]:
        """Reads the objects of a record; adds their problems to `found`."""
        corners = [_get(features, key).floats for key in BOX]
        count = len(corners[0])
        if any(len(corner) != count for corner in corners):
            lengths = ", ".join(str(len(corner)) for corner in corners)
            message = f"has {lengths} of xmin, ymin, xmax and ymax, but needs equal numbers"
            found.append(Problem("box", message))
            return []
        boxes = list(zip(*corners, strict=True))
        for box in boxes:
            if not all(abs(corner) <= MAX_PIXEL for corner in box):  # nor NaN
                found.append(Problem("box", f"a box is {shown(box)}, which is not four numbers"))
        texts = _texts(record, features, "image/object/class/text")
        labels = _get(features, "image/object/class/label").integers
        if len(texts) == count and all(texts):
            names = texts
        elif len(labels) == count:
            names = [self._named(label) for label in labels]
        else:
            message = (
                f"has {counted(count, 'box')}, but {counted(len(texts), 'class text')} and "
                f"{counted(len(labels), 'label')}"
            )
            found.append(Problem("class missing", message))
            return []
        flags = [
            _get(features, f"image/object/{key}").integers for key in ("difficult", "is_crowd")
        ]
        difficult, crowd = (values if len(values) == count else [0] * count for values in flags)
        areas = _get(features, "image/object/area").floats
        if len(areas) != count or not all(0 < area < math.inf for area in areas):
            areas = [math.nan] * count
        rows = zip(names, boxes, difficult, crowd, areas, strict=True)
        return [
            Object(name, box, bool(hard), bool(group), area)
            for name, box, hard, group, area in rows
        ]

    def _named(self, label: int) -> str:
        if label not in self.names:
            self.numbered.add(label)
        return self.names.get(label, str(label))


def _get(features: Features, key: str) -> Feature:
    return features.get(key, Feature([], [], []))


def _stem(name: str) -> str:
    """A file name without its suffix."""
    return os.path.splitext(name.replace("\\", "/"))[0]


def _texts(record: TfRecord, features: Features, key: str) -> list[str]:
    spans = _get(features, key).spans
    return [record.content[slice(*span)].decode(errors="replace").strip() for span in spans]


def _text(record: TfRecord, features: Features, key: str) -> str:
    return next(iter(_texts(record, features, key)), "")


def _label_map(path: Path) -> dict[int, str]:
    """The names of a record file's label map: the one with the name of the file, or the only one.

    Label maps are searched in the folder of the file and the folder above.
    """
    maps = sorted(path.parent.glob("*.pbtxt")) or sorted(path.parent.parent.glob("*.pbtxt"))
    found = NAME.fullmatch(path.name)
    stem = found[1] if found else path.stem
    own = [each for each in maps if stem and each.name.startswith(stem)]
    chosen = own or maps
    if len(chosen) != 1:
        return {}
    return parse_label_map(read_text(chosen[0], MAX_LABEL_MAP), chosen[0])


def parse_label_map(text: str, path: Path) -> dict[int, str]:
    """Parses the names of a label map by number: `item { id: 1 name: 'cat' }`, and variants.

    Raises:
      UserError: an item has no id or name, or two have the same id.
    """
    names: dict[int, str] = {}
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    for item in re.findall(r"\bitem\s*:?\s*\{((?:\"[^\"\n]*\"|'[^'\n]*'|[^}\"'])*)\}", text):
        number = re.search(r"\bid\s*:\s*(\d+)", re.sub(r"\"[^\"\n]*\"|'[^'\n]*'", "''", item))
        quoted = {
            key: double or single
            for key, double, single in re.findall(
                r"\b(name|display_name)\s*:\s*(?:\"([^\"\n]*)\"|'([^'\n]*)')", item
            )
        }
        name = quoted.get("display_name") or quoted.get("name")
        if number is None or not name:
            raise UserError(f"{path}: an item has no id or no name: {shown(item.strip())}")
        if names.setdefault(int(number[1]), name) != name:
            raise UserError(
                f"{path} gives the id {number[1]} to {names[int(number[1])]!r} and {name!r}"
            )
    return names
