"""Converts any data set to the layout of COCO, Pascal VOC or YOLO, or to shards."""

import collections
import dataclasses
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ssd_jax.data.datasets import Dataset, Part
from ssd_jax.data.discovery import WHOLE
from ssd_jax.data.file_tree import IMAGE_SUFFIXES
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.image_bytes import num_readers
from ssd_jax.data.image_folders import split_of
from ssd_jax.data.records import Record
from ssd_jax.data.sources import Named, open_dataset, resolve
from ssd_jax.data.split_names import SPLIT_NAMES, TRAIN_NAMES, kind_of
from ssd_jax.data.writers.coco_json import CocoWriter
from ssd_jax.data.writers.shard_store import ShardStore, is_unfinished
from ssd_jax.data.writers.shards import write_shards
from ssd_jax.data.writers.tfds_files import INFO
from ssd_jax.data.writers.voc_xml import VocWriter
from ssd_jax.data.writers.written import Writer, Written
from ssd_jax.data.writers.yolo import YoloWriter
from ssd_jax.errors import UserError, counted, first_names
from ssd_jax.images.limits import MAX_BYTES
from ssd_jax.images.opening import format_of, open_image, upright_size
from ssd_jax.progress import progress_bar
from ssd_jax.storage import clouds
from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.copies import sending
from ssd_jax.storage.files import LONGEST_NAME, local_path, read_bytes, shortened
from ssd_jax.storage.objects import place_behind
from ssd_jax.storage.outputs import check_outputs
from ssd_jax.storage.replacing import UNFINISHED
from ssd_jax.threads import map_ahead, pool_of_threads

logger = logging.getLogger(__name__)

TARGETS = ("coco", "voc", "yolo", "shards")
REMOTE_PLACE = re.compile(r'(?:gs|s3)://[^:,"]+')
LONGEST_STEM = LONGEST_NAME - len(".jpeg")
SUFFIXES = {"JPEG": ".jpg", "JPEG2000": ".jp2"}


@dataclasses.dataclass
class Conversion:
    """The result of a conversion.

    Attributes:
      class_names: the classes, in order.
      images: the number of images of each split.
      objects: the number of objects of each split.
    """

    class_names: tuple[str, ...]
    images: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    objects: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


def convert_data(
    spec: str,
    target: str,
    output: str | Path,
    class_names: Sequence[str] = (),
    class_map: Mapping[str, str] | None = None,
) -> Conversion:
    """Writes all splits of a data set, cleaned, with copies of its image files.

    Damaged image files are copied unchanged, and counted in a warning.

    During the conversion, the folder has the name `OUTPUT.tmp`. An interrupted conversion to shards
    continues (`writers/shards.py`), also in a store (`writers/shard_store.py`); other targets begin
    again.

    Args:
      spec: see `open_dataset`.
      target: one of `TARGETS`.
      output: the folder to write; it must not exist, or must be empty.
      class_names: see `open_dataset`.
      class_map: see `open_dataset`.

    Raises:
      UserError: there is no such target, the folder is not empty or is inside the folder of the
        data, or the data cannot be read.
    """
    if target not in TARGETS:
        raise UserError(f"there is no target {target!r}, only {', '.join(TARGETS)}")
    check_outputs(output, also_remote=True)
    if is_remote(output):
        place = str(output).rstrip("/")
        _check_outside_remote_sources(place, spec)
        found = clouds.objects_at(place)
        if found and not (target == "shards" and is_unfinished(found)):
            raise UserError(f"{place} exists and is not empty: name another folder")
        if target == "shards":
            store = ShardStore(place)
            return _convert(spec, target, store.folder, class_names, class_map, store)
        with sending(place, last=INFO) as folder:
            return _convert(spec, target, folder, class_names, class_map)
    folder = Path(os.path.realpath(local_path(output)))  # "." becomes a path with a name
    _check_outside_sources(folder, spec)
    return _convert(spec, target, folder, class_names, class_map)


