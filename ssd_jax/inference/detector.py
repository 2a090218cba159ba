"""A trained detector in three lines of Python.

detector = Detector.from_pretrained("my_detector")
detections = detector("image.jpg")
print(detections.names, detections.scores, detections.boxes)
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard, TypeVar, cast, overload

import numpy as np
from PIL import Image

from ssd_jax.errors import UserError, missing_package
from ssd_jax.images.drawing import draw_boxes
from ssd_jax.images.opening import open_image, to_rgb
from ssd_jax.images.resizing import image_to_square, resize_to_square
from ssd_jax.inference.engine import Engine
from ssd_jax.runs.which_checkpoint import WhichCheckpoint

AnyImage = str | Path | Image.Image | np.ndarray
Key = TypeVar("Key")


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """The objects of one image, the best first.

    Attributes:
      boxes: `[objects, 4] xyxy` in pixels of the upright image.
      scores: `[objects]` in [0, 1].
      labels: `[objects]` from 1.
      class_names: class i + 1 is called `class_names[i]`.
      category_ids: and has the number `category_ids[i]` in results.
      image: what was given to the detector.
      size: height and width of the upright image.
      tracks: `[objects]` the number of each object in its video, from 1; 0 where it has none yet.
        None where objects are not tracked.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image: AnyImage = dataclasses.field(repr=False)
    size: tuple[int, int]
    tracks: np.ndarray | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The class of each object."""
        return tuple(self.class_names[label - 1] for label in self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, chosen: np.ndarray) -> "Detections":
        """Some of them: `chosen` is `[objects] bool`."""
        return dataclasses.replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            tracks=None if self.tracks is None else self.tracks[chosen],
        )

    def draw(self) -> Image.Image:
        """The image with boxes, names and scores; one that was given as a path is read again.

        A small image is enlarged; where names would cover the objects, a legend below the image
        takes their place: see `draw_boxes`.
        """
        image = open_as_rgb(self.image)
        if image is self.image:
            image = image.copy()  # the user's own stays as it is
            image.info = {}
        return draw_boxes(image, self.boxes, self.labels, self.class_names, self.scores)

    def to_coco(self, image_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
        """Annotations in COCO's form, with scores: `bbox` is x, y, width, height in pixels.

        Where objects are tracked, `track_id` is the number of each that has one.

        Thousandths of a pixel and millionths of a score are kept.

        Args:
          image_id: the number of the image.
          first_id: of the annotations, whose numbers differ in a file of many images.
        """
        tracks = np.zeros(len(self), int) if self.tracks is None else self.tracks
        return [
            {
                "id": number,
                "image_id": image_id,
                "category_id": self.category_ids[label - 1],
                "bbox": [round(x, 3), round(y, 3), round(x_max - x, 3), round(y_max - y, 3)],
                "area": round((x_max - x) * (y_max - y), 3),
                "iscrowd": 0,
                "score": round(score, 6),
            }
            | ({"track_id": track} if track else {})
            for number, ((x, y, x_max, y_max), score, label, track) in enumerate(
                zip(
                    self.boxes.tolist(),
                    self.scores.tolist(),
                    self.labels.tolist(),
                    tracks.tolist(),
                    strict=True,
                ),
                start=first_id,
            )
        ]

    def to_supervision(self) -> Any:
        """A `supervision.Detections`, whose classes count from 0.

        Raises:
          UserError: the package is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise missing_package("supervision") from error
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32),
            confidence=self.scores,
            class_id=self.labels - 1,
            data={"class_name": np.array(self.names, dtype=str)},
        )


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


class Detector:
    """Detects objects in images of any size.

    Several threads may use it at a time.

    Attributes:
      class_names: class i + 1 is called `class_names[i]`.
      category_ids: what results call the classes, in the same order.
      side: of the square images that the network is given, in pixels.
      least_score: detections have a higher one.
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
        from ssd_jax.inference.onnx_files import load_onnx

        return cls(load_onnx(read_exported(path, "detector.onnx"), engine))

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
        if isinstance(images, list | tuple):
            return self._detect(images, score_threshold)
        return self._detect([cast(AnyImage, images)], score_threshold)[0]

    def _detect(self, images: Sequence[AnyImage], score_threshold: float) -> list[Detections]:
        if not images:
            return []
        prepared = [(None, self.prepare(image)) for image in images]
        return [
            detections.select(detections.scores >= score_threshold)
            for _, detections in self.stream(prepared, len(prepared))
        ]

    def prepare(self, image: AnyImage) -> Prepared:
        """Opens an image, and resizes it for the network."""
        if _is_rgb(image):
            height, width, _ = image.shape
            return Prepared(image, (height, width), resize_to_square(image, self.side))
        rgb = open_as_rgb(image)
        return Prepared(image, (rgb.height, rgb.width), image_to_square(rgb, self.side))

    def stream(
        self, images: Iterable[tuple[Key, Prepared]], batch_size: int
    ) -> Iterator[tuple[Key, Detections]]:
        """Detects on any number of images, in batches of one size, with constant memory.

        The next batch is already on the device when one is given back.

        Args:
          images: each with a key, to know it by.
          batch_size: images that the device works on at a time; the last batch is padded.

        Yields:
          Keys and detections, in the order of the images.

        Raises:
          UserError: the batch is too large for the memory; as a rule before an image is taken.
        """
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


def _is_rgb(image: AnyImage) -> TypeGuard[np.ndarray]:
    """Whether it is an array as the network needs it."""
    return (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size > 0
    )


def open_as_rgb(image: AnyImage) -> Image.Image:
    """The upright RGB image that a path, a PIL image or an array stands for.

    Raises:
      UserError: it cannot be read, or is none of these.
    """
    if isinstance(image, str | Path):
        return open_image(image)
    if isinstance(image, Image.Image):
        try:
            return to_rgb(image)
        except (OSError, ValueError) as error:
            raise UserError(f"{image} cannot be read: {error}") from error
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"an image is of the type {type(image).__name__}, but must be a path, a PIL image "
            "or a NumPy array"
        )
    if not _is_rgb(image):
        raise UserError(
            f"an image is an array of {image.dtype} and shape {image.shape}, but must be "
            "uint8 and [height, width, 3], in the order red, green, blue"
        )
    return Image.fromarray(image)


def _batches(items: Iterable[Key], size: int) -> Iterator[list[Key]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
