"""Reads records of a data set by index, as tensors, with their encoded images."""

import bisect
import functools
from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np

from ssd_jax.data import rendering
from ssd_jax.data.columns import Strings
from ssd_jax.data.datasets import Dataset, Part
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.image_bytes import (
    REQUESTS_A_BLOCK,
    blocks_at_once,
    request_image,
    span_reader,
)
from ssd_jax.data.tensorflow_setup import Tensors, tf
from ssd_jax.errors import StoreError, UserError
from ssd_jax.images.limits import MAX_BYTES
from ssd_jax.images.opening import upright_file
from ssd_jax.storage.files import read_bytes
from ssd_jax.storage.objects import place_behind
from ssd_jax.threads import num_cores

Read = Callable[[tf.Tensor], tf.Tensor]
ReadRecord = Callable[[tf.Tensor], Tensors]

IMAGES_A_CALL = 8  # the number of images that one call of Python reads

OBJECT_KEYS = ("boxes", "labels", "difficult")


class RecordReader:
    """Reads records for training: without crowds, with their encoded upright images.

    A record is a dictionary of `path` and `image_id` (`[] string`), `image` (the encoded image),
    `size` (`[2] int32`, its height and width), `boxes`, `labels`, `difficult`, and `dropped`; see
    `Record`.

    Python reads images in stores and in larger files (`fetch`), before the other stages. One call
    reads several images, because a call costs as much as reading an image.

    Attributes:
      in_store: whether images of some parts are objects of a store.
      is_fetched: whether `fetch` reads images of some parts.
      failure: the first error of a store; None without one.
    """

    def __init__(self, dataset: Dataset, cache: bool = False):
        """Makes the reading functions of each part.

        Args:
          dataset: the records.
          cache: whether encoded images are kept in memory.
        """
        self._starts = [indices.start for indices in dataset.shares()]
        remember = remembered if cache else lambda read: read
        self.failure: StoreError | None = None
        self.in_store = any(map(is_read_in_store, dataset.parts))
        self._cache, self._known = cache, dict[int, bytes]()
        self._fetchers = list(map(_fetcher, dataset.parts))
        self.is_fetched = any(self._fetchers)
        self._without = [
            _folder_reader(part) if isinstance(part, FolderRecords) else _set_reader(part, remember)
            for part in dataset.parts
        ]
        self._with_image = [
            _with_file(read, remember) if isinstance(part, FolderRecords) and not fetcher else read
            for part, read, fetcher in zip(
                dataset.parts, self._without, self._fetchers, strict=True
            )
        ]

    @property
    def num_threads(self) -> int:
        """The number of TensorFlow's threads that the stages need; 0: one for each core."""
        return num_cores() + blocks_at_once() if self.in_store else 0

    @property
    def fetches(self) -> tuple[int, int]:
        """The number of images that a call of `fetch` reads, and the number of parallel calls."""
        if self.in_store:
            return REQUESTS_A_BLOCK, blocks_at_once()
        return IMAGES_A_CALL, num_cores()

    def fetch(self, indices: tf.Tensor) -> tf.Tensor:
        """Reads images in stores and in larger files; see the class.

        Args:
          indices: `[images] int64`, the indices of records.

        Returns:
          `[images] string`, encoded; empty for other images, and for those that cannot be read.
        """
        fetched = tf.numpy_function(self._fetch, [indices], tf.string, stateful=False)
        return tf.ensure_shape(fetched, [None])

    def _fetch(self, indices: np.ndarray) -> np.ndarray:
        requests = [self._requested(index) for index in indices.tolist()]
        images = np.empty(len(indices), object)
        images[:] = [self._received(request) for request in requests]
        if self._cache:
            pairs = zip(indices.tolist(), images, strict=True)
            self._known.update((index, image) for index, image in pairs if image)
        return images

    def _requested(self, index: int) -> Callable[[], bytes]:
        """Requests an image; returns a function that waits for it."""
        if self.failure or index in self._known:
            return functools.partial(self._known.get, index, b"")
        number = bisect.bisect_right(self._starts, index) - 1
        request = self._fetchers[number]
        try:
            return request(index - self._starts[number]) if request else bytes
        except (UserError, OSError):
            return bytes

    def _received(self, request: Callable[[], bytes]) -> bytes:
        """One image; the first failure of a store is stored in `failure`, and ends all reading.

        It is not raised: TensorFlow would treat it as a damaged image, and log its traceback.
        """
        try:
            return request()
        except StoreError as error:
            self.failure = self.failure or error
        except (UserError, OSError):
            pass  # the read stage fails without an image, and reports this one
        return b""

    def read(self, index: tf.Tensor, fetched: tf.Tensor | None = None) -> Tensors:
        """Reads a record; fails if its image cannot be read.

        Args:
          index: `[] int64`, the index of the record.
          fetched: `[] string`, its image from `fetch`; None if `is_fetched` is false.
        """
        record = self._choose(self._with_image, index)
        encoded = record["image"]
        if fetched is not None:
            encoded = tf.where(tf.strings.length(fetched) > 0, fetched, encoded)
        image, size = upright(encoded)
        return record | {"image": image, "size": size}

    def read_without_image(self, index: tf.Tensor) -> Tensors:
        """Reads a record with an empty `image` and the size of one pixel."""
        record = self._choose(self._without, index)
        return record | {"image": tf.constant(b""), "size": tf.ones([2], tf.int32)}

    def _choose(self, readers: list[Callable[[tf.Tensor], Any]], index: tf.Tensor) -> Any:
        """Calls the reader of the part that has the record."""
        if len(readers) == 1:
            return readers[0](index)
        number = tf.reduce_sum(tf.cast(index >= tf.constant(self._starts, tf.int64), tf.int32)) - 1
        return tf.switch_case(
            number,
            [
                # Default arguments keep the values of this iteration.
                lambda read=read, start=start: read(index - start)
                for read, start in zip(readers, self._starts, strict=True)
            ],
        )