def _convert(
    spec: str,
    target: str,
    folder: Path,
    class_names: Sequence[str],
    class_map: Mapping[str, str] | None,
    store: ShardStore | None = None,
) -> Conversion:
    """`convert_data` into a local folder."""
    unfinished = folder.with_name(folder.name + UNFINISHED)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty: name another folder")
    named = resolve(spec)
    sources = ",".join(source for each in named for source in each.sources)
    dataset = open_dataset(sources, class_names, class_map=class_map)
    splits = _split_parts(named, dataset)
    if target == "shards":
        return _write_shards(splits, dataset, folder, store)
    try:
        unfinished.mkdir(parents=True)
    except FileExistsError as error:
        raise UserError(
            f"{unfinished} is from an interrupted conversion, or another one is writing it: remove "
            "it, or wait"
        ) from error
    try:
        conversion = _write(splits, dataset, target, unfinished)
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return conversion


def _write_shards(
    splits: Mapping[str, Sequence[Part]],
    dataset: Dataset,
    folder: Path,
    store: ShardStore | None,
) -> Conversion:
    own = {re.sub(r"\W+", "_", split): dataset.of_parts(parts) for split, parts in splits.items()}
    objects = write_shards(own, folder, store)
    images = {split: len(each) for split, each in own.items()}
    return Conversion(
        dataset.class_names, collections.Counter(images), collections.Counter(objects)
    )


def _check_outside_sources(folder: Path, spec: str) -> None:
    """Raises a `UserError` if a folder is inside a folder of a source."""
    # Names of folders may contain commas and colons.
    places = [spec, *re.split("[:,]", spec), *re.findall('"([^"]*)"', spec)]
    for root in filter(os.path.isdir, places):
        if folder.is_relative_to(os.path.realpath(root)):
            raise UserError(
                f"--output={folder} is inside {root} of --source, so its files would become part "
                "of the source: name a folder outside of it"
            )


def _check_outside_remote_sources(output: str, spec: str) -> None:
    for root in REMOTE_PLACE.findall(spec):
        if f"{output}/".startswith(f"{root.rstrip('/')}/"):
            raise UserError(
                f"--output={output} is inside {root} of --source, so its files would become part "
                "of the source: name a place outside of it"
            )


def _split_parts(named: Sequence[Named], dataset: Dataset) -> dict[str, list[Part]]:
    """The parts of each split; leaves out splits whose images are in others, like trainval."""
    splits: dict[str, list[Part]] = {}
    parts = iter(dataset.parts)
    for each in named:
        for source in each.sources:
            in_found = each.found.splits.items() if each.found else []
            names = [name for name, sources in in_found if source in sources]
            name = names[0] if len(names) == 1 else _split_of_source(source)
            splits.setdefault(re.sub(r"[^\w.-]+", "_", name), []).append(next(parts))
    files = {name: set().union(*map(_files, own)) for name, own in splits.items()}
    for name in sorted(splits, key=lambda name: -len(files[name])):
        others = [each for other, each in files.items() if other != name]
        if files[name] <= set().union(*others):
            logger.warning("left out the split %s: its images are in other splits", name)
            del files[name], splits[name]
    return splits


def _split_of_source(source: str) -> str:
    """The split of a source: named by its last argument, or else by one before it."""
    for argument in reversed(source.split(":")[1:]):
        split = split_of(argument.strip('"'))
        if split != WHOLE:
            return split if re.fullmatch(r"[\w.-]+", split) else kind_of(split)
    return WHOLE


def _files(part: Part) -> set[str]:
    """Unique names of the images of a part."""
    if not isinstance(part, FolderRecords):
        return {f"{id(part)}:{index}" for index in range(len(part))}
    columns = part.columns
    return {f"{columns.paths[i]}:{columns.span(i) or ''}" for i in range(len(part))}


