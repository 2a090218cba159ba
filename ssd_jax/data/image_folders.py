"""Finds the folder that the image names of an annotation file start from."""

import collections
from collections.abc import Sequence

from ssd_jax.data.discovery import WHOLE
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.split_names import SPLIT_NAMES, kind_of

# So many names of an annotation file tell its folder of images.
NAMES_TRIED = 100


class ImageFolders:
    """The folders of images below a tree, by the names in them."""

    def __init__(self, tree: FileTree):
        """Groups the images of a tree by their names."""
        self._by_name: dict[str, list[str]] = collections.defaultdict(list)
        for image in tree.images:
            self._by_name[image.rpartition("/")[2].lower()].append(image)

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
        counts: collections.Counter[str] = collections.Counter()
        step = max(1, len(names) // NAMES_TRIED)
        for name in names[::step]:
            counts.update(self._folders(name))
        if not counts:
            return []
        most = max(counts.values())
        folders = sorted(folder for folder, count in counts.items() if count == most)
        split = split_of(file)
        preferences = (
            lambda folder: folder.rpartition("/")[2] == split,
            lambda folder: split_of(folder + "/x") == split,
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
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        found = self._by_name.get(parts[-1].lower(), []) if parts else []
        for start in range(len(parts)):
            # The longest end of the name that there is.
            ending = "/" + "/".join(parts[start:])
            fitting = [image for image in found if f"/{image}".lower().endswith(ending.lower())]
            if fitting:
                return {f"/{image}"[: -len(ending)].removeprefix("/") for image in fitting}
        return set()


def split_of(file: str) -> str:
    """The split that a file or its folders name, the nearest first; `WHOLE` where none does."""
    *folders, name = file.split("/")
    stem = name.rpartition(".")[0] or name
    for part in (stem, *reversed(folders)):
        if kind_of(part) in SPLIT_NAMES:
            return part
    return WHOLE


def _common(folder: str, file: str) -> int:
    """How many folders two paths share from the root."""
    pairs = zip(folder.split("/"), file.split("/")[:-1], strict=False)
    return next(
        (i for i, (a, b) in enumerate(pairs) if a != b),
        min(len(folder.split("/")) if folder else 0, file.count("/")),
    )


def _is_below(file: str, folder: str) -> bool:
    return not folder or file.startswith(folder + "/")
