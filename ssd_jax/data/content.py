"""Counts the content of a data set."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from ssd_jax.data.datasets import Dataset, Part
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.image_bytes import num_readers
from ssd_jax.errors import UserError, counted, first_names
from ssd_jax.images.opening import upright_size
from ssd_jax.threads import map_ahead, pool_of_threads

# Records of TFDS must be read to be counted, so only the first ones are counted.
RECORDS_COUNTED = 2000
BOXES_SAMPLED = 4096


@dataclasses.dataclass(frozen=True)
class Content:
    """The content of a data set, in numbers.

    Attributes:
      class_names: class i + 1 has the name `class_names[i]`.
      num_images: the number of images.
      num_counted: the number of images that were counted for the other attributes.
      num_background: the number of images without an object to learn.
      num_objects: `[classes]` int64: the number of objects of each class, without crowds.
      num_crowds: the number of boxes around many objects.
      num_others: the number of left out objects of other classes, where known.
      sizes: `[images, 2]` height and width, of images with known size.
      boxes: `[objects, 4] xyxy` in [0, 1], without crowds.
    """

    class_names: tuple[str, ...]
    num_images: int
    num_counted: int
    num_background: int
    num_objects: np.ndarray
    num_crowds: int
    num_others: int
    sizes: np.ndarray
    boxes: np.ndarray

    def some_boxes(self) -> np.ndarray:
        """The boxes; a random sample if there are more than `BOXES_SAMPLED`."""
        chosen = np.random.default_rng(0).permutation(len(self.boxes))[:BOXES_SAMPLED]
        return self.boxes[np.sort(chosen)]


def count_content(dataset: Dataset, most: int = RECORDS_COUNTED) -> Content:
    """Counts the content of a data set.

    Args:
      dataset: the records.
      most: the number of records to read of a set of TFDS; reads more until one has an object.
    """
    counted = [_count_part(part, most) for part in dataset.parts]
    owners, labels, crowd, boxes, sizes, num_counted = zip(*counted, strict=True)
    learned = [~own for own in crowd]
    num_with_objects = sum(
        len(np.unique(own[kept])) for own, kept in zip(owners, learned, strict=True)
    )
    kept = np.concatenate(learned)
    all_sizes = np.concatenate(sizes)
    return Content(
        class_names=dataset.class_names,
        num_images=len(dataset),
        num_counted=sum(num_counted),
        num_background=sum(num_counted) - num_with_objects,
        num_objects=np.bincount(
            np.concatenate(labels)[kept], minlength=len(dataset.class_names) + 1
        )[1:],
        num_crowds=int((~kept).sum()),
        num_others=_num_others(dataset),
        sizes=all_sizes[~np.isnan(all_sizes).any(axis=1)],
        boxes=np.concatenate(boxes)[kept],
    )


def nothing_to_learn(content: Content) -> str:
    """The reason why a data set has nothing to learn, with numbers; "" if it has objects."""
    if content.num_objects.sum():
        return ""
    reasons = []
    if content.num_crowds:
        reasons.append(f"{counted(content.num_crowds, 'box')} around crowds (iscrowd)")
    if content.num_others:
        names = first_names(content.class_names, 20)
        reasons.append(f"{counted(content.num_others, 'object')} of other classes than {names}")
    return (
        f"there is nothing to learn in {counted(content.num_images, 'image')} with "
        f"{' and '.join(reasons) or 'no object'}: training needs at least one box around a "
        "single object of a class of config.data.classes"
    )


def check_any_class(dataset: Dataset, origin: str) -> None:
    """Rejects evaluation data in which all objects are of other classes.

    Args:
      dataset: the data, with the classes of a detector.
      origin: a description of it, for the message.

    Raises:
      UserError: it has objects, but none of these classes.
    """
    num_others = _num_others(dataset)
    has_objects = any(
        not isinstance(part, FolderRecords) or len(part.columns.classes) for part in dataset.parts
    )
    if num_others and not has_objects:
        raise UserError(
            f"the evaluation data ({origin}) has {counted(num_others, 'object')} of other classes, "
            f"but none of the detector's classes {first_names(dataset.class_names, 20)}: name "
            "other data, or rename its classes with config.data.class_map"
        )


def _num_others(dataset: Dataset) -> int:
    """The number of left out objects of other classes, where known."""
    return sum(getattr(part, "num_others", 0) for part in dataset.parts)


def num_shared(first: Dataset, second: Dataset) -> int:
    """The number of images of the second data set that are also in the first one."""
    known, places = (
        np.concatenate([part.places() for part in dataset.parts]) for dataset in (first, second)
    )
    return int(np.isin(places, known).sum())


_Counted = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]


def _count_part(part: Part, most: int) -> _Counted:
    """Counts a part.

    Returns:
      The image index, labels, crowd flags and boxes of objects; the sizes of images; and the number
      of counted images.
    """
    if isinstance(part, FolderRecords):
        columns = part.columns
        return (
            columns.owners(),
            columns.classes,
            columns.crowd,
            columns.boxes,
            columns.sizes,
            len(part),
        )
    labels, crowd, boxes, sizes = [], [], [], []
    has_objects = False
    for own_labels, own_crowd, own_boxes, size in _read(part):
        labels.append(own_labels)
        crowd.append(own_crowd)
        boxes.append(own_boxes)
        sizes.append(size)
        has_objects = has_objects or not own_crowd.all()
        if len(sizes) >= most and has_objects:
            break
    owners = np.repeat(np.arange(len(labels)), [len(own) for own in labels])
    return (
        owners,
        np.concatenate(labels),
        np.concatenate(crowd),
        np.concatenate(boxes),
        np.array(sizes, np.float64).reshape(-1, 2),
        len(sizes),
    )


def _read(
    part: Part,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, float]]]:
    """Labels, crowd, boxes and the image's size of each record."""

    def read(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, float]]:
        record = part[index]
        try:
            size = upright_size(record.image, name="the image")
        except UserError:  # the run reports the image, or leaves it out
            size = (np.nan, np.nan)
        return record.labels, record.crowd, record.boxes, size

    with pool_of_threads(num_readers()) as pool:
        yield from map_ahead(pool, read, range(len(part)), max(64, num_readers()))
