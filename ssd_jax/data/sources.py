"""Opens data sets: one grammar for every format, several sets joined by commas.

tfds:NAME:SPLIT                    a TensorFlow Datasets detection set (tfds:voc/2007:test)
voc_xml:ROOT:SPLIT                 a folder in Pascal VOC's layout
coco_json:ANNOTATIONS:IMAGE_DIR    a COCO annotation file and its folder of images
shapes:SPLIT                       the embedded set, train or test
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ssd_jax.config.schema import Config
from ssd_jax.data.datasets import Dataset, Part
from ssd_jax.data.formats.coco_json import open_coco_json
from ssd_jax.data.formats.voc_xml import open_voc_xml
from ssd_jax.data.problems import Problems, make_problems
from ssd_jax.data.records import Annotation
from ssd_jax.errors import UserError
from ssd_jax.storage.files import check_no_scheme


class ReadPart(Protocol):
    """A set as a format reads it, with the names of its own classes.

    Attributes:
      origin: the spec, for messages.
      names: the classes that occur or are declared.
    """

    origin: str
    names: tuple[str, ...]

    @property
    def category_ids(self) -> dict[str, int] | None:
        """Ids by name of the classes that the set declares; None where it declares none."""
        ...

    def __len__(self) -> int: ...

    def annotation(self, index: int) -> Annotation:
        """One image as it was read."""
        ...

    def with_classes(self, class_names: Sequence[str], problems: Problems) -> Part:
        """Cleaned records with labels; damaged images are left out as `problems` says."""
        ...


class Format(NamedTuple):
    """A format of data.

    Attributes:
      arguments: what follows its name in a spec, like "ROOT:SPLIT".
      open: gives the set for the values of the arguments, and for `Problems`.
    """

    arguments: str
    open: Callable[..., ReadPart]


def _open_tfds(name: str, split: str, problems: Problems) -> ReadPart:
    # TensorFlow is only needed for these sets.
    from ssd_jax.data.formats.tfds_records import open_tfds

    return _counted(open_tfds(name, split), problems)


def _open_shapes(split: str, problems: Problems) -> ReadPart:
    from ssd_jax.data.formats.tfds_records import open_shapes

    return _counted(open_shapes(split), problems)


def _counted(part: ReadPart, problems: Problems) -> ReadPart:
    problems.num_images += len(part)
    return part


FORMATS = {
    "tfds": Format("NAME:SPLIT", _open_tfds),
    "voc_xml": Format("ROOT:SPLIT", open_voc_xml),
    "coco_json": Format("ANNOTATIONS:IMAGE_DIR", open_coco_json),
    "shapes": Format("SPLIT", _open_shapes),
}


def open_dataset(
    spec: str, class_names: Sequence[str] = (), problems: Problems | None = None
) -> Dataset:
    """Opens the data set that a spec names.

    Args:
      spec: see the top of this file.
      class_names: the classes to use, in order; where empty, those of the data: given by the set
        itself, or for `voc_xml` all names that occur, in alphabetical order.
      problems: what becomes of damaged images; None stops at the first.

    Raises:
      UserError: the spec, a file or a class is wrong; the message names it.
    """
    problems = problems or Problems()
    parts = [open_part(part.strip(), problems) for part in spec.split(",")]
    problems.check()  # before the classes of what is left are compared
    class_names = tuple(class_names) or _common_class_names(parts)
    cleaned = [part.with_classes(class_names, problems) for part in parts]
    problems.finish_reading()
    dataset = Dataset(cleaned, class_names, _category_ids(parts, class_names), problems)
    if not len(dataset):
        raise UserError(f"{spec}: all of its images are damaged, so none is left")
    return dataset


def open_training_data(
    config: Config, workdir: str | Path | None = None, is_main_process: bool = True
) -> Dataset:
    """The training data of a config, with the classes that it lists.

    Args:
      config: names the data, the classes, and what happens to damaged images.
      workdir: the work directory, where damaged images are listed that are left out.
      is_main_process: see `Problems`.

    Raises:
      UserError: see `open_dataset`.
    """
    problems = make_problems(config.data, workdir, is_main_process)
    return open_dataset(config.data.train, config.data.class_names, problems)


def open_part(spec: str, problems: Problems) -> ReadPart:
    """Opens one of the sets that a spec joins by commas.

    Args:
      spec: without commas.
      problems: what becomes of damaged images.

    Raises:
      UserError: see `open_dataset`.
    """
    name, _, rest = spec.partition(":")
    check_no_scheme(rest)
    if name in FORMATS:
        count = FORMATS[name].arguments.count(":") + 1
        # From the right, so that ROOT may hold colons; NAME of TFDS may too.
        values = rest.rsplit(":", count - 1)
        if len(values) == count and all(values):
            return FORMATS[name].open(*values, problems)
    raise UserError(f"the data source {spec!r} is not of the form {grammar()}")


def grammar() -> str:
    """The form of a spec, for messages."""
    *others, last = (f"{name}:{form.arguments}" for name, form in FORMATS.items())
    return f"{', '.join(others)} or {last}, several joined by commas"


def _common_class_names(parts: Sequence[ReadPart]) -> tuple[str, ...]:
    declaring = [part for part in parts if part.category_ids is not None]
    declared = {tuple(part.category_ids or ()) for part in declaring}
    if len(declared) > 1:
        names = " and ".join(part.origin for part in declaring)
        raise UserError(
            f"{names} have different classes: name the classes to use in config.data.classes"
        )
    if declared:
        return declared.pop()
    found = {name for part in parts for name in part.names}
    if not found:
        raise UserError(
            f"{', '.join(part.origin for part in parts)}: no image has an object, so there are "
            "no classes to learn"
        )
    return tuple(sorted(found))


def _category_ids(parts: Sequence[ReadPart], class_names: Sequence[str]) -> tuple[int, ...]:
    """The ids that the first part with all of the classes gives them, otherwise 1, 2, …."""
    for part in parts:
        ids = part.category_ids
        if ids is not None and set(class_names) <= set(ids):
            return tuple(ids[name] for name in class_names)
    return tuple(range(1, len(class_names) + 1))
