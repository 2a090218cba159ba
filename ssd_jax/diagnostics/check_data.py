"""Checks data before training and reports everything that is wrong with it."""

import collections
import contextlib
import dataclasses
import hashlib
import io
import json
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ssd_jax.config.schema import DataConfig
from ssd_jax.data.annotations import Annotations
from ssd_jax.data.classes import Classes
from ssd_jax.data.problems import FIXES as FIXES_OF_READING
from ssd_jax.data.problems import Problems
from ssd_jax.data.records import Annotation
from ssd_jax.data.sources import ReadPart, open_part
from ssd_jax.errors import UserError
from ssd_jax.images.opening import LARGE, open_image, size_in_file
from ssd_jax.storage.files import check_outputs, write_text
from ssd_jax.threads import map_ahead, num_cores

# What to do about each kind, beside those that reading the annotations finds.
FIXES = {
    "source": "nothing of it can be read before that is fixed",
    "box without area": "training leaves it out: fix it, or take it out",
    "box outside": "training cuts it off at the image's edge: fix it",
    "box twice": "take one out",
    "class spelling": "write the name in one way",
    "same content": "keep one: what is in both training and test data makes results look better",
}
# What need not be fixed.
NOTES = {
    "extension": "it is read by its content",
    "no objects": "right if there is none of these classes in it",
    "many objects": "training keeps the largest: raise config.data.max_objects",
    "same name": "right in training; in evaluation every image needs a name of its own",
}
EXAMPLES = 3


class Finding(NamedTuple):
    """Something that was found about an image or its annotation.

    Attributes:
      kind: of `FIXES` here or in `ssd_jax.data.problems`, or of `NOTES`.
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
      num_images: those that were looked for.
      findings: in the order in which they were found.
      images: of each class, in how many images it occurs.
      objects: of each class, how many there are.
    """

    num_images: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)
    images: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    objects: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def problems(self) -> list[Finding]:
        """The findings that should be fixed."""
        return [finding for finding in self.findings if finding.kind not in NOTES]


class _Look(NamedTuple):
    """The content of an image file; sizes are (height, width)."""

    error: str = ""
    image_format: str = ""
    stored: tuple[int, int] = (0, 0)
    upright: tuple[int, int] = (0, 0)
    digest: bytes = b""


def check_data(
    spec: str,
    class_names: Sequence[str] = (),
    output: str = "",
    max_objects: int = DataConfig().max_objects,
) -> Report:
    """Reads all annotations, opens all images, and never stops at what it finds.

    Args:
      spec: see `open_dataset`.
      class_names: the classes that there should be; those that occur where empty.
      output: a file for all findings, a JSON object a line.
      max_objects: `data.max_objects` of the config that will be trained.

    Raises:
      UserError: the output cannot be written, or files of TFDS are damaged.
    """
    check_outputs(output)
    report, seen, names = Report(), {}, set()
    lock = threading.Lock()
    with ThreadPoolExecutor() as pool:
        for part_spec in spec.split(","):
            part = _open(part_spec.strip(), class_names, report)
            if part is None:
                continue

            def look(index: int, part: ReadPart = part) -> tuple[Annotation, _Look]:
                annotation = part.annotation(index)
                return annotation, _look(annotation, lock)

            looks = map_ahead(pool, look, range(len(part)), 4 * num_cores())
            with tqdm(total=len(part), desc="check", unit=" images", dynamic_ncols=True) as bar:
                for annotation, seen_in_file in looks:
                    report.findings += _findings(annotation, seen_in_file, max_objects)
                    report.findings += _repeated(annotation, seen_in_file, seen, names)
                    report.objects.update(annotation.names)
                    report.images.update(set(annotation.names))
                    bar.update()
    report.findings += _spellings(report.objects, spec)
    if output:
        _write(report.findings, output)
    return report


def format_report(report: Report, output: str = "") -> str:
    """A report in words, with the first examples of each kind; `output` holds the others."""
    damaged = {(finding.file, finding.image_id) for finding in report.problems()}
    lines = [f"{report.num_images:,} images, {sum(report.objects.values()):,} objects"]
    if report.objects:
        width = max(map(len, report.objects))
        lines.append(f"\n{'class':<{width}}    images   objects")
        lines += [
            f"{name:<{width}}{report.images[name]:>10,}{report.objects[name]:>10,}"
            for name in sorted(report.objects)
        ]
    fixes = all_fixes()
    by_kind = collections.defaultdict(list)
    for finding in report.findings:
        by_kind[finding.kind].append(finding)
    for kind, found in sorted(by_kind.items(), key=lambda item: item[0] in NOTES):
        note = " (harmless)" if kind in NOTES else ""
        lines.append(f"\n{kind}: {len(found):,}{note} - {fixes[kind]}")
        lines += [f"    {finding.file}: {finding.message}" for finding in found[:EXAMPLES]]
        if len(found) > EXAMPLES:
            rest = f"in {output}" if output else "with --output=problems.jsonl"
            lines.append(f"    and {len(found) - EXAMPLES:,} more, {rest}")
    lines.append(f"\n{len(damaged):,} with problems" if damaged else "\nno problems")
    return "\n".join(lines)


