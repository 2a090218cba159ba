"""Writes TFRecords of TensorFlow's Object Detection API, without TensorFlow."""

import struct
from collections.abc import Sequence
from pathlib import Path

from ssd_jax.data.formats.record_frame import checksum, header_of
from tools.formats.picture import Picture

Value = bytes | float | int


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Writes a record file for training and its label map, as Roboflow exports them."""
    split = folder / "train"
    split.mkdir(parents=True)
    names = sorted({each.name for picture in pictures for each in picture.objects})
    items = [
        f'item {{\n    name: "{name}",\n    id: {number},\n    display_name: "{name}"\n}}\n'
        for number, name in enumerate(names, start=1)
    ]
    (split / "objects_label_map.pbtxt").write_text("".join(items), encoding="utf-8")
    with (split / "objects.tfrecord").open("wb") as file:
        for picture in pictures:
            file.write(framed(example(features_of(picture, names))))


def features_of(picture: Picture, names: Sequence[str]) -> dict[str, list[Value]]:
    """The features of an image for the API; `names` are the names of the classes from 1."""
    height, width = picture.size
    objects = picture.objects
    sides = zip(*(each.box for each in objects), strict=True) if objects else [()] * 4
    scales = (width, height, width, height)
    features: dict[str, list[Value]] = {
        "image/height": [height],
        "image/width": [width],
        "image/filename": [picture.name.encode()],
        "image/source_id": [picture.name.encode()],
        "image/encoded": [picture.encoded],
        "image/format": [Path(picture.name).suffix[1:].encode()],
        "image/object/class/text": [each.name.encode() for each in objects],
        "image/object/class/label": [names.index(each.name) + 1 for each in objects],
        "image/object/difficult": [int(each.difficult) for each in objects],
        "image/object/is_crowd": [int(each.crowd) for each in objects],
    }
    for key, side, scale in zip(("xmin", "ymin", "xmax", "ymax"), sides, scales, strict=True):
        features[f"image/object/bbox/{key}"] = [float(corner / scale) for corner in side]
    return features


def framed(content: bytes) -> bytes:
    """A record with its length and the checksums of both."""
    return header_of(len(content)) + content + checksum(content)


def example(features: dict[str, list[Value]]) -> bytes:
    """A `tf.train.Example`."""
    entries = [
        _field(1, _field(1, key.encode()) + _field(2, _feature(values)))
        for key, values in features.items()
    ]
    return _field(1, b"".join(entries))


def _feature(values: list[Value]) -> bytes:
    """A `tf.train.Feature` with the type of its values; an empty list has no type."""
    if not values:
        return b""
    if isinstance(values[0], bytes):
        return _field(1, b"".join(_field(1, each) for each in values if isinstance(each, bytes)))
    if isinstance(values[0], float):
        return _field(2, _field(1, struct.pack(f"<{len(values)}f", *values)))
    return _field(3, _field(1, b"".join(_varint(int(each)) for each in values)))


def _field(number: int, content: bytes) -> bytes:
    """A field with a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """An integer, in seven bits per byte."""
    encoded = bytearray()
    value &= 2**64 - 1
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
