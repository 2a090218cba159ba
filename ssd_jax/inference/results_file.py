"""Detections of many images in one JSON file, in COCO's form, with constant memory."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssd_jax.data.class_lists import describe_classes
from ssd_jax.inference.detector import Detections


class ResultsFile:
    """Writes `images`, `annotations`, `categories` and `errors` to a JSON file.

    As a context manager: the file appears when all is written.
    """

    def __init__(self, path: Path, class_names: Sequence[str], category_ids: Sequence[int]):
        self._path = path
        self._categories = describe_classes(class_names, category_ids)
        self._errors: list[dict[str, str]] = []
        self.num_images = 0

    def __enter__(self) -> "ResultsFile":
        self._part = self._path.with_name(self._path.name + ".part")
        self._file = self._part.open("w")
        self._file.write('{"images": [')
        # Two lists grow together, so one of them waits in a file of its own.
        self._annotations = tempfile.TemporaryFile("w+", dir=self._path.parent)
        return self

    def add(self, file_name: str, detections: Detections, **more: Any) -> None:
        """Adds an image, with a number of its own; `more` is written beside its name and size."""
        self._file.write(",\n" if self.num_images else "\n")
        self.num_images += 1
        height, width = detections.size
        image = {"id": self.num_images, "file_name": file_name, "width": width, "height": height}
        self._file.write(json.dumps(image | more))
        for annotation in detections.to_coco(self.num_images):
            self._annotations.write(",\n" if self._annotations.tell() else "\n")
            self._annotations.write(json.dumps(annotation))

    def add_error(self, file_name: str, error: str) -> None:
        """Adds a file that could not be read."""
        self._errors.append({"file_name": file_name, "error": error})

    @property
    def num_errors(self) -> int:
        """The number of files that could not be read."""
        return len(self._errors)

    def __exit__(self, *failure: object) -> None:
        with self._file, self._annotations:
            self._file.write('],\n"annotations": [')
            self._annotations.seek(0)
            shutil.copyfileobj(self._annotations, self._file)
            self._file.write(f'],\n"categories": {json.dumps(self._categories)},\n')
            self._file.write(f'"errors": {json.dumps(self._errors)}}}\n')
        os.replace(self._part, self._path)