def all_fixes() -> dict[str, str]:
    """The fix for each kind of finding."""
    return FIXES_OF_READING | FIXES | NOTES


def _open(spec: str, class_names: Sequence[str], report: Report) -> ReadPart | None:
    """One of the sets of a spec; adds what reading its annotations found, or why it failed."""
    problems = Problems("skip", 1.0)
    try:
        part = open_part(spec, problems)
    except UserError as error:
        report.findings.append(Finding("source", spec, "", str(error)))
        return None
    report.num_images += problems.num_images
    classes = Classes(tuple(class_names) or tuple(part.names))
    if isinstance(part, Annotations):
        with contextlib.suppress(UserError):
            part.with_classes(classes, problems)  # what it finds is collected in `problems`
    for found in problems.found:
        report.findings += [
            Finding(kind, found.file, found.image_id, message) for kind, message in found.problems
        ]
    return part


def _look(annotation: Annotation, lock: threading.Lock) -> _Look:
    """Opens an image wholly, as evaluation does."""
    try:
        encoded = annotation.encoded or Path(annotation.path).read_bytes()
        stored = size_in_file(encoded, name="the image")
        with lock if math.prod(stored) > LARGE else contextlib.nullcontext():
            width, height = open_image(encoded, name="the image").size
        with Image.open(io.BytesIO(encoded)) as image:
            image_format = "JPEG" if image.format == "MPO" else str(image.format)
    except OSError as error:
        return _Look(error=f"the image cannot be read: {error.strerror or error}")
    except UserError as error:
        return _Look(error=str(error))
    digest = hashlib.blake2b(encoded, digest_size=16).digest()
    return _Look("", image_format, stored, (height, width), digest)


def _findings(annotation: Annotation, look: _Look, max_objects: int) -> Iterator[Finding]:
    """The findings about one image and its objects."""

    def found(kind: str, message: str, file: str = annotation.file) -> Finding:
        return Finding(kind, file, annotation.image_id, message)

    if look.error:
        yield found("image unreadable", look.error, annotation.path or annotation.file)
    else:
        yield from _findings_of_file(annotation, look)
    if not len(annotation.names):
        yield found("no objects", "has no objects")
    if len(annotation.names) > max_objects:
        message = f"has {len(annotation.names)} objects, more than data.max_objects={max_objects}"
        yield found("many objects", message)
    if annotation.dropped:
        yield found("box without area", f"{annotation.dropped} boxes have no area")
    height, width = annotation.size or (look.upright if look.upright[0] else (1, 1))
    in_pixels = (width, height, width, height)
    seen = set()
    for name, box in zip(annotation.names, annotation.fractions((height, width)), strict=True):
        pixels = np.round(box * in_pixels, 2).tolist()
        described = f"{name!r} at {', '.join(f'{corner:g}' for corner in pixels)}"
        clipped = np.clip(box, 0, 1)
        if not (clipped[2:] > clipped[:2]).all():
            yield found("box without area", f"{described} has no area inside the image")
        elif np.abs(clipped - box).max() > 1e-5:  # not what rounding makes of 1
            yield found("box outside", f"{described} reaches outside the image")
        if (name, *box.tolist()) in seen:
            yield found("box twice", f"{described} is there twice")
        seen.add((name, *box.tolist()))


def _findings_of_file(annotation: Annotation, look: _Look) -> Iterator[Finding]:
    """Whether name, size and orientation of an image file fit what the annotation says."""
    suffix = Path(annotation.path).suffix.lower()
    named = Image.registered_extensions().get(suffix, look.image_format)
    if named != look.image_format:
        message = f"the image is {look.image_format}, though its name ends in {suffix}"
        path = annotation.path or annotation.file
        yield Finding("extension", path, annotation.image_id, message)


def _repeated(
    annotation: Annotation, look: _Look, seen: dict[bytes, str], names: set[str]
) -> Iterator[Finding]:
    """Whether an earlier image had this content or name."""
    path = annotation.path or annotation.file
    if look.digest and seen.setdefault(look.digest, path) != path:
        message = f"is the same image as {seen[look.digest]}"
        yield Finding("same content", path, annotation.image_id, message)
    if annotation.image_id in names:
        message = f"another image is called {annotation.image_id!r}, too"
        yield Finding("same name", path, annotation.image_id, message)
    names.add(annotation.image_id)


def _spellings(objects: collections.Counter, spec: str) -> Iterator[Finding]:
    """Names that differ in capitals and blanks alone."""
    alike = collections.defaultdict(list)
    for name in sorted(objects):
        alike["".join(name.split()).casefold()].append(name)
    for names in alike.values():
        if len(names) > 1:
            listed = " and ".join(f"{name!r} ({objects[name]:,} objects)" for name in names)
            yield Finding("class spelling", spec, "", f"there are {listed}")


def _write(findings: Sequence[Finding], output: str) -> None:
    try:
        write_text(output, "".join(json.dumps(finding._asdict()) + "\n" for finding in findings))
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error}") from error
