"""What a data set holds, in numbers."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from ssd_jax.data.datasets import Dataset, Part
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.errors import UserError, counted, first_names
from ssd_jax.images.opening import upright_size
from ssd_jax.threads import map_ahead, num_cores, pool_of_threads

# Records of TFDS have to be read for this, so no more than the first ones are.
RECORDS_COUNTED = 2000
BOXES_SAMPLED = 4096


@dataclasses.dataclass(frozen=True)
class Content:
    """What a data set holds.

    Attributes:
      class_names: class i + 1 is called `class_names[i]`.
      num_images: how many there are.
      num_counted: how many of them the other numbers are about.
      num_background: images without an object to learn.
      num_objects: `[classes]` int64: the objects of each class, without crowds.
      num_crowds: boxes round many objects.
      num_others: objects of other classes that were left out, where that is known.
      sizes: `[images, 2]` height and width, of images where they are known.
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
        """The boxes, or random ones of more than `BOXES_SAMPLED`."""
        chosen = np.random.default_rng(0).permutation(len(self.boxes))[:BOXES_SAMPLED]
        return self.boxes[np.sort(chosen)]


def count_content(dataset: Dataset, most: int = RECORDS_COUNTED) -> Content:
    """Counts what a data set holds.

    Args:
      dataset: the records.
      most: of a set of TFDS so many records are read, and more only where none has an object.
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
        num_others=sum(getattr(part, "num_others", 0) for part in dataset.parts),
        sizes=all_sizes[~np.isnan(all_sizes).any(axis=1)],
        boxes=np.concatenate(boxes)[kept],
    )


def nothing_to_learn(content: Content) -> str:
    """The reason why nothing can be learned from a data set, with numbers; "" where it can."""
    if content.num_objects.sum():
        return ""
    reasons = []
    if content.num_crowds:
        reasons.append(f"{counted(content.num_crowds, 'box')} round crowds (iscrowd)")
    if content.num_others:
        names = first_names(content.class_names, 20)
        reasons.append(f"{counted(content.num_others, 'object')} of other classes than {names}")
    return (
        f"there is nothing to learn in {counted(content.num_images, 'image')} with "
        f"{' and '.join(reasons) or 'no object'}: training needs at least one box round a single "
        "object of a class of config.data.classes"
    )


def num_shared(first: Dataset, second: Dataset) -> int:
    """How many images of the second data set are files, or records of TFDS, of the first, too."""
    known = set(_files(first))
    return sum(file in known for file in _files(second))


def _files(dataset: Dataset) -> Iterator[tuple[str, int]]:
    """The path of the file that each image is in, and where it is in that."""
    for part in dataset.parts:
        yield from part.places()


_Counted = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]


def _count_part(part: Part, most: int) -> _Counted:
    """Owners, labels, crowd and boxes of objects, sizes of images, and how many images these are.

    Owners are indices of images.
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
        except UserError:  # the run will stop there, or leave it out
            size = (np.nan, np.nan)
        return record.labels, record.crowd, record.boxes, size

    with pool_of_threads(num_cores()) as pool:
        yield from map_ahead(pool, read, range(len(part)), 64)
