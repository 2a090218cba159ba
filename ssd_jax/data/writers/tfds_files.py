"""Writes the metadata of a detection set for TensorFlow Datasets, without importing it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssd_jax.storage.files import write_json, write_text

FEATURES, INFO = "features.json", "dataset_info.json"
MODULE = "tensorflow_datasets.core.features"
VERSION = "1.0.0"


class Shard(NamedTuple):
    """A file with some of the records of a split.

    Attributes:
      name: the name of the file.
      records: the number of its records.
      size: the size of the file, in bytes.
    """

    name: str
    records: int
    size: int


def shard_name(set_name: str, split: str, number: int, count: int) -> str:
    """The file name of a shard; numbers begin at 0."""
    return f"{set_name}-{split}.tfrecord-{number:05d}-of-{count:05d}"


def write_tfds_files(
    folder: Path, set_name: str, class_names: Sequence[str], splits: Mapping[str, Sequence[Shard]]
) -> None:
    """Writes the files that describe the shards of a folder to TFDS."""
    write_text(folder / "objects-label.labels.txt", "".join(f"{name}\n" for name in class_names))
    write_json(folder / FEATURES, _features(len(class_names)))
    listed = [
        {
            "name": split,
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "numBytes": str(sum(shard.size for shard in shards)),
            "shardLengths": [str(shard.records) for shard in shards],
        }
        for split, shards in splits.items()
    ]
    info = {"name": set_name, "version": VERSION, "fileFormat": "tfrecord", "splits": listed}
    write_json(folder / INFO, info)


def _features(num_classes: int) -> dict[str, Any]:
    sides = {"dimensions": ["-1", "-1", "3"]}
    box = {"bboxFormat": "REL_YXYX", "dtype": "float32", "shape": {"dimensions": ["4"]}}
    objects = {
        "bbox": _feature("bounding_boxes.BBoxFeature", boundingBox=box),
        "label": _feature("class_label_feature.ClassLabel", classLabel=_number(num_classes)),
        "is_difficult": _value("bool"),
        "is_crowd": _value("bool"),
        "area": _value("float32"),
    }
    of_object = {"feature": _dictionary(objects), "length": "-1"}
    return _dictionary(
        {
            "image": _feature("image_feature.Image", image={"dtype": "uint8", "shape": sides}),
            "image/id": _feature("text_feature.Text", text={}),
            "image/filename": _feature("text_feature.Text", text={}),
            "objects": _feature("sequence_feature.Sequence", sequence=of_object),
        }
    )


def _number(num_classes: int) -> dict[str, str]:
    return {"numClasses": str(num_classes)}


def _value(dtype: str) -> dict[str, Any]:
    return _feature(
        "tensor_feature.Tensor", tensor={"dtype": dtype, "encoding": "none", "shape": {}}
    )


def _dictionary(features: Mapping[str, Any]) -> dict[str, Any]:
    return _feature("features_dict.FeaturesDict", featuresDict={"features": features})


def _feature(name: str, **described: Any) -> dict[str, Any]:
    return {"pythonClassName": f"{MODULE}.{name}", **described}
