"""Chooses the fields of the config that depend on a user's images and on the machine.

Fields that the user sets are not changed. Every choice is a field of the config, has a reason, and
is recorded in the work directory, so that a run continues with the same values.
"""

import logging
import math
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import numpy as np

from ssd_jax.config.files import load_config
from ssd_jax.config.schema import EVALUATIONS, Config
from ssd_jax.data.choice import RunData
from ssd_jax.data.content import Content, count_content
from ssd_jax.data.datasets import Dataset
from ssd_jax.detection.box_clusters import clustered
from ssd_jax.detection.fit import LOW_RECALL, default_box_recall
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError, counted
from ssd_jax.models.input_size import fields_of_size
from ssd_jax.models.network import tiling_of
from ssd_jax.runs.data_checks import check_objects
from ssd_jax.runs.length import steps_of
from ssd_jax.runs.network_choice import how_to_use_weights, with_network
from ssd_jax.runs.workdir import flat_fields

logger = logging.getLogger(__name__)

GAIN = 0.01  # of recall, minimum to use such boxes
SMALL = 30  # pixels; if half of the objects are smaller, a larger input is chosen
# The same, but only if the limit in steps allows the same number of epochs as with the smaller
# input.
RATHER_SMALL = 60
LARGER = {256: 384, 300: 512, 320: 480}  # inputs of the configs, and the larger ones
# Fields that depend on the size of the input.
SIZED = ("extra_blocks", "feature_sizes", "strides", "min_sizes", "max_sizes", "aspect_ratios")
FEW_EPOCHS = 15  # maximum epochs with mirroring as the only augmentation
MANY_EPOCHS = 100  # minimum epochs for the augmentation of the paper
PAPER_BATCH_SIZE = 32


class Length(NamedTuple):
    """The length of a training: a number of epochs, with limits in steps."""

    epochs: float
    fewest: int
    most: int
    limit: str  # the reason for `most`
    image_size: int = 0  # the input size of `most`; larger inputs have fewer steps; 0 = any size


CPU = Length(25, 600, 1500, "so that two cores need at most twenty minutes", 320)
SCRATCH = Length(100, 1500, 2400, CPU.limit, 256)
ACCELERATOR = Length(100, 2000, 40_000, "the number of steps at the paper's first learning rate")


class Choice(NamedTuple):
    """The choice of one field, with its reason; "" = it follows from the number of steps."""

    field: str
    value: Any
    reason: str


class Chosen(NamedTuple):
    """Which fields the program chooses for a run.

    Attributes:
      given: the names of fields that must not change; None = nothing is chosen.
      network: whether a new run uses the network of `with_network`.
    """

    given: Collection[str] | None
    network: bool

    def complete(self, config: Config, data: RunData, recorded: Config | None) -> Config:
        """The config with all choices.

        Args:
          config: the config.
          data: the images of the run.
          recorded: the config of a run that continues.

        Raises:
          UserError: see `planned`; or the data of a new run has no object.
        """
        if self.given is None:
            return config
        if self.network and recorded is None:
            # Checked before weights are downloaded.
            evaluation = None if data.evaluation is None else count_content(data.evaluation)
            check_objects(count_content(data.train), evaluation, data.trained, data.origin)
            config = with_network(config, self.given)
        return planned(config, self.given, data.train, recorded)

    def missing_weights(self, config: Config) -> str:
        """How to use start weights, if they were missing when the network was chosen, or ""."""
        is_given = "init" in (self.given or ())
        return how_to_use_weights() if self.network and not (config.init or is_given) else ""


def planned(
    config: Config, given: Collection[str], train: Dataset, recorded: Config | None
) -> Config:
    """Completes a config for the images and the machine, and logs the choices.

    Args:
      config: the config to complete.
      given: the names of fields that must not change.
      train: the training data.
      recorded: the config of a run that continues.

    Raises:
      UserError: two lengths are given.
    """
    if {"steps", "epochs"} <= set(given) and config.epochs:
        raise UserError(
            f"config.steps is {config.steps} and config.epochs {config.epochs:g}: give one length"
        )
    if recorded is None:
        content = count_content(train)
        config, choices = plan(config, given, content)
        choices = _kept(config, {*given, *(choice.field for choice in choices)}, content) + choices
    else:
        config, choices = plan_further(config, given, len(train), recorded)
    if choices and devices.is_main_process():
        logger.info("%s", format_choices(choices))
    return config


