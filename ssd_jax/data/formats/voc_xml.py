"""Reads annotations in Pascal VOC's XML: VOC's layout, or any folders of XML files and images."""

import logging
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.formats.voc_layout import (
    annotations_of,
    images_of,
    known_splits,
    read_list,
    split_file,
    why_not_found,
)
from ssd_jax.data.formats.voc_objects import parse, read_objects, read_size
from ssd_jax.data.problems import Problem, Problems, file_exists
from ssd_jax.data.records import Annotation, annotation
from ssd_jax.data.spec import compose
from ssd_jax.data.stems import Stems, without_suffix
from ssd_jax.errors import UserError, counted, first_names, shown
from ssd_jax.storage.files import local_path

logger = logging.getLogger(__name__)


def open_voc_xml(root: str, split: str, problems: Problems) -> Annotations:
    """Reads the images of a split in the order of its list, or all XML files of a folder.

    Boxes are the numbers of the XML divided by the size of the image, as in Caffe and TensorFlow
    Datasets; multiplied by the size, they are the numbers of the XML again.

    Args:
      root: the folder with `Annotations`, `JPEGImages` and `ImageSets/Main`; or the folder of
        the XML files.
      split: the name of a list in `ImageSets/Main`, `ImageSets` or the folder itself, without
        `.txt`; or the folder of the images.
      problems: handles damaged images and annotations.

    Raises:
      UserError: a folder or the list is missing or cannot be understood, or `problems` stops; the
        message names the file.
    """
    spec = compose("voc_xml", root, split)
    folder = local_path(root)
    if not folder.is_dir():
        raise UserError(f"{spec}: the folder {folder} does not exist")
    listed = split_file(folder, split)
    if listed:
        return Annotations(_read_split(folder, listed, spec, problems), spec)
    if Path(split).is_dir():
        return Annotations(_read_folders(folder, Path(split), spec, problems), spec)
    known = known_splits(folder)
    there = f"; there are {', '.join(known)}" if known else ""
    raise UserError(
        f"{spec}: {folder / 'ImageSets' / 'Main' / f'{split}.txt'} does not exist{there}, and "
        f"{split} is not a folder of images"
    )


class _Pair(NamedTuple):
    """An image with its annotation.

    Attributes:
      name: the name of the image in messages.
      images: the images with this name.
      xml: the annotation file, from its folder.
    """

    name: str
    images: list[str]
    xml: str


def _read_split(folder: Path, file: Path, spec: str, problems: Problems) -> Iterator[Annotation]:
    """Yields the annotations of the images in a list."""
    tree = FileTree(folder)
    images, xmls = images_of(tree), annotations_of(tree)
    image_stems, xml_stems = Stems(images, images.images), Stems(xmls, xmls.with_suffix(".xml"))
    listed = read_list(file, image_stems)
    if listed.is_marked:
        logger.info(
            "%s: %s marks images of one class: used %s marked 1 or 0, left out %d marked -1",
            *(spec, file, counted(len(listed.names), "image"), listed.num_left_out),
        )
    if not listed.names:
        raise UserError(f"{spec}: {file} lists no images")
    seen: set[str] = set()
    for name in listed.names:
        problems.num_images += 1
        found = image_stems.find(name)
        if not found:
            kind = "file name" if images.inside(name) is None else "image missing"
            problems.add(file, name, [Problem(kind, why_not_found(name, images))])
            continue
        annotated = _xmls_of(name, found, xml_stems)
        if not annotated:
            path = xmls.root / f"{without_suffix(found[0]) if len(found) == 1 else name}.xml"
            problems.add(path, name, [Problem("annotation missing", "does not exist")])
        elif len(annotated) > 1:
            message = f"the annotation of {shown(name)} may be {' or '.join(annotated)}"
            problems.add(file, name, [Problem("ambiguous", message)])
        else:
            pair = _Pair(name, found, annotated[0])
            read = _read_pair(pair, images, xmls, problems)
            if read and read.path in seen:
                message = f"lists {shown(name)} twice"
                problems.add(file, name, [Problem("listed twice", message)])
            elif read:
                seen.add(read.path)
                yield read


def _xmls_of(name: str, images: list[str], xmls: Stems) -> list[str]:
    """The annotation files of images; both have the same subfolder, or one of them has none."""
    candidates = [found for image in images for found in xmls.find(without_suffix(image))]
    candidates = candidates or xmls.find(name) or xmls.find(without_suffix(name))
    if not candidates:
        last = without_suffix(images[0]).rpartition("/")[2]
        candidates = [found for found in xmls.find(last) if "/" not in found]
    folders = {image.rpartition("/")[0] for image in images}
    fitting = [
        xml
        for xml in candidates
        if "" in folders or "/" not in xml or xml.rpartition("/")[0] in folders
        or any(folder.endswith("/" + xml.rpartition("/")[0]) for folder in folders)
        or any(xml.rpartition("/")[0].endswith("/" + folder) for folder in folders)
    ]  # fmt: skip
    return list(dict.fromkeys(fitting))


