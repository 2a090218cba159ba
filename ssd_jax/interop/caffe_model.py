"""Reads the blobs of the layers in a `.caffemodel`, with the necessary fields of its schema."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from ssd_jax.data.protobuf import fields
from ssd_jax.errors import UserError, reason_of
from ssd_jax.storage.files import read_bytes

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "ssd_jax.caffe"
# Messages of caffe.proto: name, number, type and whether repeated of the fields that are read. A
# type with a capital letter is one of these messages.
_SCHEMA = {
    "BlobShape": [("dim", 1, "int64", True)],
    "BlobProto": [
        ("num", 1, "int32", False),
        ("channels", 2, "int32", False),
        ("height", 3, "int32", False),
        ("width", 4, "int32", False),
        ("data", 5, "float", True),
        ("shape", 7, "BlobShape", False),
        ("double_data", 8, "double", True),
    ],
    "LayerParameter": [
        ("name", 1, "string", False),
        ("type", 2, "string", False),
        ("blobs", 7, "BlobProto", True),
    ],
    "NetParameter": [("name", 1, "string", False), ("layer", 100, "LayerParameter", True)],
}


def _net_parameter() -> type:
    """The message class of a whole network."""
    file = descriptor_pb2.FileDescriptorProto(
        name="ssd_jax_caffe.proto", package=_PACKAGE, syntax="proto2"
    )
    for message_name, entries in _SCHEMA.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind, repeated in entries:
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            field = message.field.add(name=name, number=number, label=label)
            if kind in _SCHEMA:
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = getattr(_Field, f"TYPE_{kind.upper()}")
                field.options.packed = repeated
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.NetParameter"))


NetParameter = _net_parameter()

LAYER, BLOBS, SHAPE = 100, 7, 7  # their numbers in the schema
MAX_SHAPE = 400  # bytes
MAX_PARTS = 100_000


def read_caffe_model(path: Path) -> dict[str, np.ndarray]:
    """Reads the blobs `LAYER.0`, `LAYER.1`, …, usually weights and biases.

    Raises:
      UserError: the file is damaged or not a .caffemodel.
    """
    net = NetParameter()
    content = read_bytes(path)
    try:
        _check_parts(content)
        net.ParseFromString(content)
        tensors = {
            f"{layer.name}.{index}": _array(blob)
            for layer in net.layer
            for index, blob in enumerate(layer.blobs)
        }
    except (DecodeError, ValueError) as error:
        raise UserError(
            f"{path} is not a .caffemodel, or it is damaged: {reason_of(error)}"
        ) from error
    if not tensors:
        raise UserError(
            f"{path} is not a .caffemodel, or it is damaged: it has no layers with blobs"
        )
    return tensors


def _check_parts(content: bytes) -> None:
    """Rejects a network with too many parts, or too long shapes, whose reading takes gigabytes."""
    numbers = itertools.count()
    for layer in _parts(content, (0, len(content)), LAYER, numbers):
        for blob in _parts(content, layer, BLOBS, numbers):
            for start, end in _parts(content, blob, SHAPE, numbers):
                if end - start > MAX_SHAPE:
                    raise ValueError(f"a shape takes {end - start:,} bytes")


def _parts(
    content: bytes, span: tuple[int, int], wanted: int, numbers: Iterator[int]
) -> Iterator[tuple[int, int]]:
    """Yields the positions of a field's values in a message; `numbers` counts all fields."""
    for number, _, value in fields(content, *span):
        if next(numbers) > MAX_PARTS:
            raise ValueError(f"it has more than {MAX_PARTS:,} parts")
        if number == wanted:
            yield value


def _array(blob) -> np.ndarray:
    values = np.array(blob.data or blob.double_data, np.float32)
    if blob.HasField("shape"):
        return values.reshape(list(blob.shape.dim))
    return values.reshape(blob.num, blob.channels, blob.height, blob.width)