def plan(config: Config, given: Collection[str], train: Content) -> tuple[Config, list[Choice]]:
    """The config of a new run, and its choices; see `planned`."""
    choices: list[Choice] = []

    def choose(found: list[Choice]) -> None:
        nonlocal config
        kept = [choice for choice in found if choice.field not in given]
        config = config.replace({choice.field: choice.value for choice in kept})
        choices.extend(kept)

    choose(_input_size(config, given, train))
    choose(_length(config, given, train.num_images))
    steps = steps_of(config, train.num_images)
    choose(_moments(steps))
    choose(_augmentation(given, config.epochs_in(steps, train.num_images)))
    choose(_shapes(config, train))
    return config, choices


def plan_further(
    config: Config, given: Collection[str], num_images: int, recorded: Config
) -> tuple[Config, list[Choice]]:
    """The config of a run that continues, and its new choices; see `planned`.

    It keeps its earlier choices, except those that depend on its length if that changes.
    """
    values = flat_fields(config.model_dump())
    changed = recorded.replace({name: values[name] for name in given})
    steps = steps_of(changed, num_images)
    if steps == recorded.steps:
        return changed, []
    choices = [choice for choice in _moments(steps) if choice.field not in given]
    return changed.replace({choice.field: choice.value for choice in choices}), choices


def format_choices(choices: list[Choice]) -> str:
    """Describes each choice in a line.

    Lists of numbers with the same reason share a line, as do choices without a reason.
    """
    lines = ["chosen for these images and this machine; --config.FIELD=VALUE sets another value:"]
    lists: dict[str, list[str]] = {}
    for field, value, reason in choices:
        if not reason:
            continue
        if isinstance(value, tuple):
            lists.setdefault(reason, []).append(field)
        else:
            lines.append(f"  {f'config.{field}={value}':<38}{reason}")
    for reason, fields in lists.items():
        group, _, _ = fields[0].rpartition(".")
        names = ", ".join([fields[0], *(field.removeprefix(f"{group}.") for field in fields[1:])])
        lines.append(f"  config.{names}: {reason}")
    if others := [f"config.{field}={value}" for field, value, reason in choices if not reason]:
        lines.append(f"  {', '.join(others)}: from the number of steps")
    return "\n".join(lines)


def _input_size(config: Config, given: Collection[str], train: Content) -> list[Choice]:
    """A larger input if objects are small, and the fields that depend on the input size."""
    model = config.model
    boxes = train.some_boxes()
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)) * model.image_size
    if "model.image_size" in given:
        size, reason = model.image_size, ""
    elif len(sides) and np.median(sides) < (limit := _small(config, train.num_images)):
        size = LARGER.get(model.image_size, model.image_size)
        reason = f"half of the objects are below {limit} pixels at {model.image_size}"
    else:
        return []
    if size == model.strides[-1] or {f"model.{name}" for name in SIZED} & set(given):
        return []
    if (model.backbone, size) == ("vgg16", 512) and not model.batch_norm:
        paper = load_config("ssd512_voc").model
        values = {name: getattr(paper, name) for name in ("image_size", *SIZED)}
    else:
        values = fields_of_size(model, size)
    belonging = f"for an input of {size} pixels"
    return [
        Choice(f"model.{name}", value, reason if name == "image_size" else belonging)
        for name, value in values.items()
    ]


def _kept(config: Config, known: Collection[str], train: Content) -> list[Choice]:
    """Input size and batch size, if the config's own values are kept.

    Args:
      config: the config.
      known: the fields that are given, or chosen for another reason.
      train: the training data.
    """
    kept, boxes, size = [], train.some_boxes(), config.model.image_size
    if "model.image_size" not in known:
        sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)) * size
        reason = "the size of this network"
        if len(sides) and (side := np.median(sides)) >= SMALL:
            reason += f", enough for objects of {side:.0f} pixels (the median)"
        kept.append(Choice("model.image_size", size, reason))
    if "batch_size" not in known:
        reason = "as in the paper"
        if config.batch_size < PAPER_BATCH_SIZE:
            reason = "small, so that a short training takes enough steps"
        kept.append(Choice("batch_size", config.batch_size, reason))
    return kept


