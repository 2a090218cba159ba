"""Finds the images of the evaluation data by the names that files of detections use."""

import collections
import functools
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ssd_jax.data.file_tree import IMAGE_SUFFIXES
from ssd_jax.errors import UserError, counted, first_names, shown

logger = logging.getLogger(__name__)


class KnownImages:
    """Finds the image for a name or a file name.

    Args:
      image_ids: of all images; images that were left out as damaged come last.
      num_images: the number of images that were not left out.
      paths: the files of the images; missing or empty for an image inside a larger file.
    """

    def __init__(self, image_ids: Sequence[str], num_images: int, paths: Mapping[str, str]) -> None:
        self._image_ids = dict.fromkeys(image_ids)
        self._first = shown(image_ids[0]) if num_images else "none"
        self._num_images = num_images
        self._paths = paths
        self._unknown: dict[str, str] = {}  # messages by name, in the order of the file

    def find(self, name: str, place: str) -> str:
        """The image of this name, with or without the suffix of an image; "" if there is none.

        Args:
          name: of the image.
          place: begins the message of `leave_out_unknown` if there is none.
        """
        found = next((each for each in _forms(name) if each in self._image_ids), "")
        if not found:
            self._add_unknown(name, f"{place}: the image {shown(name)}", self._first)
        return found

    def find_file(self, name: str, place: str) -> str:
        """The image whose file has this name, a relative path; "" if there is none.

        The path of the image must end with the whole name: `val/1.jpg` is not `train/1.jpg`. An
        image inside a larger file is found by its name.

        Args:
          name: of the file.
          place: begins messages; see `find`.

        Raises:
          UserError: several images match.
        """
        end = f"/{name}"
        near = self._by_last_part.get(name.rpartition("/")[2], [])
        found = [image_id for image_id, path in near if path.endswith(end)]
        if not found:
            found = [each for each in _forms(name) if each in self._without_file][:1]
        if not found:
            paths = (path for each in self._image_ids if (path := self._paths.get(each)))
            first = next(paths, "")
            self._add_unknown(
                name, f"{place}: the file {shown(name)}", shown(first) if first else self._first
            )
            return ""
        if len(found) > 1:
            paths = first_names([self._paths[each] for each in found])
            raise UserError(
                f"{place}: the file {shown(name)} may be any of {paths}: detect in the folder "
                "that contains them, so that their names differ"
            )
        return found[0]

    def leave_out_unknown(self, path: Path, found: Collection[str]) -> None:
        """Warns of the number of images that were not found.

        Detections may cover more than the evaluation data, for example a whole folder of which a
        run uses a part for evaluation.

        Args:
          path: of the detections.
          found: the evaluation images among theirs.

        Raises:
          UserError: images were not found, and less than half of the evaluation data was found: the
            detections are probably of other data.
        """
        if not self._unknown:
            return
        if 2 * len(found) < self._num_images or not found:
            raise UserError(next(iter(self._unknown.values())))
        logger.warning(
            "%s: left out %s that the evaluation data does not have, the first is %s",
            *(path, counted(len(self._unknown), "image"), shown(next(iter(self._unknown)))),
        )

    def _add_unknown(self, name: str, what: str, first: str) -> None:
        self._unknown.setdefault(
            name,
            f"{what} is not in the evaluation data, which has "
            f"{counted(self._num_images, 'image')}; the first is {first}",
        )

    @functools.cached_property
    def _by_last_part(self) -> dict[str, list[tuple[str, str]]]:
        """Names and absolute paths of images by the last part of their paths."""
        by_last: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
        for image_id in self._image_ids:
            if path := self._paths.get(image_id):
                absolute = os.path.abspath(path)
                by_last[os.path.basename(absolute)].append((image_id, absolute))
        return by_last

    @functools.cached_property
    def _without_file(self) -> set[str]:
        return {each for each in self._image_ids if not self._paths.get(each)}


def _forms(name: str) -> tuple[str, ...]:
    """A name, and the name without the suffix of an image file, if it has one."""
    stem, dot, suffix = name.rpartition(".")
    return (name, stem) if f"{dot}{suffix.lower()}" in IMAGE_SUFFIXES else (name,)
