"""The config of a run: every field with its type, limits, default and meaning.

Files in `configs/` give values. `as_config` checks them once and converts them to a `Config`. Each
function takes only the group of fields that it needs.
"""

import copy
import math
import re
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

import pydantic
from ml_collections import ConfigDict
from pydantic import Field, model_validator

from ssd_jax.config.spelling import did_you_mean
from ssd_jax.errors import UserError

EVALUATIONS = 10  # in a run, if `eval_every` is 0
MOST_MISTAKES = 10  # of a config that one message names

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveOrZero = Annotated[float, Field(ge=0)]
OnError = Literal["stop", "skip"]
LOGGERS = ("tensorboard", "wandb", "mlflow")  # the names that `loggers` may contain
PrecisionName = Literal["float32", "tf32", "bfloat16"]
# A config from JSON has lists where a config from Python has tuples.
ListOrTuple = Field(strict=False)
Sizes = Annotated[tuple[Positive, ...], ListOrTuple]
ExtraBlock = Annotated[tuple[Count, Count, Count, Count, CountOrZero], ListOrTuple]
BoxShape = Annotated[tuple[Positive, Positive], ListOrTuple]
BoxShapes = Annotated[tuple[BoxShape, ...], ListOrTuple]


def split_names(listed: str) -> tuple[str, ...]:
    """The names of a list joined by commas; a name with commas is in double quotes.

    Raises:
      UserError: a quote is not closed.
    """
    if listed.count('"') % 2:
        raise UserError(f"{listed} has a double quote that is not closed: write two or none")
    names = (
        found[0].replace('"', "").strip() for found in re.finditer(r'("[^"]*"|[^,"])+', listed)
    )
    return tuple(name for name in names if name)


class Group(pydantic.BaseModel):
    """A group of fields: frozen, no unknown fields, and no string or bool instead of a number."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuses changes, with the way to make a changed copy."""
        raise UserError(
            f"a config is frozen, and {name} cannot be set: make a copy with other values, like "
            "config.replace({'steps': 3, 'data.train': 'path/to/dataset'})"
        )


GroupT = TypeVar("GroupT", bound=Group)


class RunConfig(Group):
    """The length of a run, its evaluations, checkpoints and loggers: `config.FIELD`."""

    metric: str = "voc07"
    """Metric of evaluations: voc07 (11-point), voc (area) or coco (0.50:0.95)."""
    batch_size: Count = 32
    """Images a step, over all devices of all processes."""
    steps: Count = 120_000
    """Parameter updates of the whole run."""
    epochs: PositiveOrZero = 0.0
    """Passes over the training images; they determine `steps`. 0 = `steps` is used."""
    seed: CountOrZero = 0
    """Seed of weights, order and augmentation."""
    init: str = "keras:imagenet"
    """Start weights: "" = from scratch, "run:WORKDIR", or "FORMAT:FILE" (docs/weights.md)."""
    log_every: Count = 50
    """Steps between two lines of metrics."""
    loggers: str = "tensorboard"
    """Loggers of metrics and images, in addition to metrics.jsonl: tensorboard, wandb (Weights &
    Biases), mlflow, joined by commas; "" = none."""
    checkpoint_every: Count = 5_000
    """Steps between two checkpoints; each evaluation and the last step have one too."""
    keep_checkpoints: Count = 3
    """Number of latest checkpoints that are kept; the best by the metric is kept too."""
    eval_every: Annotated[int, Field(ge=-1)] = 0
    """Steps between two evaluations; the last step has one too. 0 = ten in a run, -1 = never."""
    patience: CountOrZero = 0
    """Early stopping after this many evaluations without a higher mAP; 0 = off."""
    report: bool = True
    """Whether an evaluated run ends with a page about its best checkpoint, in `report/`."""
    on_nonfinite: OnError = "stop"
    """Reaction to a loss or gradient that is not finite: stop, or skip the update."""
    max_skipped: CountOrZero = 10
    """Updates that may be skipped in a run."""

    @property
    def logger_names(self) -> tuple[str, ...]:
        """`loggers` as a tuple."""
        return split_names(self.loggers)

    @model_validator(mode="after")
    def _loggers_are_known(self) -> Self:
        for name in self.logger_names:
            if name not in LOGGERS:
                near = did_you_mean(name, LOGGERS)
                raise ValueError(
                    f"loggers names {name!r}, but must be of {', '.join(LOGGERS)}, joined by "
                    f'commas, or "" for none{near}'
                )
            if self.logger_names.count(name) > 1:
                raise ValueError(f"loggers names {name} twice: name it once")
        return self

    @property
    def steps_between_evaluations(self) -> int:
        """`eval_every`, with 0 replaced by its meaning; -1 = no evaluations."""
        return self.eval_every or math.ceil(self.steps / EVALUATIONS)

    def epochs_in(self, steps: int, num_images: int) -> float:
        """The number of passes over `num_images` images in `steps` steps."""
        return steps * self.batch_size / num_images


