"""A trained detector in three lines of Python.

detector = Detector.from_pretrained("my_detector")
detections = detector("image.jpg")
print(detections.names, detections.scores, detections.boxes)
"""

import abc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast, overload

import numpy as np

from ssd_jax.images.resizing import image_to_square, resize_to_square
from ssd_jax.inference.detections import AnyImage, Detections, is_rgb, open_as_rgb
from ssd_jax.inference.engine import Engine
from ssd_jax.runs.which_checkpoint import WhichCheckpoint

Key = TypeVar("Key")


class Prepared(NamedTuple):
    """An image, ready for the network.

    Attributes:
      image: to draw on.
      size: its height and width, upright.
      pixels: `[size, size, 3] uint8`, what the network is given.
    """

    image: AnyImage
    size: tuple[int, int]
    pixels: np.ndarray


class AnyDetector(abc.ABC):
    """What detects in images: a `Detector`, or a `TiledDetector` around one.

    Attributes:
      class_names: class i + 1 is called `class_names[i]`.
      category_ids: what results call the classes, in the same order.
      side: of the square images that the network is given, in pixels.
      least_score: detections have a higher one.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    side: int
    least_score: float

    @overload
    def __call__(self, images: AnyImage, score_threshold: float = 0.0) -> Detections: ...

    @overload
    def __call__(
        self, images: Sequence[AnyImage], score_threshold: float = 0.0
    ) -> list[Detections]: ...

    def __call__(
        self, images: AnyImage | Sequence[AnyImage], score_threshold: float = 0.0
    ) -> Detections | list[Detections]:
        """Detects objects.

        Args:
          images: one, or a list: paths, PIL images, or `[height, width, 3]` uint8 RGB arrays.
          score_threshold: detections with a lower score are left out.

        Raises:
          UserError: an image cannot be read or is none of these, or there are too many for the
            memory.
        """
        if not isinstance(images, list | tuple):
            return self([cast(AnyImage, images)], score_threshold)[0]
        if not images:
            return []
        prepared = ((None, self.prepare(image)) for image in images)
        return [
            detections.select(detections.scores >= score_threshold)
            for _, detections in self.stream(prepared, self._batch_size(len(images)))
        ]

    @abc.abstractmethod
    def prepare(self, image: AnyImage) -> Prepared:
        """Opens an image, and resizes it for the network."""

    @abc.abstractmethod
    def stream(
        self, images: Iterable[tuple[Key, Prepared]], batch_size: int
    ) -> Iterator[tuple[Key, Detections]]:
        """Detects on any number of images, in batches of one size, with constant memory.

        Args:
          images: each with a key, to know it by.
          batch_size: images that the device works on at a time; the last batch is padded.

        Yields:
          Keys and detections, in the order of the images.

        Raises:
          UserError: the batch is too large for the memory; as a rule before an image is taken.
        """

    @abc.abstractmethod
    def _batch_size(self, count: int) -> int:
        """Of so many images that are given at once."""


class Detector(AnyDetector):
    """Detects objects in images of any size; see `AnyDetector`.

    Several threads may use it at a time.
    """

    # JAX and Orbax take a second to import: only detectors that need them do.

    def __init__(self, engine: Engine):
        self.class_names, self.category_ids, self.side, self.least_score = engine.description
        self._engine = engine

    @classmethod
    def from_workdir(cls, workdir: str | Path, checkpoint: WhichCheckpoint = "best") -> "Detector":
        """The detector of a run: of the checkpoint with the best mAP, the last, or that of a step.

        Of a run without evaluations the best is the last.
        """
        from ssd_jax.inference.jax_engine import JaxEngine
        from ssd_jax.runs.trained import load_workdir

        return cls(JaxEngine(load_workdir(workdir, checkpoint)))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Detector":
        """The detector of a folder that `ssd-jax export --to=safetensors` wrote.

        Or of `hf:USER/NAME`, a repository of the Hugging Face hub.
        """
        from ssd_jax.inference.jax_engine import JaxEngine
        from ssd_jax.interop.hub import load_pretrained

        return cls(JaxEngine(load_pretrained(folder)))

    @classmethod
    def from_onnx(
        cls, path: str | Path, engine: Literal["onnx", "openvino"] = "onnx"
    ) -> "Detector":
        """The detector of a folder that `ssd-jax export --to=onnx` wrote, or of its detector.onnx.

        Args:
          path: the folder or the file.
          engine: what runs it on the CPU, in float32: onnxruntime, or OpenVINO.

        Raises:
          UserError: it is no such file, or damaged; or the engine is not installed.
        """
        from ssd_jax.inference.exported import read_exported
        from ssd_jax.inference.exported_engines import load_exported

        return cls(load_exported(read_exported(path, "onnx"), engine))

    @classmethod
    def from_tflite(cls, path: str | Path) -> "Detector":
        """The detector of a folder that `ssd-jax export --to=tflite` wrote, or its detector.tflite.

        LiteRT runs it on the CPU, one image after the other.

        Raises:
          UserError: it is no such file, or damaged; or LiteRT is not installed.
        """
        from ssd_jax.inference.exported import read_exported
        from ssd_jax.inference.exported_engines import load_exported

        return cls(load_exported(read_exported(path, "tflite"), "tflite"))

    def prepare(self, image: AnyImage) -> Prepared:
        """See `AnyDetector`."""
        if is_rgb(image):
            height, width, _ = image.shape
            return Prepared(image, (height, width), resize_to_square(image, self.side))
        rgb = open_as_rgb(image)
        return Prepared(image, (rgb.height, rgb.width), image_to_square(rgb, self.side))

    def stream(
        self, images: Iterable[tuple[Key, Prepared]], batch_size: int
    ) -> Iterator[tuple[Key, Detections]]:
        """See `AnyDetector`; the next batch is already on the device when one is given back."""
        self._engine.check_batch(batch_size)
        running = None
        for batch in _batches(images, batch_size):
            pixels = np.stack([prepared.pixels for _, prepared in batch])
            started = (batch, self._engine.start(pixels, batch_size))
            if running:
                yield from self._finish(*running)
            running = started
        if running:
            yield from self._finish(*running)

    def _batch_size(self, count: int) -> int:
        return count

    def _finish(
        self, batch: list[tuple[Key, Prepared]], started: Any
    ) -> Iterator[tuple[Key, Detections]]:
        found = self._engine.fetch(started)
        for (key, prepared), boxes, scores, labels in zip(batch, *found, strict=False):
            real = labels > 0
            height, width = prepared.size
            to_pixels = np.array((width, height, width, height), np.float64)
            yield (
                key,
                Detections(
                    boxes=np.clip(boxes[real], 0, 1) * to_pixels,
                    scores=scores[real],
                    labels=labels[real],
                    class_names=self.class_names,
                    category_ids=self.category_ids,
                    image=prepared.image,
                    size=prepared.size,
                ),
            )


def _batches(items: Iterable[Key], size: int) -> Iterator[list[Key]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
