"""Files with names that are difficult to write, print or list, in all commands."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ssd_jax.data.convert import convert_data
from ssd_jax.data.evaluation_batches import evaluation_batches
from ssd_jax.data.records import Object
from ssd_jax.data.sources import open_dataset
from ssd_jax.diagnostics.check_data import check_data
from ssd_jax.diagnostics.check_report import format_report
from ssd_jax.errors import UserError
from tools.attacks.attack import Attack
from tools.attacks.page_server import picture, tiny_detector
from tools.formats.picture import Picture
from tools.formats.writers import writers

KIND = "odd files"
Result = TypeVar("Result")

NAMES = {
    "dots and a suffix": b"..png",
    "a suffix alone": b".png",
    "three dots": b"...png",
    "a dot before the dot": b"a..png",
    "a line break": b"a\nb.png",
    "line breaks of Windows": b"a\r\nb.png",
    "a tabulator": b"a\tb.png",
    "a form feed": b"a\x0cb.png",
    "a line separator": "a\u2028b.png".encode(),
    "a next line": "a\u0085b.png".encode(),
    "escapes of terminals": b"\x1b[2J\x1b]0;x\x07.png",
    "delete": b"\x7f.png",
    "bytes that are no text": b"\xff\xfe.png",
    "half of a sign": b"\xc3.png",
    "254 bytes": b"a" * 250 + b".png",
    "255 bytes": b"a" * 251 + b".png",
    "254 bytes of two-byte signs": "ä".encode() * 125 + b".png",
    "255 bytes of four-byte signs": "🐈".encode() * 62 + b"abc.png",
    "a dash in front": b"-x.png",
    "a flag": b"--output=evil.png",
    "a device of Windows": b"CON.png",
    "another device of Windows": b"aux.png",
    "a blank": b" .png",
    "a blank at the end": b"a .png",
    "a blank that does not break": "\u00a0.png".encode(),
    "a backslash": b"a\\b.png",
    "a colon": b"a:b.png",
    "a camera": b"camera:0.png",
    "a pattern": b"*.png",
    "a set of signs": b"[1].png",
    "a format": b"%s%n{0}{x!r}.png",
    "a command": b"$(touch x)`touch x`.png",
    "quotes": b"'\".png",
    "tags": b"<script>&amp;.png",
    "right to left": "\u202egnp.exe.png".encode(),
    "a combined sign": "e\u0301.png".encode(),
    "a home": b"~.png",
    "a comma": b"a,b.png",
    "two suffixes": b"a.png.png",
    "capitals": b"GOOD.PNG",
}
OTHER_SUFFIXES = {
    "255 bytes to which a suffix is added": b"a" * 250 + b".webp",
    "254 bytes to which a suffix is added": b"a" * 249 + b".tiff",
    "dots to which a suffix is added": b"..gif",
    "no text to which a suffix is added": b"\xff.bmp",
}
PAIRS = {
    "one in capitals": (b"a.png", b"A.png"),
    "one name with two suffixes": (b"a.png", b"a.jpg"),
    "one that the other becomes": (b"a.webp", b"a.webp.png"),
    "long ones that differ at their ends": (b"a" * 249 + b"1.webp", b"a" * 249 + b"2.webp"),
    "long ones that become the same": (b"a" * 250 + b".webp", b"a" * 250 + b".tiff"),
    "a folder that is named like an image": (b"x.png/b.png", b"x.png.png"),
    "a folder that a drawing is named like": (b"a.webp", b"a.webp.png/b.png"),
    "a folder of no text": (b"\xff\xfe/b.png", b"b.png"),
}


@functools.cache
def loaded_detector():
    """The tiny detector, loaded once for all attacks of a process."""
    from ssd_jax import Detector

    return Detector.from_pretrained(tiny_detector())


def predict_all(folder: Path, names: tuple[bytes, ...]) -> None:
    """Detects in images of these names, in their folder and one by one.

    Each must have a result.
    """
    from ssd_jax.inference.predict import predict

    for name in names:
        path = folder / "in" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture())
    output = folder / "out"
    counts = predict(
        loaded_detector(),
        [str(folder / "in"), *(str(folder / "in" / os.fsdecode(name)) for name in names)],
        str(output),
        score_threshold=0.0,
        batch_size=2,
    )
    assert counts[:3] == (len(names), 0, 0), counts
    results = json.loads((output / "detections.json").read_text())
    found = {image["file_name"] for image in results["images"]}
    assert found == {os.fsdecode(name) for name in names}, found
    drawn = [path for path in (output / "annotated").rglob("*") if path.is_file()]
    assert len(drawn) == len(names), drawn
    assert {path.name for path in output.iterdir()} == {"annotated", "detections.json"}
    assert not list(folder.rglob("*.tmp*"))


def predict_odd(name: bytes, folder: Path) -> None:
    predict_all(folder, (name, b"good.jpg"))


def read_everywhere(write: str, name: bytes, folder: Path) -> None:
    """Writes data with an image of this name; each command reads it, or names the odd file."""
    source = folder / "in"
    source.mkdir()
    objects = (Object("dog", (4.0, 4.0, 30.0, 30.0)),)
    names = (b"good.png", name, b"other.png")
    pictures = [Picture(os.fsdecode(each), picture(), (40, 60), objects) for each in names]
    writers()[write](pictures, source)
    format_report(check_data(str(source), (), str(folder / "found.jsonl")))
    for target in ("coco", "voc", "yolo"):
        done = _unless_refused(
            functools.partial(convert_data, str(source), target, folder / target)
        )
        if done:
            assert len(open_dataset(str(folder / target))) >= 2
    dataset = _unless_refused(functools.partial(open_dataset, str(source)))
    if dataset:
        batches = evaluation_batches(dataset, image_size=32, batch_size=2)
        assert sum(int(batch["mask"].sum()) for batch in batches) >= 2
    assert not list(folder.rglob("*.tmp*"))


def _unless_refused(work: Callable[[], Result]) -> Result | None:
    """The result of a call; None if it rejects the data with a message that names the file."""
    try:
        return work()
    except UserError as error:
        assert "image" in str(error) or "line" in str(error) or "list" in str(error), error
        return None


def unreadable_folder(folder: Path) -> None:
    """A folder that cannot be listed is one error; other files are processed."""
    from ssd_jax.inference.inputs import find_files

    (folder / "in" / "closed").mkdir(parents=True)
    (folder / "in" / "good.png").write_bytes(picture())
    (folder / "in" / "closed").chmod(0)
    nobody = 65534
    folder.chmod(0o755)
    child = os.fork()
    if child == 0:  # as a user with limited permissions
        status = 1
        try:
            os.setuid(nobody)
            found = find_files([str(folder / "in")])
            status = 0 if len(found.files) == 1 and len(found.unreadable) == 1 else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    (folder / "in" / "closed").chmod(0o755)
    assert os.waitstatus_to_exitcode(status) == 0, status


def with_intact(content: bytes, folder: Path) -> None:
    """A damaged file is one error; other files are processed."""
    from ssd_jax.inference.predict import predict

    (folder / "in").mkdir()
    (folder / "in" / "odd.png").write_bytes(content)
    (folder / "in" / "good.png").write_bytes(picture())
    output = folder / "out"
    counts = predict(loaded_detector(), [str(folder / "in")], str(output), batch_size=2)
    assert counts[:3] == (1, 0, 1), counts
    errors = json.loads((output / "detections.json").read_text())["errors"]
    assert [error["file_name"] for error in errors] == ["odd.png"]


def special_with_intact(make: Callable[[Path], object], folder: Path) -> None:
    """A file that cannot be opened is one error; other files are processed."""
    from ssd_jax.inference.predict import predict

    (folder / "in").mkdir()
    make(folder / "in" / "odd.png")
    (folder / "in" / "good.png").write_bytes(picture())
    counts = predict(loaded_detector(), [str(folder / "in")], str(folder / "out"), batch_size=2)
    assert counts[:3] == (1, 0, 1), counts


CONTENTS = {
    "an empty file": b"",
    "half an image": picture(600, 400)[:2000],
    "a header alone": picture()[:33],
    "zeros": bytes(10_000),
    "a text": "Bild".encode("utf-16"),
    "an image behind garbage": b"garbage" + picture(),
}
SPECIAL: dict[str, Callable[[Path], object]] = {
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": lambda path: os.mkfifo(path),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}

ATTACKS = [
    *(
        Attack(KIND, f"predict: {what}", functools.partial(predict_odd, name), quick=True)
        for what, name in (NAMES | OTHER_SUFFIXES).items()
    ),
    *(
        Attack(KIND, f"predict: {what}", functools.partial(predict_all, names=names), quick=True)
        for what, names in PAIRS.items()
    ),
    *(
        Attack(
            KIND,
            f"check-data, convert-data and evaluate, {write}: {what}",
            functools.partial(read_everywhere, write, name),
            quick=(write, number % 5) == ("yolo", 0),
        )
        for write in ("yolo", "coco_json")
        for number, (what, name) in enumerate(NAMES.items())
    ),
    *(
        Attack(KIND, f"predict: {what}", functools.partial(with_intact, content), quick=True)
        for what, content in CONTENTS.items()
    ),
    *(
        Attack(KIND, f"predict: {what}", functools.partial(special_with_intact, make), quick=True)
        for what, make in SPECIAL.items()
    ),
]
if hasattr(os, "geteuid") and os.geteuid() == 0:
    ATTACKS.append(Attack(KIND, "predict: a folder without permission", unreadable_folder))
