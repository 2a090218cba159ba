"""Finds files by names with or without suffix, as lists and annotations write them."""

import collections
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ssd_jax.data.file_tree import FileTree, alike


class Stems:
    """Finds files of a folder by their paths with or without suffix."""

    def __init__(self, tree: FileTree, files: Iterable[str]):
        """Indexes these files of a tree."""
        self.tree = tree
        self._files = frozenset(files)
        self._by_stem: dict[str, list[str]] = collections.defaultdict(list)
        self._by_name: dict[str, list[str]] = collections.defaultdict(list)
        for file in sorted(self._files):
            self._by_stem[without_suffix(file)].append(file)
            self._by_name[alike(without_suffix(file).rpartition("/")[2])].append(file)

    def find(self, name: str) -> list[str]:
        """The files that match a name, from the root; none for a path outside the folder.

        These forms are tried: the path from the root, with and without suffix; the path without the
        name of the folder at its beginning; the end of a path; and all of these with other capitals
        or another Unicode form.

        Args:
          name: a name like `a`, `a.jpg`, `vid1/a`, `vid1\\a` or `JPEGImages/a.jpg`.
        """
        if name in self._files:
            return [name]
        if name in self._by_stem:
            return self._by_stem[name]
        inside = self.tree.inside(name)
        if not inside:
            return []
        for candidate in self._without_own_folder(inside):
            if candidate in self._files:
                return [candidate]
            if candidate in self._by_stem:
                return self._by_stem[candidate]
        for candidate in self._without_own_folder(inside):
            last = alike(candidate.rpartition("/")[2])
            ends = (f"/{candidate}", alike(f"/{candidate}"))
            near = {*self._by_name.get(last, []), *self._by_name.get(without_suffix(last), [])}
            for end, form in ((ends[0], str), (ends[1], alike)):
                found = sorted(
                    file
                    for file in near
                    if form(f"/{file}").endswith(end)
                    or form(f"/{without_suffix(file)}").endswith(end)
                )
                if found:
                    return found
        return []

    def _without_own_folder(self, path: str) -> list[str]:
        """A path, and the path without the name of the root at its beginning."""
        parts, own = path.split("/"), Path(self.tree.root.absolute()).parts
        starts = (i for i in range(1, len(parts)) if tuple(parts[:i]) == own[-i:])
        return [path, *("/".join(parts[start:]) for start in starts)]


def without_suffix(file: str) -> str:
    """A path with `/` without the suffix of its last part."""
    suffix = PurePosixPath(file).suffix
    return file[: -len(suffix)] if suffix else file
