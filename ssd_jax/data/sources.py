"""Where pictures come from: one grammar for every kind of data set, several joined by commas.

    tfds:NAME:SPLIT                    a TensorFlow Datasets detection set (tfds:voc/2007:test)
    voc_xml:ROOT:SPLIT                 a folder in Pascal VOC's layout
    coco_json:ANNOTATIONS:IMAGE_DIR    a COCO annotation file and its picture folder
    shapes:SPLIT                       the embedded set, train or test

A source gives *records*: dictionaries of tensors with `path` and `image` (the picture's file, and
its encoded bytes once they are read; sets of TFDS have bytes alone), `boxes [n, 4] xyxy` in [0, 1],
`labels [n]` from 1, `difficult [n]`, `crowd [n]`, `area [n]` in square pixels or NaN, `image_id`,
and `dropped`, the number of boxes left out because they have no area.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ssd_jax.data import rendering
from ssd_jax.data.annotations import Annotation, clean, known_classes
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.formats.coco_json import read_coco_json
from ssd_jax.data.formats.tfds_records import TfdsRecords
from ssd_jax.data.formats.voc_xml import read_voc_xml
from ssd_jax.data.problems import Problems, build_problems
from ssd_jax.errors import UserError
from ssd_jax.images.opening import upright_file
from ssd_jax.storage.files import check_no_scheme

GRAMMAR = (
    "tfds:NAME:SPLIT, voc_xml:ROOT:SPLIT, coco_json:ANNOTATIONS:IMAGE_DIR or shapes:SPLIT, "
    "several joined by commas"
)


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set, made of one or several parts.

    Attributes:
      class_names: class i + 1 is called `class_names[i]`.
      category_ids: what results call the classes, in the same order: the ids of a COCO file or of
        COCO itself, otherwise 1, 2, ….
      num_examples: pictures in all.
      problems: is told of those that turn out to be damaged.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    num_examples: int
    problems: Problems
    _parts: tuple[FolderRecords | TfdsRecords, ...]

    def records(self, process_index: int = 0, process_count: int = 1) -> tf.data.Dataset:
        """One process's share of the records, in order: every picture falls to one process."""
        shares = [part.share(process_index, process_count) for part in self._parts]
        joined = shares[0]
        for share in shares[1:]:
            joined = joined.concatenate(share)
        return joined

    def shuffled_records(
        self,
        seed: int,
        first_position: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        cache: bool = False,
    ) -> tf.data.Dataset:
        """One process's share, without end, shuffled anew for every epoch.

        The order depends on the arguments alone, so that a run can go on where it stopped.

        Args:
          seed: of the order.
          first_position: how many records of this process's sequence to leave out.
          process_index: this process.
          process_count: how many processes share the data.
          cache: whether the encoded pictures stay in memory, so that each file is read once.
        """
        shares = [(part, part.share(process_index, process_count)) for part in self._parts]
        if cache:
            read = _try_with_picture if self.problems.skips else with_picture
            shares = [
                (part, share.map(read, num_parallel_calls=pictures_at_once()).cache())
                for part, share in shares
            ]
        sizes = [part.share_size(process_index, process_count) for part, _ in shares]
        epoch_size = sum(sizes)
        if epoch_size == 0:
            raise UserError(
                f"the training data has {self.num_examples} pictures, too few for "
                f"{process_count} processes"
            )

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            # Shuffle takes one number: far apart for neighbouring seeds, successive for epochs.
            epoch_seed = tf.constant(seed, tf.int64) * 1_000_003 + number
            shuffled = [
                share.shuffle(
                    part.shuffle_buffer(), seed=epoch_seed, reshuffle_each_iteration=False
                )
                for part, share in shares
            ]
            if len(shuffled) == 1:
                return shuffled[0]
            return tf.data.Dataset.sample_from_datasets(
                shuffled, weights=[float(size) for size in sizes], seed=epoch_seed
            )

        first_epoch, skipped = divmod(first_position, epoch_size)
        epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
        return epochs.flat_map(epoch).skip(skipped)


def num_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pictures_at_once() -> int:
    """How many pictures a pipeline has in work.

    They leave it in order: while the first of them is slow, there is work for the other cores.
    """
    return 2 * num_cores()