def is_read_in_store(part: Part) -> TypeGuard[FolderRecords]:
    """Whether the images of a part are objects of a store."""
    if not isinstance(part, FolderRecords) or not len(part):
        return False
    return place_behind(part.columns.paths[0]) is not None


def _fetcher(part: Part) -> Callable[[int], Callable[[], bytes]] | None:
    """Makes a function that requests an image in a store or a larger file; None for other images.

    The function returns a second one, which waits for the image. So several are requested at once.
    """
    if not isinstance(part, FolderRecords):
        return None
    columns, read_part, is_in_store = part.columns, span_reader(), is_read_in_store(part)
    if not is_in_store and not columns.spans.any():
        return None

    def request(index: int) -> Callable[[], bytes]:
        path, span = columns.paths[index], columns.span(index)
        if is_in_store:
            return request_image(path, span)
        if span:
            return functools.partial(read_part, path, span)
        return functools.partial(read_bytes, path, MAX_BYTES)

    return request


def _set_reader(part, remember: Callable[[Read], Read]) -> ReadRecord:
    """Makes the reader of a TFDS set, which has its own TensorFlow functions."""
    read_record = part.reader(remember)

    def read(index: tf.Tensor) -> Tensors:
        record = read_record(index)
        objects = {key: tf.boolean_mask(record[key], ~record["crowd"]) for key in OBJECT_KEYS}
        others = {key: record[key] for key in ("path", "image", "image_id", "dropped")}
        return objects | others

    return read


def _with_file(read: ReadRecord, remember: Callable[[Read], Read]) -> ReadRecord:
    """Adds the images to records whose images are files."""
    read_image = remember(lambda index: tf.io.read_file(read(index)["path"]))
    return lambda index: read(index) | {"image": read_image(index)}


def _folder_reader(part: FolderRecords) -> ReadRecord:
    """Makes the reader of records of images in files, with empty images."""
    columns = part.columns
    columns = columns.chosen(np.ones(len(columns), bool), ~columns.crowd)
    # Created once here, and not in every function that reads.
    splits, boxes = tf.constant(columns.splits), tf.constant(columns.boxes)
    labels, difficult = tf.constant(columns.classes), tf.constant(columns.difficult)
    is_inside = tf.constant(columns.spans[:, 1] > 0)
    path, image_id = _strings(columns.paths), _strings(columns.image_ids)

    def read(index: tf.Tensor) -> Tensors:
        start, end = tf.gather(splits, index), tf.gather(splits, index + 1)
        return {
            # An image inside a larger file has no path.
            "path": tf.where(is_inside[index], "", path(index)),
            "image": tf.constant(b""),
            "image_id": image_id(index),
            "boxes": boxes[start:end],
            "labels": labels[start:end],
            "difficult": difficult[start:end],
            "dropped": tf.constant(0),
        }

    return read


def _strings(strings: Strings) -> Read:
    """Makes a function that returns the string with an index."""
    content = tf.constant(strings.content[:])
    starts, ends = tf.constant(strings.starts), tf.constant(strings.ends)

    def read(index: tf.Tensor) -> tf.Tensor:
        start, end = tf.gather(starts, index), tf.gather(ends, index)
        return tf.strings.substr(content, start, end - start)

    return read


def remembered(read: Read) -> Read:
    """Adds a cache in memory to a function of an index."""
    known = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, "")

    def read_once(index: tf.Tensor) -> tf.Tensor:
        def read_and_keep():
            content = read(index)
            with tf.control_dependencies([known.insert(index, content)]):
                return tf.identity(content)

        content = tf.ensure_shape(known.lookup(index), [])
        return tf.cond(tf.strings.length(content) > 0, lambda: content, read_and_keep)

    return read_once


def upright(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Converts an encoded image so that TensorFlow decodes the pixels of `open_image`.

    Fails, or returns an empty string, if the image cannot be opened.

    Returns:
      A JPEG or PNG file, upright, and `[2] int32`, its height and width.
    """
    # TensorFlow's decoders ignore the orientation in EXIF and XMP, and do not put transparent
    # pixels on white. Few files have these, and all near their beginning.
    beginning = tf.strings.substr(encoded, 0, 4096)
    is_special = tf.strings.regex_full_match(
        beginning,
        r"\C*(Exif|eXIf|tiff:Orientation|tRNS)\C*",  # \C is any byte
    )
    is_plain = tf.io.is_jpeg(beginning) | rendering.is_plain_png(beginning)
    image = tf.cond(is_plain & ~is_special, lambda: encoded, lambda: _by_pillow(encoded))
    size = rendering.image_size(image)

    def limited() -> tf.Tensor:
        is_simple = rendering.has_few_parts(image, size)
        return tf.cond(is_simple, lambda: image, lambda: _by_pillow(image))

    return tf.cond(rendering.is_small(image, size), lambda: image, limited), size


def _by_pillow(encoded: tf.Tensor) -> tf.Tensor:
    """`upright_file` of `images/opening.py` as a TensorFlow operation."""
    file = tf.numpy_function(upright_file, [encoded], tf.string, stateful=False)
    return tf.ensure_shape(file, [])
