"""Finds the folder to which the image names of an annotation file are relative."""

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

# Folders of images with the masks of objects.
MASKS = re.compile(r"(^|/)(segmentation\w*|masks?|trimaps?|panoptic\w*|\w+_masks)/", re.IGNORECASE)
# Words that occur in names of folders together with the name of a split.
FILLERS = frozenset(
    "images image imgs img jpegs set split data dataset annotations labels instances".split()  # noqa: SIM905
)
# The number of image names that are used to find the folder of images.
NAMES_TRIED = 100


class ImageFolders:
    """Finds the folders of images below a tree by the names of images."""

    def __init__(self, tree: FileTree):
        """Groups the images of a tree by their names."""
        self._by_name: dict[str, list[str]] = collections.defaultdict(list)
        for image in tree.images:
            name = alike(image.rpartition("/")[2])
            self._by_name[name].append(image)
            # CVAT's names of video frames have no suffix.
            self._by_name[without_suffix(name)].append(image)

    def of(self, names: Sequence[str], file: str) -> list[str]:
        """The folders, from the root ("" is the root), that contain most of these images.

        Of folders with equal numbers of images, the folder with the name of the file's split is
        preferred, then the folder nearest to the annotation file.

        Args:
          names: image names in annotations, also with folders.
          file: the annotation file, from the root.

        Returns:
          An empty list if none of the images exists; several folders if no folder is preferred.
        """
        step = max(1, len(names) // NAMES_TRIED)
        found = [folders for name in names[::step] if (folders := self._folders(name))]
        counts = collections.Counter(folder for folders in found for folder in folders)
        if not counts:
            return []
        most = max(counts.values())
        if most < len(found) == counts.total():
            # Each name is in one folder, but the folders differ: use their common parent.
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
        """The folders below which a name, or its longest possible end, is the path of an image."""
        name = without_server(name)
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        found = self._by_name.get(alike(parts[-1]), []) if parts else []
        for start in range(len(parts)):
            # The longest end of the name that matches an image.
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
    """The images that are not in folders of masks; all images if all folders have masks."""
    return [image for image in images if not MASKS.search(image)] or images


def split_of(file: str) -> str:
    """The split in the name of a file or of its nearest folder; `WHOLE` without one.

    Names without other words are preferred: `train2017` and `train_images` are splits. The folder
    `my-test-project` is not a split, and the file `test-tubes.csv` only if no folder is a split.
    """
    *folders, name = file.split("/")
    stem = name.rpartition(".")[0] or name
    for part in (stem, *reversed(folders)):
        words = set(re.findall("[a-z]+", part.lower())) - FILLERS
        if len(words) == 1 and words <= set(SPLIT_NAMES):
            return part
    return stem if is_split(stem) else WHOLE


def check_one_folder(
    tree: FileTree, annotations: str, folders: Sequence[str], name: str, prefix: str = ""
) -> None:
    """Rejects several possible folders of images for the same annotations.

    Args:
      tree: the files.
      annotations: the annotation file, or the folder of annotation files, from the root.
      folders: the possible folders of images, from the root.
      name: the name of the format.
      prefix: words before the path of the annotations in the message.

    Raises:
      UserError: there are several folders; the message names them.
    """
    if len(folders) > 1:
        place = tree.path(annotations)
        options = " or ".join(compose(name, place, tree.path(folder)) for folder in folders)
        raise UserError(
            f"the images of {prefix}{place} may be in several folders: name one of {options}"
        )


def common_folder(folders: Iterable[str]) -> str:
    """The common parent of folders."""
    folders = list(folders)
    return "" if "" in folders else os.path.commonpath(folders).replace(os.sep, "/")


def _common(folder: str, file: str) -> int:
    """The number of folders that two paths share from the root."""
    pairs = zip(folder.split("/"), file.split("/")[:-1], strict=False)
    return next(
        (i for i, (a, b) in enumerate(pairs) if a != b),
        min(len(folder.split("/")) if folder else 0, file.count("/")),
    )


def _is_below(file: str, folder: str) -> bool:
    return not folder or file.startswith(folder + "/")
