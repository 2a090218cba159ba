"""Exports of annotation tools: assigns them to splits, and finds their images."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from ssd_jax.data import spec
from ssd_jax.data.discovery import WHOLE, Splits
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.image_folders import split_of
from ssd_jax.data.problems import Problem
from ssd_jax.data.split_names import is_split, kind_of
from ssd_jax.errors import UserError, shown


def image_folder(tree: FileTree, folder: str, split: str) -> Path:
    """The folder of the images of annotations in a folder of the tree.

    This is the folder itself if images are below it. Otherwise, or if the folder belongs to no
    split, it is the only folder with images and the name of the split, or else the whole tree.
    """
    if split != WHOLE and not names_split(folder.split("/")):
        found = _folders_of_split(tree, split)
    elif not folder or any(image.startswith(f"{folder}/") for image in tree.images):
        return tree.path(folder) if folder else tree.root
    else:
        found = _folders_of_split(tree, split)
    return tree.path(found.pop()) if len(found) == 1 else tree.root


def _folders_of_split(tree: FileTree, split: str) -> set[str]:
    """The folders with the name of a split and images below them."""
    folders = set()
    for image in tree.images:
        parts = image.split("/")[:-1]
        for depth, part in enumerate(parts, 1):
            if split != WHOLE and kind_of(part) == kind_of(split):
                folders.add("/".join(parts[:depth]))
                break
    return folders


def splits_of_exports(
    tree: FileTree, name: str, files: Iterable[str], images_of: Callable[[Path], Iterable[str]]
) -> Splits:
    """The sources of exports by split; the names of folder and file determine the split.

    Args:
      tree: the files.
      name: the name of the format.
      files: the exports among the files.
      images_of: a function that lists the images of an export.

    Raises:
      UserError: two exports name the same image.
    """
    splits: Splits = {}
    owners: dict[tuple[Path, str, str], str] = {}
    files = list(files)
    for file in files:
        split = split_of(file)
        folder = image_folder(tree, file.rpartition("/")[0], split)
        for image in images_of(tree.path(file)) if len(files) > 1 else ():
            other = owners.setdefault((folder, split, image), file)
            if other != file:
                raise UserError(
                    f"{tree.path(other)} and {tree.path(file)} are exports of the same image "
                    f"{shown(image)}: name one of them"
                )
        splits.setdefault(split, []).append(spec.compose(name, tree.path(file), folder))
    return splits


def image_of_path(tree: FileTree, path: str) -> Path | Problem:
    """Finds the image for a path from another folder or from another machine.

    If the folders of the path do not exist, the name alone identifies the image, except if the
    path names a split.
    """
    plain = re.sub(r"^[A-Za-z]:(?=[/\\])", "", path.replace("\\", "/"))
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    found = tree.image("/".join(parts))
    if isinstance(found, Path) or found.kind != "image missing" or names_split(parts[:-1]):
        return found
    named = tree.image(parts[-1]) if parts else found
    return found if isinstance(named, Problem) and named.kind == "image missing" else named


def names_split(folders: Iterable[str]) -> bool:
    """Whether one of these folders has the name of a split."""
    return any(is_split(folder) for folder in folders)
