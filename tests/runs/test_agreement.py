"""The facts that processes of a run compare before the first step."""

import dataclasses

import numpy as np
import pytest

from ssd_jax.config.schema import Config, DataConfig
from ssd_jax.data.columns import Columns, Strings
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.fingerprint import describe_parts
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.problems import make_problems
from ssd_jax.distributed import exchange
from ssd_jax.errors import UserError
from ssd_jax.runs import agreement


def compare(monkeypatch, *of_processes):
    """Lets `agreement` compare these facts of the processes."""
    monkeypatch.setattr(exchange, "gather_from_processes", lambda _: list(of_processes))
    agreement._check(of_processes[0], "do this")


def test_equal_processes_pass(monkeypatch):
    compare(monkeypatch, {"a": 1, "b": [1.5, None]}, {"b": [1.5, None], "a": 1})


def test_differences_are_named_with_process_and_both_values(monkeypatch):
    with pytest.raises(UserError) as error:
        compare(monkeypatch, {"rate": 1e-4, "a": 1}, {"rate": 1e-4, "a": 1}, {"rate": 1.0, "b": 2})
    assert str(error.value) == (
        "the processes of the run differ: a is 'missing' in process 2, but 1 in process 0; "
        "b is 2 in process 2, but 'missing' in process 0; "
        "rate is 1.0 in process 2, but 0.0001 in process 0. Fix: do this"
    )


def test_many_differences_are_counted(monkeypatch):
    with pytest.raises(UserError, match=r"n05 is 1 in process 1, but 0 in process 0; and 34 more"):
        compare(
            monkeypatch,
            {f"n{i:02}": 0 for i in range(40)},
            {f"n{i:02}": 1 for i in range(40)},
        )


def test_a_process_alone_compares_nothing(monkeypatch):
    monkeypatch.setattr(exchange, "gather_from_processes", lambda _: pytest.fail("asked"))
    agreement.check_same_start(Config())
    agreement.check_same_data(None, None)
    agreement.check_same_state({"x": np.ones(3)})


def make_columns(**changes) -> Columns:
    """Two images with one and two objects."""
    columns = Columns(
        image_ids=Strings.of(["1", "2"]),
        paths=Strings.of(["/one/a.jpg", "/one/b.jpg"]),
        sizes=np.full((2, 2), 100.0),
        spans=np.zeros((2, 2), np.int64),
        splits=np.array([0, 1, 3]),
        boxes=np.arange(12, dtype=np.float64).reshape(3, 4),
        classes=np.array([1, 2, 1], np.int32),
        difficult=np.zeros(3, bool),
        crowd=np.zeros(3, bool),
        area=np.full(3, np.nan),
    )
    return dataclasses.replace(columns, **changes)


def described(**changes) -> list[str]:
    problems = make_problems(DataConfig())
    columns = make_columns(**changes)
    part = FolderRecords(columns, columns.boxes, columns.classes, columns.sizes)
    none = part.chosen(np.zeros(2, bool))
    return describe_parts(Dataset([part, none], ["x", "y"], [1, 2], problems))


def test_descriptions_do_not_depend_on_the_folder():
    words = described()
    assert words[0].startswith("2 images (") and words[1].startswith("0 images (")
    assert described(paths=Strings.of(["/two/a.jpg", "/two/b.jpg"])) == words


@pytest.mark.parametrize(
    "changes",
    [
        {"paths": Strings.of(["/one/b.jpg", "/one/a.jpg"])},
        {"image_ids": Strings.of(["1", "3"])},
        {"splits": np.array([0, 2, 3])},
        {"boxes": np.arange(12, dtype=np.float64).reshape(3, 4) + 1e-9},
        {"classes": np.array([1, 1, 1], np.int32)},
        {"difficult": np.array([False, False, True])},
        {"crowd": np.array([True, False, False])},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_images_or_objects_are_described_in_other_words(changes):
    assert described(**changes) != described()
