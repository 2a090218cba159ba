"""Goes over data before training and tells all that is wrong with it."""

import collections
import dataclasses
import hashlib
import io
import json
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ssd_jax.errors import UserError
from ssd_jax.images.opening import open_picture, size_in_file
from ssd_jax.storage.files import local_path, write_text
from ssd_jax.threads import map_ahead

# What to do about each kind, beside those that reading the annotations finds.
MENDS = {
    "source": "nothing of it can be read before that is mended",
    "box without area": "training leaves it out: mend it, or take it out",
    "box outside": "training cuts it off at the picture's edge: mend it",
    "box twice": "take one out",
    "class spelling": "write the name in one way",
    "same content": "keep one: what is in both training and test data makes results look better",
    "size differs": "boxes are divided by the size in the annotation: mend the size or the boxes",
    "turned": "annotate the picture as it is seen, or take the orientation out of its EXIF",
}
# What need not be mended.
NOTES = {
    "extension": "it is read by its content",
    "no objects": "right if there is none of these classes in it",
    "many objects": "training keeps the largest: raise config.data.max_objects",
    "same name": "right in training; in evaluation every picture needs a name of its own",
}
MAX_OBJECTS = 64  # of the configs
EXAMPLES = 3
# Larger pictures are decoded one at a time, so that memory stays bounded.
LARGE = 16_000_000


class Finding(NamedTuple):
    """Something to tell of a picture or its annotation.

    Attributes:
      kind: what it is like; of `MENDS` here or of `ssd_jax.data.problems`, or of `NOTES`.
      file: where it is.
      image_id: what results call the picture; empty where it is about none.
      message: what, without the file's name.
    """

    kind: str
    file: str
    image_id: str
    message: str


@dataclasses.dataclass
class Report:
    """All that there is to tell.

    Attributes:
      num_pictures: those that were looked for.
      findings: in the order in which they were found.
      pictures: of each class, in how many pictures it occurs.
      objects: of each class, how many there are.
    """

    num_pictures: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)
    pictures: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    objects: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def problems(self) -> list[Finding]:
        """What should be mended."""
        return [finding for finding in self.findings if finding.kind not in NOTES]


class _Picture(NamedTuple):
    """A picture as its annotation describes it."""

    path: str  # empty for those of TFDS, which come with their bytes
    encoded: bytes
    image_id: str
    file: str
    size: tuple[float, float] | None
    boxes: np.ndarray
    names: Sequence[str]
    dropped: int


class _Look(NamedTuple):
    """What a picture's file holds."""

    error: str = ""
    image_format: str = ""
    stored: tuple[int, int] = (0, 0)
    upright: tuple[int, int] = (0, 0)
    digest: bytes = b""


def check_data(spec: str, class_names: Sequence[str] = (), output: str = "") -> Report:
    """Reads all annotations, opens all pictures, and never stops at what it finds.

    Args:
      spec: see `open_source`.
      class_names: the classes that there should be; those that occur where empty.
      output: a file for all findings, a JSON object a line.

    Raises:
      UserError: the output cannot be written, or files of TFDS are damaged.
    """
    from ssd_jax.data.sources import num_cores

    local_path(output)
    report, seen, names = Report(), {}, set()
    lock = threading.Lock()
    with ThreadPoolExecutor() as pool:
        for part in spec.split(","):
            pictures, count = _open(part.strip(), class_names, report)
            progress = tqdm(total=count, desc="check", unit=" pictures", dynamic_ncols=True)
            looks = map_ahead(
                pool, lambda picture: (picture, _look(picture, lock)), pictures, 4 * num_cores()
            )
            with progress:
                for picture, look in looks:
                    report.findings += _findings(picture, look)
                    report.findings += _repeated(picture, look, seen, names)
                    report.objects.update(picture.names)
                    report.pictures.update(set(picture.names))
                    progress.update()
    report.findings += _spellings(report.objects, spec)
    if output:
        _write(report.findings, output)
    return report


def format_report(report: Report, output: str = "") -> str:
    """A report in words, with the first examples of each kind; `output` holds the others."""
    damaged = {(finding.file, finding.image_id) for finding in report.problems()}
    lines = [f"{report.num_pictures:,} pictures, {sum(report.objects.values()):,} objects"]
    if report.objects:
        width = max(map(len, report.objects))
        lines.append(f"\n{'class':<{width}}  pictures   objects")
        lines += [
            f"{name:<{width}}{report.pictures[name]:>10,}{report.objects[name]:>10,}"
            for name in sorted(report.objects)
        ]
    mends = all_mends()
    by_kind = collections.defaultdict(list)
    for finding in report.findings:
        by_kind[finding.kind].append(finding)
    for kind, found in sorted(by_kind.items(), key=lambda item: item[0] in NOTES):
        note = " (harmless)" if kind in NOTES else ""
        lines.append(f"\n{kind}: {len(found):,}{note} - {mends[kind]}")
        lines += [f"    {finding.file}: {finding.message}" for finding in found[:EXAMPLES]]
        if len(found) > EXAMPLES:
            rest = f"in {output}" if output else "with --output=problems.jsonl"
            lines.append(f"    and {len(found) - EXAMPLES:,} more, {rest}")
    lines.append(f"\n{len(damaged):,} with problems" if damaged else "\nno problems")
    return "\n".join(lines)


