"""Opens data sets: a folder or file, or FORMAT:ARGUMENT:…, several joined by commas (`spec.py`).

FOLDER, FOLDER:SPLIT, FILE          the format is detected (`discovery.py`)
coco_json:ANNOTATIONS:IMAGE_DIR     a COCO annotation file and its folder of images
voc_xml:ROOT:SPLIT                  a folder in Pascal VOC's layout
voc_xml:ANNOTATIONS:IMAGE_DIR       a folder of such XML files, and the folder of their images
yolo:ROOT:SPLIT                     a data.yaml, or a folder of images and labels of YOLO
cvat_xml:ANNOTATIONS:IMAGE_DIR      CVAT's XML, of images or a video, and its folder of images
labelme:ANNOTATIONS:IMAGE_DIR       the JSON files of LabelMe, one per image, and their images
label_studio:ANNOTATIONS:IMAGE_DIR  an export of Label Studio in JSON or JSON-MIN, and its images
via:ANNOTATIONS:IMAGE_DIR           a project or export of the VGG Image Annotator, and its images
csv:ANNOTATIONS:IMAGE_DIR           a CSV file with a row for each object, and its images
open_images:ANNOTATIONS:IMAGE_DIR   a CSV file of boxes of Open Images, and its images
tfrecord:FILES                      TFRecords of TensorFlow's Object Detection API
tfds:NAME:SPLIT                     a TensorFlow Datasets detection set (tfds:voc/2007:test)
tfds:FOLDER, tfds:FOLDER:SPLIT      such a set in a folder, like the shards of convert-data
shapes:SPLIT                        the embedded set, train or test

Folders and files may be in a bucket, gs:// or s3:// (docs/clouds.md), except those of `tfrecord`.
"""

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ssd_jax.config.spelling import did_you_mean_path, nearest
from ssd_jax.data import discovery
from ssd_jax.data import spec as grammar_of
from ssd_jax.data.annotations import Annotations
from ssd_jax.data.class_choice import (
    all_names,
    category_ids,
    choose_classes,
    choose_training_classes,
)
from ssd_jax.data.classes import check_class_list, check_known
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.formats.coco_files import find_coco_json
from ssd_jax.data.formats.coco_json import open_coco_json
from ssd_jax.data.formats.csv_rows import find_csv, open_csv
from ssd_jax.data.formats.cvat_files import find_cvat_xml
from ssd_jax.data.formats.cvat_xml import open_cvat_xml
from ssd_jax.data.formats.label_studio import find_label_studio, open_label_studio
from ssd_jax.data.formats.labelme import find_labelme, open_labelme
from ssd_jax.data.formats.open_images import find_open_images, open_open_images
from ssd_jax.data.formats.tfds_folder import find_tfds, is_prepared, open_indexed
from ssd_jax.data.formats.tfrecord import find_tfrecord, open_tfrecord
from ssd_jax.data.formats.via import find_via, open_via
from ssd_jax.data.formats.voc_folders import find_voc_xml
from ssd_jax.data.formats.voc_xml import open_voc_xml
from ssd_jax.data.formats.yolo import find_yolo, open_yolo
from ssd_jax.data.places import COPY, folder_and_split, given_sources, placeholder
from ssd_jax.data.problems import Problems, check_command
from ssd_jax.data.read_part import ReadPart
from ssd_jax.errors import UserError, first_names, path_text
from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.files import check_schemes, real_paths
from ssd_jax.storage.placeholders import given_place

logger = logging.getLogger(__name__)


class Format(NamedTuple):
    """A format of data.

    Attributes:
      arguments: its arguments in a spec, like "ROOT:SPLIT".
      open: opens a part with the values of the arguments, and `Problems`.
      find: finds its sources below a folder; None if it has no folders.
    """

    arguments: str
    open: Callable[..., ReadPart]
    find: discovery.Find | None = None


def _open_tfds(name: str, split: str, problems: Problems) -> ReadPart:
    is_folder = is_prepared(Path(name))
    if is_folder and (indexed := open_indexed(Path(name), split)):
        return _counted(indexed, problems)
    if is_remote(given_place(name)):
        raise UserError(
            f"{name} has no shards with an index; in a bucket, only shards of ssd-jax convert-data "
            f"--to=shards can be read: {COPY}"
        )
    # TensorFlow is only needed for these sets.
    from ssd_jax.data.formats.tfds_records import open_tfds, open_tfds_folder

    return _counted((open_tfds_folder if is_folder else open_tfds)(name, split), problems)


def _open_shapes(split: str, problems: Problems) -> ReadPart:
    from ssd_jax.data.formats.tfds_records import open_shapes

    return _counted(open_shapes(split), problems)


