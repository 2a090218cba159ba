"""What a config may hold: its fields with their types and limits, checked before anything is built.

The fields are explained in `configs/ssd300_voc.py`.
"""

import reprlib
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field, model_validator

from ssd_jax.config.spelling import did_you_mean
from ssd_jax.errors import UserError
from ssd_jax.evaluation.summary import METRICS
from ssd_jax.models.network import PRECISIONS

EXPLAINED = "configs/ssd300_voc.py"

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveOrZero = Annotated[float, Field(ge=0)]
OnError = Literal["stop", "skip"]
# A config read from JSON has lists where one of Python has tuples.
ListOrTuple = Field(strict=False)
Sizes = Annotated[tuple[Positive, ...], ListOrTuple]
ExtraBlock = Annotated[tuple[Count, Count, Count, Count, CountOrZero], ListOrTuple]
Shape = Annotated[tuple[Positive, Positive], ListOrTuple]


class _Fields(pydantic.BaseModel):
    """No other fields than these, and no string or bool in place of a number."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Data(_Fields):
    """`config.data`."""

    train: str
    eval: str
    classes: str
    cache: bool
    max_objects: Count
    on_error: OnError
    max_error_fraction: Share


class Augment(_Fields):
    """`config.augment`."""

    color: bool
    expand_probability: Share
    expand_max_ratio: Annotated[float, Field(ge=1)]
    crop: bool
    flip: bool


class Model(_Fields):
    """`config.model`."""

    backbone: str  # build_network knows which there are
    image_size: Count
    width: Positive
    batch_norm: bool
    separable: bool
    linear_extras: bool
    precision: Literal[tuple(PRECISIONS)]
    extra_blocks: Annotated[tuple[ExtraBlock, ...], ListOrTuple]
    feature_sizes: Annotated[tuple[Count, ...], ListOrTuple]
    steps: Sizes
    min_sizes: Sizes
    max_sizes: Sizes
    aspect_ratios: Annotated[tuple[Sizes, ...], ListOrTuple]
    whole_pixels: bool
    shapes: Annotated[tuple[Annotated[tuple[Shape, ...], ListOrTuple], ...], ListOrTuple]
    clip: bool

    @model_validator(mode="after")
    def _one_entry_a_feature_map(self) -> Self:
        of_boxes = ("shapes",) if self.shapes else ("min_sizes", "max_sizes", "aspect_ratios")
        wanted = len(self.feature_sizes)
        for name in ("steps", *of_boxes):
            given = len(getattr(self, name))
            if given != wanted:
                raise ValueError(
                    f"{name} has {given} entries, but feature_sizes has {wanted}: give one for "
                    "each feature map"
                )
        return self


class Loss(_Fields):
    """`config.loss`."""

    iou_threshold: Annotated[float, Field(gt=0, le=1)]
    boundary_boxes: bool
    negatives_per_positive: PositiveOrZero
    min_negatives: CountOrZero
    localisation_weight: PositiveOrZero
    label_smoothing: ShareBelowOne


class Detection(_Fields):
    """`config.detection`."""

    score_threshold: Share
    iou_threshold: Share
    boxes_per_class: Count
    detections_per_image: Count


class Config(_Fields):
    """A whole config."""

    published: str
    metric: Literal[METRICS]
    batch_size: Count
    steps: Count
    seed: CountOrZero
    init: str
    log_every: Count
    checkpoint_every: Count
    keep_checkpoints: Count
    eval_every: Annotated[int, Field(ge=-1)]

    optimizer: Literal["sgd", "adam"]
    learning_rate: Positive
    base_batch_size: CountOrZero
    bias_rate: PositiveOrZero
    schedule: Literal["step", "cosine"]
    learning_rate_drops: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], ListOrTuple]
    warmup_steps: CountOrZero
    momentum: ShareBelowOne
    weight_decay: PositiveOrZero
    undecayed: str
    clip_norm: PositiveOrZero
    accumulate: Count
    ema: ShareBelowOne
    freeze: str
    freeze_batch_norm: bool
    on_nonfinite: OnError
    max_skipped: CountOrZero

    data: Data
    augment: Augment
    model: Model
    loss: Loss
    detection: Detection


def check_config(config: Any) -> None:
    """Checks everything in a config that can be told from the config alone.

    Args:
      config: a config of `configs/`.

    Raises:
      UserError: fields are unknown or missing, or have values that they cannot have; it names
        them all, one a line.
    """
    _raise(_mistakes(config))


def check_fields(config: Any) -> None:
    """Raises a `UserError` if a config has unknown fields or lacks some, whatever their values."""
    _raise([error for error in _mistakes(config) if _is_about_names(error)])


def check_values(config: Any) -> None:
    """Raises a `UserError` if fields that a config does have hold what they cannot.

    For the config of a finished run, which another version of this package may have written.
    """
    _raise([error for error in _mistakes(config) if not _is_about_names(error)])


def field_names() -> list[str]:
    """Every field and group of fields, like `batch_size`, `data` and `data.train`."""
    names = []
    for name, field in Config.model_fields.items():
        names.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Fields):
            names += [f"{name}.{inner}" for inner in field.annotation.model_fields]
    return names


def nearest_field(name: str, prefix: str) -> str:
    """As `did_you_mean`, for what is no field of a config."""
    known = field_names()
    # One of this name in another group comes before one that only looks alike.
    elsewhere = [field for field in known if field.split(".")[-1] == name.split(".")[-1]]
    return did_you_mean(elsewhere[0] if elsewhere else name, known, prefix)


def _mistakes(config: Any) -> list[dict[str, Any]]:
    """What pydantic finds wrong."""
    try:
        Config.model_validate(config.to_dict())
    except pydantic.ValidationError as error:
        return error.errors(include_url=False)
    return []


def _is_about_names(error: dict[str, Any]) -> bool:
    return error["type"] == "extra_forbidden" or (
        error["type"] == "missing" and isinstance(error["loc"][-1], str)
    )


def _raise(errors: list[dict[str, Any]]) -> None:
    if errors:
        raise UserError("\n".join(map(_describe, errors)))


def _describe(error: dict[str, Any]) -> str:
    """One mistake: the field, its value, and what it must be."""
    *group, last = error["loc"]
    field = _path(error["loc"])
    if error["type"] == "extra_forbidden":
        name = field.removeprefix("config.")
        return f"{field} is no field of a config{nearest_field(name, 'config.')}"
    if error["type"] == "missing" and isinstance(last, str):
        return f"{field} is missing: {EXPLAINED} explains it"
    if error["type"] == "value_error":
        return f"{field}: {error['ctx']['error']}"
    if error["type"] == "missing":
        field, limit = _path(group), f"must have an entry {last + 1}"
    elif error["type"] == "model_type":
        limit = "must be a ConfigDict"
    else:
        limit = error["msg"].replace("Input should", "must").replace("Tuple should", "must")
        limit = limit.replace("a valid integer", "a whole number").replace("a valid ", "a ")
        limit = limit.partition(" after validation")[0]
    return f"{field} is {reprlib.repr(error['input'])}, but {limit}"


def _path(place: list[str | int] | tuple[str | int, ...]) -> str:
    """`config.model.extra_blocks[2]`."""
    return "config" + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in place
    )