def all_mends() -> dict[str, str]:
    """What to do about each kind of finding."""
    from ssd_jax.data.problems import MENDS as OF_READING

    return OF_READING | MENDS | NOTES


def _open(spec: str, class_names: Sequence[str], report: Report) -> tuple[Iterator[_Picture], int]:
    """The pictures of a part, and how many; tells what reading the annotations found."""
    from ssd_jax.data.annotations import known_classes
    from ssd_jax.data.problems import Problems
    from ssd_jax.data.sources import open_part

    problems = Problems("skip", 1.0)
    try:
        _, _, content = open_part(spec, problems)
    except UserError as error:
        report.findings.append(Finding("source", spec, "", str(error)))
        return iter(()), 0
    report.num_pictures += problems.num_pictures
    if not isinstance(content, list):
        return _of_tfds(content), problems.num_pictures
    if class_names:
        known_classes(content, class_names, problems)  # and go on with the others, too
    for found in problems.found:
        report.findings += [
            Finding(kind, found.file, found.image_id, message) for kind, message in found.problems
        ]
    return (
        _Picture(str(a.path), b"", a.image_id, str(a.file), a.size, a.boxes, a.names, 0)
        for a in content
    ), len(content)


def _of_tfds(records: Any) -> Iterator[_Picture]:
    from ssd_jax.data.damage import explain_failure
    from ssd_jax.data.problems import Problems

    everything = records.share(0, 1)
    for record in explain_failure(
        everything.as_numpy_iterator(), lambda number: everything.skip(number).take(1), Problems()
    ):
        image_id = record["image_id"].decode()
        names = [records.class_names[label - 1] for label in record["labels"]]
        yield _Picture(
            "", record["image"], image_id, image_id, None, record["boxes"], names, record["dropped"]
        )


def _look(picture: _Picture, lock: Any) -> _Look:
    """Opens a picture wholly, as evaluation does."""
    try:
        encoded = picture.encoded or Path(picture.path).read_bytes()
        stored = size_in_file(encoded, name="the picture")
        if math.prod(stored) > LARGE:
            with lock:
                upright = open_picture(encoded, name="the picture").size
        else:
            upright = open_picture(encoded, name="the picture").size
        with Image.open(io.BytesIO(encoded)) as image:
            image_format = "JPEG" if image.format == "MPO" else image.format
    except OSError as error:
        return _Look(error=f"the picture cannot be read: {error.strerror or error}")
    except UserError as error:
        return _Look(error=str(error))
    digest = hashlib.blake2b(encoded, digest_size=16).digest()
    return _Look("", image_format, stored, upright, digest)


def _findings(picture: _Picture, look: _Look) -> Iterator[Finding]:
    """What there is to tell of one picture and its objects."""

    def found(kind: str, message: str, file: str = picture.file) -> Finding:
        return Finding(kind, file, picture.image_id, message)

    path = picture.path or picture.file
    size = picture.size or look.upright
    if look.error:
        yield found("picture unreadable", look.error, path)
    else:
        suffix = Path(picture.path).suffix.lower()
        named = Image.registered_extensions().get(suffix, look.image_format)
        if named != look.image_format:
            message = f"the picture is {look.image_format}, though its name ends in {suffix}"
            yield found("extension", message, path)
        if picture.size and picture.size != look.upright:
            stated, seen = (f"{width:g} × {height:g}" for width, height in (size, look.upright))
            if picture.size == look.stored:
                message = f"EXIF turns the picture to {seen}, but it is annotated as {stated}"
                yield found("turned", message)
            else:
                yield found("size differs", f"says {stated}, but the picture has {seen} pixels")
    if not len(picture.names):
        yield found("no objects", "has no objects")
    if len(picture.names) > MAX_OBJECTS:
        yield found("many objects", f"has {len(picture.names)} objects, more than {MAX_OBJECTS}")
    if picture.dropped:
        yield found("box without area", f"{picture.dropped} boxes have no area")
    seen = set()
    for name, box in zip(picture.names, picture.boxes, strict=True):
        pixels = np.round(box * (size * 2 if max(size) else (1, 1, 1, 1)), 2).tolist()
        described = f"{name!r} at {', '.join(f'{corner:g}' for corner in pixels)}"
        clipped = np.clip(box, 0, 1)
        if not (clipped[2:] > clipped[:2]).all():
            yield found("box without area", f"{described} has no area inside the picture")
        elif np.abs(clipped - box).max() > 1e-5:  # not what rounding makes of 1
            yield found("box outside", f"{described} reaches outside the picture")
        if (name, *box.tolist()) in seen:
            yield found("box twice", f"{described} is there twice")
        seen.add((name, *box.tolist()))


def _repeated(
    picture: _Picture, look: _Look, seen: dict[bytes, str], names: set[str]
) -> Iterator[Finding]:
    """Whether an earlier picture had this content or name."""
    path = picture.path or picture.file
    if look.digest and seen.setdefault(look.digest, path) != path:
        message = f"is the same picture as {seen[look.digest]}"
        yield Finding("same content", path, picture.image_id, message)
    if picture.image_id in names:
        message = f"another picture is called {picture.image_id!r}, too"
        yield Finding("same name", path, picture.image_id, message)
    names.add(picture.image_id)


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
