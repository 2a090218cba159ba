"""Files of work directories and exports that are empty, truncated, or of another form."""

import functools
from collections.abc import Callable
from pathlib import Path

from ssd_jax.data.changes import read_digests
from ssd_jax.data.cut import read_cut
from ssd_jax.errors import UserError
from ssd_jax.interop.trained import load_folder
from ssd_jax.runs import workdir
from ssd_jax.storage.checksums import CHECKSUMS_FILE
from ssd_jax.training.metrics_writer import read_metrics
from tools.attacks.attack import Attack
from tools.small_run import copy_export, copy_run

KIND = "work directories"

ANY_FILE = {
    "empty": b"",
    "half an object": b'{"a": ',
    "not UTF-8": b"\xff\xfe\xfa{}",
    "null characters": b"\0" * 100,
    "a number": b"3",
    "a text": b'"text"',
    "deeply nested": b"[" * 100_000,
    "a long number": b"9" * 10_000,
}
FORMS = {
    "config.json": {
        "Infinity": b'{"learning_rate": Infinity}',
        "a negative size": b'{"model": {"image_size": -5}}',
        "a text instead of a number": b'{"batch_size": "many"}',
        "a group that is a list": b'{"data": []}',
        "an unknown field": b'{"bach_size": 3}',
    },
    "classes.json": {
        "an object": b"{}",
        "no class": b"[]",
        "names alone": b'["dog"]',
        "without ids": b'[{"name": "dog"}]',
        "an id that is a text": b'[{"id": "1", "name": "dog"}]',
        "one name twice": b'[{"id": 1, "name": "dog"}, {"id": 2, "name": "dog"}]',
        "a name that is null": b'[{"id": 1, "name": null}]',
    },
    "format.json": {
        "a list": b"[]",
        "without the number": b"{}",
        "a later one": b'{"format": 999}',
        "a text": b'{"format": "2"}',
        "true": b'{"format": true}',
        "a list in it": b'{"format": [2]}',
    },
    "metrics.jsonl": {
        "without a step": b'{"train/loss": 1}\n',
        "a list": b"[1]\n",
        "a step that is a text": b'{"step": "1"}\n',
        "a loss that is a list": b'{"step": 1, "train/loss": []}\n',
    },
    "split.json": {
        "without images": b'[{"source": "a"}]',
        "images that are a text": b'[{"source": "a", "images": "bcd"}]',
    },
    "data.json": {"a list": b"[]", "digests that are numbers": b'{"train": {"a": 1}}'},
}
# These readers silently ignore half a line at the end.
CUT_OFF_IS_FINE = {"metrics.jsonl"}


def read_run(run: Path) -> None:
    """Reads all files that the start of a run reads before its checkpoint."""
    workdir.read_config(run)
    workdir.read_classes(run)
    read_metrics(run)
    read_cut(run)
    read_digests(run)


def must_refuse(read: Callable[[Path], object], folder: Path) -> None:
    """The reader rejects a folder, in one short line that names it."""
    try:
        read(folder)
    except UserError as error:
        told = str(error)
        assert str(folder) in told and "\n" not in told and len(told) < 2000, told
        return
    raise AssertionError("it was read")


def damage_run(name: str, content: bytes, folder: Path) -> None:
    run = copy_run(folder)
    (run / name).write_bytes(content)
    must_refuse(read_run, run)


def damage_export(name: str, content: bytes, has_checksums: bool, folder: Path) -> None:
    export = copy_export(folder)
    (export / name).write_bytes(content)
    if not has_checksums:
        (export / CHECKSUMS_FILE).unlink()
    must_refuse(load_folder, export)


def folder_in_place_of(name: str, folder: Path) -> None:
    run = copy_run(folder)
    (run / name).unlink()
    (run / name).mkdir()
    must_refuse(read_run, run)


ATTACKS = (
    [
        Attack(KIND, f"{name}: {what}", functools.partial(damage_run, name, content), quick=True)
        for name, forms in FORMS.items()
        for what, content in (ANY_FILE | forms).items()
        if name not in CUT_OFF_IS_FINE or content.endswith(b"\n")
    ]
    + [
        Attack(
            KIND,
            f"{name} of an export {'with' if sums else 'without'} checksums: {what}",
            functools.partial(damage_export, name, content, sums),
            quick=True,
        )
        for name in ("config.json", "model.safetensors")
        for sums in (True, False)
        for what, content in ANY_FILE.items()
    ]
    + [
        Attack(KIND, f"{name} is a folder", functools.partial(folder_in_place_of, name), quick=True)
        for name in ("config.json", "classes.json", "format.json", "metrics.jsonl")
    ]
)
