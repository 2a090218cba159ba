"""Reads 10,000 damaged files of annotations and images, and counts the outcomes.

    python -m tools.fuzz_data
    python -m tools.fuzz_data --files=500

The files are annotations in every format of `tools/formats`, and images. Each one is read with
`config.data.on_error` "stop" and with "skip". Three outcomes are correct: the file is read, an
error names it, or it is skipped and counted. Anything else is a fault, and the exit status is 1.
10,000 files take some minutes.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import logging
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from ssd_jax.config.schema import Config
from ssd_jax.data.damage import why_unreadable
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.evaluation_batches import evaluation_batches
from ssd_jax.data.problems import Problems
from ssd_jax.data.records import Object
from ssd_jax.data.sources import explicit_sources, open_dataset
from ssd_jax.data.training_batches import training_batches
from ssd_jax.errors import UserError
from tools.damage import (
    IMAGES,
    JSON,
    TEXT,
    XML,
    byte,
    encoding,
    entity,
    flip,
    nested,
    number,
    tag,
)
from tools.formats.picture import Picture
from tools.formats.writers import writers
from tools.package_warnings import Warnings

CONFIG = Config().replace(
    {
        "model.image_size": 32,
        "data.max_objects": 2,
        "augment.expand_probability": 0.0,
        "augment.crop": False,
    }
)
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")
CHANGES = {".xml": XML, ".json": JSON}
# Changes after which a missing object must be reported. Other changes may remove whole entries.
COMPLETE = (flip, byte, number, tag, entity, encoding, nested)
NO_OBJECTS = "<annotation><size><width>60</width><height>40</height></size></annotation>"


@dataclasses.dataclass
class Row:
    """The outcomes of the files of a kind."""

    files: int = 0
    read: int = 0
    errors: int = 0
    skips: int = 0
    differ: int = 0  # damaged JPEGs that only one of two decoders accepts
    unhandled: int = 0
    longest: float = 0.0
    growth: int = 0


class Table:
    """A row for every kind."""

    def __init__(self) -> None:
        self.rows = collections.defaultdict(Row)
        self._process = psutil.Process()

    @contextlib.contextmanager
    def watch(self, kind: str, files: int) -> Iterator[Row]:
        """Counts the unhandled errors of a block, its time per file, and the growth of memory."""
        row, before, start = self.rows[kind], self._process.memory_info().rss, time.perf_counter()
        try:
            yield row
        except Exception as error:
            row.unhandled += 1
            print(f"{kind}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
        row.longest = max(row.longest, (time.perf_counter() - start) / files)
        row.growth += self._process.memory_info().rss - before

    def show(self) -> str:
        """The table as text."""
        titles = (
            "files",
            "read",
            "errors",
            "skips",
            "differ",
            "unhandled",
            "longest s",
            "growth MiB",
        )
        lines = [f"{'kind':<30}" + "".join(f"{title:>11}" for title in titles)]
        total = Row()
        for kind, row in [*self.rows.items(), ("all", total)]:
            numbers = (row.files, row.read, row.errors, row.skips, row.differ, row.unhandled)
            lines.append(
                f"{kind:<30}"
                + "".join(f"{number:>11,}" for number in numbers)
                + f"{row.longest:>11.3f}{row.growth / 2**20:>11.1f}"
            )
            for field in dataclasses.fields(Row):
                value = getattr(row, field.name)
                old = getattr(total, field.name)
                new = max(old, value) if field.name == "longest" else old + value
                setattr(total, field.name, new)
        return "\n".join(lines)


def main() -> None:
    """Reads all files and prints the table; the exit status is 1 after an unhandled error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000, help="how many bad files")
    count = parser.parse_args().files
    logging.getLogger("ssd_jax").setLevel(logging.CRITICAL)
    table, rng = Table(), random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        names = sorted(writers())
        for form in names:
            folder = Path(name) / form
            fuzz_annotations(table, rng, form, folder, count * 7 // 10 // len(names))
        fuzz_images(table, rng, Path(name) / "images", count * 3 // 10)
    print(table.show())
    sys.exit(any(row.unhandled for row in table.rows.values()))


def voc_split(root: Path, image_ids: Sequence[str]) -> str:
    """Writes the split `all` of a folder in Pascal VOC's layout; returns its source."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{image_id}\n" for image_id in image_ids)
    (root / "ImageSets" / "Main" / "all.txt").write_text(lines)
    return f"voc_xml:{root}:all"


def fuzz_annotations(table: Table, rng: random.Random, name: str, folder: Path, count: int) -> None:
    """Two images in a format; one of their annotation files is damaged at a time."""
    objects = [Object("dog", (6, 4, 30, 20)), Object("cat", (0, 0, 60, 40))]
    pictures = [
        Picture(f"image{i}.png", noise_image(rng, "PNG"), (40, 60), tuple(objects[: i + 1]))
        for i in range(2)
    ]
    writers()[name](pictures, folder)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".png"]
    intact = {path: path.read_bytes() for path in files}
    source = ",".join(explicit_sources(str(folder)))
    expected = counts(open_dataset(source))
    for i in range(count):
        for path, content in intact.items():
            path.write_bytes(content)
        file = rng.choice(files)
        changes = CHANGES.get(file.suffix, TEXT)
        change = changes[i % len(changes)]
        file.write_bytes(change(rng, intact[file]))
        kind, place = f"{name} {change.__name__}", rng.choice([source, str(folder)])
        read_both_ways(table, kind, place, expected if change in COMPLETE else None)


def counts(dataset: Dataset) -> list[int]:
    """The numbers of objects of the images."""
    return sorted(len(dataset[i].labels) for i in range(len(dataset)))


def read_both_ways(table: Table, kind: str, source: str, expected: list[int] | None) -> None:
    """Reads annotations with "stop" and "skip": both read them, or one stops and the other skips.

    The objects that are read have the `expected` numbers, if given, or a warning reports the rest.
    """
    warnings = Warnings()
    with table.watch(kind, 1) as row, warnings.collect():
        row.files += 1
        stopped = False
        try:
            read = counts(open_dataset(source))
            is_complete = expected is None or read == expected or warnings.messages
            assert is_complete, f"objects vanished: {read}"
            row.read += 1
        except UserError as error:
            assert len(str(error)) < 2000 and "\n" not in str(error), error
            row.errors += 1
            stopped = True
        problems = Problems("skip", 1.0)
        try:
            open_dataset(source, (), problems)
            assert bool(problems.found) == stopped
            row.skips += stopped
        except UserError as error:
            assert stopped, error


def fuzz_images(table: Table, rng: random.Random, folder: Path, count: int) -> None:
    """Many bad images in one folder, through training and evaluation.

    Each kind has an intact image too, because reading ends if all images are damaged.
    """
    names = collections.defaultdict(list)
    voc_split(folder, ())
    (folder / "JPEGImages" / "intact.jpg").write_bytes(noise_image(rng, "JPEG"))
    (folder / "Annotations" / "intact.xml").write_text(NO_OBJECTS)
    for i in range(count):
        image_format = FORMATS[i % len(FORMATS)]
        change = IMAGES[i // len(FORMATS) % len(IMAGES)]
        kind, name = f"{image_format} {change.__name__}", f"{i:05d}"
        intact = noise_image(rng, image_format)
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(change(rng, intact))
        (folder / "Annotations" / f"{name}.xml").write_text(NO_OBJECTS)
        names[kind].append(name)
    for kind, of_kind in names.items():
        spec = voc_split(folder, [*of_kind, "intact"])
        with table.watch(kind, len(of_kind)) as row:
            row.files += len(of_kind)
            broken = stop_at_images(folder, of_kind, row)
            trained, evaluated = skip_images(spec, len(of_kind) + 1)
            row.skips += len(trained)
            row.differ += len((trained ^ broken) | (trained ^ evaluated))
            if trained and evaluated:
                stop_at_once(spec, len(of_kind) + 1)


def noise_image(rng: random.Random, image_format: str) -> bytes:
    """A file of noise, in one of the colour modes that its format has."""
    modes = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGBA", "RGB", "P", "1")}
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(pixels).convert(rng.choice(modes.get(image_format, ("RGB",))))
    image.save(file, image_format)
    return file.getvalue()


def stop_at_images(folder: Path, names: list[str], row: Row) -> set[str]:
    """The images that cannot be read, at which training stops."""
    broken = set()
    for name in names:
        start = time.perf_counter()
        path = folder / "JPEGImages" / f"{name}.jpg"
        if why_unreadable(str(path)):
            row.errors += 1
            broken.add(name)
        else:
            row.read += 1
        row.longest = max(row.longest, time.perf_counter() - start)
    return broken


def skip_images(spec: str, count: int) -> tuple[set[str], set[str]]:
    """The images of an epoch that training and evaluation leave out."""
    source = open_dataset(spec, ("dog",), Problems("skip", 1.0))
    batch = one_epoch(source, count)
    trained = {name.decode() for name in batch["image_id"][batch["broken"]]}
    (batch,) = evaluation_batches(source, image_size=32, batch_size=count)
    return trained, {name.decode() for name in batch["image_id"][~batch["mask"]]}


def stop_at_once(spec: str, count: int) -> None:
    """Runs the pipelines on damaged images: they must stop with a `UserError`."""
    try:
        source = open_dataset(spec, ("dog",))
    except UserError:
        return  # at the size of an image
    for take in (
        one_epoch,
        lambda *_: list(evaluation_batches(source, image_size=32, batch_size=count)),
    ):
        with contextlib.suppress(UserError):
            take(source, count)
            raise AssertionError("it continued")


def one_epoch(dataset: Dataset, count: int) -> dict[str, np.ndarray]:
    """All images of a data set as one batch of training."""
    return next(training_batches(CONFIG, dataset, count))


if __name__ == "__main__":
    main()
