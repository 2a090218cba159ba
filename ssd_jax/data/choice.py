"""Chooses the training images and the evaluation images of a run, for all commands.

`config.data.eval` names the evaluation data. If it is empty, the validation split of the training
data is used, or else its test split. Without such a split, some of the training images are kept for
evaluation (`cut.py`).
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ssd_jax.config.schema import Config, DataConfig
from ssd_jax.data import discovery
from ssd_jax.data import spec as grammar
from ssd_jax.data.content import check_any_class
from ssd_jax.data.cut import Cut, make_cut
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.places import folder_and_split, given_sources
from ssd_jax.data.problems import Problems, make_problems
from ssd_jax.data.sources import FORMATS, Named, open_dataset, resolve
from ssd_jax.errors import UserError, counted
from ssd_jax.storage.placeholders import data_path, given_place

logger = logging.getLogger(__name__)


class Sources(NamedTuple):
    """The sources of a run, with format and arguments.

    Attributes:
      train: the sources for training.
      evaluation: the sources for evaluation; None if the training images are divided.
      trained: a description of `train`, for messages.
      origin: a description of `evaluation`, for messages.
    """

    train: list[str]
    evaluation: list[str] | None
    trained: str
    origin: str


class RunData(NamedTuple):
    """The images of a run.

    Attributes:
      train: the training images.
      evaluation: the evaluation images; None without evaluation.
      trained: a description of the origin of `train`.
      origin: a description of the origin of `evaluation`.
      cut: the division of the images, if they were divided.
    """

    train: Dataset
    evaluation: Dataset | None
    trained: str
    origin: str = ""
    cut: Cut | None = None

    @property
    def evaluated(self) -> str:
        """A description of the evaluation images, for a report."""
        if self.cut is None or self.evaluation is None:
            return self.origin
        count, total = len(self.evaluation), len(self.train) + len(self.evaluation)
        return f"{self.trained}: {_describe_held_out(count, total)}"


def _describe_held_out(count: int, total: int) -> str:
    others = f"the run trained on the other {total - count:,}"
    return f"{count:,} of {counted(total, 'image')}, held out; {others}"


def choose_sources(data: DataConfig) -> Sources:
    """Chooses the sources of a config for training and evaluation.

    Args:
      data: the config of the data.

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
        return Sources(train, list(own), words, f"{data.train}, split {splits}")
    cut = f"{data.train}, images held out by config.data.split={data.split:g}"
    return Sources(train, None, words, cut)


def check_workdir_apart(data: DataConfig, workdir: Path) -> None:
    """Rejects a work directory that is the folder of the data.

    Raises:
      UserError: both are the same folder; files of the run would be read as annotations.
    """
    for spec in (data.train, data.eval):
        folder, _ = folder_and_split(spec)
        if folder and folder.is_dir() and _real_place(folder) == _real_place(workdir):
            raise UserError(
                f"the work directory {workdir} is the folder of the data, and its files would be "
                "among the annotations: name another work directory"
            )


def _real_place(folder: Path) -> str:
    return given_place(os.path.realpath(folder))