def _counted(part: ReadPart, problems: Problems) -> ReadPart:
    problems.num_images += len(part)
    return part


FORMATS = {
    "coco_json": Format("ANNOTATIONS:IMAGE_DIR", open_coco_json, find_coco_json),
    "voc_xml": Format("ROOT:SPLIT", open_voc_xml, find_voc_xml),
    "yolo": Format("ROOT:SPLIT", open_yolo, find_yolo),
    "cvat_xml": Format("ANNOTATIONS:IMAGE_DIR", open_cvat_xml, find_cvat_xml),
    "labelme": Format("ANNOTATIONS:IMAGE_DIR", open_labelme, find_labelme),
    "label_studio": Format("ANNOTATIONS:IMAGE_DIR", open_label_studio, find_label_studio),
    "via": Format("ANNOTATIONS:IMAGE_DIR", open_via, find_via),
    "csv": Format("ANNOTATIONS:IMAGE_DIR", open_csv, find_csv),
    "open_images": Format("ANNOTATIONS:IMAGE_DIR", open_open_images, find_open_images),
    "tfrecord": Format("FILES", open_tfrecord, find_tfrecord),
    "tfds": Format("NAME:SPLIT", _open_tfds, find_tfds),
    "shapes": Format("SPLIT", _open_shapes),
}


def open_dataset(
    spec: str | os.PathLike[str],
    class_names: Sequence[str] = (),
    problems: Problems | None = None,
    class_map: Mapping[str, str] | None = None,
    role: discovery.Role = "all",
) -> Dataset:
    """Opens the data set of a spec.

    Args:
      spec: see the top of this file.
      class_names: the classes to use, in order; objects of other classes are left out and counted.
        If empty, the classes that occur in the data, in declared or else alphabetical order.
      problems: handles damaged images; None stops at the first.
      class_map: new names by names of the data; "" leaves their objects out.
      role: selects the split of a divided folder; see `discovery.sources_of`.

    Raises:
      UserError: the spec, a file or a class is wrong; the message names it.
    """
    spec = path_text(spec, "spec")
    problems = problems or Problems()
    problems.source = spec
    check_class_list(class_names)
    parts = [open_part(source, problems) for source in explicit_sources(spec, role)]
    problems.check()  # before the classes of the remaining images are compared
    _check_described_once(parts, role)
    if role == "train":
        classes = choose_training_classes(parts, class_names, class_map or {}, spec)
    else:
        if role == "all":  # evaluation data may lack some of the classes
            check_known(class_map or {}, all_names(parts), "config.data.class_map", spec)
        classes = choose_classes(parts, class_names, class_map or {})
    cleaned = [part.with_classes(classes, problems) for part in parts]
    problems.finish_reading()
    ids, merged_ids = category_ids(parts, classes)
    dataset = Dataset(cleaned, classes.names, ids, problems, merged_ids)
    if not len(dataset):
        raise UserError(f"{spec}: all of its images are damaged: run {check_command(spec)}")
    return dataset


def _check_described_once(parts: Sequence[ReadPart], role: discovery.Role) -> None:
    """Rejects annotation files of several sources that describe the same image.

    For the role "all", this is only logged.

    Raises:
      UserError: two files describe one image; the message names them.
    """
    files: dict[str, str] = {}
    for part in parts if len(parts) > 1 else ():
        if not isinstance(part, Annotations):
            continue
        paths = part.columns.paths
        described = zip(part.files, paths, real_paths(paths), strict=True)
        for index, (file, path, place) in enumerate(described):
            span = part.columns.span(index)
            if span:  # images inside files are equal if name and length are
                place = f"{part.columns.image_ids[index]}:{span[1]}"
            other = files.setdefault(place, file)
            if other == file:
                continue
            message = f"{path} is described twice, by {other} and by {file}"
            if role == "all":
                logger.warning("%s", message)
                return
            raise UserError(f"{message}: name one of them")


def explicit_sources(spec: str, role: discovery.Role = "all") -> list[str]:
    """The sources of a spec with format and arguments, instead of folders and files.

    Raises:
      UserError: the spec is invalid, or a folder has no known format.
    """
    return [source for named in resolve(spec, role) for source in named.sources]


class Named(NamedTuple):
    """A source of a spec, resolved.

    Attributes:
      given: the unchanged source.
      sources: its sources with format and arguments.
      found: the detected content of the folder or file; None if the source names its format.
      split: the split of the detected content.
    """

    given: str
    sources: list[str]
    found: discovery.Found | None = None
    split: str = ""

    def describe(self) -> str:
        """A description of the source, with its detected format."""
        if self.found is None:
            return self.given
        words = "not divided" if self.split == discovery.WHOLE else f"split {self.split}"
        described = f"{self.given} ({self.found.format}, {words}"
        if len(self.sources) > 1:
            joined = first_names(self.sources)
            return f"{described}, {len(self.sources)} data sets joined: {joined})"
        return f"{described})"


