"""What checking data finds: the kinds, what to do about each, and the report that collects them."""

import collections
import dataclasses
from typing import NamedTuple

from ssd_jax.data.problems import FIXES as STOPS_OF_READING

# Training stops at these, beside those that reading the annotations finds.
STOPS = {
    "source": "nothing of it can be read before that is fixed",
    "classes": "fix the names, or name the classes to use with config.data.classes",
    "nothing to learn": "annotate objects; crowds and objects of other classes are not trained on",
    "nothing to find": "name other data in config.data.eval, or train without evaluation with "
    "config.eval_every=-1",
}
# Training bears these, but learns or measures wrongly.
FIXES = {
    "box form": "write the boxes in the form that the format has, or name the format they are of",
    "box without area": "training leaves it out: fix it, or take it out",
    "box outside": "training cuts it off at the image's edge: fix it",
    "box twice": "take one out",
    "class spelling": "write the name in one way, or join both with config.data.class_map",
    "same content": "keep one",
    "in two splits": "take it out of one: what is trained on makes results look better",
    "near duplicate": "keep both in one split: what is trained on makes results look better",
    "no contrast": "replace the image: all of it has one colour, though objects are annotated",
    "whole images": "annotate the objects: boxes round all of the image teach no places",
}
# What may be right as it is.
NOTES = {
    "extension": "it is read by its content",
    "turned by EXIF": "boxes are taken to be those of the upright image: look at it",
    "no objects": "right if there is none of these classes in it",
    "reading": "what the format takes for granted, or cannot say",
    "other classes": "left out: not among the classes",
    "many objects": "training keeps the largest: raise config.data.max_objects",
    "few objects": "too few to learn: annotate more, or leave it out of config.data.classes",
    "class without objects": "left out of the classes where config.data.classes does not name it",
    "same name": "right in training; in evaluation every image needs a name of its own",
    "low contrast": "look at it: it is nearly of one brightness",
    "tiny box": "too small to be found at the network's input size: crop, or train a larger input",
    "long box": "no default box is so long: look at it, and at ssd-jax fit-boxes",
    "untypical box": "its size or shape is far from others of its class: look at it",
}
EXAMPLES = 3


class Finding(NamedTuple):
    """Something that was found about an image or its annotation.

    Attributes:
      kind: of `all_fixes`.
      file: where it is.
      image_id: what results call the image; empty where it is about none.
      message: what, without the file's name.
    """

    kind: str
    file: str
    image_id: str
    message: str


@dataclasses.dataclass
class Report:
    """Everything that was found.

    Attributes:
      sources: what folders were taken for, in words.
      num_images: those that were looked for.
      findings: in the order in which they were found.
      splits: the number of images of each split that has a name.
      images: of each class, in how many images it occurs.
      objects: of each class, how many there are.
    """

    sources: list[str] = dataclasses.field(default_factory=list)
    num_images: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)
    splits: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    images: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    objects: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, kind: str, file: str, image_id: str, message: str) -> None:
        """Adds a finding; see there."""
        self.findings.append(Finding(kind, file, image_id, message))

    def problems(self) -> list[Finding]:
        """The findings that should be fixed."""
        return [finding for finding in self.findings if finding.kind not in NOTES]


def all_fixes() -> dict[str, str]:
    """The fix for each kind of finding, in the order of the report."""
    return STOPS | STOPS_OF_READING | FIXES | NOTES
