"""Finds COCO's annotation files below a folder, with their splits and folders of images."""

import io
import itertools
import json
import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

from ssd_jax.data.discovery import Splits
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.image_folders import ImageFolders, check_one_folder, split_of
from ssd_jax.data.spec import compose
from ssd_jax.errors import UserError
from ssd_jax.storage.files import decoded, open_file

logger = logging.getLogger(__name__)

# Bytes that are read at the beginning and the end of a file to recognize its kind.
LOOK_BYTES = 2**18
FIRST_BYTES = 2**16
# Files up to this size are read whole.
WHOLE_BYTES = 2**22
LISTS = re.compile(r'"(images|annotations|categories)"\s*:')
STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
# The keys of an image's name, the first choice first.
NAMES = ("file_name", "path", "coco_url")
# Beginnings of the names of COCO's other annotation files; files of object boxes are preferred.
LATER = ("person_keypoints", "panoptic", "captions", "image_info", "stuff")


class _Candidate(NamedTuple):
    """An annotation file.

    Attributes:
      file: from the root.
      split: the name of its split.
      folder: the folder of its images, from the root.
      rank: if several files have the same images, the file of lowest rank is used.
    """

    file: str
    split: str
    folder: str
    rank: int


def find_coco_json(tree: FileTree) -> Splits:
    """Finds the COCO files below a folder.

    Raises:
      UserError: two files or two folders of images are possible; the message names both.
    """
    names = {file: _image_names(tree, file) for file in tree.with_suffix(".json")}
    candidates, folders = [], ImageFolders(tree)
    for file, listed in names.items():
        if listed is None:
            continue
        found = folders.of(listed, file)
        if not found:
            first = f"the first is {listed[0]!r}" if listed else "it lists none"
            logger.warning("%s: left out: none of its images exists: %s", tree.path(file), first)
            continue
        check_one_folder(tree, file, found, "coco_json")
        candidates.append(_Candidate(file, _split(file), found[0], _rank(file)))
    splits: Splits = {}
    chosen: dict[tuple[str, str], list[_Candidate]] = {}
    for each in sorted(candidates, key=lambda each: each.rank):
        others = chosen.setdefault((each.split, each.folder), [])
        if others and others[0].rank < each.rank:
            continue
        others.append(each)
        named = set(names[each.file] or ())
        for other in others[:-1]:
            if named.isdisjoint(names[other.file] or ()):
                continue  # parts of one set
            raise UserError(
                f"{tree.path(other.file)} and {tree.path(each.file)} both describe the images of "
                f"the split {each.split} in {tree.path(each.folder)}: name one as "
                f"{compose('coco_json', tree.path(other.file), tree.path(each.folder))}"
            )
    for each in sorted(itertools.chain(*chosen.values()), key=lambda each: each.file):
        source = compose("coco_json", tree.path(each.file), tree.path(each.folder))
        splits.setdefault(each.split, []).append(source)
    return splits


def _rank(file: str) -> int:
    name = file.rpartition("/")[2]
    return next((i + 1 for i, start in enumerate(LATER) if name.startswith(start)), 0)


def _split(file: str) -> str:
    """The split in a file name: `train2017` of `instances_train2017.json`."""
    split = split_of(file)
    for start in ("instances", *LATER):
        split = split.removeprefix(f"{start}_")
    return split


def _image_names(tree: FileTree, file: str) -> Sequence[str] | None:
    """Some image names of a COCO file; None for other files and files without objects."""
    path = tree.path(file)
    try:
        with open_file(path) as opened:
            size = opened.seek(0, io.SEEK_END)
            opened.seek(0)
            begin = opened.read(FIRST_BYTES)
            if not re.match(r"\s*\{", decoded(begin)) or not LISTS.search(decoded(begin)):
                return None
            begin += opened.read((WHOLE_BYTES if size <= WHOLE_BYTES else LOOK_BYTES) - len(begin))
            opened.seek(max(0, size - LOOK_BYTES))
            end = opened.read()
    except OSError:
        return None
    if size <= WHOLE_BYTES:
        return _names_of_whole(begin)
    text = decoded(begin) + decoded(end)
    keys = set(re.findall(r'"(\w+)"\s*:', text))
    lists = keys & {"images", "annotations", "categories"}
    if "segments_info" in keys or not (len(lists) > 1 or (lists and "category_id" in keys)):
        return None
    found = (re.findall(rf'"{key}"\s*:\s*({STRING})', text) for key in NAMES)
    return [json.loads(name) for name in next(filter(None, found), [])] or None


def _names_of_whole(content: bytes) -> Sequence[str] | None:
    text = decoded(content)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # A damaged COCO file is found too, so that opening it reports the damage.
        keys = set(re.findall(r'"(images|categories|file_name|bbox)"\s*:', text))
        names = re.findall(r'"file_name"\s*:\s*"([^"\\]*)"', text)
        return names if {"images", "file_name", "bbox"} <= keys else None
    if not isinstance(value, dict):
        return None
    images, categories = value.get("images"), value.get("categories")
    if not isinstance(images, list) or not isinstance(categories, list):
        return None
    annotations = value.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    if isinstance(first, dict) and ("segments_info" in first or "caption" in first):
        return None
    names = [
        next((image[key] for key in NAMES if isinstance(image.get(key), str)), None)
        for image in images
        if isinstance(image, dict)
    ]
    return [name for name in names if name]
