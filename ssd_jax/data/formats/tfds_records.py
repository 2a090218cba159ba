"""Reads records of TensorFlow Datasets by index, from prepared shards."""

# Pyright's types of TensorFlow have neither slices with `...` nor tensors as seeds.
# pyright: reportArgumentType=false

import functools
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ssd_jax.data.class_lists import category_ids_of
from ssd_jax.data.classes import Classes
from ssd_jax.data.formats.shapes_builder import Shapes
from ssd_jax.data.formats.shards import open_shards
from ssd_jax.data.problems import Problems
from ssd_jax.data.records import Annotation, Record
from ssd_jax.data.spec import compose
from ssd_jax.data.tensorflow_setup import Tensors, tensorflow_reason, tf
from ssd_jax.errors import UserError, counted, first_names

logger = logging.getLogger(__name__)

# The number of neighbours that are shuffled together, so that reads stay near each other.
SHUFFLE_BUFFER = 4096

# In order of preference.
EVALUATION_SPLITS = ("validation", "val", "valid", "dev", "test")
RECORDS_TRIED = 50  # the number of records that are searched for published objects

Read = Callable[[tf.Tensor], tf.Tensor]


class TfdsRecords:
    """One split of a detection set that TFDS has prepared.

    Attributes:
      origin: the spec, for messages.
      names: the names of the set's classes.
      classes: the classes of the labels.
    """

    def __init__(
        self,
        builder: Any,
        split: str,
        origin: str,
        classes: Classes | None = None,
        places: np.ndarray | None = None,
    ):
        """Checks that the set has the split and is a detection set.

        Args:
          builder: the `tfds.core.DatasetBuilder` of the set.
          split: the split, in TFDS's notation.
          origin: the spec.
          classes: the classes of the labels; the set's classes if None.
          places: `[records]` int64: the records of the split to use; all if None.

        Raises:
          UserError: there is no such split, or it is not a detection set.
        """
        self._builder, self._split, self.origin, self._places = builder, split, origin, places
        try:
            builder.info.splits[split]
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{origin}: there is no split {split!r}, but {', '.join(builder.info.splits)}"
            ) from error
        try:
            objects = builder.info.features["objects"].feature
            _ = builder.info.features["image"], objects["bbox"]
            self.names = tuple(objects["label"].names)
        except (AttributeError, KeyError) as error:
            raise UserError(
                f"{origin}: not a detection set: its examples need 'image', and 'objects' with "
                "'bbox' and 'label'"
            ) from error
        self.classes = classes or Classes(self.names)

    @property
    def category_ids(self) -> dict[str, int]:
        """The ids of the set's classes by name; see `category_ids_of`."""
        return category_ids_of(self._builder.name, self.names)

    def evaluation_split(self, trained: Sequence[str]) -> str:
        """A split of the set for evaluation that is not trained on; "" without one.

        Test splits without published objects are left out.

        Args:
          trained: the splits of the set that are trained on.
        """
        pieces = [piece for split in (self._split, *trained) for piece in split.split("+")]
        own = {piece.partition("[")[0].strip() for piece in pieces}
        for name in EVALUATION_SPLITS:
            if name in self._builder.info.splits and not own & {name, "all"}:
                split = TfdsRecords(self._builder, name, f"{self.origin}, {name}")
                if any(len(split[index].labels) for index in range(min(len(split), RECORDS_TRIED))):
                    return name
        return ""

    def num_objects(self) -> None:
        """None: the objects are not known before they are read."""
        return None

    def with_classes(self, classes: Classes, problems: Problems) -> "TfdsRecords":
        """The same records with labels of these classes; objects of other classes are left out.

        Raises:
          UserError: the name of one of the set's classes is a misspelling of one of these.
        """
        for name in self.names:
            if meant := classes.misspelt(name):
                raise UserError(
                    f"{self.origin} has the class {name!r}, which is not among the classes "
                    f"({', '.join(classes.names)}) but similar to {meant!r}: set "
                    f"config.data.class_map={name}={meant} if both are the same class, or "
                    f"config.data.class_map={name}= to leave it out"
                )
        others = [name for name in self.names if not classes.label(name)]
        if others:
            logger.warning(
                "%s: left out all objects of %s: %s",
                *(self.origin, counted(len(others), "other class"), first_names(others, 20)),
            )
        return TfdsRecords(self._builder, self._split, self.origin, classes, self._places)

    def chosen(self, images: np.ndarray) -> "TfdsRecords":
        """The records for which `[images] bool` is true."""
        places = np.arange(len(self)) if self._places is None else self._places
        return TfdsRecords(self._builder, self._split, self.origin, self.classes, places[images])

    def _in_files(self) -> list[tuple[str, int]]:
        """The file of each record, and its number in the file."""
        everything = [
            (str(each.filename), each.skip + number)
            for each in self._builder.info.splits[self._split].file_instructions
            for number in range(
                each.examples_in_shard - each.skip if each.take == -1 else each.take
            )
        ]
        if self._places is None:
            return everything
        return [everything[i] for i in self._places.tolist()]

    def places(self) -> np.ndarray:
        """See `Part`."""
        return np.array([hash(place) for place in self._in_files()], np.int64)

    def digest(self) -> str:
        """See `Part`."""
        named = [f"{os.path.basename(file)}\0{number}\0" for file, number in self._in_files()]
        return hashlib.blake2b("".join(named).encode(), digest_size=6).hexdigest()

    def __len__(self) -> int:
        if self._places is not None:
            return len(self._places)
        return self._builder.info.splits[self._split].num_examples

    def __getitem__(self, index: int) -> Record:
        """Reads one record with the bytes of its image.

        Raises:
          UserError: its shard is damaged.
        """
        try:
            tensors = self._read(tf.constant(index, tf.int64))
        except tf.errors.OpError as error:
            raise UserError(
                f"{self.origin}: record {index} cannot be read: {tensorflow_reason(error)}"
            ) from error
        record = {key: value.numpy() for key, value in tensors.items()}
        return Record(
            image_id=record.pop("image_id").decode(),
            path="",
            encoded=record.pop("image"),
            size=None,
            dropped=int(record.pop("dropped")),
            **{key: record[key] for key in ("boxes", "labels", "difficult", "crowd", "area")},
        )

    def annotation(self, index: int) -> Annotation:
        """Reads a record, with class names; boxes without area are left out and counted."""
        record = self[index]
        return Annotation(
            image_id=record.image_id,
            path="",
            file=record.image_id,
            size=None,
            boxes=record.boxes.astype(np.float64),
            names=tuple(self.classes.names[label - 1] for label in record.labels.tolist()),
            difficult=record.difficult,
            crowd=record.crowd,
            area=record.area,
            unit="fractions",
            encoded=record.encoded,
            dropped=record.dropped,
        )

    def share(self, process_index: int, process_count: int) -> range:
        """The range of records of one process; lengths of ranges differ by at most 1."""
        size, rest = divmod(len(self), process_count)
        start = process_index * size + min(process_index, rest)
        return range(start, start + size + (process_index < rest))

    @property
    def shuffle_buffer(self) -> int:
        """The number of neighbours that are shuffled together."""
        return min(SHUFFLE_BUFFER, max(1, len(self)))

    def reader(
        self, remember: Callable[[Read], Read] = lambda read: read
    ) -> Callable[[tf.Tensor], Tensors]:
        """Makes a TensorFlow function that reads and cleans a record by its index.

        The record is a dictionary of `path` (empty), `image` (the encoded image), `image_id`,
        `boxes`, `labels`, `difficult`, `crowd`, `area` and `dropped`; see `Record`.

        Args:
          remember: a wrapper for the function that reads the bytes of a record.
        """
        labels = tf.constant([self.classes.label(name) for name in self.names], tf.int32)
        features = self._builder.info.features
        read = remember(self._read_bytes())

        def read_record(index: tf.Tensor) -> Tensors:
            decoders = {"image": tfds.decode.SkipDecoding()}
            return _clean(features.deserialize_example(read(index), decoders=decoders), labels)

        return read_record

    def _read_bytes(self) -> Read:
        """Makes a function that reads the bytes of a record by its index."""
        if self._places is None:
            return self._shards.read
        places, shards = tf.constant(self._places, tf.int64), self._shards
        return lambda index: shards.read(tf.gather(places, index))

    @functools.cached_property
    def _shards(self):
        info = self._builder.info
        instructions = info.splits[self._split].file_instructions
        return open_shards(instructions, info.file_format.file_suffix)

    @functools.cached_property
    def _read(self):
        return tf.function(
            self.reader(), input_signature=[tf.TensorSpec([], tf.int64)], autograph=False
        )


