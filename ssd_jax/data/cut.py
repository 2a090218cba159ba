"""Divides data into images for training and evaluation; near duplicates stay together."""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssd_jax.data.datasets import Dataset, Part
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.near_duplicates import joined, read_thumbnails, thumbnail_pairs, versions
from ssd_jax.errors import UserError, counted
from ssd_jax.storage.files import read_json, real_paths, write_json

logger = logging.getLogger(__name__)

CUT_FILE = "split.json"
MANY_IMAGES = 5000  # reading their thumbnails takes seconds


class Cut(NamedTuple):
    """A division of images for training and evaluation.

    Attributes:
      sources: the sources of the data, one for each part.
      evaluation: the evaluation images of each part: their ids, or their file names if all ids are
        numbers, because a later export of the data may number images differently.
    """

    sources: tuple[str, ...]
    evaluation: tuple[tuple[str, ...], ...]

    @classmethod
    def from_json(cls, content: Sequence[Mapping[str, Any]]) -> "Cut":
        """Parses the form of `as_json`.

        Raises:
          TypeError, KeyError: the content has another form.
        """
        if not all(isinstance(part["images"], list) for part in content):
            raise TypeError("images are not a list")
        parts = [(str(part["source"]), tuple(map(str, part["images"]))) for part in content]
        return cls(tuple(source for source, _ in parts), tuple(names for _, names in parts))

    def as_json(self) -> list[dict[str, Any]]:
        """The images of each source, in types of JSON."""
        parts = zip(self.sources, self.evaluation, strict=True)
        return [{"source": source, "images": list(names)} for source, names in parts]

    def masks(self, dataset: Dataset, sources: Sequence[str]) -> list[np.ndarray]:
        """`[images] bool` of each part: whether the image is for evaluation.

        New images are used for training; removed images are logged.

        Args:
          dataset: the images.
          sources: the source of each part. An unknown source, for example a moved folder, replaces
            the next stored source that is missing.

        Raises:
          UserError: no evaluation image exists, or no image is left for training.
        """
        stored: dict[str, set[str]] = {}
        for source, names in zip(self.sources, self.evaluation, strict=True):
            stored.setdefault(source, set()).update(names)
        moved = [source for source in dict.fromkeys(sources) if source not in stored]
        listed: dict[str, set[str]] = {}
        for source, names in stored.items():
            if source not in sources and moved:
                source = moved.pop(0)
            listed[source] = names
        masks = []
        for source, part in zip(sources, dataset.parts, strict=True):
            own = listed.get(source, set())
            pairs = zip(_image_ids(part), _names_in_cut(part), strict=True)
            masks.append(np.array([not own.isdisjoint(pair) for pair in pairs], bool).reshape(-1))
        count, found = sum(map(len, self.evaluation)), sum(int(mask.sum()) for mask in masks)
        if not found or found == len(dataset):
            raise UserError(
                f"{CUT_FILE} lists {counted(count, 'image')} for evaluation, and the data has "
                f"{found} of them among its {len(dataset)}: put the images back, or name another "
                "work directory"
            )
        if found < count:
            logger.warning(
                "%d of the %d images for evaluation in %s are not in the data any more",
                *(count - found, count, CUT_FILE),
            )
        return masks


def make_cut(dataset: Dataset, sources: Sequence[str], split: float, seed: int) -> Cut:
    """Chooses the evaluation images.

    The choice depends on the names of the images, their near duplicates, `split` and `seed`, but
    not on the order of the images.

    Args:
      dataset: the images.
      sources: the source of each part.
      split: the fraction for training; groups of near duplicates allow it only approximately.
      seed: the seed of the choice.

    Raises:
      UserError: there are too few images.
    """
    ids = [_names_in_cut(part) for part in dataset.parts]
    names = [f"{number}:{name}" for number, own in enumerate(ids) for name in own]
    if len(names) > MANY_IMAGES:
        logger.info("looking for near duplicates among %s images", f"{len(names):,}")
    groups = _groups(dataset, split)
    if len(names) < 2 or groups.max(initial=0) == 0:
        raise UserError(
            f"{', '.join(sources)}: {counted(len(names), 'image')}, too few to keep some for "
            "evaluation: name evaluation data in config.data.eval, or train without evaluation "
            "with config.eval_every=-1"
        )
    chosen = choose(names, groups, split, seed, _have_objects(dataset))
    ends = np.cumsum([len(own) for own in ids])[:-1]
    evaluation = tuple(
        tuple(sorted(name for name, is_chosen in zip(own, mask, strict=True) if is_chosen))
        for own, mask in zip(ids, np.split(chosen, ends), strict=True)
    )
    return Cut(tuple(sources), evaluation)


