"""Detects objects in files, folders, streams and cameras, and writes the results."""

import contextlib
import dataclasses
import functools
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ssd_jax.config.spelling import did_you_mean_path
from ssd_jax.errors import NO_SPACE, Terminated, UserError, one_line, reason_of
from ssd_jax.images.limits import BYTES_OF_RGB
from ssd_jax.images.opening import LARGE, open_image, size_in_file
from ssd_jax.inference.choice import Choice
from ssd_jax.inference.detections import Detections
from ssd_jax.inference.detector import AnyDetector, Prepared
from ssd_jax.inference.done import Done
from ssd_jax.inference.inputs import Input, find_files, input_copy, is_video
from ssd_jax.inference.outputs import OutputFolder, Target, check_apart, only_run
from ssd_jax.inference.results_file import PARTIAL, RESULTS, ResultsFile
from ssd_jax.inference.tiles import TiledDetector
from ssd_jax.inference.tracking import Tracker
from ssd_jax.inference.video import detect_in_video, is_live, live_name, num_frames
from ssd_jax.progress import progress_bar
from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.copies import sending
from ssd_jax.storage.files import local_path
from ssd_jax.storage.locks import LOCK
from ssd_jax.storage.outputs import check_outputs_in
from ssd_jax.threads import map_ahead, num_cores, pool_of_threads

logger = logging.getLogger(__name__)

# The size of images that are kept for drawing; others are opened again, to limit memory.
KEPT_BYTES = 2**29


def predict(
    detector: AnyDetector,
    arguments: Sequence[str],
    output: str,
    *,
    score_threshold: float = 0.4,
    classes: Sequence[str] = (),
    batch_size: int = 8,
    crops: bool = False,
    track: bool = False,
) -> Done:
    """Detects objects in all inputs.

    Writes to the output folder: `detections.json` at the end; `annotated/`, the images and videos
    with boxes; and `crops/`, an image of each object, in a folder for each image. If the prediction
    is stopped, the finished images are in `detections.partial.jsonl`: see `ResultsFile`.

    Args:
      detector: the detector.
      arguments: files, folders, patterns, URLs of video streams, `camera:0`.
      output: the output folder; created if it does not exist.
      score_threshold: detections with a lower score are left out.
      classes: the classes to detect; all if empty.
      batch_size: the number of images in a batch.
      crops: whether to write `crops/`, of images but not of videos.
      track: whether to give each object of a video a number, the same in all frames.

    Returns:
      The result in numbers; unreadable files are logged, and listed in `detections.json`.

    Raises:
      UserError: an argument is wrong, another run writes to the folder, or the folder cannot be
        written or is among the inputs.
    """
    choice = Choice(detector.class_names, score_threshold, classes)
    if batch_size < 1:
        raise UserError(f"--batch_size is {batch_size}, but must be 1 or more")
    if not arguments:
        raise UserError("name files, folders, URLs of video streams, or camera:0")
    check_places(arguments, output)
    tracker = functools.partial(Tracker, score_threshold) if track else None
    with sending(output, even_unfinished=True) as folder:
        return _predict(detector, choice, arguments, folder, batch_size, crops, tracker)


def _predict(
    detector: AnyDetector,
    choice: Choice,
    arguments: Sequence[str],
    folder: Path,
    batch_size: int,
    crops: bool,
    tracker: Callable[[], Tracker] | None,
) -> Done:
    """`predict` with a local output folder."""
    files, videos, failed = _find(arguments, folder)
    if tracker and not videos:
        raise UserError("--track follows objects in videos, streams and cameras: name one")
    results = ResultsFile(folder, detector.class_names, detector.category_ids)
    try:
        with only_run(folder), results:
            if (folder / RESULTS).is_file():
                logger.warning(
                    "%s has the results of an earlier run: its %s is replaced at the end, images "
                    "and crops stay, except those with the names of new ones",
                    *(folder, RESULTS),
                )
            outputs = OutputFolder(folder, crops, [*files, *videos])
            run = _Run(detector, choice, batch_size, outputs, results)
            for name, error in failed.items():
                run.report(name, error)
            run.detect_in_images(files)
            for video in videos:
                run.detect_in_video(video, tracker() if tracker else None)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {reason_of(error)}") from error
    finally:
        if results.is_partial:
            logger.warning("the finished images are in %s", folder / PARTIAL)
    if results.keeps_earlier:
        logger.warning("no file was read: %s keeps its earlier %s", folder, RESULTS)
    return _describe(results, choice, detector.least_score)


