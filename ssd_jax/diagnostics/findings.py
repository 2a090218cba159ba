"""Findings about data: their kinds, the fix for each kind, and the report that collects them."""

import collections
import dataclasses
from typing import NamedTuple

from ssd_jax.data.problems import FIXES as STOPS_OF_READING

# Errors at which training stops, besides those of reading annotations.
STOPS = {
    "source": "fix this first: nothing of it can be read",
    "classes": "fix the names, or name the classes to use with config.data.classes",
    "nothing to learn": "annotate objects; crowds and objects of other classes are not trained on",
    "nothing to find": "name other data in config.data.eval, or train without evaluation with "
    "config.eval_every=-1",
}
# Problems at which training does not stop, but with wrong results.
FIXES = {
    "box form": "write the boxes as the format requires, or name the format that they are in",
    "box without area": "training leaves it out: fix it, or remove it",
    "box outside": "training clips it at the edge of the image: fix it",
    "box twice": "remove one",
    "class spelling": "write the name in one way, or join both with config.data.class_map",
    "same content": "keep one",
    "in two splits": "remove it from one: evaluating on training images makes results look better",
    "near duplicate": "keep both in one split: evaluating on training images makes results look "
    "better",
    "no contrast": "replace the image: it has a single colour, although objects are annotated",
    "whole images": "annotate the objects: a box around the whole image teaches no position",
}
# Findings that may need no change.
NOTES = {
    "extension": "the image is read by its content",
    "turned by EXIF": "boxes are read as boxes of the upright image: check it",
    "no objects": "correct if the image has no object of these classes",
    "reading": "an assumption or a limit of the format",
    "other classes": "left out: not among the classes",
    "many objects": "training keeps the largest: raise config.data.max_objects",
    "few objects": "too few to learn: annotate more, or leave the class out of config.data.classes",
    "class without objects": "left out of the classes unless config.data.classes names it",
    "same name": "allowed in training; in evaluation every image needs a unique name",
    "low contrast": "check it: the image has nearly one brightness",
    "small image": "too small to recognise objects: use the images in their original size",
    "tiny box": "too small to be found at the network's input size: crop, or train a larger input",
    "long box": "no default box is so long: check it, and run ssd-jax fit-boxes",
    "unusual box": "much larger, smaller, wider or taller than others of its class; look at it, "
    "the annotation may be wrong",
}
EXAMPLES = 3


class Finding(NamedTuple):
    """A finding about an image, its annotation or the whole data.

    Attributes:
      kind: a key of `all_fixes`.
      file: the file or source.
      image_id: the image; empty for a finding about no single image.
      message: the finding in words, without the file name.
    """

    kind: str
    file: str
    image_id: str
    message: str


@dataclasses.dataclass
class Report:
    """All findings, with counts.

    Attributes:
      sources: the folders with their recognised formats, in words.
      num_images: the number of images that the data names.
      num_left_out: those of them whose annotations cannot be used, so classes do not count them.
      findings: in the order in which they were found.
      splits: the number of images of each split that has a name, with those left out.
      images: the number of images of each class.
      objects: the number of objects of each class.
    """

    sources: list[str] = dataclasses.field(default_factory=list)
    num_images: int = 0
    num_left_out: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)
    splits: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    images: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    objects: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, kind: str, file: str, image_id: str, message: str) -> None:
        """Adds a `Finding`."""
        self.findings.append(Finding(kind, file, image_id, message))

    def problems(self) -> list[Finding]:
        """The findings that should be fixed."""
        return [finding for finding in self.findings if finding.kind not in NOTES]


def all_fixes() -> dict[str, str]:
    """The fix for each kind of finding, in the order of the report."""
    return STOPS | STOPS_OF_READING | FIXES | NOTES
