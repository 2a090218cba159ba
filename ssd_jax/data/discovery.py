"""Detects the format of a folder or file, and the sources of its splits."""

import logging
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from ssd_jax.data.file_tree import IMAGE_SUFFIXES, FileTree
from ssd_jax.data.split_names import (
    EVAL_NAMES,
    SPLIT_NAMES,
    TRAIN_NAMES,
    is_split,
    kind_of,
    synonym,
)
from ssd_jax.errors import UserError, counted

logger = logging.getLogger(__name__)

# The sources of each split, in the grammar of specs, with all arguments.
Splits = dict[str, list[str]]
Find = Callable[[FileTree], Splits]
Role = Literal["train", "eval", "all"]

# The name of the only split of an undivided set.
WHOLE = "all"

# Beginnings of names of annotation folders; the images are in sibling folders.
ANNOTATION_STARTS = ("annot", "label", "data", "csv", "json", "xml")

# File names of unsupported formats, and the names of these formats.
OTHER_FORMATS = {
    r".*\.createml\.json": "CreateML's",
    r".*-asset\.json|.*\.vott": "VoTT's own",
    r"(.*/)?ann/[^/]*\.(jpe?g|png|bmp|tiff?|webp)\.json": "Supervisely's own",
    r"(.*/)?samples\.json": "FiftyOne's own",
    r"(.*/)?label_2/[^/]*\.txt": "KITTI's",
    r"(.*/)?labelTxt[^/]*/[^/]*\.txt": "DOTA's",
}

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2")


class Found(NamedTuple):
    """The detected content of a folder or file.

    Attributes:
      path: the folder or file.
      format: the name of its format.
      splits: the sources of each split; the split `WHOLE` if it is not divided.
    """

    path: Path
    format: str
    splits: Splits


def find(path: Path, finders: dict[str, Find]) -> Found:
    """Detects the format of a folder, or of a single annotation file.

    Args:
      path: the folder or file.
      finders: by the name of each format, a function that finds its splits below a folder.

    Raises:
      UserError: no format or several formats match; the message names them.
    """
    if path.is_dir():
        tree = FileTree(path)
    elif path.is_file():
        if path.suffix.lower() in ARCHIVES:
            raise UserError(f"{path} is an archive: unpack it, and name the folder")
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise UserError(f"{path} is an image: name the folder of the data set")
        tree = _around(path)
    else:
        raise UserError(f"{path} does not exist")
    found = {}
    for name, finder in finders.items():
        splits = finder(tree)
        if splits:
            found[name] = splits
    if not tree.files:
        raise UserError(f"{path} is empty: name a folder with images and their annotations")
    if not found:
        raise UserError(
            f"{path} has no annotations of a known format ({', '.join(finders)}) among "
            f"{counted(len(tree.files), 'file')}, {len(tree.images):,} of them images: "
            f"{_hint(tree)}"
        )
    if len(found) > 1:
        listed = " or ".join(
            ",".join(source for sources in splits.values() for source in sources[:1])
            for splits in found.values()
        )
        raise UserError(f"{path} may be {' or '.join(found)}: name one of them as {listed}")
    ((name, splits),) = found.items()
    if path.is_file() and not any(path.name in own[0] for own in splits.values()):
        raise UserError(f"{path} is the annotation of one image: name its folder, {path.parent}")
    if list(splits) == [WHOLE] and (lists := _lists_of_splits(tree)):
        logger.warning("%s: not used: %s", path, ", ".join(lists))
    if list(splits) == [WHOLE] and len(folders := _folders_of_splits(tree)) > 1:
        message = "%s: the annotations are of one set, though there are folders %s of images"
        logger.warning(message, path, " and ".join(folders))
    return Found(path, name, splits)


def _lists_of_splits(tree: FileTree) -> list[str]:
    """Text files with the name of a split."""
    texts = tree.with_suffix(".txt")
    return [file for file in texts if file.rpartition("/")[2][:-4].lower() in SPLIT_NAMES]


def _folders_of_splits(tree: FileTree) -> list[str]:
    """The names of splits that folders with images have."""
    parts = {part for image in tree.images for part in image.split("/")[:-1]}
    return sorted(part for part in parts if part.lower() in SPLIT_NAMES)