def _write(
    splits: Mapping[str, Sequence[Part]], dataset: Dataset, target: str, root: Path
) -> Conversion:
    """Writes all splits into a folder."""
    writer = _writer(target, root, dataset)
    conversion = Conversion(dataset.class_names)
    names = _Names()
    left_out = unmarked = 0
    damaged: list[str] = []
    total = sum(len(part) for parts in splits.values() for part in parts)
    with (
        pool_of_threads(num_readers()) as pool,
        progress_bar(total=total, desc="convert", unit=" images") as bar,
    ):
        for split, parts in splits.items():
            folder = root / writer.image_folder(split)
            folder.mkdir(parents=True, exist_ok=True)
            places = ((part, index) for part in parts for index in range(len(part)))
            checked = map_ahead(pool, _checked, places, 4 * num_readers())
            for record, is_damaged in checked:
                if is_damaged:
                    damaged.append(record.path or record.image_id)
                kept = np.ones(len(record.labels), bool) if writer.keeps_crowd else ~record.crowd
                name = names.unique(record)
                if record.path and not place_behind(record.path):
                    shutil.copyfile(record.path, folder / name)
                elif record.path:
                    (folder / name).write_bytes(read_bytes(record.path, MAX_BYTES))
                else:
                    (folder / name).write_bytes(record.encoded)
                writer.add(split, _written(record, name, kept))
                conversion.images[split] += 1
                conversion.objects[split] += int(kept.sum())
                left_out += int((~kept).sum())
                unmarked += 0 if writer.keeps_difficult else int(record.difficult[kept].sum())
                bar.update()
    writer.finish()
    if damaged:
        logger.warning(
            "%s cannot be decoded, and were copied unchanged (ssd-jax check-data reports why): %s",
            *(counted(len(damaged), "image"), first_names(damaged)),
        )
    if left_out:
        logger.warning("left out %s: %s has no flag for crowds", counted(left_out, "crowd"), target)
    if unmarked:
        logger.warning(
            "wrote %s without the flag 'difficult': %s has no such flag",
            *(counted(unmarked, "difficult object"), target),
        )
    return conversion


def _checked(place: tuple[Part, int]) -> tuple[Record, bool]:
    """The record of a part at an index, and whether its image is damaged."""
    part, index = place
    record = part[index]
    try:
        open_image(record.image, name=record.image_id)
    except UserError:
        return record, True
    return record, False


def _writer(target: str, root: Path, dataset: Dataset) -> Writer:
    if target == "coco":
        return CocoWriter(root, dataset.class_names, dataset.category_ids)
    return (VocWriter if target == "voc" else YoloWriter)(root, dataset.class_names)


def _written(record: Record, name: str, kept: np.ndarray) -> Written:
    height, width = map(int, record.size or upright_size(record.image, name=name))
    boxes = record.boxes[kept].astype(np.float64) * (width, height, width, height)
    return Written(
        name,
        (height, width),
        boxes,
        record.labels[kept],
        record.difficult[kept],
        record.crowd[kept],
        record.area[kept],
    )


class _Names:
    """Makes file names that are unique without suffix and independent of capitals."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, record: Record) -> str:
        """A unique name for a record's image, with its folders if the file name is taken."""
        path = Path(record.path or record.image_id)
        suffix = path.suffix if path.suffix.lower() in IMAGE_SUFFIXES else ""
        stem = path.name.removesuffix(suffix)
        if not suffix:
            image_format = format_of(record.image, name=record.image_id)
            suffix = SUFFIXES.get(image_format, f".{image_format.lower()}")
        options = [stem, record.image_id.replace("/", "_").removesuffix(suffix)]
        numbers = range(2, 2 + len(self._taken) + 1)
        beginning = shortened(stem, LONGEST_STEM - len(f"_{numbers.stop}"))
        numbered = (f"{beginning}_{number}" for number in numbers)
        for option in (*options, *numbered):
            # Without control characters, undecodable bytes, blanks at the ends, and dots that hide
            # a file: lists of names must be able to contain them.
            name = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff:\\]", "_", option)
            name = shortened(name.strip().lstrip(". "), LONGEST_STEM) or "image"
            if name.lower() not in self._taken:
                self._taken.add(name.lower())
                return name + suffix
        raise AssertionError("one of the numbers is free")


def training_source(conversion: Conversion, output: str | Path) -> str:
    """The source for training: the folder, with a split if no split has a name for training."""
    splits = list(conversion.images)
    kinds = [kind_of(split) for split in splits]
    others = [kind for kind in kinds if kind not in SPLIT_NAMES]
    if any(kind in TRAIN_NAMES for kind in kinds) or len(others) == 1:
        return str(output)
    return f"{output}:{splits[0]}"
