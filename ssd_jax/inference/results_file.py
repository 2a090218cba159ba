"""Writes detections of many images to one JSON file, in COCO's format, with constant memory."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from ssd_jax.data.class_lists import describe_classes
from ssd_jax.inference.detections import Detections
from ssd_jax.storage.replacing import replacing

RESULTS = "detections.json"
PARTIAL = "detections.partial.jsonl"


class ResultsFile:
    """Writes `images`, `annotations`, `categories` and `errors` to `detections.json`.

    Until all images are finished, results are in `detections.partial.jsonl`: a first line with
    `partial` and `categories`, then a line for each image, with its `annotations`, and for each
    error. If the block or the process ends early, this file is kept with the finished images, and
    an earlier `detections.json` stays unchanged. It also stays if no image could be read.

    Attributes:
      num_images: the number of images so far, including frames of videos.
      num_frames: the number of frames so far.
      num_errors: the number of files that could not be read.
      num_with_objects: the number of images with a detection.
      objects: the number of detections by class, for classes with detections.
      is_partial: whether the block ended early after finished images.
      keeps_earlier: whether the block has ended without images and left an earlier file unchanged.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], category_ids: Sequence[int]):
        """Begins the files of a folder.

        Args:
          folder: the folder of both files.
          class_names: class i + 1 has the name `class_names[i]`.
          category_ids: the ids of the classes in results, in the same order.
        """
        self._results, self._partial = folder / RESULTS, folder / PARTIAL
        self._categories = describe_classes(class_names, category_ids)
        self.num_images = 0
        self.num_frames = 0
        self.num_errors = 0
        self.num_with_objects = 0
        self.objects: Counter[str] = Counter()
        self._num_annotations = 0
        self.is_partial = self.keeps_earlier = False

    def __enter__(self) -> "ResultsFile":
        self._lines = self._partial.open("wb", buffering=0)
        self._write({"partial": True, "categories": self._categories})
        return self

    def add(self, file_name: str, detections: Detections, **more: Any) -> None:
        """Adds an image with the next number; `more` is added to its name and size."""
        number = self.num_images + 1
        height, width = detections.size
        image = {"id": number, "file_name": file_name, "width": width, "height": height}
        annotations = detections.to_coco(number, self._num_annotations + 1)
        self._write(image | more | {"annotations": annotations})
        self.num_images = number
        self.num_frames += "frame" in more
        self.num_with_objects += len(detections) > 0
        self.objects.update(detections.names)
        self._num_annotations += len(annotations)

    def add_error(self, file_name: str, error: str) -> None:
        """Adds an unreadable file."""
        self._write({"file_name": file_name, "error": error})
        self.num_errors += 1

    def _write(self, line: dict[str, Any]) -> None:
        """Adds a whole line or, if the disk is full, nothing."""
        start, content = self._lines.tell(), json.dumps(line).encode() + b"\n"
        try:
            while content:
                content = content[self._lines.write(content) :]
        except BaseException:
            self._lines.truncate(start)
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._lines.close()
        self.is_partial = self.num_images > 0
        if kind is None:
            self.keeps_earlier = not self.num_images and self._results.is_file()
            if not self.keeps_earlier:
                self._finish()
            self._partial.unlink()
            self.is_partial = False

    def _finish(self) -> None:
        with replacing(self._results) as unfinished, unfinished.open("w") as file:
            file.write('{"images": ')
            _write_list(file, (image for image, _ in self._images()))
            file.write(',\n"annotations": ')
            _write_list(file, (each for _, annotations in self._images() for each in annotations))
            file.write(f',\n"categories": {json.dumps(self._categories)},\n"errors": ')
            _write_list(file, (line for line in self._read() if "error" in line))
            file.write("}\n")

    def _images(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """The images, each with its annotations."""
        for line in self._read():
            if "id" in line:
                yield line, line.pop("annotations")

    def _read(self) -> Iterator[dict[str, Any]]:
        with self._partial.open("rb") as lines:
            yield from map(json.loads, lines)


def _write_list(file: TextIO, values: Iterable[dict[str, Any]]) -> None:
    """Writes a list as JSON, one value per line."""
    start = "[\n"
    for value in values:
        file.write(start + json.dumps(value))
        start = ",\n"
    file.write("[]" if start == "[\n" else "]")
