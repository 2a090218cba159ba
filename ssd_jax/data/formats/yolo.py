"""Reads YOLO labels: one text file per image, one line per object, as fractions of the image.

For the layouts of Ultralytics, Roboflow, Darknet, CVAT, Label Studio and labelImg, see
`yolo_layout`.
"""

import contextlib
import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ssd_jax.data import spec
from ssd_jax.data.annotations import Annotations
from ssd_jax.data.discovery import WHOLE, Splits
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.formats.values import image_id_of
from ssd_jax.data.formats.yolo_files import (
    IMAGE_FOLDERS,
    LabelFiles,
    is_label,
    label_places,
    without_image,
)
from ssd_jax.data.formats.yolo_layout import (
    Layout,
    declared,
    exists,
    grouped,
    layouts_in,
    lists_in,
    names_in,
    split_images,
)
from ssd_jax.data.formats.yolo_lines import read_objects
from ssd_jax.data.problems import Problem, Problems
from ssd_jax.data.records import Annotation, Object, annotation
from ssd_jax.errors import UserError, counted, first_names
from ssd_jax.storage.files import local_path

logger = logging.getLogger(__name__)

# The number of label files that are read to recognize YOLO's format.
SAMPLE = 10


def open_yolo(root: str, split: str, problems: Problems) -> Annotations:
    """Reads the labels of the images of a split.

    Images without a label file, or with an empty one, have no objects. Polygons are replaced by
    their bounding boxes.

    Args:
      root: a data.yaml, an obj.data of Darknet, or a folder: with one of these files, or with
        images and labels in folders with the name of the split.
      split: a key of the file, like `train`; in a folder without such a file, the name of a
        folder, or `all` for images that are not divided.
      problems: handles damaged images and labels.

    Returns:
      The annotations; the id of a class is its index, plus 1.

    Raises:
      UserError: a file or folder is missing or cannot be understood, or `problems` stops; the
        message names it.
    """
    source = spec.compose("yolo", root, split)
    layout = _layout(local_path(root), split, source)
    if layout.splits:
        base, images = split_images(layout, split, problems)
    else:
        tree = FileTree(layout.folder)
        images = [tree.path(image) for image in grouped(tree)[split]]
        base = Path(os.path.commonpath([os.path.abspath(image.parent) for image in images]))
    files = LabelFiles()
    labels = [files.of(image) for image in images]
    if not any(labels):
        place = label_places(images[0])[0]
        raise UserError(
            f"{source}: none of {counted(len(images), 'image')} has a label file; {images[0]} "
            f"needs {place}"
        )
    names = layout.names
    if names is None:
        above = _names_above(layout.folder)
        logger.warning(
            "%s: no file names the classes, so their names are their numbers: %s",
            source,
            f"{above} names classes, so name its folder as the data: {above.parent}"
            if above
            else "list the names in classes.txt, one per line, or in data.yaml",
        )
    read = _read(images, labels, base, layout, problems, source)
    ids = {name: index + 1 for index, name in names.items()} if names else None
    return Annotations(read, source, ids)


def find_yolo(tree: FileTree) -> Splits:
    """Finds YOLO data sets below a folder: by data.yaml or obj.data, or images with labels.

    Raises:
      UserError: the declarations of a file are wrong, or none of its splits exists.
    """
    layouts = list(layouts_in(tree))
    is_given = len(tree.files) - len(tree.images) == 1
    splits: Splits = {}
    gone: list[str] = []
    for layout in layouts:
        if is_given:
            chosen = list(layout.splits)
        else:
            groups = {split: _images(layout, split) for split in layout.splits}
            files = LabelFiles()
            chosen = [split for split, own in groups.items() if any(map(files.of, own))]
            missing = [split for split, own in groups.items() if not own]
            if missing == list(groups) != []:
                gone.append(_why_none(layout, missing[0]))
            elif missing:
                entries = [f"{split}: {' '.join(layout.splits[split])}" for split in missing]
                message = "%s: left out splits whose folders or files do not exist: %s"
                logger.warning(message, layout.file, first_names(entries))
        for split in chosen:
            splits.setdefault(split, []).append(spec.compose("yolo", layout.file, split))
    if splits:
        return splits
    above = {part.lower() for part in tree.root.absolute().parts}
    if not tree.with_suffix(".txt") and not above & set(IMAGE_FOLDERS):
        return {}  # without possible label files, images need no check
    groups = {split: list(map(tree.path, images)) for split, images in grouped(tree).items()}
    if list(groups) == [WHOLE] and (lists := lists_in(tree)):
        listed = Layout(tree.root, None, lists)
        own = {split: _images(listed, split) for split in lists}
        if all(own.values()):
            groups = {split: images for split, images in own.items() if images}
    labelled = _with_labels(groups)
    if gone and labelled:  # images that the file keeps apart would be read as one set
        raise UserError(f"{gone[0]}: correct the paths in the file, or remove its splits")
    return {split: [spec.compose("yolo", tree.root, split)] for split in labelled}


