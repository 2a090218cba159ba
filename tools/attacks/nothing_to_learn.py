"""Training that cannot learn: it ends or warns with the reason, and its metrics stay JSON."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from ssd_jax.data.records import Object
from ssd_jax.errors import UserError
from tools.attacks.attack import Attack
from tools.attacks.small_training import CAT, DOG, pictures, train_small, write_data
from tools.formats.picture import Picture

KIND = "learning nothing"
NAMES = ("a", "b", "c", "d")
SKIP = {"data__on_error": "skip", "data__max_error_fraction": 1.0}

Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "no image": lambda content: b"no image",
    "the header alone": lambda content: content[:200],
}


def with_damage(given: Picture, damage: Damage) -> Picture:
    return dataclasses.replace(given, encoded=damage(given.encoded))


def must_end(
    words: Sequence[str], given: Sequence[Picture], folder: Path, **changes: object
) -> None:
    """Training ends with a message with these words."""
    data = write_data(folder / "data", given)
    try:
        train_small(data, folder / "run", **changes)
    except UserError as error:
        told = str(error)
        assert "\n" not in told and all(word in told for word in words), told
        return
    raise AssertionError("it trained to the end")


def must_warn(
    words: Sequence[str], given: Sequence[Picture], folder: Path, **changes: object
) -> None:
    """Training continues, and a warning has these words."""
    data = write_data(folder / "data", given)
    warnings = train_small(data, folder / "run", **changes)
    assert any(all(word in told for word in words) for told in warnings), warnings


def rate(value: float, on_nonfinite: str, folder: Path) -> None:
    """Parameters become infinite."""
    words = ("learning rate", "lower config.learning_rate")
    changes = {"learning_rate": value, "warmup_steps": 0, "steps": 40, "log_every": 1}
    must_end(words, pictures(NAMES, DOG), folder, on_nonfinite=on_nonfinite, **changes)


def all_damaged(damage: Damage, folder: Path) -> None:
    """All images are damaged, and config allows to leave out all of them."""
    given = pictures(NAMES, DOG)
    must_end(
        ("all of 4 images are damaged",),
        [with_damage(each, damage) for each in given],
        folder,
        steps=60,
        **SKIP,
    )


def one_intact(damage: Damage, folder: Path) -> None:
    """All images but one are damaged."""
    first, *others = pictures(NAMES, DOG)
    damaged = [with_damage(each, damage) for each in others]
    must_warn(("left out",), [first, *damaged], folder, **SKIP)


def no_positives(folder: Path) -> None:
    """The only image with an object is damaged, which is detected in decoding."""
    (only,) = pictures(["only"], DOG)
    damaged = with_damage(only, DAMAGES["truncated"])
    empty = pictures([f"empty{number}" for number in range(6)])
    words = ("no object in the training images of 50 steps", "show-data")
    must_warn(words, [damaged, *empty], folder, steps=52, **SKIP)


ATTACKS = (
    [
        Attack(KIND, f"the rate {value:g}, {what}", functools.partial(rate, value, what))
        for value in (1e300, 1e38, 1e20)
        for what in ("stop", "skip")
    ]
    + [
        Attack(KIND, f"every image is {what}", functools.partial(all_damaged, damage))
        for what, damage in DAMAGES.items()
    ]
    + [
        Attack(KIND, f"every image but one is {what}", functools.partial(one_intact, damage))
        for what, damage in DAMAGES.items()
    ]
    + [
        Attack(KIND, "no positives in many steps", no_positives),
        Attack(
            KIND,
            "no object at all",
            functools.partial(must_end, ("no image has an object",), pictures(NAMES)),
        ),
        Attack(
            KIND,
            "classes that no object has",
            functools.partial(
                must_end,
                ("nothing to learn", "of other classes than bird"),
                pictures(NAMES, DOG, CAT),
                data__classes="bird",
            ),
        ),
        Attack(
            KIND,
            "a map that leaves out all classes but one without objects",
            functools.partial(
                must_end,
                ("nothing to learn",),
                pictures(NAMES, DOG),
                data__classes="bird",
                data__class_map="dog=",
            ),
        ),
        Attack(
            KIND,
            "objects of one class alone",
            functools.partial(
                must_warn,
                ("no object of 1 of 2 classes", "cat"),
                pictures(NAMES, DOG),
                data__classes="dog,cat",
            ),
        ),
        Attack(
            KIND,
            "boxes without area alone",
            functools.partial(must_end, (), pictures(NAMES, Object("dog", (6, 4, 6, 4)))),
        ),
        Attack(
            KIND,
            "boxes outside of the images alone",
            functools.partial(must_end, (), pictures(NAMES, Object("dog", (100, 100, 200, 200)))),
        ),
        Attack(
            KIND,
            "every parameter is frozen",
            functools.partial(must_end, ("config.freeze",), pictures(NAMES, DOG), freeze="*"),
        ),
    ]
)