def _read_folders(
    folder: Path, image_folder: Path, spec: str, problems: Problems
) -> Iterator[Annotation]:
    """Yields the annotations of all XML files of a folder; images may be in another folder."""
    xmls, images = FileTree(folder), FileTree(image_folder)
    stems = Stems(images, images.images)
    files = xmls.with_suffix(".xml")
    if not files:
        raise UserError(f"{spec}: {folder} has no XML files")
    used: dict[str, str] = {}
    annotated: set[str] = set()
    others: list[str] = []
    renamed: list[str] = []
    for file in files:
        problems.num_images += 1
        found = stems.find(without_suffix(file))
        pair = _Pair(without_suffix(file), found, file)
        read = _read_pair(pair, images, xmls, problems, others, renamed)
        if read and read.path in used:
            message = f"describes {Path(read.path).name}, as {used[read.path]} does"
            problems.add(xmls.path(file), pair.name, [Problem("listed twice", message)])
        elif read:
            used[read.path] = file
            annotated.add(Path(read.path).relative_to(images.root).as_posix())
            yield read
        elif file not in others[-1:]:
            annotated.update(found)  # reported as a problem
    problems.num_images -= len(others)
    if len(others) == len(files):
        count = counted(len(files), "XML file")
        raise UserError(f"{spec}: none of {count} in {folder} is an annotation")
    if others:
        count = counted(len(others), "XML file")
        logger.warning("%s: left out %s of other kinds: %s", spec, count, first_names(others))
    if renamed:
        logger.warning(
            "%s: in %s, <filename> is another existing image; each is used for the image with the "
            "name of the file: %s",
            *(spec, counted(len(renamed), "XML file"), first_names(renamed)),
        )
    without = [image for image in images.images if image not in annotated]
    if without:
        count = counted(len(without), "image")
        message = "%s: left out %s without an XML file: %s"
        logger.warning(message, spec, count, first_names(without))


def _read_pair(
    pair: _Pair,
    images: FileTree,
    xmls: FileTree,
    problems: Problems,
    others: list[str] | None = None,
    renamed: list[str] | None = None,
) -> Annotation | None:
    """Reads an annotation file.

    If given, `others` collects files that are not in VOC's form, and `renamed` files whose
    <filename> is another image than the one with their name.
    """
    path, found = xmls.path(pair.xml), []
    root = parse(path, found)
    if root is not None and root.tag != "annotation":
        if others is not None:
            others.append(pair.xml)
            return None
        message = f"is not an annotation: it begins with <{shown(root.tag)[1:-1]}>"
        found.append(Problem("annotation unreadable", message))
    elif root is not None:
        file_name = (root.findtext("filename") or "").strip()
        image = _image(pair, file_name, images)
        if isinstance(image, Problem):
            found.append(image)
        elif renamed is not None and _named_beside(image, file_name, images):
            renamed.append(f"{pair.xml} ({file_name})")
        size = read_size(root, found)
        objects = read_objects(root, found)
        if not found and isinstance(image, str):
            return annotation(without_suffix(image), images.path(image), path, objects, size)
    problems.add(path, pair.name, found)
    return None


def _named_beside(image: str, file_name: str, images: FileTree) -> str:
    """Another image of the same folder that an annotation names; "" without one."""
    folder, slash, own = image.rpartition("/")
    name = PureWindowsPath(file_name).name
    other = f"{folder}{slash}{name}"
    return other if name and name != own and file_exists(images.path(other)) else ""


def _image(pair: _Pair, file_name: str, images: FileTree) -> str | Problem:
    """The image of an annotation, from its folder; `file_name` decides between several."""
    found = pair.images
    if len(found) > 1:
        name = PureWindowsPath(file_name).name
        named = [image for image in found if image.rpartition("/")[2] == name]
        if len(named) != 1:
            listed = " and ".join(found)
            return Problem("ambiguous", f"{shown(pair.name)} may be {listed} in {images.root}")
        return named[0]
    if found:
        other = _named_beside(found[0], file_name, images)
        if other and without_suffix(other) == without_suffix(found[0]):
            message = f"its <filename> is {other}, but {found[0]} is listed"
            return Problem("ambiguous", message)
        return found[0]
    path = images.image(file_name) if file_name else None
    if isinstance(path, Path):
        return path.relative_to(images.root).as_posix()
    if isinstance(path, Problem) and path.kind == "ambiguous":
        return path
    named = f", nor is its <filename> {shown(file_name)}" if file_name else ""
    return Problem("image missing", f"{shown(pair.name)} is not an image in {images.root}{named}")
