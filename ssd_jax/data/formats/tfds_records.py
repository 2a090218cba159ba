"""Records from TensorFlow Datasets."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf
import tensorflow_datasets as tfds

from ssd_jax.data.class_lists import COCO_IDS
from ssd_jax.data.formats.shapes import Shapes
from ssd_jax.errors import UserError

# Records with encoded pictures are shuffled in memory, this many at a time.
SHUFFLE_BUFFER = 4096


@dataclasses.dataclass(frozen=True)
class TfdsRecords:
    """One split of a detection set, read from TFDS's own files.

    Attributes:
      class_names: class i + 1 is called `class_names[i]`.
    """

    class_names: tuple[str, ...]
    _builder: tfds.core.DatasetBuilder
    _split: str

    @classmethod
    def open(cls, name: str, split: str) -> "TfdsRecords":
        """Opens a set by its TFDS name; downloads and prepares it where that has not been done.

        Raises:
          UserError: TFDS has no such set, split, or cannot prepare it here.
        """
        return cls._prepare(lambda: tfds.builder(name), split, f"tfds:{name}:{split}")

    @classmethod
    def open_shapes(cls, split: str) -> "TfdsRecords":
        """Opens the embedded set; draws it the first time, which takes seconds."""
        return cls._prepare(Shapes, split, f"shapes:{split}")

    @classmethod
    def _prepare(
        cls, make_builder: Callable[[], tfds.core.DatasetBuilder], split: str, spec: str
    ) -> "TfdsRecords":
        tfds.disable_progress_bar()
        try:
            builder = make_builder()
        except (tfds.core.DatasetNotFoundError, ValueError) as error:
            raise UserError(f"{spec}: {str(error).splitlines()[0]}") from error
        try:
            builder.download_and_prepare()
        except Exception as error:  # TFDS passes on whatever its download met
            # It may be that another process prepared the set meanwhile.
            builder = make_builder()
            if not builder.is_prepared():
                raise UserError(
                    f"{spec}: cannot be prepared in {builder.data_dir}: {error}. Without a "
                    "network, copy a prepared set there, or set TFDS_DATA_DIR to the folder that "
                    "holds it"
                ) from error
        try:
            builder.info.splits[split]
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{spec}: there is no split {split!r}, but {', '.join(builder.info.splits)}"
            ) from error
        try:
            objects = builder.info.features["objects"].feature
            builder.info.features["image"], objects["bbox"]
            class_names = tuple(objects["label"].names)
        except (AttributeError, KeyError) as error:
            raise UserError(
                f"{spec}: not a detection set: its examples need 'image', and 'objects' with "
                "'bbox' and 'label'"
            ) from error
        return cls(class_names, builder, split)

    def category_ids(self) -> dict[str, int]:
        """What results call the classes, by name: COCO's own ids, for other sets 1, 2, ….

        TFDS itself numbers COCO's classes from 0 to 79.
        """
        is_coco = self._builder.name == "coco" and len(self.class_names) == len(COCO_IDS)
        ids = COCO_IDS if is_coco else range(1, len(self.class_names) + 1)
        return dict(zip(self.class_names, ids, strict=True))

    def with_class_names(self, class_names: tuple[str, ...]) -> "TfdsRecords":
        """The same records with labels by another list, which holds all names of this one."""
        return dataclasses.replace(self, class_names=class_names)

    def share_size(self, process_index: int, process_count: int) -> int:
        """How many records fall to a process."""
        split = self._share_split(process_index, process_count)
        return self._builder.info.splits[split].num_examples

    def shuffle_buffer(self) -> int:
        """How many records are held in memory to shuffle them."""
        return min(SHUFFLE_BUFFER, max(1, self.share_size(0, 1)))

    def share(self, process_index: int, process_count: int) -> tf.data.Dataset:
        """The records of one process, in order."""
        own_names = self._builder.info.features["objects"]["label"].names
        labels = tf.constant([self.class_names.index(name) + 1 for name in own_names], tf.int32)

        def to_record(example):
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
            record = {key: tf.boolean_mask(value, good) for key, value in record.items()}
            if "image/id" in example:
                image_id = tf.strings.as_string(example["image/id"])
            else:
                image_id = tf.strings.regex_replace(example["image/filename"], r"\.[^.]*$", "")
            return record | {
                "path": tf.constant(b""),
                "image": example["image"],
                "image_id": image_id,
                "dropped": num_objects - tf.shape(record["boxes"])[0],
            }

        examples = self._builder.as_dataset(
            split=self._share_split(process_index, process_count),
            decoders={"image": tfds.decode.SkipDecoding()},
            shuffle_files=False,
            read_config=tfds.ReadConfig(try_autocache=False),
        )
        return examples.map(to_record)

    def _share_split(self, process_index: int, process_count: int):
        if process_count == 1:
            return self._split
        return tfds.even_splits(self._split, process_count)[process_index]
