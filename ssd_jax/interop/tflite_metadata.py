"""Writes the metadata of a TFLite file: the tables of TFLite's metadata schema.

`metadata_schema.fbs` numbers the fields of each table in order; a union field has two numbers, the
first for the type. MediaPipe Tasks reads this metadata.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np

IDENTIFIER = b"M001"
LABELS_FILE = "labels.txt"
PARSER = "1.2.0"  # the first version with all of these fields

# A table: values by field number.
Table = Mapping[int, Any]

FEATURE, IMAGE, BOXES = map(np.uint8, (1, 2, 3))  # of the union ContentProperties
RGB = BOUNDARIES = NORMALISATION = np.uint8(1)  # of ColorSpaceType and others
LABELS_OF_VALUES = np.uint8(3)  # of AssociatedFileType

SLOTS = {
    np.uint8: flatbuffers.Builder.PrependUint8Slot,
    np.int32: flatbuffers.Builder.PrependInt32Slot,
    np.uint32: flatbuffers.Builder.PrependUint32Slot,
}


def detector_metadata(
    size: int, version: str, names: Mapping[str, str], license_name: str
) -> bytes:
    """The metadata of a detector with the four outputs of `TFLite_Detection_PostProcess`.

    Args:
      size: side of the image in pixels.
      version: the version of this package.
      names: the files after the model, with a description of each.
      license_name: the licence of the detector; "" if not stated.
    """
    pair = {0: np.int32(2), 1: np.int32(2)}
    corners = {0: np.array([1, 0, 3, 2], np.uint32), 1: BOUNDARIES}
    labels = {0: LABELS_FILE, 1: "Names of the classes 0, 1, …, one per line.", 2: LABELS_OF_VALUES}
    outputs = [
        {0: "location", 1: "y_min, x_min, y_max, x_max as fractions of the image, the best first."}
        | {3: {0: BOXES, 1: corners, 2: pair}},
        {0: "category", 1: "Classes from 0."} | {3: {0: FEATURE, 1: {}, 2: pair}, 6: [labels]},
        {0: "score", 1: "Scores in [0, 1]."} | {3: {0: FEATURE, 1: {}, 2: pair}},
        {0: "number of detections", 1: "The number of detections; zeros follow."},
    ]
    group = {0: "detection_result", 1: [each[0] for each in outputs[:3]]}
    return _metadata("detector", version, size, outputs, names, license_name, groups=[group])


def network_metadata(size: int, version: str, names: Mapping[str, str], license_name: str) -> bytes:
    """The metadata of a network without detection."""
    outputs = [
        {0: "offsets", 1: "Offsets from the default boxes in default_boxes.npy."},
        {0: "logits", 1: "Logits of the background and the classes."},
    ]
    return _metadata("network", version, size, outputs, names, license_name)


def _metadata(
    name: str,
    version: str,
    size: int,
    outputs: Sequence[Table],
    names: Mapping[str, str],
    license_name: str,
    groups: Sequence[Table] = (),
) -> bytes:
    content = {0: IMAGE, 1: {0: RGB, 1: {0: np.uint32(size), 1: np.uint32(size)}}}
    zero, one, most = (np.full(1, n, np.float32) for n in (0, 1, 255))
    image = {
        0: "image",
        1: "The whole image, resized to the square, bilinear without antialiasing.",
        3: content,
        4: [{0: NORMALISATION, 1: {0: zero, 1: one}}],  # pixels are not normalised
        5: {0: most, 1: zero},
    }
    graph = {2: [image], 3: list(outputs), 8: list(groups)}
    model = {
        0: f"SSD {name}",
        1: "Single Shot MultiBox Detector of ssd_jax.",
        2: version,
        3: [graph],
        5: license_name,
        6: [{0: file, 1: text} for file, text in names.items()],
        7: PARSER,
    }
    builder = flatbuffers.Builder(1024)
    builder.Finish(_written(builder, model), IDENTIFIER)
    return bytes(builder.Output())


def _written(builder: flatbuffers.Builder, value: Any) -> int:
    """Writes a string, a vector or a table; returns its position in the builder."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        places = [_written(builder, each) for each in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    placed = {
        field: each if isinstance(each, np.generic) else _written(builder, each)
        for field, each in value.items()
    }
    builder.StartObject(max(value, default=-1) + 1)
    for field, each in placed.items():
        if isinstance(each, np.generic):
            SLOTS[type(each)](builder, field, each.item(), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, each, 0)
    return builder.EndObject()