def resolve(spec: str, role: discovery.Role = "all") -> list[Named]:
    """Resolves the sources of a spec; see `explicit_sources`."""
    sources = []
    for source in grammar_of.split_sources(spec, _begins_source, _is_whole):
        name, colon, _ = source.partition(":")
        if colon and name in FORMATS:
            sources.append(_resolve_tfds(source, role) or Named(source, [source]))
            continue
        check_schemes(source)
        path, split = folder_and_split(source)
        if path is None:
            raise UserError(_no_source(source))
        if path.is_file() and is_remote(source):
            raise UserError(
                f"{source} is a file in a bucket: name its folder, or "
                f"{grammar_of.compose('coco_json', source, 'IMAGE_DIR')}"
            )
        found = discovery.find(path, {key: form.find for key, form in FORMATS.items() if form.find})
        found = found._replace(splits=given_sources(found.splits))
        split, own = discovery.sources_of(found, split, role)
        sources.append(Named(source, own, found, split))
    return sources


def _resolve_tfds(source: str, role: discovery.Role) -> Named | None:
    """Resolves `tfds:FOLDER` and `tfds:FOLDER:SPLIT+SPLIT`; None for other sources."""
    name, _, rest = source.partition(":")
    folder, split = folder_and_split(rest) if name == "tfds" else (None, "")
    if folder is None or not is_prepared(folder):
        return None
    if split:
        place = given_place(folder)
        return Named(
            source, [grammar_of.compose(name, place, each.strip()) for each in split.split("+")]
        )
    found = discovery.Found(folder, name, given_sources(find_tfds(FileTree(folder))))
    chosen, own = discovery.sources_of(found, "", role)
    return Named(source, own, found, chosen)


def open_part(source: str, problems: Problems) -> ReadPart:
    """Opens one source that names its format.

    Args:
      source: `FORMAT:ARGUMENT:…`.
      problems: handles damaged images.

    Raises:
      UserError: see `open_dataset`.
    """
    name, _, rest = source.partition(":")
    check_schemes(rest)
    if name in FORMATS:
        arguments = FORMATS[name].arguments
        values = grammar_of.split_arguments(rest, arguments.count(":") + 1)
        if values:
            values = [placeholder(name, value) if is_remote(value) else value for value in values]
            return FORMATS[name].open(*values, problems)
        example = "" if FORMATS[name].find is None else ", or the folder alone"
        raise UserError(
            f"the data source {source} lacks arguments: write {name}:{arguments}{example}"
        )
    raise UserError(_no_source(source))


def _no_source(source: str) -> str:
    """The reason why a source names no data, for a message."""
    if not source:
        return f"a data source is empty: name a folder, or {grammar()}"
    if is_remote(source):
        return f"{source} does not exist: there is no such object, and none below it"
    name, colon, _ = source.partition(":")
    if source in FORMATS:
        arguments = FORMATS[source].arguments
        return f"{source} is a format and needs arguments: {source}:{arguments}"
    if colon and re.fullmatch(r"[a-z_]{2,}", name):
        near = nearest(name, FORMATS)
        hint = f"did you mean {near}:{FORMATS[near].arguments}?" if near else grammar()
        return f"the data source {source} does not begin with a format: {hint}"
    path = Path(grammar_of.unquoted(source))
    if not path.parent.is_dir():
        return f"the folder or file {source} does not exist, and neither does {path.parent}"
    return f"the folder or file {source} does not exist{did_you_mean_path(path)}"


def grammar() -> str:
    """The form of a spec, for messages."""
    *others, last = (f"{name}:{form.arguments}" for name, form in FORMATS.items())
    return f"{', '.join(others)} or {last}, several joined by commas"


def _begins_source(text: str) -> bool:
    name, colon, _ = text.partition(":")
    return bool(colon and name in FORMATS) or folder_and_split(text)[0] is not None


def _is_whole(source: str) -> bool:
    """Whether a source has all arguments, and the first one exists if it is a path."""
    name, colon, rest = source.partition(":")
    if not (colon and name in FORMATS):
        return folder_and_split(source)[0] is not None
    form = FORMATS[name]
    values = grammar_of.split_arguments(rest, form.arguments.count(":") + 1)
    is_no_path = form.find is None or name == "tfds" or "://" in rest
    return values is not None and (is_no_path or Path(values[0]).exists())
