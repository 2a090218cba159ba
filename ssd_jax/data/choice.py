"""Chooses the images that are trained on and those that are evaluated on.

Evaluation data is what `config.data.eval` names. Where that is empty, it is the validation split
that the training data has itself, or else the test split; and where it has neither, some of the
training images are cut off (`cut.py`). All commands choose here, and so alike.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ssd_jax.config.schema import Config, DataConfig
from ssd_jax.data import discovery
from ssd_jax.data import spec as grammar
from ssd_jax.data.cut import Cut, make_cut
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.problems import Problems, make_problems
from ssd_jax.data.sources import FORMATS, Named, folder_and_split, open_dataset, resolve
from ssd_jax.errors import UserError

logger = logging.getLogger(__name__)


class Sources(NamedTuple):
    """The sources of a run, with format and arguments.

    Attributes:
      train: trained on.
      evaluation: evaluated on; None where these images are cut off the others.
      trained: where those of `train` come from, in words.
      origin: where those of `evaluation` come from, in words.
    """

    train: list[str]
    evaluation: list[str] | None
    trained: str
    origin: str


class RunData(NamedTuple):
    """The images of a run.

    Attributes:
      train: trained on.
      evaluation: evaluated on; None where nothing is evaluated.
      trained: where those of `train` come from, in words.
      origin: where those of `evaluation` come from, in words.
      cut: which they are, where they were cut off.
    """

    train: Dataset
    evaluation: Dataset | None
    trained: str
    origin: str = ""
    cut: Cut | None = None


def choose_sources(data: DataConfig) -> Sources:
    """The sources that a config trains and evaluates on.

    Args:
      data: names them.

    Raises:
      UserError: no training data is named; see also `explicit_sources`.
    """
    trained = resolve(_named(data), "train")
    train, words = _all_sources(trained), _describe(trained)
    if data.eval and not _is_same_place(data, trained):
        named = resolve(data.eval, "eval")
        return Sources(train, _all_sources(named), words, _describe(named))
    own = {
        source: split
        for named in trained
        for source, split in _own_evaluation(named, train).items()
    }
    if own:
        splits = ", ".join(dict.fromkeys(own.values()))
        return Sources(train, list(own), words, f"{data.train}, its own split {splits}")
    cut = f"{data.train}, cut by config.data.split={data.split:g}"
    return Sources(train, None, words, cut)


def check_workdir_apart(data: DataConfig, workdir: Path) -> None:
    """Refuses a work directory that is the folder of the data.

    Raises:
      UserError: it is; its files would be taken for annotations.
    """
    for spec in (data.train, data.eval):
        folder, _ = folder_and_split(spec)
        if folder and folder.is_dir() and os.path.realpath(folder) == os.path.realpath(workdir):
            raise UserError(
                f"the work directory {workdir} is the folder of the data: name another one, for "
                "its files would lie among the annotations"
            )


def _choose_sources(config: Config, is_cut: bool = False) -> Sources:
    """`choose_sources`; of a config that never evaluates, nothing for evaluation."""
    if config.eval_every >= 0 or is_cut:
        return choose_sources(config.data)
    trained = resolve(_named(config.data), "train")
    return Sources(_all_sources(trained), [], _describe(trained), "")


def open_run_data(
    config: Config,
    stored: Cut | None = None,
    workdir: str | Path | None = None,
    is_main_process: bool = True,
) -> RunData:
    """The images that a config trains and evaluates on, with the classes of those trained on.

    Where it never evaluates, nothing is cut off.

    Args:
      config: names the data and the classes, and what happens to damaged images.
      stored: the cut that the run was started with, if any.
      workdir: the work directory, where damaged images are listed that are left out.
      is_main_process: see `Problems`.

    Raises:
      UserError: see `open_dataset` and `make_cut`.
    """
    data, evaluates = config.data, config.eval_every >= 0

    def problems() -> Problems:
        return make_problems(data, workdir, is_main_process)

    if workdir is not None:
        check_workdir_apart(data, Path(workdir))
    sources = _choose_sources(config, is_cut=stored is not None)
    train, cut = _open_training(sources, config, problems(), stored)
    if cut is not None:
        masks = cut.masks(train, sources.train)
        evaluation = train.chosen(masks) if evaluates else None
        train = train.chosen([~mask for mask in masks])
        return RunData(train, evaluation, sources.trained, sources.origin, cut)
    if not evaluates:
        return RunData(train, None, sources.trained)
    evaluation = _open(sources.evaluation or [], data, train.class_names, problems(), "eval")
    return RunData(train, evaluation, sources.trained, sources.origin)


def open_training_data(config: Config, workdir: str | Path | None = None) -> Dataset:
    """The images that a config trains on, as in `open_run_data`; evaluation data is not opened."""
    sources = _choose_sources(config)
    logger.info("training data: %s", sources.trained)
    train, cut = _open_training(sources, config, make_problems(config.data, workdir), None)
    return train.chosen([~mask for mask in cut.masks(train, sources.train)]) if cut else train


def open_evaluation_data(
    data: DataConfig,
    class_names: Sequence[str],
    problems: Problems,
    stored: Cut | None = None,
    seed: int | None = 0,
) -> tuple[Dataset, str]:
    """The images that a config evaluates on.

    Args:
      data: names them, and what classes are called.
      class_names: the classes; see `open_dataset`.
      problems: what becomes of damaged images.
      stored: the cut that the run was started with, if any.
      seed: of the cut where there is none; None where all images were trained on.

    Returns:
      The images, and where they come from in words.

    Raises:
      UserError: all images were trained on; see also `open_run_data`.
    """
    # What is trained on may be gone.
    if data.eval and not (data.train and _are_same_path(data.eval, data.train)):
        named = resolve(data.eval, "eval")
        logger.info("evaluation data: %s", _describe(named))
        if stored and set(_all_sources(named)) & set(stored.sources):
            logger.warning(
                "%s holds the images that were trained on, too, so the mAP will be too high: name "
                "%s to evaluate on those that were cut off",
                *(data.eval, data.train),
            )
        chosen = _open(_all_sources(named), data, class_names, problems, "eval")
        return chosen, _describe(named)
    sources = choose_sources(data)
    logger.info("evaluation data: %s", sources.origin)
    if sources.evaluation is not None:
        return _open(sources.evaluation, data, class_names, problems, "eval"), sources.origin
    if stored is None and seed is None:
        raise UserError(
            f"the run was trained on all images of {data.train}, and none were cut off for "
            "evaluation: name other images with --source"
        )
    everything = _open(sources.train, data, class_names, problems, "eval")
    cut = stored or make_cut(everything, sources.train, data.split, seed or 0)
    return everything.chosen(cut.masks(everything, sources.train)), sources.origin


def _open_training(
    sources: Sources, config: Config, problems: Problems, stored: Cut | None
) -> tuple[Dataset, Cut | None]:
    """The training data, and which images of it are cut off."""
    data = config.data
    train = _open(sources.train, data, data.class_names, problems, "train")
    if sources.evaluation is not None:
        return train, None
    return train, stored or make_cut(train, sources.train, data.split, config.seed)


def _open(
    sources: Sequence[str],
    data: DataConfig,
    class_names: Sequence[str],
    problems: Problems,
    role: discovery.Role,
) -> Dataset:
    return open_dataset(",".join(sources), class_names, problems, data.renamed_classes, role)


def _named(data: DataConfig) -> str:
    """The spec of the training data."""
    if not data.train.strip():
        raise UserError(
            "config.data.train is empty: name your data with --config.data.train=FOLDER "
            "(docs/training.md)"
        )
    return data.train


def _all_sources(named: Sequence[Named]) -> list[str]:
    return [source for each in named for source in each.sources]


def _is_same_place(data: DataConfig, trained: Sequence[Named]) -> bool:
    """Whether one folder or file is named both for training and for evaluation."""
    return (
        len(trained) == 1
        and trained[0].found is not None
        and _are_same_path(data.eval, trained[0].given)
    )


def _describe(named: Sequence[Named]) -> str:
    return ", ".join(each.describe() for each in named)


def _are_same_path(first: str, second: str) -> bool:
    """Whether folders or files, perhaps with a split, are the same, however they are written."""
    return _real(first) == _real(second)


def _real(source: str) -> tuple[str, str]:
    """The path without links from the root, and the split, of a folder or file."""
    path, split = folder_and_split(source)
    return os.path.realpath(path or grammar.unquoted(source)), split


def _own_evaluation(named: Named, train: Sequence[str]) -> dict[str, str]:
    """The sources for evaluation that training data has itself, each with the name of its split.

    Args:
      named: one of the sources of the training data.
      train: all of them, with format and arguments; none of these is taken.
    """
    name, _, rest = named.given.partition(":")
    found, split = named.found, named.split
    if found is None:
        form = FORMATS[name]
        values = grammar.split_arguments(rest, form.arguments.count(":") + 1)
        is_folder = values is not None and os.path.isdir(values[0])
        if name == "shapes" or (name == "tfds" and not is_folder):
            return _evaluation_of_tfds(name, rest, train)
        has_splits = form.arguments in ("ROOT:SPLIT", "NAME:SPLIT")
        if not has_splits or form.find is None or values is None or not is_folder:
            return {}
        root, split = Path(values[0]), values[1]
        if discovery.kind_of(split) not in discovery.TRAIN_NAMES:
            return {}  # nobody knows what it holds
        splits = form.find(FileTree(root)) | {split: named.sources}
        found = discovery.Found(root, name, splits)
    trained = set(map(_key, train))
    taken = {source for own in found.splits.values() for source in own if _key(source) in trained}
    own = discovery.evaluation_split(found, split, taken)
    return dict.fromkeys(found.splits[own], own) if own else {}


def _key(source: str) -> tuple[str, ...]:
    """What a source with format and arguments reads, however its paths are written."""
    name, _, rest = source.partition(":")
    values = grammar.split_arguments(rest, FORMATS[name].arguments.count(":") + 1) or [rest]
    return name, *(os.path.realpath(each) if os.path.exists(each) else each for each in values)


def _evaluation_of_tfds(name: str, rest: str, train: Sequence[str]) -> dict[str, str]:
    from ssd_jax.data.formats.tfds_records import TfdsRecords

    arguments = grammar.split_arguments(rest, FORMATS[name].arguments.count(":") + 1)
    if arguments is None:
        return {}
    part = FORMATS[name].open(*arguments, Problems())
    assert isinstance(part, TfdsRecords)
    own = _key(grammar.compose(name, *arguments))[:-1]
    same = [key[-1] for key in map(_key, train) if key[:-1] == own]
    split = part.evaluation_split(same)
    return {grammar.compose(name, *arguments[:-1], split): split} if split else {}
