"""Checks the data before the first step, because some errors would end a run hours later."""

import functools
import logging
import time
from pathlib import Path

import numpy as np

from ssd_jax.config.schema import Config
from ssd_jax.config.unused import unused_fields
from ssd_jax.data.balance import describe_repeats
from ssd_jax.data.changes import (
    Digests,
    annotation_digests,
    describe_changes,
    read_digests,
    renamed_images,
    write_digests,
)
from ssd_jax.data.choice import RunData
from ssd_jax.data.content import Content, count_content, nothing_to_learn, num_shared
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.image_bytes import num_readers
from ssd_jax.detection.default_boxes import Tiling
from ssd_jax.distributed import devices, exchange
from ssd_jax.errors import UserError, counted, first_names, reason_of
from ssd_jax.evaluation.uncertainty import describe_uncertainty
from ssd_jax.images.file_ends import may_be_truncated
from ssd_jax.images.opening import open_image
from ssd_jax.progress import progress_bar
from ssd_jax.runs.data_table import format_data
from ssd_jax.storage import objects
from ssd_jax.threads import map_ahead, pool_of_threads

logger = logging.getLogger(__name__)

MAX_SECONDS = 10.0  # for a look at the training files; on a local disk enough for 400,000
PIECE = 256  # files that a thread looks at in turn


def check_data(config: Config, data: RunData, tiling: Tiling) -> None:
    """Logs a table of the data of a run, and checks the data.

    Args:
      config: of the run.
      data: its images.
      tiling: its default boxes.

    Raises:
      UserError: see `check_objects`, `check_images` and `check_training_files`.
    """
    train = count_content(data.train)
    evaluation = None if data.evaluation is None else count_content(data.evaluation)
    if devices.is_main_process():
        origins = (data.trained, data.origin)
        table = format_data(config, train, evaluation, origins, tiling)
        logger.info("%s", "\n".join([table, *_repeats(config, data)]))
        for line in unused_fields(config):
            logger.warning("%s", line)
    check_objects(train, evaluation, data.trained, data.origin)
    if devices.is_main_process():
        _warn_of_absent_classes(train)
        _warn_of_few_objects(evaluation)
    if data.evaluation is not None:
        repeated = num_shared(data.train, data.evaluation)
        if repeated and devices.is_main_process():
            logger.warning(
                "%d of %d evaluation images are training images, too, so the mAP will be too high: "
                "name other data in config.data.eval",
                repeated,
                len(data.evaluation),
            )
        check_images(data.evaluation)
    check_training_files(data.train)


def _warn_of_absent_classes(train: Content) -> None:
    """Warns of classes without a training object, if all images were counted."""
    absent = [train.class_names[i] for i in np.flatnonzero(train.num_objects == 0)]
    if absent and train.num_counted == train.num_images:
        logger.warning(
            "training data: no object of %d of %d classes, which cannot be learned: %s",
            *(len(absent), len(train.class_names), first_names(absent, 20)),
        )


def _warn_of_few_objects(evaluation: Content | None) -> None:
    """Warns of evaluation data with too few objects for a reliable mAP."""
    if evaluation is None or evaluation.num_counted < evaluation.num_images:
        return
    if uncertainty := describe_uncertainty(evaluation.num_objects.tolist()):
        logger.warning(
            "%s, and the best checkpoint is chosen on the same images; to evaluate on more, set "
            "config.data.split, or name more images in config.data.eval",
            uncertainty,
        )


def describe_continued(config: Config, data: RunData) -> str:
    """Describes the images of a continued run in one line, and their repeats in another."""
    evaluated = "no evaluation"
    if data.evaluation is not None:
        evaluated = f"{len(data.evaluation):,} evaluation images ({data.origin})"
    repeats = _repeats(config, data)
    return "\n".join([f"data: {len(data.train):,} training images, {evaluated}", *repeats])


def _repeats(config: Config, data: RunData) -> list[str]:
    """A line about the repeats of images; empty if every image is drawn once per epoch."""
    threshold = config.data.repeat_threshold
    return [describe_repeats(data.train, threshold)] if threshold else []


def record_data(folder: Path, data: RunData) -> None:
    """Reports changes of the data since the last start, and records its current state."""
    try:
        before = read_digests(folder)
    except UserError as error:
        logger.warning(
            "%s; it is written again, and changes of the data are not reported this time", error
        )
        before = {}
    train = annotation_digests(data.train)
    evaluation = {} if data.evaluation is None else annotation_digests(data.evaluation)
    if before:
        _log_changes(before, train, evaluation)
    # Last, so that changes are reported at the next start if this process is killed before.
    write_digests(folder, train, evaluation)


def _log_changes(before: dict[str, Digests], train: Digests, evaluation: Digests) -> None:
    for name, now in (("train", train), ("evaluation", evaluation)):
        changes = describe_changes(before.get(name, {}), now)
        if changes:
            role = "training" if name == "train" else name
            logger.warning("the %s data changed since the last start: %s", role, changes)
    known = before.get("train", {}) | before.get("evaluation", {})
    leaked = renamed_images(known, set(before.get("evaluation", {})) - set(evaluation), train)
    if leaked:
        logger.warning(
            "%s of the evaluation may have another name now and be trained on, so the mAP would be "
            "too high: %s. Give them their old names, or name another work directory",
            counted(len(leaked), "image"),
            first_names(leaked),
        )