def choose(
    names: Sequence[str],
    groups: np.ndarray,
    split: float,
    seed: int,
    have_objects: np.ndarray | None = None,
) -> np.ndarray:
    """Chooses whole groups, about `1 - split` of all images, at least one group and not all.

    Both sides get images with objects, if at least two groups have objects.

    Args:
      names: the names of the images, all different.
      groups: `[images]` the number of the group of each image; two groups or more.
      split: the fraction that is not chosen.
      seed: the seed of the choice.
      have_objects: `[images] bool`; all images if None.

    Returns:
      `[images] bool`.
    """
    # The rank of a group depends only on its first name: a new image changes few ranks.
    members: dict[int, list[int]] = {}
    for index in np.argsort(np.array(names)).tolist():
        members.setdefault(int(groups[index]), []).append(index)
    ordered = sorted(
        members.values(),
        key=lambda own: hashlib.sha256(f"{seed}:{names[own[0]]}".encode()).digest(),
    )
    if have_objects is not None:
        with_objects = [own for own in ordered if have_objects[own].any()]
        if len(with_objects) > 1:  # one of them is chosen first, another last
            first, last = with_objects[0], with_objects[-1]
            between = [own for own in ordered if own is not first and own is not last]
            ordered = [first, *between, last]
    wanted = min(max(1, round(len(names) * (1 - split))), len(names) - 1)
    chosen: list[list[int]] = []
    count = 0
    others = []
    for own in ordered:
        if count + len(own) <= wanted:
            chosen.append(own)
            count += len(own)
        else:
            others.append(own)
    nearest = min(others, key=len)
    beyond = count + len(nearest) - wanted
    if not chosen or (beyond < wanted - count and len(others) > 1):
        chosen.append(nearest)
    mask = np.zeros(len(names), bool)
    for own in chosen:
        mask[own] = True
    return mask


def _have_objects(dataset: Dataset) -> np.ndarray:
    """`[images] bool`: whether images have objects; true for records of TFDS, to save reading."""
    known = []
    for part in dataset.parts:
        have = np.ones(len(part), bool)
        if isinstance(part, FolderRecords):
            owners = part.columns.owners()[~part.columns.crowd]
            have = np.bincount(owners, minlength=len(part)) > 0
        known.append(have)
    return np.concatenate(known)


def _groups(dataset: Dataset, split: float) -> np.ndarray:
    """`[images]`: the number of each image's group of near duplicates and versions."""
    count = len(dataset)
    names = [
        name for number, part in enumerate(dataset.parts) for name in _names_of_files(part, number)
    ]
    of_names = versions(names)
    first = np.unique(of_names, return_index=True)[1]
    name_pairs = np.column_stack([np.arange(count), first[of_names]])
    same_names = joined([name_pairs], count)
    pairs = [name_pairs, *thumbnail_pairs(*read_thumbnails(dataset))]
    groups = joined(pairs, count)
    sizes = np.bincount(groups)
    largest = int(sizes.max(initial=0))
    # All images of a fixed camera may look the same.
    if count > 1 and largest > count / 2 and count - largest < (1 - split) * count / 2:
        logger.warning(
            "%d of %d images look the same: images for evaluation are chosen one by one, without "
            "groups of near duplicates",
            largest,
            count,
        )
        return same_names if same_names.max() > 0 else np.arange(count)
    repeated = int((sizes - 1).sum())
    if repeated:
        logger.info(
            "near duplicates: %d of %d images look like another one; such images stay together, "
            "in training or in evaluation",
            repeated,
            count,
        )
    return groups


def _image_ids(part: Part) -> list[str]:
    if isinstance(part, FolderRecords):
        return list(part.columns.image_ids)
    return [part[index].image_id for index in range(len(part))]


def _names_in_cut(part: Part) -> list[str]:
    """The names of a part's images in a `Cut`."""
    ids = _image_ids(part)
    if not isinstance(part, FolderRecords) or not all(map(str.isdigit, ids)):
        return ids
    names = [os.path.basename(path) for path in part.columns.paths]
    return names if len(set(names)) == len(names) else ids


def _names_of_files(part: Part, number: int) -> list[str]:
    """A path of each image: of its file, or of the larger file and its id.

    Images of TFDS have the number of the part and their index.
    """
    if not isinstance(part, FolderRecords):
        return [f"{number}:{index}" for index in range(len(part))]
    columns = part.columns
    is_inside = columns.spans[:, 1] > 0
    return [
        f"{path}/{image_id}" if inside else path
        for path, image_id, inside in zip(
            real_paths(columns.paths), columns.image_ids, is_inside.tolist(), strict=True
        )
    ]


def read_cut(folder: Path) -> Cut | None:
    """Reads the division of a run's images; None if they were not divided.

    Raises:
      UserError: the file cannot be read.
    """
    path = folder / CUT_FILE
    if not path.is_file():
        return None
    try:
        return Cut.from_json(read_json(path))
    except (TypeError, KeyError, UserError) as error:
        reason = f"{error}" if isinstance(error, UserError) else f"{path} is damaged"
        raise UserError(
            f"{reason}. Put back a copy of it; a new run with the same config and images, in "
            "another work directory, writes the same file before its first step"
        ) from error


def write_cut(folder: Path, cut: Cut) -> None:
    """Writes the division of images into a work directory."""
    write_json(folder / CUT_FILE, cut.as_json())
