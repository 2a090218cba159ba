"""Outputs among the inputs, in use, blocked, full, or of interrupted commands."""

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ssd_jax.config.schema import DataConfig
from ssd_jax.data.convert import convert_data
from ssd_jax.diagnostics.check_data import check_data
from ssd_jax.errors import UserError
from ssd_jax.runs.evaluate import EvaluationOptions, evaluate_file
from tools.attacks.attack import Attack
from tools.attacks.odd_names import loaded_detector
from tools.attacks.page_server import picture, tiny_detector

KIND = "results whole or absent"
PARTIAL = "detections.partial.jsonl"


def predict(folder: Path, arguments: Sequence[str], output: str) -> tuple[int, int, int]:
    """Images, frames and failures of `ssd-jax predict` in a folder, in this process."""
    from ssd_jax.inference import predict as module

    with contextlib.chdir(folder):
        done = module.predict(loaded_detector(), arguments, output, batch_size=2)
    return done.images, done.frames, done.failed


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@contextlib.contextmanager
def refused_untouched(folder: Path, *words: str) -> Iterator[None]:
    """A block that must be rejected with these words, and leave all files unchanged."""
    before = contents(folder)
    try:
        yield
    except UserError as error:
        assert all(word in str(error) for word in words), error
        assert "\n" not in str(error), error
    else:
        raise AssertionError("it was not refused")
    after = contents(folder)
    assert {name for name in after if not name.endswith("/lock")} <= set(before), sorted(after)
    assert all(after[name] == content for name, content in before.items())