def check_places(arguments: Sequence[str], output: str) -> None:
    """Checks files and output before a detector is loaded.

    Raises:
      UserError: a scheme is not supported, or the output belongs to a run.
    """
    for name in arguments:
        if is_remote(name) and f"{output}/".startswith(f"{name.rstrip('/')}/"):
            raise UserError(
                f"{output} is inside the input {name}, so results would be inputs of the next run: "
                "name another output"
            )
        if not (is_live(name) or is_remote(name)):
            local_path(name)
    check_outputs_in(output, LOCK)


def _describe(results: ResultsFile, choice: Choice, least_score: float) -> Done:
    return Done(
        images=results.num_images - results.num_frames,
        frames=results.num_frames,
        failed=results.num_errors,
        with_objects=results.num_with_objects,
        objects=results.objects,
        best_left_out=choice.best_left_out,
        least_score=least_score,
    )


def _find(
    arguments: Sequence[str], output: Path
) -> tuple[list[Input], list[Input], dict[str, str]]:
    """The images and the videos that arguments name, and why some of these are not read.

    Raises:
      UserError: see `check_apart`.
    """
    paths = [input_copy(name) for name in arguments if not is_live(name)]
    found = find_files(paths)
    check_apart(output, [path for path in paths if os.path.isdir(path)], found.files)
    failed = {name: f"{name}: there is no image or video" for name in found.empty}
    failed |= {
        str(error.filename): f"{error.filename} cannot be read: {reason_of(error)}"
        for error in found.unreadable
    }
    files = []
    for file in found.files:
        if os.path.lexists(file.path):
            files.append(file)
        else:
            failed[file.name] = f"{file.path} does not exist{did_you_mean_path(file.path)}"
    videos = [file for file in files if is_video(file.path)]
    videos += [Input(name, live_name(name)) for name in arguments if is_live(name)]
    return [file for file in files if not is_video(file.path)], videos, failed


