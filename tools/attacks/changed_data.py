"""Changes of the data between two starts of a run: the second start reports the changed images.

Every attack trains two steps, changes the data, and trains two more.
"""

import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ssd_jax.data.changes import DIGESTS_FILE
from ssd_jax.data.records import Object
from ssd_jax.errors import UserError
from tools.attacks.attack import Attack
from tools.attacks.small_training import CAT, DOG, pictures, train_small, write_data
from tools.formats.picture import Picture

KIND = "changed data"
CHANGED = "the training data changed since the last start"
MOVED = Object("dog", (7, 4, 30, 24))
NAMES = ("a", "b", "c", "d")

Change = Callable[[list[Picture]], list[Picture]]


def with_objects(given: Picture, *objects: Object) -> Picture:
    return dataclasses.replace(given, objects=objects)


def renamed(given: Picture, name: str) -> Picture:
    return dataclasses.replace(given, name=name)


# The report of the second start; "" for no report.
CHANGES: dict[str, tuple[Change, str]] = {
    "nothing": (lambda old: old, ""),
    "the order of the images": (lambda old: old[::-1], ""),
    "one image is added": (
        lambda old: [*old, *pictures(["e"], DOG)],
        "1 image added (e)",
    ),
    "ten images are added": (
        lambda old: [*old, *pictures([f"new{number}" for number in range(10)], DOG)],
        "10 images added (new0, new1, new2 and 7 more)",
    ),
    "one image is removed": (lambda old: old[1:], "1 image removed (a)"),
    "all images but one are removed": (lambda old: old[3:], "3 images removed (a, b, c)"),
    "a box is moved by one pixel": (
        lambda old: [with_objects(old[0], MOVED, CAT), *old[1:]],
        "1 image with other annotations (a)",
    ),
    "an object has another class": (
        lambda old: [with_objects(old[0], DOG, CAT._replace(name="dog")), *old[1:]],
        "1 image with other annotations (a)",
    ),
    "an object becomes difficult": (
        lambda old: [with_objects(old[0], DOG, CAT._replace(difficult=True)), *old[1:]],
        "1 image with other annotations (a)",
    ),
    "an object is taken out": (
        lambda old: [*old[:3], with_objects(old[3], DOG)],
        "1 image with other annotations (d)",
    ),
    "an object is added": (
        lambda old: [*old[:3], with_objects(old[3], DOG, CAT, MOVED)],
        "1 image with other annotations (d)",
    ),
    "all objects of three images are taken out": (
        lambda old: [old[0], *(with_objects(each) for each in old[1:])],
        "3 images with other annotations (b, c, d)",
    ),
    "one image is renamed": (
        lambda old: [renamed(old[0], "z.jpg"), *old[1:]],
        "1 image added (z); 1 image removed (a)",
    ),
    "all images are renamed": (
        lambda old: [renamed(each, f"new_{each.name}") for each in old],
        "4 images added (new_a, new_b, new_c and 1 more); 4 images removed (a, b, c and 1 more)",
    ),
    "one is added, one removed, one changed": (
        lambda old: [with_objects(old[1], DOG), *old[2:], *pictures(["e"], DOG)],
        "1 image added (e); 1 image removed (a); 1 image with other annotations (b)",
    ),
}


@functools.cache
def _trained() -> tempfile.TemporaryDirectory[str]:
    """A run of two steps, made once for a process."""
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    data = write_data(Path(folder.name) / "data", original())
    train_small(data, Path(folder.name) / "run", steps=2)
    return folder


def original() -> list[Picture]:
    return pictures(NAMES, DOG, CAT)


def copy_trained(folder: Path) -> Path:
    return Path(shutil.copytree(Path(_trained().name) / "run", folder / "run"))


def restart(change: Change, told: str, folder: Path) -> None:
    """The second start reports the change, and the third start reports nothing."""
    run = copy_trained(folder)
    data = write_data(folder / "data", change(original()))
    warnings = [text for text in train_small(data, run, steps=3) if "changed" in text]
    assert warnings == ([f"{CHANGED}: {told}"] if told else []), warnings
    if told:
        again = train_small(data, run, steps=4)
        assert not any("changed" in text for text in again), again


def must_refuse(given: list[Picture], words: str, folder: Path) -> None:
    run = copy_trained(folder)
    try:
        train_small(write_data(folder / "data", given), run, steps=4)
    except UserError as error:
        assert words in str(error), error
        return
    raise AssertionError("it trained on")


def damaged_digests(content: bytes, folder: Path) -> None:
    """The record of the data is damaged."""
    run = copy_trained(folder)
    (run / DIGESTS_FILE).write_bytes(content)
    try:
        train_small(write_data(folder / "data", original()), run, steps=4)
    except UserError as error:
        assert str(run / DIGESTS_FILE) in str(error), error
        return
    raise AssertionError("it trained on")


def no_digests(folder: Path) -> None:
    """A run of an older version has no record: it continues without a report."""
    run = copy_trained(folder)
    (run / DIGESTS_FILE).unlink()
    warnings = train_small(write_data(folder / "data", original()[1:]), run, steps=4)
    assert not any("changed" in text for text in warnings), warnings
    assert (run / DIGESTS_FILE).is_file()


def evaluated_is_trained_on(folder: Path) -> None:
    """An evaluation image gets another name, and is used for training."""
    rare = Object("dog", (3, 5, 41, 37))
    data = write_data(folder / "data", original())
    evaluated = write_data(folder / "evaluated", pictures(["x", "y"], rare))
    changes = {"data__eval": f"voc_xml:{evaluated}:train", "eval_every": 0}
    train_small(data, folder / "run", steps=2, **changes)
    shutil.rmtree(evaluated)
    write_data(evaluated, pictures(["y"], rare))
    write_data(data, [*original(), *pictures(["renamed"], rare)])
    warnings = train_small(data, folder / "run", steps=4, **changes)
    told = "1 image of the evaluation may have another name now and be trained on"
    assert any(told in text and "renamed" in text for text in warnings), warnings


ATTACKS = (
    [
        Attack(KIND, what, functools.partial(restart, change, told))
        for what, (change, told) in CHANGES.items()
    ]
    + [
        Attack(
            KIND,
            "a class is added",
            functools.partial(
                must_refuse,
                [*original(), *pictures(["e"], Object("emu", (6, 4, 30, 24)))],
                "holds a run with the classes cat, dog",
            ),
        ),
        Attack(
            KIND,
            "a class is gone",
            functools.partial(
                must_refuse, pictures(NAMES, DOG), "holds a run with the classes cat, dog"
            ),
        ),
        Attack(
            KIND,
            "all objects are gone",
            functools.partial(must_refuse, pictures(NAMES), ""),
        ),
        Attack(KIND, "nothing was recorded", no_digests),
        Attack(KIND, "an evaluated image is renamed and trained on", evaluated_is_trained_on),
    ]
    + [
        Attack(KIND, f"the record is {what}", functools.partial(damaged_digests, content))
        for what, content in {"empty": b"", "a list": b"[]", "half": b'{"train": {"a": '}.items()
    ]
)