def lay_out(folder: Path) -> None:
    """Writes inputs, an earlier result, and links from and to them."""
    for name in ("in/a.png", "in/deep/b.png", "other/annotated/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture())
    (folder / "to_in").symlink_to("in")
    (folder / "link.png").symlink_to("in/a.png")
    for name, kind in (("leads_out", "annotated"), ("crops_lead_out", "crops")):
        (folder / name).mkdir()
        (folder / name / kind).symlink_to("../in")
    (folder / "file").write_text("a file")
    (folder / "blocked" / "detections.json").mkdir(parents=True)
    (folder / "no_drawings").mkdir()
    (folder / "no_drawings" / "annotated").write_text("a file")
    (folder / "lock_is_folder" / "lock").mkdir(parents=True)
    (folder / "lock_is_link").mkdir()
    (folder / "lock_is_link" / "lock").symlink_to("../in/a.png")


def predict_refused(arguments: Sequence[str], output: str, words: str, folder: Path) -> None:
    lay_out(folder)
    with refused_untouched(folder, words):
        predict(folder, arguments, output)


MIXING = {
    "the folder of the input": (["in"], "in", "is inside the input folder"),
    "below the input": (["in"], "in/deep/new/out", "is inside the input folder"),
    "above the input": (["in/deep"], "in", "is inside --output"),
    "the current folder": (["in"], ".", "is inside --output"),
    "the input by another name": (["in"], "deep/../in", "is inside the input folder"),
    "a link to the input": (["in"], "to_in", "is inside the input folder"),
    "the input by a link": (["to_in"], "in", "is inside the input folder"),
    "the folder of a file": (["in/a.png"], "in", "is inside --output"),
    "the folder of a linked file": (["link.png"], "in", "is inside --output"),
    "where a pattern finds files": (["*/a.png"], "in", "is inside --output"),
    "where drawings would replace the input": (
        ["other/annotated"],
        "other",
        "is inside --output",
    ),
    "drawings by a link in the input": (["in"], "leads_out", "annotated is a link"),
    "crops by a link in the input": (["in"], "crops_lead_out", "crops is a link"),
    "a file": (["in"], "file", "cannot be written"),
    "below a file": (["in"], "file/out", "cannot be written"),
    "a scheme": (["in"], "hdfs://host/out", "only local paths"),
    "nothing": (["in"], "", "a path is empty"),
    "a name of 300 bytes": (["in"], "x" * 300, "cannot be written"),
    "one whose lock is a folder": (["in"], "lock_is_folder", "cannot be written or locked"),
    "one whose lock is a link": (["in"], "lock_is_link", "cannot be written or locked"),
}


def drawings_blocked(folder: Path) -> None:
    """If no drawing can be written, each file reports it, and no unfinished file remains."""
    lay_out(folder)
    assert predict(folder, ["in"], "no_drawings") == (0, 0, 2)
    assert not list(folder.rglob("*.tmp*"))


def results_blocked(folder: Path) -> None:
    """If `detections.json` is a folder, detections are kept in the partial file."""
    lay_out(folder)
    try:
        predict(folder, ["in"], "blocked")
    except UserError as error:
        assert "cannot be written" in str(error)
    first, *lines = (folder / "blocked" / PARTIAL).read_text().splitlines()
    assert json.loads(first)["partial"] and len(lines) == 2
    assert not list(folder.rglob("*.tmp*"))


def in_use(folder: Path) -> None:
    from ssd_jax.inference.outputs import only_run

    lay_out(folder)
    with only_run(folder / "out"), refused_untouched(folder, "is in use by another process"):
        predict(folder, ["in"], "out")


def dead_lock(content: bytes, folder: Path) -> None:
    """The lock of a dead process does not block others."""
    lay_out(folder)
    (folder / "out").mkdir()
    (folder / "out" / "lock").write_bytes(content)
    assert predict(folder, ["in"], "out") == (2, 0, 0)
    assert {path.name for path in (folder / "out").iterdir()} == {"annotated", "detections.json"}


def stopped_after(number: int, error: type[BaseException], folder: Path) -> None:
    """Ends a run after some images: an earlier result stays, and the new one is partial."""
    lay_out(folder)
    for i in range(6):
        (folder / "in" / f"{i}.png").write_bytes(picture())
    predict(folder, ["in/a.png"], "out")
    before = (folder / "out" / "detections.json").read_bytes()
    detector = loaded_detector()

    def stream(images, batch_size):
        for count, each in enumerate(type(detector).stream(detector, images, batch_size)):
            if count == number:
                raise error
            yield each

    detector.stream = stream
    try:
        predict(folder, ["in"], "out")
    except error:
        pass
    else:
        raise AssertionError("it was not stopped")
    finally:
        del detector.stream
    assert (folder / "out" / "detections.json").read_bytes() == before
    first, *lines = map(json.loads, (folder / "out" / PARTIAL).open())
    assert first["partial"] and len(lines) <= number
    assert not list(folder.rglob("*.tmp*"))
    predict(folder, ["in"], "out")
    assert not (folder / "out" / PARTIAL).exists()


# Rejected outputs of other commands, and a word of the message.
SHAPES = DataConfig(eval="shapes:test[:2]")


def evaluation_refused(detections: str, results: dict[str, str], folder: Path) -> None:
    """No result of an evaluation replaces its input."""
    for name in ("new", "voc"):
        (folder / name).mkdir()
    (folder / "voc" / "comp4_det_test_star.txt").write_text("")
    for name in ("detections.json", "voc/index.html"):
        (folder / name).write_text("[]")
    (folder / "link.json").symlink_to("detections.json")
    with refused_untouched(folder, "name another"):
        places = {name: str(folder / place) for name, place in results.items()}
        options = EvaluationOptions(
            output=places.get("output", ""),
            report=places.get("report", ""),
            submission=places.get("submission", ""),
        )
        evaluate_file(SHAPES, folder / detections, options)


EVALUATIONS = {
    "numbers": ("detections.json", {"output": "detections.json"}),
    "numbers, by a link": ("detections.json", {"output": "link.json"}),
    "numbers, of a link": ("link.json", {"output": "detections.json"}),
    "a submission": ("detections.json", {"submission": "."}),
    "a submission, a folder of VOC": ("voc", {"submission": "voc"}),
    "a report": ("voc", {"report": "voc"}),
    "numbers, in the folder of VOC": ("voc", {"output": "voc/found.json"}),
    "numbers and submission": (
        "detections.json",
        {"output": "new/detections.json", "submission": "new"},
    ),
}


def conversion_refused(output: str, words: str, folder: Path) -> None:
    """`convert-data` writes neither into its source nor over files."""
    convert_data("shapes:test[:2]", "yolo", folder / "source")
    (folder / "full").mkdir()
    (folder / "full" / "a.txt").write_text("a")
    (folder / "link").symlink_to("source")
    (folder / "left.tmp").mkdir()
    (folder / "left.tmp" / "a.txt").write_text("a")
    with refused_untouched(folder, words):
        convert_data(str(folder / "source"), "coco", folder / output)


CONVERSIONS = {
    "into the source": ("source/converted", "is inside"),
    "to the source": ("source", "is inside"),
    "by a link into the source": ("link/new", "is inside"),
    "to a full folder": ("full", "not empty"),
    "next to an interrupted one": ("left", "from an interrupted conversion"),
}


def one_file_for_two(folder: Path) -> None:
    with refused_untouched(folder, "is named for two results"):
        check_data("shapes:test[:2]", (), str(folder / "x"), records=str(folder / "y" / ".." / "x"))


def export_over_run(kind: str, folder: Path) -> None:
    """An export does not replace the config of a run."""
    from ssd_jax.interop.export import export
    from ssd_jax.interop.trained import load_folder

    for name in ("format.json", "config.json", "classes.json"):
        (folder / name).write_text("{}")
    with refused_untouched(folder, "files of the run"):
        export(kind, load_folder(tiny_detector()), str(folder))


ATTACKS = [
    *(
        Attack(KIND, f"predict to {what}", functools.partial(predict_refused, *how), quick=True)
        for what, how in MIXING.items()
    ),
    Attack(KIND, "predict where drawings are blocked", drawings_blocked, quick=True),
    Attack(KIND, "predict where the results are blocked", results_blocked, quick=True),
    Attack(KIND, "predict where another run writes", in_use, quick=True),
    *(
        Attack(KIND, f"predict with {what}", functools.partial(dead_lock, content), quick=True)
        for what, content in {
            "an empty lock of a dead process": b"",
            "a lock that names a dead process": b"999999\nhost\n",
            "a lock of garbage": b"\xff" * 10_000,
        }.items()
    ),
    *(
        Attack(
            KIND,
            f"predict ended by {error.__name__} after {number} images",
            functools.partial(stopped_after, number, error),
            quick=True,
        )
        for number in (0, 1, 5)
        for error in (KeyboardInterrupt, MemoryError)
    ),
    *(
        Attack(
            KIND,
            f"evaluate over its input: {what}",
            functools.partial(evaluation_refused, *how),
            quick=True,
        )
        for what, how in EVALUATIONS.items()
    ),
    *(
        Attack(KIND, f"convert {what}", functools.partial(conversion_refused, *how), quick=True)
        for what, how in CONVERSIONS.items()
    ),
    Attack(KIND, "check-data with one file for two results", one_file_for_two, quick=True),
    *(
        Attack(
            KIND,
            f"export to {kind} over a run",
            functools.partial(export_over_run, kind),
            quick=kind == "safetensors",
        )
        for kind in ("safetensors", "stablehlo", "ssd.pytorch", "torchvision")
    ),
]
