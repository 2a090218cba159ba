"""Finds data sets in Pascal VOC's XML below a folder, with their splits."""

import collections
import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

from ssd_jax.data.discovery import WHOLE, Splits
from ssd_jax.data.file_tree import FileTree, alike
from ssd_jax.data.formats.voc_layout import (
    ANNOTATION_FOLDERS,
    FLAGGED,
    IMAGE_FOLDERS,
    name_and_flag,
)
from ssd_jax.data.image_folders import (
    ImageFolders,
    check_one_folder,
    common_folder,
    split_of,
    without_masks,
)
from ssd_jax.data.spec import compose
from ssd_jax.data.split_names import is_split
from ssd_jax.data.stems import without_suffix
from ssd_jax.errors import UserError
from ssd_jax.storage.files import read_beginning, read_text

logger = logging.getLogger(__name__)

LOOK_BYTES = 4096
FILES_LOOKED_AT = 5
ROOT = re.compile(
    r"\s*(<\?xml.*?\?>)?\s*(<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*<annotation[\s/>]", re.DOTALL
)
LIST = re.compile(r"(?:(.*)/)?ImageSets/(Main/)?([^/]+)\.txt")
MAX_LIST_BYTES = 2**26


class _Pair(NamedTuple):
    """The folder of XML files and the folder of their images, from the root; "" is the root."""

    xmls: str
    images: str


def find_voc_xml(tree: FileTree) -> Splits:
    """Finds the data sets below a folder: VOC's layout, or folders of XML files and images.

    Raises:
      UserError: two folders of images are possible; the message names both.
    """
    by_folder = _annotations_by_folder(tree)
    splits: Splits = {}
    for root, lists in _lists_by_root(tree, by_folder).items():
        for split in lists:
            source = compose("voc_xml", tree.path(root), split)
            splits.setdefault(split, []).append(source)
        by_folder = {folder: own for folder, own in by_folder.items() if not _below(folder, root)}
    for split, pairs in _pairs_by_split(tree, by_folder).items():
        for pair in pairs:
            source = compose("voc_xml", tree.path(pair.xmls), tree.path(pair.images))
            splits.setdefault(split, []).append(source)
    return splits


def _annotations_by_folder(tree: FileTree) -> dict[str, list[str]]:
    """The XML files of each folder with annotations."""
    by_folder: dict[str, list[str]] = {}
    for file in tree.with_suffix(".xml"):
        by_folder.setdefault(file.rpartition("/")[0], []).append(file)
    return {
        folder: files
        for folder, files in by_folder.items()
        if any(_is_annotation(tree, file) for file in files[:FILES_LOOKED_AT])
    }


def _is_annotation(tree: FileTree, file: str) -> bool:
    return ROOT.match(_beginning(tree, file)) is not None


def _beginning(tree: FileTree, file: str) -> str:
    return read_beginning(tree.path(file), LOOK_BYTES)


# ---- lists


def _lists_by_root(tree: FileTree, by_folder: dict[str, list[str]]) -> dict[str, list[str]]:
    """The splits of every folder with lists of annotated images."""
    places: dict[str, dict[str, dict[str, str]]] = collections.defaultdict(dict)
    for file in tree.with_suffix(".txt"):
        match = LIST.fullmatch(file)
        if match:
            place = "Main" if match[2] else "ImageSets"
            places[match[1] or ""].setdefault(place, {})[match[3]] = file
            continue
        folder, _, name = file.rpartition("/")
        if is_split(without_suffix(name)):
            places[folder].setdefault("root", {})[without_suffix(name)] = file
    found = {}
    for root, lists in places.items():
        stems = {
            alike(without_suffix(file).rpartition("/")[2])
            for folder, files in by_folder.items()
            if _below(folder, root)
            for file in files
        }
        if stems:
            by_place = (lists[place] for place in ("Main", "ImageSets", "root") if place in lists)
            splits = next(filter(None, (_plain_lists(tree, own, stems) for own in by_place)), [])
            if splits:
                found[root] = splits
    return found


def _plain_lists(tree: FileTree, lists: dict[str, str], stems: set[str]) -> list[str]:
    """The lists of whole splits; lists of one class or without annotations are left out."""
    plain, of_class = [], []
    for name, file in lists.items():
        try:
            lines = read_text(tree.path(file), MAX_LIST_BYTES).splitlines()
        except UserError:
            continue
        lines = [line.strip() for line in lines if line.strip()]
        is_name = [_stem(line) in stems for line in lines]
        names = [
            line if is_whole else name_and_flag(line)[0]
            for line, is_whole in zip(lines, is_name, strict=True)
        ]
        if not any(_stem(name) in stems for name in names):
            logger.warning("%s: left out: none of its images has an annotation", tree.path(file))
            continue
        is_flagged = [
            not is_whole and bool(FLAGGED.fullmatch(line))
            for line, is_whole in zip(lines, is_name, strict=True)
        ]
        (of_class if all(is_flagged) else plain).append(name)
    plain = [name for name in plain if not any(name.endswith(f"_{other}") for other in lists)]
    if len(of_class) > 1 and not plain:
        logger.warning(
            "%s: left out: this and %d other lists are of one class, and no list has all images",
            tree.path(lists[of_class[0]]),
            len(of_class) - 1,
        )
    return plain or (of_class if len(of_class) == 1 else [])


