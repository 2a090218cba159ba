"""Finds the folder that the image names of an annotation file start from."""

import collections
import os
import re
from collections.abc import Iterable, Sequence

from ssd_jax.data.discovery import WHOLE
from ssd_jax.data.file_tree import FileTree, alike, without_server
from ssd_jax.data.spec import compose
from ssd_jax.data.split_names import SPLIT_NAMES, is_split, kind_of
from ssd_jax.data.stems import without_suffix
from ssd_jax.errors import UserError

# Folders of images that show the outlines of objects.
MASKS = re.compile(r"(^|/)(segmentation\w*|masks?|trimaps?|panoptic\w*|\w+_masks)/", re.IGNORECASE)
# Words that the names of folders have beside that of a split.
BESIDE_SPLITS = frozenset(
    "images image imgs img jpegs set split data dataset annotations labels instances".split()  # noqa: SIM905
)
# So many names of an annotation file tell its folder of images.
NAMES_TRIED = 100


class ImageFolders:
    """The folders of images below a tree, by the names in them."""

    def __init__(self, tree: FileTree):
        """Groups the images of a tree by their names."""
        self._by_name: dict[str, list[str]] = collections.defaultdict(list)
        for image in tree.images:
            name = alike(image.rpartition("/")[2])
            self._by_name[name].append(image)
            # CVAT names the frames of a video without suffix.
            self._by_name[without_suffix(name)].append(image)

    def of(self, names: Sequence[str], file: str) -> list[str]:
        """The folders, from the root ("" is the root), that hold most of these images.

        Of several that hold as many those count that lie nearest to the annotation file: in its
        folder, then beside that, and first those that have the name of its split.

        Args:
          names: image names as annotations have them, perhaps with folders.
          file: the annotation file, from the root.

        Returns:
          None where the tree has none of the images; several where they are alike.
        """
        step = max(1, len(names) // NAMES_TRIED)
        found = [folders for name in names[::step] if (folders := self._folders(name))]
        counts = collections.Counter(folder for folders in found for folder in folders)
        if not counts:
            return []
        most = max(counts.values())
        if most < len(found) == counts.total():
            # Each name is in one folder, but not all in the same: they lie below one.
            return [common_folder(counts)]
        folders = sorted(folder for folder, count in counts.items() if count == most)
        split = split_of(file)
        preferences = (
            lambda folder: not MASKS.search(f"{folder}/"),
            # train2017 of instances_train2017, then any folder of the same kind of split.
            lambda folder: split.endswith(folder.rpartition("/")[2] or "/"),
            lambda folder: kind_of(split_of(f"{folder}/")) == kind_of(split),
            lambda folder: _common(folder, file) == max(_common(f, file) for f in folders),
            lambda folder: _is_below(file, folder),
            lambda folder: folder.rpartition("/")[2].lower() in ("images", "data", "jpegimages"),
        )
        for preferred in preferences:
            kept = [folder for folder in folders if preferred(folder)]
            folders = kept or folders
        return folders

    def _folders(self, name: str) -> set[str]:
        """The folders from which a name leads to an image."""
        name = without_server(name)
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        found = self._by_name.get(alike(parts[-1]), []) if parts else []
        for start in range(len(parts)):
            # The longest end of the name that there is.
            ending = alike("/" + "/".join(parts[start:]))
            fitting = [
                image
                for image in found
                if alike(f"/{image}").endswith(ending)
                or alike(f"/{without_suffix(image)}").endswith(ending)
            ]
            if fitting:
                depth = len(parts) - start
                return {"/".join(image.split("/")[:-depth]) for image in fitting}
        return set()


def without_masks(images: list[str]) -> list[str]:
    """The images that are not in folders of outlines; all where only such are there."""
    return [image for image in images if not MASKS.search(image)] or images


def split_of(file: str) -> str:
    """The split that a file or its folders name, the nearest first; `WHOLE` where none does.

    Names that say no more come first: `train2017` and `train_images` are splits. A folder that is
    called `my-test-project` is none, and a file `test-tubes.csv` only where no folder is one.
    """
    *folders, name = file.split("/")
    stem = name.rpartition(".")[0] or name
    for part in (stem, *reversed(folders)):
        words = set(re.findall("[a-z]+", part.lower())) - BESIDE_SPLITS
        if len(words) == 1 and words <= set(SPLIT_NAMES):
            return part
    return stem if is_split(stem) else WHOLE


def check_one_folder(
    tree: FileTree, annotations: str, folders: Sequence[str], name: str, what: str = ""
) -> None:
    """Refuses several folders of images for the same annotations.

    Args:
      tree: the files.
      annotations: the annotation file, or the folder of annotation files, from the root.
      folders: of images that are possible, from the root.
      name: of the format.
      what: words for the annotations in the message, before their path.

    Raises:
      UserError: there are several; the message names them.
    """
    if len(folders) > 1:
        place = tree.path(annotations)
        options = " or ".join(compose(name, place, tree.path(folder)) for folder in folders)
        raise UserError(f"the images of {what}{place} may lie in several folders: {options}")


def common_folder(folders: Iterable[str]) -> str:
    """The folder that all of these are in."""
    folders = list(folders)
    return "" if "" in folders else os.path.commonpath(folders).replace(os.sep, "/")


def _common(folder: str, file: str) -> int:
    """How many folders two paths share from the root."""
    pairs = zip(folder.split("/"), file.split("/")[:-1], strict=False)
    return next(
        (i for i, (a, b) in enumerate(pairs) if a != b),
        min(len(folder.split("/")) if folder else 0, file.count("/")),
    )


def _is_below(file: str, folder: str) -> bool:
    return not folder or file.startswith(folder + "/")
