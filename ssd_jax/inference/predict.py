"""Detects objects in files, folders, streams and cameras, and writes what it finds."""

import contextlib
import dataclasses
import logging
import math
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ssd_jax.errors import UserError
from ssd_jax.images.opening import LARGE, open_picture, size_in_file
from ssd_jax.inference.detector import Detections, Detector, Prepared, open_as_rgb
from ssd_jax.inference.inputs import Input, OutputNames, find_files, is_video
from ssd_jax.inference.results_file import ResultsFile
from ssd_jax.inference.video import detect_in_video, is_live, live_name, num_frames
from ssd_jax.storage.files import local_path
from ssd_jax.threads import map_ahead, num_cores

logger = logging.getLogger(__name__)

LONGEST_LABEL = 50  # characters of a class in a file's name


def load_detector(workdir: str | None, weights: str | None, checkpoint: int | None) -> Detector:
    """The detector that the flags name.

    Raises:
      UserError: they name none or two, or it cannot be read.
    """
    if (workdir is None) == (weights is None):
        raise UserError(
            "name either --workdir, of a run, or --weights, a folder that `ssd-jax export` wrote"
        )
    if workdir is not None:
        return Detector.from_workdir(workdir, checkpoint)
    if checkpoint is not None:
        raise UserError("--checkpoint goes with --workdir: the folder of --weights has but one")
    return Detector.from_pretrained(weights)


def predict(
    detector: Detector,
    arguments: Sequence[str],
    output: str,
    *,
    score_threshold: float = 0.4,
    classes: Sequence[str] = (),
    batch_size: int = 8,
    crops: bool = False,
) -> tuple[int, int]:
    """Detects in everything that the arguments name.

    Writes to the output folder `detections.json`; `annotated/`, the pictures and videos with
    boxes; and `crops/`, a picture of each object, in a folder for each picture.

    Args:
      detector: the detector.
      arguments: files, folders, patterns, URLs of video streams, `camera:0`.
      output: the folder, made where it does not exist.
      score_threshold: detections with a lower score are left out.
      classes: the classes to detect; all where empty.
      batch_size: pictures that the device works on at a time.
      crops: whether to write `crops/`; of pictures, not of videos.

    Returns:
      How many pictures and frames were done, and how many files could not be read; these are
      logged, and stand in `detections.json`.

    Raises:
      UserError: an argument is wrong, or the folder cannot be written.
    """
    choice = _Choice(detector.class_names, score_threshold, classes)
    if batch_size < 1:
        raise UserError(f"--batch_size is {batch_size}, but must be 1 or more")
    if not arguments:
        raise UserError("name files, folders, URLs of video streams, or camera:0")
    folder = local_path(output)
    files, empty = find_files([name for name in arguments if not is_live(name)], folder)
    videos = [file for file in files if is_video(file.path)]
    videos += [Input(name, live_name(name)) for name in arguments if is_live(name)]
    run = _Run(detector, choice, batch_size, folder, crops)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ResultsFile(
            folder / "detections.json", detector.class_names, detector.category_ids
        ) as results:
            for argument in empty:
                run.report(results, argument, f"{argument}: there is no picture or video")
            run.pictures([file for file in files if not is_video(file.path)], results)
            for video in videos:
                run.video(video, results)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error}") from error
    return results.num_images, results.num_errors


class _Choice:
    """Which detections are kept."""

    def __init__(
        self, class_names: Sequence[str], score_threshold: float, classes: Sequence[str]
    ) -> None:
        if not 0 <= score_threshold <= 1:
            raise UserError(f"--score_threshold is {score_threshold}, but must be between 0 and 1")
        for name in classes:
            if name not in class_names:
                raise UserError(
                    f"--classes names {name!r}, but the detector knows {', '.join(class_names)}"
                )
        self._score_threshold = score_threshold
        self._labels = [class_names.index(name) + 1 for name in classes or class_names]

    def __call__(self, detections: Detections) -> Detections:
        good = detections.scores >= self._score_threshold
        return detections.select(good & np.isin(detections.labels, self._labels))