def _stem(name: str) -> str:
    last = alike(name.replace("\\", "/").rpartition("/")[2])
    return re.sub(r"\.(jpe?g|png|bmp|tiff?|webp|gif|xml)$", "", last)


# ---- folders


def _pairs_by_split(tree: FileTree, by_folder: dict[str, list[str]]) -> dict[str, list[_Pair]]:
    """The folders of XML files and of their images, by split."""
    if not by_folder:
        return {}
    images: dict[str, list[str]] = collections.defaultdict(list)
    for image in tree.images:
        images[alike(without_suffix(image).rpartition("/")[2])].append(image)
    by_split: dict[str, list[_Pair]] = {}
    for folder, files in by_folder.items():
        image_folder = _image_folder(tree, folder, files, images)
        if image_folder is None:
            logger.warning("%s: left out: its XML files have no images", tree.path(folder))
            continue
        split = split_of(f"{folder}/")
        split = split_of(f"{image_folder}/") if split == WHOLE else split
        pair = _without_common_tail(_Pair(folder, image_folder))
        by_split.setdefault(split, []).append(pair)
    joined = {split: _joined(pairs, by_split, split) for split, pairs in by_split.items()}
    return {split: pairs for split, pairs in joined.items() if pairs}


def _image_folder(
    tree: FileTree, folder: str, files: Sequence[str], images: dict[str, list[str]]
) -> str | None:
    """The folder with the images of a folder's XML files; None without images."""
    hits: collections.Counter[str] = collections.Counter()
    spread = True
    for file in files:
        named = images.get(alike(without_suffix(file).rpartition("/")[2]), [])
        own = {image.rpartition("/")[0] for image in without_masks(named)}
        hits.update(own)
        spread &= len(own) <= 1
    if not hits:
        names = [_file_name(tree, file) for file in files[:FILES_LOOKED_AT]]
        hits.update(ImageFolders(tree).of([name for name in names if name], files[0]))
        spread = False
    if folder in hits:
        others = [each for each in hits if _last(each) in IMAGE_FOLDERS and each != folder]
        if others and _last(folder) in ANNOTATION_FOLDERS:
            # Images in the folder of the annotations may show drawn annotations.
            return _only(tree, folder, sorted([folder, *others]))
        return folder
    if spread and len(hits) > 1:
        # Each file has one image, in one of several folders.
        logger.warning(
            "%s: its images are in %s, which count as one set",
            tree.path(folder),
            " and ".join(sorted(hits)[:3]),
        )
        return common_folder(hits)
    most = max(hits.values(), default=0)
    return _preferred(tree, folder, sorted(each for each, count in hits.items() if count == most))


def _preferred(tree: FileTree, folder: str, options: list[str]) -> str | None:
    """Chooses the image folder that belongs to a folder of XML files."""
    for name in IMAGE_FOLDERS:
        options = [each for each in options if name in each.lower().split("/")] or options
    options = [each for each in options if _is_sibling(folder, each)] or options
    return _only(tree, folder, options)


def _only(tree: FileTree, folder: str, options: list[str]) -> str | None:
    """The only folder of images; None without one.

    Raises:
      UserError: there are several folders.
    """
    check_one_folder(tree, folder, options, "voc_xml", "the XML files in ")
    return options[0] if options else None


def _last(folder: str) -> str:
    return folder.rpartition("/")[2].lower()


def _is_sibling(folder: str, images: str) -> bool:
    """Whether two paths differ in one folder."""
    first, second = folder.split("/"), images.split("/")
    return len(first) == len(second) and sum(map(str.__ne__, first, second)) == 1


def _file_name(tree: FileTree, file: str) -> str:
    found = re.search(r"<filename>\s*([^<]*?)\s*</filename>", _beginning(tree, file))
    return found[1] if found else ""


def _without_common_tail(pair: _Pair) -> _Pair:
    """Removes equal folders at the ends of both paths, except splits.

    (Annotations/vid1, JPEGImages/vid1) becomes (Annotations, JPEGImages).
    """
    xmls, images = pair.xmls.split("/"), pair.images.split("/")
    while (
        pair.xmls != pair.images
        and len(xmls) > 1
        and len(images) > 1
        and xmls[-1] == images[-1]
        and not is_split(xmls[-1])
    ):
        xmls, images = xmls[:-1], images[:-1]
    return _Pair("/".join(xmls), "/".join(images))


def _joined(pairs: list[_Pair], by_split: dict[str, list[_Pair]], split: str) -> list[_Pair]:
    """The folders of one split; sibling folders are joined to their common parent."""
    others = [pair.xmls for other, listed in by_split.items() if other != split for pair in listed]
    mixed = [pair.xmls for pair in pairs if pair.xmls == pair.images]
    if len(mixed) > 1:
        above = common_folder(mixed)
        if not any(_below(other, above) for other in others):
            pairs = [pair for pair in pairs if pair.xmls != pair.images] + [_Pair(above, above)]
    pairs = list(dict.fromkeys(pairs))
    kept = []
    for pair in pairs:
        if any(_below(other, pair.xmls) for other in others):
            logger.warning("%s: left out: it has folders of other splits", pair.xmls or "the root")
        elif not any(
            other != pair and _below(pair.xmls, other.xmls) and _below(pair.images, other.images)
            for other in pairs
        ):
            kept.append(pair)
    return kept


def _below(folder: str, above: str) -> bool:
    """Whether a folder is the same as another one or inside it."""
    return not above or folder == above or folder.startswith(above + "/")
