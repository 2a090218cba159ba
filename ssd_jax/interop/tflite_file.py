"""Extends a TFLite file: operators, names, and metadata."""

import functools
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # bytes, the alignment of constants: engines read them in place
OLD_CODES = 127  # the last operator code in the field of older files
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that the same detector gives the same file


class Model:
    """A model with one graph."""

    def __init__(self, content: bytes) -> None:
        """Reads a file."""
        self._model: Any = schema.ModelT.InitFromPackedBuf(content)
        (self._graph,) = self._model.subgraphs
        self._operators = {
            (code.customCode or b"", max(code.builtinCode, code.deprecatedBuiltinCode)): number
            for number, code in enumerate(self._model.operatorCodes)
        }

    @property
    def inputs(self) -> dict[str, int]:
        """The input tensors, by name."""
        return self._named("inputs")

    @property
    def outputs(self) -> dict[str, int]:
        """The output tensors, by name."""
        return self._named("outputs")

    def _named(self, side: str) -> dict[str, int]:
        (signature,) = self._model.signatureDefs
        return {each.name.decode(): int(each.tensorIndex) for each in getattr(signature, side)}

    def tensor(self, name: str, shape: Sequence[int], kind: int = schema.TensorType.FLOAT32) -> int:
        """Adds a tensor."""
        tensor = schema.TensorT(list(shape), kind, 0, name)
        tensor.hasRank = True
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, name: str, array: np.ndarray | np.generic) -> int:
        """Adds a constant tensor in float32 or int32."""
        kinds = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}
        tensor = self.tensor(name, array.shape, kinds[array.dtype.name])
        self._graph.tensors[tensor].buffer = self._buffer(array.tobytes())
        return tensor

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None
    ) -> None:
        """Adds an operator of TFLite at the end.

        Args:
          name: its name in TFLite's schema.
          inputs: the input tensors.
          outputs: the output tensors.
          options: an object of the schema, `…OptionsT`.
        """
        added: Any = schema.OperatorT(self._code(b"", getattr(schema.BuiltinOperator, name)))
        added.inputs, added.outputs = list(inputs), list(outputs)
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            added.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            added.builtinOptions = options
        self._graph.operators.append(added)

    def custom(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: bytes
    ) -> None:
        """Adds a custom operator of TFLite; `options` are a map of FlexBuffers."""
        added: Any = schema.OperatorT(self._code(name.encode(), schema.BuiltinOperator.CUSTOM))
        added.inputs, added.outputs = list(inputs), list(outputs)
        added.customOptions = np.frombuffer(options, np.uint8)
        self._graph.operators.append(added)

    def halve_constants(self, smallest: int) -> None:
        """Stores constants in float16; operators at the beginning convert them to float32.

        Args:
          smallest: the smallest number of elements of such a constant; smaller ones are unchanged.
        """
        widening, halved = [], {}  # operators; buffers in float16 by buffers in float32
        for number, tensor in enumerate(list(self._graph.tensors)):
            content = self._model.buffers[tensor.buffer].data
            if tensor.type != schema.TensorType.FLOAT32 or content is None:
                continue
            array = np.asarray(content, np.uint8).view(np.float32)
            if array.size < smallest:
                continue
            if tensor.buffer not in halved:
                halved[tensor.buffer] = self._buffer(array.astype(np.float16).tobytes())
            name = f"{tensor.name.decode()}_float16"
            half = self.tensor(name, tensor.shape, schema.TensorType.FLOAT16)
            self._graph.tensors[half].buffer = halved[tensor.buffer]
            tensor.buffer = 0
            added: Any = schema.OperatorT(
                self._code(b"", schema.BuiltinOperator.DEQUANTIZE, version=3)
            )
            added.inputs, added.outputs = [half], [number]
            widening.append(added)
        for buffer in halved:
            self._model.buffers[buffer].data = None
        self._graph.operators[:0] = widening

    def name(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        """Sets the inputs and outputs, in this order and with these names."""
        self._graph.inputs, self._graph.outputs = list(inputs.values()), list(outputs.values())
        for name, tensor in (*inputs.items(), *outputs.items()):
            self._graph.tensors[tensor].name = name
        signature = schema.SignatureDefT()
        signature.inputs = [schema.TensorMapT(*pair) for pair in inputs.items()]
        signature.outputs = [schema.TensorMapT(*pair) for pair in outputs.items()]
        signature.signatureKey = "serving_default"
        self._model.signatureDefs = [signature]

    def serialise(self, description: str, metadata: bytes, files: Mapping[str, bytes]) -> bytes:
        """The bytes of the file.

        Args:
          description: the description of the model.
          metadata: the metadata in TFLite's schema.
          files: the files of the metadata by name, stored as a ZIP archive after the model.
        """
        self._model.description = description
        entry = schema.MetadataT("TFLITE_METADATA", self._buffer(metadata))
        self._model.metadata = [*(self._model.metadata or []), entry]
        for buffer in self._model.buffers:
            buffer.Pack = functools.partial(_packed, buffer)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), IDENTIFIER)
        archive = io.BytesIO(bytes(builder.Output()))
        with zipfile.ZipFile(archive, "a") as zipped:
            for name, content in files.items():
                zipped.writestr(zipfile.ZipInfo(name, ZIP_TIME), content)
        return archive.getvalue()

    def _buffer(self, content: bytes) -> int:
        self._model.buffers.append(schema.BufferT(np.frombuffer(content, np.uint8)))
        return len(self._model.buffers) - 1

    def _code(self, custom: bytes, code: int, version: int = 1) -> int:
        number = self._operators.setdefault((custom, code), len(self._operators))
        if number == len(self._model.operatorCodes):
            added = schema.OperatorCodeT(
                min(code, OLD_CODES), custom.decode() or None, version, code
            )
            self._model.operatorCodes.append(added)
        return number


def _packed(buffer: Any, builder: flatbuffers.Builder) -> int:
    """Writes an aligned buffer, which the schema requires; its Python code does not align."""
    data = None
    if buffer.data is not None and len(buffer.data):
        content = np.asarray(buffer.data, np.uint8).tobytes()
        builder.StartVector(1, len(content), ALIGNMENT)
        builder.head = builder.Head() - len(content)
        builder.Bytes[builder.Head() : builder.Head() + len(content)] = content
        builder.vectorNumElems = len(content)
        data = builder.EndVector()
    schema.BufferStart(builder)
    if data is not None:
        schema.BufferAddData(builder, data)
    return schema.BufferEnd(builder)