def open_tfds(name: str, split: str) -> TfdsRecords:
    """Opens a set by its TFDS name; downloads and prepares it first if necessary.

    Raises:
      UserError: TFDS has no such set or split, or cannot prepare it here.
    """
    origin = f"tfds:{name}:{split}"
    return TfdsRecords(prepare(lambda: tfds.builder(name), origin), split, origin)


def open_tfds_folder(folder: str, split: str) -> TfdsRecords:
    """Opens a prepared set in a folder.

    Raises:
      UserError: the folder holds no such set, or it has no such split.
    """
    origin = compose("tfds", folder, split)
    try:
        builder = tfds.builder_from_directory(folder)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{origin}: cannot be read: {str(error).splitlines()[0]}") from error
    return TfdsRecords(builder, split, origin)


def open_shapes(split: str) -> TfdsRecords:
    """Opens the embedded set; the first time, draws it in seconds."""
    origin = f"shapes:{split}"
    return TfdsRecords(prepare(Shapes, origin), split, origin)


def prepare(
    make_builder: Callable[[], tfds.core.DatasetBuilder], origin: str
) -> tfds.core.DatasetBuilder:
    """Makes a builder, and prepares its set if necessary.

    Raises:
      UserError: TFDS has no such set, or cannot prepare it here; the message begins with `origin`.
    """
    tfds.disable_progress_bar()
    try:
        builder = make_builder()
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise UserError(f"{origin}: {str(error).splitlines()[0]}") from error
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS passes on any error of its download
        # Another process may have prepared the set meanwhile.
        builder = make_builder()
        if not builder.is_prepared():
            raise UserError(
                f"{origin}: cannot be prepared in {builder.data_dir}: {error}. Without a network, "
                "copy a prepared set there, or set TFDS_DATA_DIR to the folder that holds it"
            ) from error
    return builder