def _small(config: Config, num_images: int) -> int:
    """The side in pixels below which the median object causes a larger input."""
    larger = LARGER.get(config.model.image_size, config.model.image_size)
    length = _usual_length(config)
    fits = length is CPU and _wanted(length, config, num_images) <= _most(length, larger)
    return RATHER_SMALL if fits else SMALL


def _usual_length(config: Config) -> Length:
    if jax.default_backend() != "cpu":
        return ACCELERATOR
    return CPU if config.init else SCRATCH


def _wanted(length: Length, config: Config, num_images: int) -> int:
    """The steps of `length.epochs` epochs, or `length.fewest`."""
    return max(math.ceil(length.epochs * num_images / config.batch_size), length.fewest)


def _most(length: Length, image_size: int) -> int:
    """The maximum number of steps for an input of this size."""
    share = (length.image_size / image_size) ** 2 if length.image_size else 1
    return int(length.most * min(share, 1))


def _length(config: Config, given: Collection[str], num_images: int) -> list[Choice]:
    if {"steps", "epochs"} & set(given):
        return []
    length = _usual_length(config)
    most = _most(length, config.model.image_size)
    steps = min(_wanted(length, config, num_images), most)
    passes = config.epochs_in(steps, num_images)
    reason = f"{passes:.3g} passes over {counted(num_images, 'image')}"
    start = "from start weights" if config.init else "from scratch"
    if steps == most:
        reason += f", {length.limit}"
    elif steps == length.fewest:
        reason += f": few images, but training {start} needs this number of steps"
    else:
        reason += f", enough {start}"
    return [Choice("steps", steps, reason)]


def _moments(steps: int) -> list[Choice]:
    """The intervals of checkpoints and log lines, and the steps of the warm-up."""
    every = math.ceil(steps / EVALUATIONS)  # before each of them
    return [
        Choice(
            "checkpoint_every",
            every,
            f"{counted(math.ceil(steps / every), 'checkpoint')}, each evaluated; the best stays",
        ),
        Choice("log_every", max(1, min(20, steps // 20)), ""),
        Choice("warmup_steps", max(1, min(500, steps // 20)), ""),
    ]


def _augmentation(given: Collection[str], passes: float) -> list[Choice]:
    pays = passes >= MANY_EPOCHS
    reason = f"each image is seen {passes:.3g} times: "
    reason += "varied as in the paper" if pays else "more variation would cost more than it gains"
    color = Choice("augment.color", pays, reason)
    if "augment.color_strength" in given:
        color = Choice("augment.color", True, "its strength is given")
    if passes < FEW_EPOCHS:
        return [
            color,
            Choice("augment.crop", False, reason),
            Choice("augment.expand_probability", 0.0, reason),
        ]
    return [color, Choice("augment.expand_max_ratio", 4.0 if pays else 2.0, reason)]


def _shapes(config: Config, train: Content) -> list[Choice]:
    """Default boxes in the shapes of the objects, if those of the config match too few objects."""
    if not len(train.boxes):
        return []
    boxes, tiling = train.some_boxes(), tiling_of(config.model)
    recall = default_box_recall(boxes, tiling, config.loss)
    if recall >= LOW_RECALL:
        return []
    sides = (boxes[:, 2:] - boxes[:, :2]) * config.model.image_size
    recalls = {
        candidate: default_box_recall(boxes, candidate, config.loss)
        for candidate in clustered(sides, tiling)
    }
    best = max(recalls, key=lambda candidate: recalls[candidate])
    if recalls[best] < recall + GAIN:
        return []
    reason = f"default boxes in shapes of the objects: {recalls[best]:.1%} of these fit, not "
    return [Choice("model.shapes", best.shapes, f"{reason}{recall:.1%}")]