@dataclasses.dataclass
class _Run:
    detector: Detector
    choice: _Choice
    batch_size: int
    folder: Path
    crops: bool

    def __post_init__(self) -> None:
        self._names = OutputNames()
        self._large = threading.Lock()

    def pictures(self, files: Sequence[Input], results: ResultsFile) -> None:
        """Opening, detecting and writing overlap: threads for the first and last, in order."""
        if not files:
            return
        named = [(file, self._names.choose(file.name, (".png", ".jpg", ".jpeg"))) for file in files]
        workers = num_cores()
        ahead = self.batch_size + workers
        progress = tqdm(total=len(files), desc="pictures", unit=" images")
        with progress, ThreadPoolExecutor(workers) as pool:

            def readable() -> Iterator[tuple[Any, Prepared]]:
                for key, prepared in map_ahead(pool, self._prepare, named, ahead):
                    if isinstance(prepared, Prepared):
                        yield key, prepared
                    else:
                        progress.update()
                        self.report(results, key[0].name, str(prepared))

            detected = self.detector.stream(readable(), self.batch_size)
            for file, written in map_ahead(pool, self._write, detected, ahead):
                progress.update()
                if isinstance(written, Detections):
                    results.add(file.name, written)
                else:
                    self.report(results, file.name, str(written))

    def video(self, video: Input, results: ResultsFile) -> None:
        """Frame by frame; the user ends a camera or a stream with Ctrl-C."""
        try:
            path = self._annotated(video, self._names.choose(video.name, (".mp4",)))
            total = num_frames(video.path)
            frames = detect_in_video(self.detector, video.path, path, self.batch_size, self.choice)
            with contextlib.closing(frames):
                for index, detections in tqdm(frames, desc=video.name, total=total, unit=" images"):
                    results.add(video.name, detections, frame=index)
        except UserError as error:
            self.report(results, video.name, str(error))
        except KeyboardInterrupt:
            if not is_live(video.path):
                raise

    def report(self, results: ResultsFile, name: str, error: str) -> None:
        """Tells of a file that cannot be read; the others go on."""
        logger.error("error: %s", error)
        results.add_error(name, error)

    def _prepare(self, named: tuple[Input, str]) -> tuple[tuple[Input, str], Prepared | UserError]:
        path = named[0].path
        try:
            self._annotated(*named)
            size = size_in_file(path)
            with self._turn(size):
                prepared = self.detector.prepare(open_picture(path))
        except UserError as error:
            return named, error
        # Opened again to be drawn, so that memory stays bounded whatever the files are.
        is_large = math.prod(size) > LARGE
        return named, prepared._replace(picture=path) if is_large else prepared

    def _write(
        self, found: tuple[tuple[Input, str], Detections]
    ) -> tuple[Input, Detections | UserError]:
        (file, name), detections = found
        detections = self.choice(detections)
        try:
            with self._turn(detections.size):
                picture = open_as_rgb(detections.picture)
                drawn = dataclasses.replace(detections, picture=picture).draw()
                _save(drawn, self._annotated(file, name))
                if self.crops:
                    self._write_crops(picture, detections, name)
        except UserError as error:
            return file, error
        except OSError as error:
            return file, UserError(f"{file.path}: its results cannot be written: {error}")
        return file, detections

    def _write_crops(self, picture: Image.Image, detections: Detections, name: str) -> None:
        for number, (box, label) in enumerate(zip(detections.boxes, detections.names, strict=True)):
            left, top = np.minimum(box[:2], np.array(picture.size) - 1).astype(int).tolist()
            right, bottom = np.ceil(box[2:]).astype(int).tolist()
            crop = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
            label = re.sub(r"[^\w-]", "_", label)[:LONGEST_LABEL]
            file = f"{number:02d}_{label}{Path(name).suffix}"
            _save(crop, self._make_room("crops", name, file))

    def _turn(self, size: tuple[int, int]) -> contextlib.AbstractContextManager:
        """What large pictures wait for."""
        return self._large if math.prod(size) > LARGE else contextlib.nullcontext()

    def _annotated(self, file: Input, name: str) -> Path:
        path = self._make_room("annotated", name)
        if path.resolve() == Path(file.path).resolve():
            raise UserError(f"{file.path} would be overwritten: name another --output")
        return path

    def _make_room(self, *parts: str) -> Path:
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _save(picture: Image.Image, path: Path) -> None:
    if path.suffix.lower() == ".png":
        picture.save(path, compress_level=1)
    else:
        picture.save(path, quality=90)