def check_objects(train: Content, evaluation: Content | None, source: str, origin: str) -> None:
    """Checks that training and evaluation data have objects.

    Args:
      train: the training data.
      evaluation: the evaluation data, if any.
      source: description of the training data, for messages.
      origin: description of the evaluation data, for messages.

    Raises:
      UserError: the training data or the evaluation data has no object.
    """
    reason = nothing_to_learn(train)
    if reason:
        raise UserError(f"{source}: {reason}")
    if evaluation is not None and not evaluation.num_objects.sum():
        raise UserError(
            f"the evaluation data ({origin}) has "
            f"{counted(evaluation.num_images, 'image')}, but no object of the classes "
            f"{first_names(evaluation.class_names, 20)}: name other data in "
            "config.data.eval, other names of its classes in config.data.class_map, or train "
            "without evaluation with config.eval_every=-1"
        )


def check_images(dataset: Dataset) -> None:
    """Checks that every evaluation image can be decoded; each process decodes its share.

    Raises:
      UserError: an image cannot be read, or too many cannot with `config.data.on_error="skip"`.
    """
    began = time.perf_counter()

    def decode(index: int) -> tuple[str, str, str] | None:
        record = dataset[index]
        try:
            open_image(record.image, name="the image")
        except UserError as error:
            return record.path, record.image_id, str(error)
        return None

    indices = list(dataset.share(devices.process_index(), devices.process_count()))
    damaged = []
    with (
        pool_of_threads(num_readers()) as pool,
        progress_bar(
            total=len(indices),
            desc="check evaluation images",
            unit="image",
            leave=False,
            disable=not devices.is_main_process(),
        ) as progress,
    ):
        for found in map_ahead(pool, decode, indices, 4 * num_readers()):
            if found:
                damaged.append(found)
            progress.update()
    _report_unreadable(dataset, damaged)
    if devices.is_main_process():
        logger.info(
            "%s decoded in %.1f s, before the first step only",
            counted(len(dataset), "evaluation image"),
            time.perf_counter() - began,
        )


def _report_unreadable(dataset: Dataset, damaged: list[tuple[str, str, str]]) -> None:
    """Adds the images that the processes found, so that all stop at the same one.

    Args:
      dataset: the data.
      damaged: the file, the id and the reason of each image that this process found.
    """
    gathered = exchange.gather_from_processes(damaged)
    for path, image_id, reason in (one for own in gathered for one in own):
        dataset.problems.add_unreadable(path, image_id, reason, devices.is_main_process())


def check_training_files(dataset: Dataset, seconds: float = MAX_SECONDS) -> None:
    """Looks for truncated files among the training images, in random order for some seconds.

    Images of other formats are decoded. Images inside larger files, and those of stores, are left
    out.

    Raises:
      UserError: one cannot be read, or too many cannot.
    """
    process_index, process_count = devices.process_index(), devices.process_count()
    ends = time.perf_counter() + seconds
    damaged, num_files, num_checked = [], 0, 0
    with pool_of_threads(num_readers()) as pool:
        for part in dataset.parts:
            if not isinstance(part, FolderRecords) or not len(part):
                continue
            if part.columns.span(0) or objects.place_behind(part.columns.paths[0]):
                continue
            share = np.asarray(part.share(process_index, process_count))
            order = np.random.default_rng(0).permutation(share)
            pieces = [order[i : i + PIECE] for i in range(0, len(order), PIECE)]
            look = functools.partial(_truncated_in, part, ends)
            num_files += len(order)
            for num_seen, found in map_ahead(pool, look, pieces, 2 * num_readers()):
                num_checked += num_seen
                damaged += found
    _report_unreadable(dataset, damaged)
    if num_checked < num_files and devices.is_main_process():
        logger.info(
            "looked for truncated files for %.0f s: %s of %s; the rest is first read in training",
            seconds,
            f"{num_checked:,}",
            counted(num_files, "training image"),
        )


def _truncated_in(
    part: FolderRecords, ends: float, indices: np.ndarray
) -> tuple[int, list[tuple[str, str, str]]]:
    """Looks at images until a time.

    Returns:
      The number of images, and the file, the id and the reason of each that cannot be read.
    """
    found, num_seen = [], 0
    for index in indices.tolist():
        if time.perf_counter() >= ends:  # checked for each, as decoding a large one takes a second
            break
        num_seen += 1
        path = part.columns.paths[index]
        try:
            if may_be_truncated(path):
                open_image(path, name="the image")
        except OSError as error:
            found.append((path, index, f"the image cannot be read: {reason_of(error)}"))
        except UserError as error:
            found.append((path, index, str(error)))
    return num_seen, [
        (path, part.columns.image_ids[index], reason) for path, index, reason in found
    ]
