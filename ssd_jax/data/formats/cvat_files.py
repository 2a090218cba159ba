"""Finds CVAT's XML files below a folder, with their splits and folders of images."""

import html
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from ssd_jax.data.discovery import Splits
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.image_folders import ImageFolders, check_one_folder, common_folder, split_of
from ssd_jax.data.spec import compose
from ssd_jax.data.split_names import is_split
from ssd_jax.errors import UserError
from ssd_jax.storage.files import read_beginning, read_bytes

logger = logging.getLogger(__name__)

FIRST_BYTES = 4096  # the root element begins within these bytes
LOOK_BYTES = 2**20  # the bytes that are searched for names of images
ROOT = re.compile(r"\s*(<\?xml.*?\?>)?\s*(<!--.*?-->\s*)*<annotations[\s>]", re.DOTALL)
IMAGE = re.compile(r"<image\s[^>]*>")
SUBSET = re.compile(rb"""\bsubset=(?:"([^"]*)"|'([^']*)')""")


def find_cvat_xml(tree: FileTree) -> Splits:
    """Finds the data sets in CVAT's XML below a folder.

    Raises:
      UserError: two folders of images are possible, or two files describe the same images.
    """
    splits: Splits = {}
    folders = ImageFolders(tree)
    known: dict[tuple[str, str], str] = {}
    for file in tree.with_suffix(".xml"):
        text = read_beginning(tree.path(file), FIRST_BYTES)
        if "<annotations" not in text:
            continue
        text = read_beginning(tree.path(file), LOOK_BYTES)
        if not ROOT.match(text) or not re.search(r"<(meta|image|track)[\s>]", text):
            continue
        names = _image_names(text)
        found = folders.of(names, file) if names else _frame_folders(tree, file)
        if not found:
            logger.warning("%s: left out: none of its images exists", tree.path(file))
            continue
        check_one_folder(tree, file, found, "cvat_xml")
        for name in names or ("",):
            other = known.setdefault((found[0], name), file)
            if other != file:
                raise UserError(
                    f"{tree.path(other)} and {tree.path(file)} both describe images in "
                    f"{tree.path(found[0])}: name one as "
                    f"{compose('cvat_xml', tree.path(other), tree.path(found[0]))}"
                )
        for split, folder in _subsets(tree, file, found[0]).items():
            source = compose("cvat_xml", tree.path(file), tree.path(folder))
            splits.setdefault(split, []).append(source)
    return splits


def _subsets(tree: FileTree, file: str, folder: str) -> dict[str, str]:
    """The folders of images by split: one for each subset if all subsets have names of splits."""
    prefix = f"{folder}/" if folder else ""
    own = [image[len(prefix) :] for image in tree.images if image.startswith(prefix)]
    names = list(dict.fromkeys(image.partition("/")[0] for image in own))
    if len(names) > 1 and all(map(is_split, names)) and subsets_of(tree.path(file)) >= set(names):
        return {name: prefix + name for name in names}
    return {split_of(file): folder}


def subsets_of(file: Path) -> set[str]:
    """The subsets of the images of a file."""
    try:
        content = read_bytes(file)
    except OSError:  # reading it will report the error
        return set()
    found = SUBSET.findall(content)
    return {html.unescape((one or other).decode(errors="replace")) for one, other in found}


def _image_names(text: str) -> Sequence[str]:
    """The first names of images, with the folders of subsets before them."""
    names = []
    for tag in IMAGE.findall(text):
        quoted = re.findall(r"""(\w+)\s*=\s*(?:"([^"]*)"|'([^']*)')""", tag)
        attributes = {key: double or single for key, double, single in quoted}
        name, subset = attributes.get("name", ""), attributes.get("subset", "")
        names.append(html.unescape(f"{subset}/{name}" if subset else name))
    return names


def _frame_folders(tree: FileTree, file: str) -> list[str]:
    """The folder of a video's frames: with the name of the file, or else of all images below."""
    folder = file.rpartition("/")[0]
    prefix = f"{folder}/" if folder else ""
    parents = sorted({image.rpartition("/")[0] for image in tree.images})
    own = [
        parent for parent in parents if parent.rpartition("/")[2] == file.rpartition("/")[2][:-4]
    ]
    below = [parent for parent in parents if f"{parent}/".startswith(prefix)]
    if own or not below:
        return own
    return [common_folder(below)]
