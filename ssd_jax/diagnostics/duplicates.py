"""Duplicate images: the same file content, the same name, or near duplicates in two splits."""

from collections.abc import Iterator

import numpy as np

from ssd_jax.data.near_duplicates import joined, thumbnail_pairs, versions
from ssd_jax.diagnostics.findings import Finding
from ssd_jax.diagnostics.image_findings import ImageContent

MOST_IMAGES = 200_000  # later images are not searched for near duplicates: 1 KB of memory each


class Duplicates:
    """Compares each image with the earlier ones."""

    def __init__(self):
        """Starts without images."""
        self._by_digest: dict[bytes, int] = {}
        self._names: set[tuple[str, str]] = set()
        self._paths: list[str] = []
        self._ids: list[str] = []
        self._splits: list[str] = []
        self._copies: set[int] = set()
        self._thumbnails: list[np.ndarray] = []

    def add(self, path: str, image_id: str, split: str, look: ImageContent) -> Iterator[Finding]:
        """Adds an image; yields a finding if an earlier image has the same content or name.

        Args:
          path: its file.
          image_id: its name in results.
          split: its split; "" = none.
          look: its content.
        """
        place = len(self._paths)
        if look.digest:
            first = self._by_digest.setdefault(look.digest, place)
            if first != place and (self._paths[first] != path or self._splits[first] != split):
                self._copies.add(place)
                other = self._paths[first]
                if self._splits[first] == split:
                    yield Finding("same content", path, image_id, f"is the same image as {other}")
                else:
                    message = f"is in {split or 'one'}, and in {self._splits[first]} as {other}"
                    yield Finding("in two splits", path, image_id, message)
        name = (split, image_id)
        if name in self._names:
            message = f"another image is called {image_id!r}, too"
            yield Finding("same name", path, image_id, message)
        self._names.add(name)
        self._paths.append(path)
        self._ids.append(image_id)
        self._splits.append(split)
        if place < MOST_IMAGES:
            self._thumbnails.append(look.thumbnail)

    def findings(self) -> Iterator[Finding]:
        """Findings about images that look like an image of another split."""
        count = len(self._thumbnails)
        if len(set(self._splits[:count])) < 2:
            return
        thumbnails = np.stack(self._thumbnails)
        readable = thumbnails.reshape(count, -1).std(axis=1) > 0
        # Pairs of the first image of each version with every image of that version.
        _, first, version = np.unique(
            versions(self._paths[:count]), return_index=True, return_inverse=True
        )
        same_version = np.column_stack([first[version], np.arange(count)])
        groups = joined([*thumbnail_pairs(thumbnails, readable), same_version], count)
        first_of: dict[int, int] = {}
        for place, group in enumerate(groups.tolist()):
            first = first_of.setdefault(group, place)
            if self._splits[first] != self._splits[place] and place not in self._copies:
                message = (
                    f"is in {self._splits[place]}, and looks like {self._paths[first]} in "
                    f"{self._splits[first]}"
                )
                yield Finding("near duplicate", self._paths[place], self._ids[place], message)
