"""A trained detector in three lines of Python.

detector = Detector.from_pretrained("my_detector")
detections = detector("image.jpg", score_threshold=0.4)
print(detections.names, detections.scores, detections.boxes)
"""

import abc
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast, overload

import numpy as np

from ssd_jax.errors import UserError
from ssd_jax.images.resizing import image_to_square, resize_to_square
from ssd_jax.inference.choice import check_score_threshold
from ssd_jax.inference.detections import AnyImage, Detections, is_rgb, open_as_rgb
from ssd_jax.inference.engine import Engine
from ssd_jax.runs.which_checkpoint import WhichCheckpoint

Key = TypeVar("Key")


class Prepared(NamedTuple):
    """An image, ready for the network.

    Attributes:
      image: the image, to draw on.
      size: its height and width, upright.
      pixels: `[size, size, 3] uint8`, the input of the network.
    """

    image: AnyImage
    size: tuple[int, int]
    pixels: np.ndarray


class AnyDetector(abc.ABC):
    """The interface of detectors: `Detector`, and `TiledDetector` around one.

    Attributes:
      class_names: class i + 1 has the name `class_names[i]`.
      category_ids: the ids of the classes in results, in the same order.
      side: the side of the network's square input images, in pixels.
      least_score: all detections have higher scores.
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
        """Detects objects; pass a score threshold, 0.4 in `ssd-jax predict`.

        Without one, all detections are returned, usually more than a hundred of low scores, as an
        evaluation needs them.

        Args:
          images: an image, or a list of images: paths, PIL images, or `[height, width, 3]` uint8
            RGB arrays.
          score_threshold: detections with a lower score are left out, in [0, 1].

        Raises:
          UserError: an image cannot be read or has another type, the threshold is no number in
            [0, 1], or there are too many images for the memory.
        """
        check_score_threshold(score_threshold, "score_threshold")
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
          images: pairs of a key, which identifies the image, and the image.
          batch_size: the number of images in a batch; the last batch is padded.

        Yields:
          Keys and detections, in the order of the images.

        Raises:
          UserError: the batch is too large for the memory; usually before the first image.
        """

    @abc.abstractmethod
    def _batch_size(self, count: int) -> int:
        """The batch size for a list of images."""


class Detector(AnyDetector):
    """Detects objects in images of any size; see `AnyDetector`.

    Several threads may use it at a time.
    """

    # Late imports: JAX and Orbax take a second.

    def __init__(self, engine: Engine, read_numbers: Callable[[], Mapping[str, float]] = dict):
        """A detector in an engine; `read_numbers` gives its metrics by name, for a model card.

        Programs use `from_workdir`, `from_pretrained`, `from_onnx` or `from_tflite`.

        Raises:
          UserError: the engine is a path.
        """
        if isinstance(engine, str | Path):
            raise UserError(
                f"Detector({str(engine)!r}) names no kind of detector: use Detector.from_workdir "
                "for a run, or from_pretrained, from_onnx or from_tflite for an export"
            )
        self.class_names, self.category_ids, self.side, self.least_score = engine.description
        self._engine = engine
        self._read_numbers = read_numbers

    @classmethod
    def from_workdir(cls, workdir: str | Path, checkpoint: WhichCheckpoint = "best") -> "Detector":
        """The detector of a run: the checkpoint of the best mAP, the last one, or of a step.

        For a run without evaluations, the best checkpoint is the last.
        """
        from ssd_jax.inference.jax_engine import JaxEngine
        from ssd_jax.runs.trained import load_workdir, read_evaluation

        engine = JaxEngine(load_workdir(workdir, checkpoint))
        return cls(engine, functools.partial(read_evaluation, workdir, checkpoint))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Detector":
        """The detector of a folder written by `ssd-jax export --to=safetensors`.

        `hf:USER/NAME` names a repository of the Hugging Face hub.
        """
        from ssd_jax.inference.jax_engine import JaxEngine
        from ssd_jax.interop.hub import load_pretrained

        return cls(JaxEngine(load_pretrained(folder)))

    @classmethod
    def from_onnx(
        cls, path: str | Path, engine: Literal["onnx", "openvino"] = "onnx"
    ) -> "Detector":
        """The detector of a folder written by `ssd-jax export --to=onnx`, or of its detector.onnx.

        Args:
          path: the folder or the file.
          engine: the engine, on the CPU in float32: onnxruntime or OpenVINO.

        Raises:
          UserError: the path is not such a file, or is damaged; or the engine is not installed.
        """
        from ssd_jax.inference.exported import read_exported
        from ssd_jax.inference.exported_engines import load_exported

        return cls(load_exported(read_exported(path, "onnx"), engine))

    @classmethod
    def from_tflite(cls, path: str | Path) -> "Detector":
        """The detector of a folder written by `ssd-jax export --to=tflite`, or of detector.tflite.

        LiteRT runs it on the CPU, image by image.

        Raises:
          UserError: the path is not such a file, or is damaged; or LiteRT is not installed.
        """
        from ssd_jax.inference.exported import read_exported
        from ssd_jax.inference.exported_engines import load_exported

        return cls(load_exported(read_exported(path, "tflite"), "tflite"))

    def export(
        self,
        output: str | Path,
        to: str = "safetensors",
        *,
        precision: str = "",
        calibration: str = "",
        license_name: str = "",
    ) -> str | Path:
        """Writes a folder with the detector for other programs, like `ssd-jax export`.

        Args:
          output: the folder; files of other formats in it stay.
          to: safetensors, onnx, tflite, saved_model, stablehlo, web, hf, ssd.pytorch, torchvision.
          precision: for onnx, web, tflite: float32 (the default), float16 or int8.
          calibration: for int8: a data set, best the training data.
          license_name: for hf, onnx, tflite, saved_model, web: the licence to record, like "mit".

        Returns:
          The folder.

        Raises:
          UserError: an argument is wrong, a package is missing, the format does not support the
            network, the folder cannot be written or holds a detector with other classes, or this
            detector is of `from_onnx` or `from_tflite`.
        """
        from ssd_jax.inference.export import export_detector
        from ssd_jax.inference.jax_engine import JaxEngine
        from ssd_jax.interop.export import Choices

        if not isinstance(self._engine, JaxEngine):
            raise UserError(
                "this detector is an exported file, which cannot be exported again: load its run "
                "or its safetensors folder with Detector.from_workdir or Detector.from_pretrained"
            )
        choices = Choices(precision, calibration, license_name)
        export_detector(self._engine.trained, output, to, choices, self._read_numbers())
        return output

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
        """See `AnyDetector`; the next batch starts before a batch is returned."""
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