def _hint(tree: FileTree) -> str:
    """A hint for the user about other known files."""
    if archives := tree.with_suffix(*ARCHIVES):
        return f"{archives[0]} is an archive, unpack it"
    if prepared := [file for file in tree.files if file.endswith("dataset_info.json")]:
        return f"{prepared[0]} belongs to a set of TFDS, name it as tfds:NAME:SPLIT"
    for pattern, whose in OTHER_FORMATS.items():
        if file := next((file for file in tree.files if re.fullmatch(pattern, file)), None):
            return f"{file} is in {whose} format, which is not supported: export COCO, VOC or YOLO"
    stems = {Path(image).stem for image in tree.images}
    labels = [
        file for file in tree.with_suffix(".txt", ".xml", ".json") if Path(file).stem in stems
    ]
    if labels and all((tree.root / file).stat().st_size == 0 for file in labels):
        return f"{counted(len(labels), 'file')} like {labels[0]} are empty, so nothing is annotated"
    if len(tree.images) == len(tree.files):
        return "annotate the images, or name the folder that holds their annotations too"
    return "docs/data.md describes the supported formats"


def _around(path: Path) -> FileTree:
    """A tree with one annotation file, and all images of its folder.

    If its folder is an annotation folder without images, the folder above is used.
    """
    tree, file = FileTree(path.parent), path.name
    folder = path.absolute().parent
    if not tree.images and folder.name.lower().startswith(ANNOTATION_STARTS):
        tree, file = FileTree(folder.parent), f"{folder.name}/{path.name}"
    return FileTree(tree.root, tuple(dict.fromkeys([file, *tree.images])))


def sources_of(found: Found, split: str, role: Role) -> tuple[str, list[str]]:
    """The sources of a split, or of the split for a role.

    Args:
      found: the detected content of a folder.
      split: the name of a split; "" chooses it by the role.
      role: "train" chooses the training split; "eval" the validation split, or else the test
        split; both otherwise the only split. "all" chooses every split.

    Returns:
      The name of the split, and its sources.

    Raises:
      UserError: there is no such split.
    """
    splits = found.splits
    if split:
        same = [name for name in splits if synonym(kind_of(name)) == synonym(kind_of(split))]
        if split not in splits and len(same) == 1:
            split = same[0]
        if split not in splits:
            raise UserError(f"{found.path} has no split {split!r}; its splits: {', '.join(splits)}")
        return split, splits[split]
    if role == "all":
        names = separate_splits(splits)
        return "+".join(names), list(dict.fromkeys(s for name in names for s in splits[name]))
    places = {source.rpartition(":")[0] for own in splits.values() for source in own}
    if WHOLE in splits and len(splits) > 1 and len(places) > 1:  # and no list has the name all.txt
        listed = ", ".join(f"{name} ({splits[name][0]})" for name in splits)
        raise UserError(
            f"{found.path} has several data sets, one of them not divided into splits: {listed}: "
            "name the folder of one of them"
        )
    for kind in TRAIN_NAMES if role == "train" else EVAL_NAMES:
        if name := _of_kind(found, kind, splits):
            return name, splits[name]
    others = [name for name in splits if not is_split(name)]
    if len(others) == 1 and (role == "train" or len(splits) == 1):
        return others[0], splits[others[0]]
    purpose = "training" if role == "train" else "evaluation"
    raise UserError(
        f"{found.path} has no split for {purpose}, only {', '.join(splits)}: to use one, name it "
        f"with a colon, like {found.path}:{next(iter(splits))}"
    )


def separate_splits(splits: Iterable[str]) -> list[str]:
    """The splits without `trainval`, if both of its parts exist."""
    names = list(splits)
    is_joined = {"train", "val"} <= set(map(kind_of, names))
    return [name for name in names if not (is_joined and kind_of(name) == "trainval")]


def evaluation_split(found: Found, trained: str, taken: Collection[str]) -> str:
    """The split for evaluation, given the training split; "" without one.

    Args:
      found: the detected content of a folder.
      trained: the split for training.
      taken: all sources for training.
    """
    # trainval includes the validation split.
    names = EVAL_NAMES[-2:] if kind_of(trained) == "trainval" else EVAL_NAMES
    own = {*found.splits[trained], *taken}
    others = [split for split, sources in found.splits.items() if not own & set(sources)]
    return next(filter(None, (_of_kind(found, kind, others) for kind in names)), "")


def _of_kind(found: Found, kind: str, splits: Iterable[str]) -> str:
    """The split of this kind; "" without one.

    Raises:
      UserError: several splits have this kind, like train_2014 and train_2017, and none has its
        exact name.
    """
    names = [split for split in splits if kind_of(split) == kind]
    names = [name for name in names if name.lower() == kind] or names
    if len({tuple(found.splits[name]) for name in names}) > 1:
        listed = " or ".join(f"{found.path}:{name}" for name in names[:3])
        raise UserError(
            f"{found.path} has {len(names)} splits for {kind} ({', '.join(names)}): name the "
            f"right one as {listed}"
        )
    return names[0] if names else ""