def with_picture(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A record whose `image` holds the encoded picture, wherever it was, upright.

    It is a JPEG or a PNG file that TensorFlow decodes to the pixels that `open_picture` gives, or
    empty where nothing can be opened.
    """
    image = tf.cond(
        tf.strings.length(record["image"]) > 0,
        lambda: record["image"],
        lambda: tf.io.read_file(record["path"]),
    )
    # TensorFlow's decoders know nothing of EXIF and XMP, which turn pictures, and lay nothing that
    # is transparent on white. Few files have these, and all near their beginning.
    beginning = tf.strings.substr(image, 0, 4096)
    is_special = tf.strings.regex_full_match(
        beginning,
        r"\C*(Exif|eXIf|tiff:Orientation|tRNS)\C*",  # \C is any byte
    )
    is_plain = tf.io.is_jpeg(beginning) | rendering.is_plain_png(beginning)
    image = tf.cond(
        is_plain & ~is_special,
        lambda: image,
        lambda: tf.ensure_shape(
            tf.numpy_function(upright_file, [image], tf.string, stateful=False), []
        ),
    )
    return record | {"image": image}


def _try_with_picture(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The record itself where its picture cannot be read; who decodes it finds out."""
    one = tf.data.Dataset.from_tensors(record)
    return one.map(with_picture).ignore_errors().concatenate(one).take(1).get_single_element()


def open_source(
    spec: str, class_names: Sequence[str] = (), problems: Problems | None = None
) -> Source:
    """Opens what a spec names.

    Args:
      spec: see the top of this file.
      class_names: the classes to use, in order; where empty, those of the data: given by the set
        itself, or for `voc_xml` all names that occur, in alphabetical order.
      problems: what becomes of damaged pictures; None stops at the first.

    Raises:
      UserError: the spec, a file or a class is wrong; the message names it.
    """
    problems = problems or Problems()
    parts = [open_part(part.strip(), problems) for part in spec.split(",")]
    problems.check()  # before what is left is looked at
    if not class_names:
        class_names = _common_class_names(parts)
    records = []
    for name, declared, content in parts:
        if isinstance(content, list):
            annotations = known_classes(clean(content, name), class_names, problems)
            records.append(FolderRecords(tuple(annotations), tuple(class_names)))
        else:
            missing = [known for known in declared if known not in class_names]
            if missing:
                raise UserError(
                    f"{name} has the class {missing[0]!r}, which is not among the classes "
                    f"({', '.join(class_names)}): name all of its classes in config.data.classes"
                )
            records.append(content.with_class_names(tuple(class_names)))
    problems.finish_reading()
    num_examples = sum(part.share_size(0, 1) for part in records)
    if not num_examples:
        raise UserError(f"{spec}: all of its pictures are damaged, so none is left")
    return Source(
        class_names=tuple(class_names),
        category_ids=_category_ids(parts, class_names),
        num_examples=num_examples,
        problems=problems,
        _parts=tuple(records),
    )


def build_train_source(
    config: Any, workdir: str | Path | None = None, is_main_process: bool = True
) -> Source:
    """The training data of a config of `configs/`, with the classes that it lists.

    Args:
      config: the config.
      workdir: the work directory, where damaged pictures are listed that are left out.
      is_main_process: see `Problems`.

    Raises:
      UserError: see `open_source`.
    """
    problems = build_problems(config, workdir, is_main_process)
    return open_source(config.data.train, config.data.class_names, problems)


def open_part(
    spec: str, problems: Problems
) -> tuple[str, dict[str, int] | None, list[Annotation] | TfdsRecords]:
    """Opens one of the parts that a spec joins by commas.

    Args:
      spec: without commas.
      problems: is told of damaged pictures, which are left out.

    Returns:
      The spec; ids by name of the classes that the set declares, or None; and its annotations, not
      cleaned, or records of TFDS.

    Raises:
      UserError: see `open_source`.
    """
    kind, _, rest = spec.partition(":")
    # From the right for folders, so that ROOT may hold colons; NAME of TFDS may too.
    first, _, second = rest.rpartition(":")
    if kind in ("voc_xml", "coco_json"):
        check_no_scheme(rest)
    if kind == "voc_xml" and first and second:
        return spec, None, read_voc_xml(first, second, problems)
    if kind == "coco_json" and first and second:
        annotations, category_ids = read_coco_json(first, second, problems)
        return spec, category_ids, annotations
    if kind == "shapes" and rest:
        records = TfdsRecords.open_shapes(rest)
    elif kind == "tfds" and first and second:
        records = TfdsRecords.open(first, second)
    else:
        raise UserError(f"the data source {spec!r} is not of the form {GRAMMAR}")
    problems.num_pictures += records.share_size(0, 1)
    return spec, records.category_ids(), records


def _common_class_names(parts) -> tuple[str, ...]:
    declared = {tuple(ids) for _, ids, _ in parts if ids is not None}
    if len(declared) > 1:
        names = " and ".join(name for name, ids, _ in parts if ids is not None)
        raise UserError(
            f"{names} have different classes: name the classes to use in config.data.classes"
        )
    if declared:
        return declared.pop()
    found = {name for _, _, annotations in parts for a in annotations for name in a.names}
    if not found:
        raise UserError(
            f"{', '.join(name for name, _, _ in parts)}: no picture has an object, so there are "
            "no classes to learn"
        )
    return tuple(sorted(found))


def _category_ids(parts, class_names: Sequence[str]) -> tuple[int, ...]:
    """The ids that the first part with all of the classes gives them, otherwise 1, 2, …."""
    for _, ids, _ in parts:
        if ids is not None and set(class_names) <= set(ids):
            return tuple(ids[name] for name in class_names)
    return tuple(range(1, len(class_names) + 1))