def _layout(root: Path, split: str, source: str) -> Layout:
    """The layout of a split, from a file or from the files of a folder."""
    if root.is_file():
        layout = declared(root)
        if layout is None:
            raise UserError(f"{source}: {root} is not a data.yaml with train, val and names")
        if split not in layout.splits:
            known = ", ".join(layout.splits) or "none"
            raise UserError(f"{source}: {root} has no split {split!r}; its splits: {known}")
        return _with_names(layout)
    if not root.is_dir():
        raise UserError(f"{source}: {root} does not exist")
    tree = FileTree(root)
    layouts = list(layouts_in(tree))
    having = [layout for layout in layouts if split in layout.splits]
    if len(having) > 1:
        listed = " and ".join(str(layout.file) for layout in having[:2])
        raise UserError(f"{source}: {listed} have a split {split!r}: name one of them")
    if having:
        return _with_names(having[0])
    groups = grouped(tree)
    lists = lists_in(tree) if list(groups) == [WHOLE] and split != WHOLE else {}
    is_listed = split in lists
    if not is_listed and split not in groups:
        known = ", ".join(groups) or "no images"
        raise UserError(f"{source}: {root} has no split {split!r}; its splits: {known}")
    own = lists if is_listed else {}
    if len(layouts) == 1 and layouts[0].names:
        return layouts[0]._replace(file=root, splits=own, base="")
    names_file, names = names_in(tree)
    return Layout(root, names, own, names_file=names_file)


def _with_names(layout: Layout) -> Layout:
    if layout.names:
        return layout
    names_file, names = names_in(FileTree(layout.folder))
    return layout._replace(names=names, names_file=names_file)


def _images(layout: Layout, split: str) -> list[Path]:
    """The images of a declared split; none if they do not exist."""
    if not exists(layout, split):
        return []
    try:
        return split_images(layout, split, Problems("skip", 1.0))[1]
    except UserError:  # opening it reports the error
        return []


def _why_none(layout: Layout, split: str) -> str:
    """The reason why `_images` finds none: a folder or list does not exist, or has no images."""
    try:
        split_images(layout, split, Problems("skip", 1.0))
    except UserError as error:
        return str(error)
    return f"{layout.file}: {split} has no images"


def _names_above(folder: Path) -> Path | None:
    """A file with names of classes in the folder above, if there is one."""
    parent = Path(os.path.abspath(folder)).parent
    with contextlib.suppress(OSError, UserError):
        files = sorted(entry.name for entry in os.scandir(parent) if entry.is_file())
        tree = FileTree(parent, tuple(files))
        declaring = [layout.file for layout in layouts_in(tree) if layout.names]
        return declaring[0] if declaring else names_in(tree)[0]
    return None


def _with_labels(groups: Mapping[str, Sequence[Path]]) -> list[str]:
    """The splits with label files; none if no split has labels in YOLO's format.

    The files of a split may all be empty: images without objects.
    """
    files = LabelFiles()
    if not any(_look_like_labels(images, files) for images in groups.values()):
        return []
    return [split for split, images in groups.items() if any(map(files.of, images))]


def _look_like_labels(images: Iterable[Path], files: LabelFiles) -> bool:
    """Whether images have label files, and most of the first ones are in YOLO's format."""
    labels = map(files.of, images)
    checks = (is_label(label) for label in labels if label)
    known = list(itertools.islice((check for check in checks if check is not None), SAMPLE))
    return bool(known) and 2 * sum(known) >= len(known)


def _read(
    images: Sequence[Path],
    labels: Sequence[Path | None],
    base: Path,
    layout: Layout,
    problems: Problems,
    source: str,
) -> Iterator[Annotation]:
    """Yields the annotation of every image; `problems` collects damaged ones."""
    owners: dict[Path, Path] = {}
    seen: set[str] = set()
    for image, label in zip(images, labels, strict=True):
        problems.num_images += 1
        image_id = image_id_of(Path(os.path.abspath(image)), Path(os.path.abspath(base)))
        found: list[Problem] = []
        objects: list[Object] = []
        other = owners.setdefault(label, image) if label else image
        if other != image:
            message = f"is the label file of {other.name} and of {image.name}"
            found.append(Problem("ambiguous", message))
        elif image_id in seen:
            found.append(Problem("listed twice", f"{image} is listed twice"))
        elif label:
            objects = read_objects(label, layout, found)
        seen.add(image_id)
        if found:
            problems.add(label or image, image_id, found)
        else:
            yield annotation(image_id, image, label or image_id, objects, unit="fractions")
    _log_unmatched(images, labels, source)


def _log_unmatched(images: Sequence[Path], labels: Sequence[Path | None], source: str) -> None:
    """Logs images without a label file, and label files without an image."""
    without = [str(image) for image, label in zip(images, labels, strict=True) if not label]
    if without:
        logger.warning(
            "%s: %s of %d without a label file, used as images without objects: %s",
            *(source, counted(len(without), "image"), len(images), first_names(without)),
        )
    pairs = zip(images, labels, strict=True)
    orphans = [
        file.name
        for images_in, labels_in in {
            (image.parent, label.parent) for image, label in pairs if label
        }
        for file in without_image(images_in, labels_in)
        # A folder of images may also have other text files.
        if images_in != labels_in or is_label(file)
    ]
    if orphans:
        logger.warning(
            "%s: left out %s without an image: %s",
            *(source, counted(len(orphans), "label file"), first_names(sorted(orphans))),
        )