class OptimizerConfig(Group):
    """The optimiser and its schedule: `config.FIELD`."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    """SGD as in Caffe, or Adam with decoupled weight decay."""
    learning_rate: Positive = 1e-3
    """Learning rate after the warm-up, before the first drop."""
    base_batch_size: CountOrZero = 0
    """Batch size of `learning_rate`, which grows in proportion to `batch_size`; 0 = fixed rate."""
    bias_rate: PositiveOrZero = 2.0
    """Factor on the learning rate of biases, with SGD."""
    schedule: Literal["step", "cosine"] = "step"
    """The rate drops by a factor of 10 at `learning_rate_drops`, or falls along a cosine to 0."""
    learning_rate_drops: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], ListOrTuple] = (
        2 / 3,
        5 / 6,
    )
    """Ascending fractions of the run at which the rate is divided by 10."""
    warmup_steps: CountOrZero = 500
    """Steps over which the rate rises linearly from 0."""
    momentum: ShareBelowOne = 0.9
    """Momentum of SGD."""
    weight_decay: PositiveOrZero = 5e-4
    """Weight decay of all parameters except `no_weight_decay`."""
    no_weight_decay: str = "*/bias,*/scale"
    """Patterns of the parameters without weight decay, joined by commas."""
    clip_norm: PositiveOrZero = 0.0
    """Maximum norm of the gradient, which is scaled down to it; 0 = no maximum."""
    accumulate: Count = 1
    """Gradient accumulation steps: the parts in which a device processes its share of a batch."""
    ema: ShareBelowOne = 0.0
    """Decay of the moving average of parameters that is evaluated, like 0.9998; 0 = none."""
    freeze: str = ""
    """Patterns of the parameters that are not trained, like "backbone/conv1_*"."""
    freeze_batch_norm: bool = False
    """Whether batch norm uses its initial statistics and does not update them."""

    @model_validator(mode="after")
    def _drops_ascend(self) -> Self:
        if list(self.learning_rate_drops) != sorted(self.learning_rate_drops):
            raise ValueError(
                f"learning_rate_drops is {self.learning_rate_drops}, but must be ascending "
                "fractions of the run, like (2 / 3, 5 / 6)"
            )
        return self


class DataConfig(Group):
    """`config.data`: the images, their classes, and the treatment of damaged images."""

    train: str = "tfds:voc/2007:train+validation,tfds:voc/2012:train+validation"
    """Training data: a folder, or a source (docs/data.md has the grammar)."""
    eval: str = "tfds:voc/2007:test"
    """Evaluation data; "" = the validation or test split of the training data, or else a part of it
    (see `split`). Reset to "" when only `train` is set, because it belongs to the old `train`."""
    classes: str = ""
    """Class names joined by commas; "" = those of the data. Other objects are left out."""
    class_map: str = ""
    """Classes to merge, rename or leave out: "dog+puppy=dog,car=" merges two and leaves out one."""
    split: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Share of the images for training if `eval` is "" and the data has no split for evaluation;
    near duplicates stay on one side."""
    repeat_threshold: Share = 0.0
    """Classes in a smaller share of the images are rare: their images are drawn more often, as for
    LVIS. 0 = all images equally often."""
    cache: bool = False
    """Whether encoded training images stay in memory once they are read."""
    max_objects: Count = 64
    """Maximum number of objects of a training image; of more, the largest are kept."""
    on_error: OnError = "stop"
    """Reaction to a damaged image or annotation: stop, or skip the image."""
    max_error_fraction: Share = 0.01
    """Fraction of the images that may be skipped, rounded up to whole images."""

    @model_validator(mode="before")
    @classmethod
    def _evaluation_belongs_to_training(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "train" in values and "eval" not in values:
            return {**values, "eval": ""}
        return values

    @property
    def class_names(self) -> tuple[str, ...]:
        """`classes` as a tuple; empty = the classes of the data."""
        return split_names(self.classes)

    @property
    def renamed_classes(self) -> dict[str, str]:
        """`class_map` as new names by old names; "" = its objects are left out."""
        renamed = {}
        for entry in split_names(self.class_map):
            olds, _, new = entry.rpartition("=")
            renamed |= {old.strip(): new.strip() for old in olds.split("+")}
        return renamed

    @model_validator(mode="after")
    def _lists_of_classes_have_their_form(self) -> Self:
        seen: set[str] = set()
        split_names(self.classes)
        for entry in split_names(self.class_map):
            olds, equals, _ = entry.rpartition("=")
            names = [old.strip() for old in olds.split("+")]
            if not equals or not all(names):
                raise ValueError(
                    f"class_map has the entry {entry!r}, but must be like dog+puppy=dog,car="
                )
            for name in names:
                if name in seen:
                    raise ValueError(f"class_map names the class {name!r} twice: name it once")
                seen.add(name)
        return self


class AugmentConfig(Group):
    """`config.augment`: random changes of training images."""

    color: bool = True
    """Whether brightness, contrast, saturation and hue change."""
    color_strength: Share = 1.0
    """Factor on the paper's ranges of these four."""
    expand_probability: Share = 0.5
    """Probability of placing the image on a larger canvas."""
    expand_max_ratio: Annotated[float, Field(ge=1)] = 4.0
    """Largest side of the canvas, as a multiple of the image's side."""
    crop: bool = True
    """Whether one of the seven crop samplers cuts out a patch."""
    crop_probability: Share = 1.0
    """Share of the images that the samplers are run for; the others stay whole."""
    flip: bool = True
    """Whether half of the images are mirrored."""
    vertical_flip: bool = False
    """Whether half of the images are flipped vertically."""
    quarter_turns: bool = False
    """Whether images are turned by 0, 90, 180 or 270 degrees, each with the same chance."""
    mosaic: Share = 0.0
    """Probability of a mosaic: four images, one in each quarter of the canvas, not expanded."""
    custom: str = ""
    """Your own augmentation, "MODULE:FUNCTION", called with every image before the crop."""
    plain_start: Share = 0.0
    """Fraction of the run, at its beginning, without colours, expansion, crop and mosaics."""
    plain_end: Share = 0.0
    """Fraction of the run, at its end, without colours, expansion, crop and mosaics."""

    @model_validator(mode="after")
    def _some_steps_are_augmented(self) -> Self:
        if self.plain_start + self.plain_end >= 1:
            raise ValueError(
                f"plain_start and plain_end are {self.plain_start} and {self.plain_end}, which "
                "leaves no step with augmentation: make their sum smaller than 1"
            )
        return self

    @model_validator(mode="after")
    def _custom_names_a_function(self) -> Self:
        module, colon, function = self.custom.partition(":")
        if self.custom and not (
            colon and function.isidentifier() and all(map(str.isidentifier, module.split(".")))
        ):
            raise ValueError(
                f"custom is {self.custom!r}, but must be MODULE:FUNCTION, like my_images:blur"
            )
        return self


class ModelConfig(Group):
    """`config.model`: the network and its default boxes.

    `feature_sizes` and the fields after it have one entry per feature map: those of the backbone,
    then one for each of `extra_blocks`.
    """

    backbone: str = "vgg16"
    """One of `BACKBONES` in ssd_jax/models/ssd.py."""
    image_size: Count = 300
    """Side of the square input, in pixels."""
    width: Positive = 1.0
    """Factor on the channels of every layer."""
    batch_norm: bool = False
    """Whether batch norm follows every convolution."""
    separable: bool = False
    """Whether extra layers and heads are separable convolutions, as in SSDLite."""
    linear_extras: bool = False
    """Whether separable extra layers end without an activation."""
    precision: PrecisionName = "tf32"
    """Precision of the computation: bfloat16, float32, or tf32 (float32, except that NVIDIA GPUs
    round the factors of products to 10 bits)."""
    extra_blocks: Annotated[tuple[ExtraBlock, ...], ListOrTuple] = (
        (256, 512, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (128, 256, 3, 1, 0),
        (128, 256, 3, 1, 0),
    )
    """Feature maps after the backbone's: 1×1 channels, 3×3 channels, kernel, stride, padding."""
    feature_sizes: Annotated[tuple[Count, ...], ListOrTuple] = (38, 19, 10, 5, 3, 1)
    """Cells along a side of each feature map."""
    strides: Sizes = (8, 16, 32, 64, 100, 300)
    """Pixels of the input between neighbouring cells."""
    min_sizes: Sizes = (30, 60, 111, 162, 213, 264)
    """Side of the small square box, in pixels."""
    max_sizes: Sizes = (60, 111, 162, 213, 264, 315)
    """The large square box has the side sqrt(min_size · max_size)."""
    aspect_ratios: Annotated[tuple[Sizes, ...], ListOrTuple] = (
        (2,),
        (2, 3),
        (2, 3),
        (2, 3),
        (2,),
        (2,),
    )
    """Aspect ratios above 1; each adds a wide and a tall box."""
    whole_pixels: bool = True
    """Whether sizes are rounded down to whole pixels, as in Caffe."""
    shapes: Annotated[tuple[BoxShapes, ...], ListOrTuple] = ()
    """(width, height) in pixels of each box, instead of sizes and ratios; () = not given."""
    clip: bool = False
    """Whether default boxes are clipped to the image (not in Caffe)."""

    @model_validator(mode="after")
    def _one_entry_a_feature_map(self) -> Self:
        of_boxes = ("shapes",) if self.shapes else ("min_sizes", "max_sizes", "aspect_ratios")
        wanted = len(self.feature_sizes)
        for name in ("strides", *of_boxes):
            given = len(getattr(self, name))
            if given != wanted:
                raise ValueError(
                    f"{name} has {given} entries, but feature_sizes has {wanted}: give one for "
                    "each feature map"
                )
        return self


BALANCED = "balanced"  # instead of class weights


class LossConfig(Group):
    """`config.loss`: matching, mining and the multibox loss."""

    match_iou_threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """IoU from which a default box is matched to an object."""
    boundary_boxes: bool = True
    """Whether default boxes that reach beyond the image are trained too."""
    negatives_per_positive: PositiveOrZero = 3.0
    """Hard negatives for each positive of an image."""
    min_negatives: CountOrZero = 0
    """Minimum number of hard negatives of an image, so that images without objects count too."""
    localisation_weight: PositiveOrZero = 1.0
    """α of the paper's equation 1."""
    label_smoothing: ShareBelowOne = 0.0
    """Share of the target probability that is spread evenly over all classes."""
    confidence: Literal["mining", "focal"] = "mining"
    """Negatives in the loss: the hardest ones, or all of them, weighted by focal loss."""
    focal_alpha: Share = 0.25
    """Weight of positives in focal loss; that of negatives is 1 minus it."""
    focal_gamma: PositiveOrZero = 2.0
    """Power of 1 - p in focal loss, where p is the probability of the right class."""
    class_weights: str = ""
    """Weights of classes in the confidence loss: "cat=2,dog=0.5", with 1 for the others; numbers
    for all in their order, "2,0.5,1"; or "balanced", higher for rare ones. "" = equal."""
    localisation: Literal["smooth_l1", "giou", "ciou"] = "smooth_l1"
    """Loss of boxes: smooth L1 of their offsets, GIoU or CIoU. With GIoU and CIoU set
    `localisation_weight` to 5."""

    @property
    def weights_by_class(self) -> dict[str, float]:
        """`class_weights` by name; empty if it has no names."""
        entries = [entry.rpartition("=") for entry in split_names(self.class_weights)]
        return {name.strip(): float(weight) for name, equals, weight in entries if equals}

    @property
    def weights_in_order(self) -> tuple[float, ...]:
        """`class_weights` in the order of the classes; empty if it has another form."""
        if "=" in self.class_weights or self.class_weights == BALANCED:
            return ()
        return tuple(float(weight) for weight in split_names(self.class_weights))

    @model_validator(mode="after")
    def _class_weights_have_their_form(self) -> Self:
        if self.class_weights == BALANCED:
            return self
        entries = [entry.rpartition("=") for entry in split_names(self.class_weights)]
        names = [name.strip() for name, equals, _ in entries if equals]
        if not all(_is_weight(weight) for *_, weight in entries) or (
            names and not (len(names) == len(entries) and all(names))
        ):
            raise ValueError(
                f"class_weights is {self.class_weights!r}, but must be like cat=2,dog=0.5, or "
                f'2,0.5,1 for all classes in their order, with numbers above 0, or "{BALANCED}"'
            )
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"class_weights names the class {name!r} twice: name it once")
        return self


def _is_weight(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


class DetectionConfig(Group):
    """`config.detection`: from outputs to detections."""

    score_threshold: Share = 0.01
    """Boxes with this score or a lower one are left out."""
    nms_iou_threshold: Share = 0.45
    """IoU above which non-maximum suppression drops the worse box."""
    boxes_per_class: Count = 400
    """Maximum number of boxes of a class that enter non-maximum suppression."""
    detections_per_image: Count = 200
    """Maximum number of detections of an image; the best are kept."""


class DetectorConfig(Group):
    """The groups that a trained detector needs."""

    model: ModelConfig = ModelConfig()
    detection: DetectionConfig = DetectionConfig()


class Config(DetectorConfig, OptimizerConfig, RunConfig):
    """A whole config. Defaults are those of the paper's SSD300 on VOC 2007 + 2012."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()

    def is_augmented(self, step: Any) -> Any:
        """Whether a step uses all of `augment`: it is not within `plain_start` or `plain_end`.

        Args:
          step: the number of steps done before it; also an array or a tensor of such numbers.
        """
        start, end = (
            round(share * self.steps)
            for share in (self.augment.plain_start, self.augment.plain_end)
        )
        is_later = step >= start
        return is_later & (step < self.steps - end) if end else is_later

    def replace(self, changes: Mapping[str, Any]) -> "Config":
        """Returns a copy with other values, by names like `batch_size` and `data.train`.

        A new `data.train` without `data.eval` resets that to "": it belonged to the old data.

        Raises:
          UserError: there is no such field, or it cannot have this value.
        """
        values, changes = self.model_dump(), copy.deepcopy(dict(changes))
        if "data.train" in changes:
            changes.setdefault("data.eval", "")
        for name, value in changes.items():
            if isinstance(value, Group):
                value = value.model_dump()
            group, _, field = name.rpartition(".")
            if name not in field_names():
                raise UserError(f"a config has no field {name}{nearest_field(name, '')}")
            inside = values[group] if group else values
            if isinstance(inside, dict):  # another value instead of a group is refused below
                inside[field] = value
        return as_config(values)


# Former names of fields.
RENAMED = {
    "undecayed": "no_weight_decay",
    "model.steps": "model.strides",
    "loss.iou_threshold": "loss.match_iou_threshold",
    "detection.iou_threshold": "detection.nms_iou_threshold",
}


def as_config(values: Config | ConfigDict | Mapping[str, Any]) -> Config:
    """Converts the values of a config file and checks them; fields that are left out take defaults.

    Raises:
      UserError: fields are unknown or have values that are not allowed; the message names the
        first ten.
    """
    return values if isinstance(values, Config) else checked(Config, values)


def checked(group: type[GroupT], values: ConfigDict | Mapping[str, Any]) -> GroupT:
    """Converts values to one group of a config and checks them; see `as_config`."""
    plain = values.to_dict() if isinstance(values, ConfigDict) else dict(values)
    try:
        return group.model_validate(plain)
    except pydantic.ValidationError as error:
        mistakes = [_describe(mistake, group) for mistake in error.errors(include_url=False)]
        more = f"; and {len(mistakes) - MOST_MISTAKES} more" if mistakes[MOST_MISTAKES:] else ""
        raise UserError("; ".join(mistakes[:MOST_MISTAKES]) + more) from error


def field_names() -> list[str]:
    """Every field and group of fields, like `batch_size`, `data` and `data.train`."""
    names = []
    for name, field in Config.model_fields.items():
        names.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
            names += [f"{name}.{inner}" for inner in field.annotation.model_fields]
    return names


def nearest_field(name: str, prefix: str) -> str:
    """`did_you_mean` for a name that is not a field of a config."""
    if name in RENAMED:
        return f": it is called {prefix}{RENAMED[name]} now"
    known = field_names()
    # A field of this name in another group is preferred to a similar name.
    elsewhere = [field for field in known if field.split(".")[-1] == name.split(".")[-1]]
    return did_you_mean(elsewhere[0] if elsewhere else name, known, prefix)


def _describe(error: Any, model: type[pydantic.BaseModel]) -> str:
    """Describes one mistake in a group of a config: the field, its value and the limit."""
    *group, last = error["loc"] or ("",)
    field = _path(error["loc"])
    if error["type"] == "extra_forbidden":
        name = field.removeprefix("config.")
        return f"{field} is no field of a config{nearest_field(name, 'config.')}"
    if error["type"] == "value_error":
        return f"{field}.{error['ctx']['error']}"  # a group says which of its fields is wrong
    if error["type"] == "missing":
        field, limit = _path(group), f"must have an entry {int(last) + 1}"
    elif error["type"] == "model_type":
        limit = "must be a ConfigDict"
    else:
        limit = error["msg"].replace("Input should", "must").replace("Tuple should", "must")
        limit = limit.replace("a valid integer", "a whole number").replace("a valid ", "a ")
        limit = limit.partition(" after validation")[0]
        if error["type"].startswith(("greater_than", "less_than")):
            limit = _both_limits(model, error["loc"]) or limit
    return f"{field} is {reprlib.repr(error['input'])}, but {limit}"


def _both_limits(model: Any, place: tuple[str | int, ...]) -> str:
    """The limits of a number that has a lower and an upper one; "" for other fields."""
    limits = []
    for step in place:
        fields = getattr(model, "model_fields", {})
        if step not in fields:
            return ""
        model, limits = fields[step].annotation, fields[step].metadata
    words = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
    told = [
        f"{words[name]} {getattr(limit, name)}"
        for limit in limits
        for name in words
        if hasattr(limit, name)
    ]
    return f"must be {' and '.join(told)}" if len(told) == 2 else ""


def _path(place: list[str | int] | tuple[str | int, ...]) -> str:
    """`config.model.extra_blocks[2]`."""
    return "config" + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in place
    )