class _Run:
    """Detects in files, one by one; unreadable files are reported.

    Args:
      detector: the detector.
      choice: selects the detections to keep.
      batch_size: the number of images in a batch.
      output: the output folder of drawings.
      results: the file of detections and errors.
    """

    def __init__(
        self,
        detector: AnyDetector,
        choice: Choice,
        batch_size: int,
        output: OutputFolder,
        results: ResultsFile,
    ) -> None:
        self._detector = detector
        self._choice = choice
        self._batch_size = batch_size
        self._output = output
        self._results = results
        self._large = threading.Lock()
        self._kept_bytes, self._kept_lock = 0, threading.Lock()

    def detect_in_images(self, files: Sequence[Input]) -> None:
        """Detects in images; opening, detecting and writing overlap, in threads, in order."""
        if not files:
            return
        targets = [self._output.target(file, (".png", ".jpg", ".jpeg")) for file in files]
        # Few images use a smaller batch: a power of two, so that few programs are compiled.
        batch_size = self._batch_size
        if not isinstance(self._detector, TiledDetector):
            batch_size = min(batch_size, 2 ** (len(files) - 1).bit_length())
        workers = num_cores()
        ahead = batch_size + workers
        progress = progress_bar(total=len(files), desc="images", unit=" images")
        with progress, pool_of_threads(workers) as pool:

            def readable() -> Iterator[tuple[Target, Prepared]]:
                for target, prepared in map_ahead(pool, self._open, targets, ahead):
                    if isinstance(prepared, Prepared):
                        yield target, prepared
                    else:
                        progress.update()
                        self.report(target.file.name, str(prepared))

            detected = self._detector.stream(readable(), batch_size)
            for target, written in map_ahead(pool, self._write, detected, ahead):
                progress.update()
                if isinstance(written, Detections):
                    self._results.add(target.file.name, written)
                else:
                    self.report(target.file.name, str(written))

    def detect_in_video(self, video: Input, track: Tracker | None) -> None:
        """Detects in a video frame by frame; the user ends a camera or a stream with Ctrl-C."""
        try:
            with self._output.annotated(self._output.target(video, (".mp4",))) as unfinished:
                self._detect_in_frames(video, unfinished, track)
        except OSError as error:
            self.report(video.name, str(_cannot_write(video.path, error)))

    def _detect_in_frames(self, video: Input, path: Path, track: Tracker | None) -> None:
        """Writes a video with boxes; if the source fails, of the frames before."""
        try:
            total = num_frames(video.path)
            choose = functools.partial(self._choice, video.name)
            frames = detect_in_video(
                self._detector, video.path, path, self._batch_size, choose, track
            )
            with contextlib.closing(frames):
                bar = progress_bar(frames, total=total, desc=video.name, unit=" frames")
                for index, detections in bar:
                    self._results.add(video.name, detections, frame=index)
        except UserError as error:
            self.report(video.name, str(error))
        except KeyboardInterrupt as stop:
            if not is_live(video.path) or isinstance(stop, Terminated):
                raise

    def report(self, name: str, error: str) -> None:
        """Reports a file that cannot be read; other files continue."""
        logger.error("error: %s", one_line(error))
        self._results.add_error(name, error)

    def _open(self, target: Target) -> tuple[Target, Prepared | UserError]:
        """Opens and prepares an image for the network."""
        path = target.file.path
        try:
            size = size_in_file(path)
            with self._turn(size):
                prepared = self._detector.prepare(open_image(path))
        except UserError as error:
            return target, error
        return target, prepared if self._keeps(size) else prepared._replace(image=path)

    def _keeps(self, size: tuple[int, int]) -> bool:
        """Whether an image of this size is kept until it is drawn; counts it if so."""
        num_bytes = BYTES_OF_RGB * math.prod(size)
        with self._kept_lock:
            if math.prod(size) > LARGE or self._kept_bytes + num_bytes > KEPT_BYTES:
                return False
            self._kept_bytes += num_bytes
            return True

    def _release(self, size: tuple[int, int]) -> None:
        with self._kept_lock:
            self._kept_bytes -= BYTES_OF_RGB * math.prod(size)

    def _write(self, found: tuple[Target, Detections]) -> tuple[Target, Detections | UserError]:
        """Selects, writes and returns detections."""
        target, detections = found
        detections = self._choice(target.file.name, detections)
        try:
            with self._turn(detections.size):
                self._output.write(target, detections)
        except UserError as error:
            return target, error
        except OSError as error:
            return target, _cannot_write(target.file.path, error)
        finally:
            if not isinstance(detections.image, str):
                self._release(detections.size)
        return target, dataclasses.replace(detections, image=target.file.path)

    def _turn(self, size: tuple[int, int]) -> contextlib.AbstractContextManager:
        """A lock for large images, so that only one is open at a time; no lock for others."""
        return self._large if math.prod(size) > LARGE else contextlib.nullcontext()


def _cannot_write(path: str, error: OSError) -> UserError:
    """The error for the results of one file, if other files may succeed.

    Raises:
      OSError: the disk is full, so other files would fail, too.
    """
    if error.errno in NO_SPACE:
        raise error
    return UserError(f"{path}: its results cannot be written: {reason_of(error)}")
