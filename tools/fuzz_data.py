"""Makes 10,000 bad files of annotations and pictures, and sees what reading them does.

    python -m tools.fuzz_data

Every file goes the two ways there are: one stops, one leaves the picture out. Nothing may happen
but that a file is read, that an error names it, or that it is counted. Takes some minutes; not part
of the tests.
"""

import collections
import contextlib
import dataclasses
import io
import json
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from ssd_jax.data.damage import why_unreadable
from ssd_jax.data.pipeline import eval_batches, train_batches
from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import Source, open_source
from ssd_jax.errors import UserError
from tests.helpers.pictures import VocFolder, write_coco

XML_FILES, JSON_FILES, PICTURE_FILES = 4000, 3000, 3000

Change = Callable[[random.Random, bytes], bytes]


@dataclasses.dataclass
class Row:
    """What became of the files of a kind."""

    files: int = 0
    read: int = 0
    errors: int = 0
    skips: int = 0
    differ: int = 0  # damaged JPEGs that only one of two decoders puts up with
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
        """Counts what a block lets through, its time for a file, and what memory it keeps."""
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


# ---- ways to spoil a file


def cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def flip(rng: random.Random, content: bytes) -> bytes:
    spoiled = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
    return bytes(spoiled)


def garbage(rng: random.Random, content: bytes) -> bytes:
    return rng.randbytes(rng.randint(0, len(content)))


def hole(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randint(1, 40) :]


def double(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content))
    piece = content[start : start + rng.randint(1, 40)]
    return content[:start] + piece * rng.randint(2, 50) + content[start:]


def empty(rng: random.Random, content: bytes) -> bytes:
    return b""


SPOIL = (empty, garbage, cut, flip, hole, double)
NUMBERS = ("nan", "inf", "-inf", "1e400", "-5", "0", "", "x", "9" * 5000, "1,5", "\u0661", "0x10")


def number(rng: random.Random, content: bytes) -> bytes:
    old = rng.choice([b"6", b"4", b"30", b"20", b"60", b"40", b"1"])
    return content.replace(old, rng.choice(NUMBERS).encode())


def tag(rng: random.Random, content: bytes) -> bytes:
    old = rng.choice([b"object", b"name", b"bndbox", b"xmin", b"ymax", b"size", b"annotation"])
    return content.replace(old, rng.choice([b"", b"a", b"object", b"\xff", b"name"]))


def entity(rng: random.Random, content: bytes) -> bytes:
    levels = "".join(
        f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha" * 10}">' for i in range(12)
    )
    doctype = rng.choice(
        [
            f"<!DOCTYPE a [{levels}]>",
            '<!DOCTYPE a [<!ENTITY e11 SYSTEM "file:///etc/passwd">]>',
            '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">',
            '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
        ]
    )
    return doctype.encode() + content.replace(b"dog", b"&e11;")


def encoding(rng: random.Random, content: bytes) -> bytes:
    name = rng.choice(["no-such", "utf-16", "gb2312", "idna", "rot13", "utf-7", "ascii", "zlib"])
    text = content.replace(b"dog", "d\u00f6g".encode(rng.choice(["utf-8", "latin-1", "utf-16"])))
    return f'<?xml version="1.0" encoding="{name}"?>'.encode() + text


def nested(rng: random.Random, content: bytes) -> bytes:
    depth = rng.choice([1_000, 50_000])
    return b"<annotation>" * depth + content + b"</annotation>" * depth


XML = (*SPOIL, number, tag, entity, encoding, nested)

JSON_VALUES = (
    *(None, True, -1, 0, 2.5, "1", "", [], {}, [1], {"id": 1}, [[[]]], "x" * 10_000, 10**400),
    *(float("nan"), float("inf"), "../a.jpg", "/etc/passwd", "a\0b", "\ud800", "C:\\a.jpg"),
)