def _clean(example: Any, labels: tf.Tensor) -> Tensors:
    """Converts an example to a record, with clipped boxes; boxes without area are counted.

    Boxes without area and objects with the label 0 are left out. This is the cleaning of
    `Annotations` in TensorFlow operations, because examples are only read when they are needed.
    """
    objects = example["objects"]
    y_min, x_min, y_max, x_max = tf.unstack(objects["bbox"], axis=1)
    boxes = tf.clip_by_value(tf.stack([x_min, y_min, x_max, y_max], axis=1), 0.0, 1.0)
    good = tf.reduce_all(boxes[:, 2:] > boxes[:, :2], axis=1)
    num_objects = tf.shape(boxes)[0]
    none = tf.zeros(num_objects, tf.bool)
    unknown = tf.fill([num_objects], tf.constant(float("nan"), tf.float64))
    record = {
        "boxes": boxes,
        "labels": tf.gather(labels, objects["label"]),
        "difficult": objects.get("is_difficult", none),
        "crowd": objects.get("is_crowd", none),
        "area": tf.cast(objects.get("area", unknown), tf.float64),
    }
    kept = good & (record["labels"] > 0)
    record = {key: tf.boolean_mask(value, kept) for key, value in record.items()}
    if "image/id" in example:
        image_id = tf.strings.as_string(example["image/id"])
    else:
        image_id = tf.strings.regex_replace(example["image/filename"], r"\.[^.]*$", "")
    return record | {
        "path": tf.constant(b""),
        "image": example["image"],
        "image_id": image_id,
        "dropped": num_objects - tf.reduce_sum(tf.cast(good, tf.int32)),
    }