def _choose_sources(config: Config, is_cut: bool = False) -> Sources:
    """`choose_sources`; without evaluation sources for a config that never evaluates."""
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
    """Opens the training and evaluation images of a config, with the classes of the training data.

    A config that never evaluates uses all images for training.

    Args:
      config: the config of the run.
      stored: the stored division of the images, if the run has one.
      workdir: the work directory; damaged images are listed there.
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
    """Opens only the training images of a config; see `open_run_data`."""
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
    """Opens the evaluation images of a config.

    Args:
      data: the config of the data.
      class_names: the classes; see `open_dataset`.
      problems: handles damaged images.
      stored: the stored division of the images, if the run has one.
      seed: the seed of a new division; None if the run trained on all images.

    Returns:
      The images, and a description of their origin.

    Raises:
      UserError: the run trained on all images, or `data.eval` has only objects of other classes;
        see also `open_run_data`.
    """
    # The training data may not exist any more.
    if data.eval and not (data.train and _are_same_path(data.eval, data.train)):
        named = resolve(data.eval, "eval")
        origin = _describe(named)
        logger.info("evaluation data: %s", origin)
        if stored and set(_all_sources(named)) & set(stored.sources):
            logger.warning(
                "%s contains training images, so the mAP will be too high: name %s to evaluate "
                "only on the images that were kept for evaluation",
                *(data.eval, data.train),
            )
        chosen = _open(_all_sources(named), data, class_names, problems, "eval")
        check_any_class(chosen, origin)
        return chosen, origin
    sources = choose_sources(data)
    if sources.evaluation is not None:
        logger.info("evaluation data: %s", sources.origin)
        return _open(sources.evaluation, data, class_names, problems, "eval"), sources.origin
    if stored is None and seed is None:
        raise UserError(
            f"the run was trained on all images of {data.train}, and none were kept for "
            "evaluation: name other images with --source"
        )
    everything = _open(sources.train, data, class_names, problems, "eval")
    cut = stored or make_cut(everything, sources.train, data.split, seed or 0)
    chosen = everything.chosen(cut.masks(everything, sources.train))
    origin = f"{sources.origin}: {len(chosen):,} of {len(everything):,}"
    if stored:
        origin = f"{data.train}: {_describe_held_out(len(chosen), len(everything))}"
    logger.info("evaluation data: %s", origin)
    return chosen, origin


def _open_training(
    sources: Sources, config: Config, problems: Problems, stored: Cut | None
) -> tuple[Dataset, Cut | None]:
    """Opens the training data; without evaluation data, divides its images or uses `stored`."""
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
    """Whether training and evaluation name the same folder or file."""
    return (
        len(trained) == 1
        and trained[0].found is not None
        and _are_same_path(data.eval, trained[0].given)
    )


def _describe(named: Sequence[Named]) -> str:
    return ", ".join(each.describe() for each in named)


def _are_same_path(first: str, second: str) -> bool:
    """Whether two folders or files, with their splits, are the same, also with different paths."""
    return _real(first) == _real(second)


def _real(source: str) -> tuple[str, str]:
    """The resolved absolute path and the split of a folder or file."""
    path, split = folder_and_split(source)
    return os.path.realpath(path or grammar.unquoted(source)), split


def _own_evaluation(named: Named, train: Sequence[str]) -> dict[str, str]:
    """The sources for evaluation in the training data, each with the name of its split.

    Args:
      named: one of the sources of the training data.
      train: all training sources, with format and arguments; they are left out.
    """
    name, _, rest = named.given.partition(":")
    found, split = named.found, named.split
    if found is None:
        form = FORMATS[name]
        values = grammar.split_arguments(rest, form.arguments.count(":") + 1)
        is_folder = values is not None and data_path(values[0]).is_dir()
        if name == "shapes" or (name == "tfds" and not is_folder):
            return _evaluation_of_tfds(name, rest, train)
        has_splits = form.arguments in ("ROOT:SPLIT", "NAME:SPLIT")
        if not has_splits or form.find is None or values is None or not is_folder:
            return {}
        root, split = data_path(values[0]), values[1]
        if discovery.kind_of(split) not in discovery.TRAIN_NAMES:
            return {}  # its kind is unknown
        splits = given_sources(form.find(FileTree(root))) | {split: named.sources}
        found = discovery.Found(root, name, splits)
    trained = set(map(_key, train))
    taken = {source for own in found.splits.values() for source in own if _key(source) in trained}
    own = discovery.evaluation_split(found, split, taken)
    return dict.fromkeys(found.splits[own], own) if own else {}


def _key(source: str) -> tuple[str, ...]:
    """The key of a source with format and arguments, the same for all paths to one file."""
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