def places(value: object) -> list:
    """Every (container, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in items:
        found.append((value, key))
        if isinstance(inner, dict | list):
            found += places(inner)
    return found


def other_value(rng: random.Random, content: bytes) -> bytes:
    decoded = json.loads(content)
    container, key = rng.choice(places(decoded))
    container[key] = rng.choice(JSON_VALUES)
    return json.dumps(decoded).encode()


def no_value(rng: random.Random, content: bytes) -> bytes:
    decoded = json.loads(content)
    container, key = rng.choice(places(decoded))
    del container[key]
    return json.dumps(decoded).encode()


def deep(rng: random.Random, content: bytes) -> bytes:
    return rng.choice([b"[", b'{"a":']) * rng.choice([10, 1_000, 100_000])


JSON = (*SPOIL, other_value, other_value, no_value, number, deep)

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")


def lie(rng: random.Random, content: bytes) -> bytes:
    """Another size in the header, where formats have it."""
    spoiled, begin = bytearray(content), rng.choice([4, 6, 16, 18, 22])
    spoiled[begin : begin + 4] = rng.choice(
        [b"\xff" * 4, b"\0" * 4, b"\0\0\x7f\xff", b"\x7f\xff\0\0"]
    )
    start = content.find(b"\xff\xc0")
    if start > 0 and rng.random() < 0.5:
        spoiled[start + 5 : start + 9] = rng.randbytes(4)
    return bytes(spoiled)


PICTURES = (*SPOIL, lie)


def main() -> None:
    """Runs all and prints the table; the exit status is 1 if anything was not handled."""
    logging.getLogger("ssd_jax").setLevel(logging.CRITICAL)
    table, rng = Table(), random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        fuzz_xml(table, rng, Path(name) / "voc")
        fuzz_json(table, rng, Path(name) / "coco")
        fuzz_pictures(table, rng, Path(name) / "pictures")
    print(table.show())
    sys.exit(any(row.unhandled for row in table.rows.values()))


def fuzz_xml(table: Table, rng: random.Random, folder: Path) -> None:
    """One bad annotation beside a sound one."""
    voc = VocFolder(folder)
    for name in ("sound", "bad"):
        voc.add(name, [("dog", 6, 4, 30, 20)], extra="<difficult>1</difficult>")
    spec, file = voc.split("all", "sound", "bad"), voc.annotation("bad")
    valid = file.read_bytes()
    for i in range(XML_FILES):
        change = XML[i % len(XML)]
        file.write_bytes(change(rng, valid))
        read_both_ways(table, f"xml {change.__name__}", spec, file)


def fuzz_json(table: Table, rng: random.Random, folder: Path) -> None:
    """A file of annotations of two pictures."""
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 60, "height": 40} for i in (1, 2)],
        "categories": [{"id": 3, "name": "dog"}],
        "annotations": [
            {"image_id": i, "category_id": 3, "bbox": [6, 4, 30, 20], "iscrowd": 0, "area": 5}
            for i in (1, 2)
        ],
    }
    spec, file = write_coco(folder, content), folder / "instances.json"
    valid = file.read_bytes()
    for i in range(JSON_FILES):
        change = JSON[i % len(JSON)]
        file.write_bytes(change(rng, valid))
        read_both_ways(table, f"json {change.__name__}", spec, file)


def read_both_ways(table: Table, kind: str, spec: str, file: Path) -> None:
    """Reads annotations; a file is read, or has an error when it stops and a skip or another."""
    with table.watch(kind, 1) as row:
        row.files += 1
        stopped = False
        try:
            open_source(spec, ("dog",))
            row.read += 1
        except UserError as error:
            assert str(file) in str(error) or str(file.parent) in str(error), error
            assert len(str(error)) < 2000, error
            row.errors += 1
            stopped = True
        problems = Problems("skip", 1.0)
        try:
            open_source(spec, ("dog",), problems)
            assert bool(problems.found) == stopped
            row.skips += stopped
        except UserError as error:
            assert stopped, error


def fuzz_pictures(table: Table, rng: random.Random, folder: Path) -> None:
    """Many bad pictures in one folder, through training and evaluation."""
    names = collections.defaultdict(list)
    voc = VocFolder(folder)
    annotation = "<annotation><size><width>60</width><height>40</height></size></annotation>"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    for i in range(PICTURE_FILES):
        image_format, change = (
            FORMATS[i % len(FORMATS)],
            PICTURES[i // len(FORMATS) % len(PICTURES)],
        )
        kind, name = f"{image_format} {change.__name__}", f"{i:05d}"
        mode = rng.choice(
            {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGBA", "RGB", "P", "1")}.get(
                image_format, ("RGB",)
            )
        )
        file = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(file, image_format)
        (voc.root / f"JPEGImages/{name}.jpg").write_bytes(change(rng, file.getvalue()))
        voc.annotation(name).write_text(annotation)
        names[kind].append(name)
    for kind, of_kind in names.items():
        spec = voc.split("all", *of_kind)
        with table.watch(kind, len(of_kind)) as row:
            row.files += len(of_kind)
            broken = stop_at_pictures(voc, of_kind, row)
            trained, evaluated = skip_pictures(spec, len(of_kind))
            row.skips += len(trained)
            row.differ += len((trained ^ broken) | (trained ^ evaluated))
            if trained and evaluated:
                stop_at_once(spec, len(of_kind))


def stop_at_pictures(voc: VocFolder, names: list[str], row: Row) -> set[str]:
    """What the message would say about each that stops; those that do."""
    broken = set()
    for name in names:
        start = time.perf_counter()
        path = voc.root / f"JPEGImages/{name}.jpg"
        if why_unreadable({"path": str(path).encode(), "image": b""}):
            row.errors += 1
            broken.add(name)
        else:
            row.read += 1
        row.longest = max(row.longest, time.perf_counter() - start)
    return broken


def skip_pictures(spec: str, count: int) -> tuple[set[str], set[str]]:
    """Which pictures training and evaluation leave out, of an epoch."""
    source = open_source(spec, ("dog",), Problems("skip", 1.0))
    batch = one_epoch(source, count)
    trained = {name.decode() for name in batch["image_id"][batch["broken"]]}
    (batch,) = eval_batches(source, image_size=32, batch_size=count)
    return trained, {name.decode() for name in batch["image_id"][~batch["mask"]]}


def stop_at_once(spec: str, count: int) -> None:
    """The pipelines themselves, where something is bad: they must stop with an error of ours."""
    source = open_source(spec, ("dog",))
    for take in (one_epoch, lambda *_: list(eval_batches(source, image_size=32, batch_size=count))):
        with contextlib.suppress(UserError):
            take(source, count)
            raise AssertionError("it went on")


def one_epoch(source: Source, count: int) -> dict[str, np.ndarray]:
    """All pictures of a source as one batch of training."""
    return next(
        train_batches(
            source,
            image_size=32,
            batch_size=count,
            max_objects=2,
            expand_probability=0.0,
            expand_max_ratio=1.0,
            crop=False,
            seed=0,
        )
    )


if __name__ == "__main__":
    main()
