"""Records of pictures that lie in files."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ssd_jax.data.annotations import Annotation, class_ids


@dataclasses.dataclass(frozen=True)
class FolderRecords:
    """Records of pictures that lie in files, with all annotations in memory.

    Attributes:
      annotations: one a picture, cleaned.
      class_names: class i + 1 is called `class_names[i]`; holds every name that occurs.
    """

    annotations: tuple[Annotation, ...]
    class_names: tuple[str, ...]

    def share_size(self, process_index: int, process_count: int) -> int:
        """How many records fall to a process."""
        return len(self.annotations[process_index::process_count])

    def shuffle_buffer(self) -> int:
        """How many records are held in memory to shuffle them: all, for they are small."""
        return len(self.annotations)

    def share(self, process_index: int, process_count: int) -> tf.data.Dataset:
        """The records of one process, in order."""
        annotations = self.annotations[process_index::process_count]
        lengths = [len(annotation.names) for annotation in annotations]

        def ragged(arrays: Sequence[np.ndarray], shape: tuple[int, ...], dtype: type):
            flat = np.concatenate([np.empty((0, *shape), dtype), *arrays]).astype(dtype)
            return tf.RaggedTensor.from_row_lengths(flat, np.array(lengths, np.int64))

        records = tf.data.Dataset.from_tensor_slices(
            {
                "path": tf.constant([os.fsencode(a.path) for a in annotations], tf.string),
                "image_id": tf.constant([a.image_id for a in annotations], tf.string),
                "boxes": ragged([a.boxes for a in annotations], (4,), np.float32),
                "labels": ragged(
                    [class_ids(a, self.class_names) for a in annotations], (), np.int32
                ),
                "difficult": ragged([a.difficult for a in annotations], (), bool),
                "crowd": ragged([a.crowd for a in annotations], (), bool),
                "area": ragged([a.area for a in annotations], (), np.float64),
            }
        )

        def complete(record):
            dense = {
                key: value.to_tensor() if isinstance(value, tf.RaggedTensor) else value
                for key, value in record.items()
            }
            return dense | {"image": tf.constant(b""), "dropped": tf.constant(0)}

        return records.map(complete)
