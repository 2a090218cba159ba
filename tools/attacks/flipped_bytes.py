"""One flipped bit on disk: in a checkpoint, in its checksums, in an exported detector."""

import contextlib
import functools
from pathlib import Path

import jax
import numpy as np

from ssd_jax.errors import UserError
from ssd_jax.interop.trained import load_folder
from ssd_jax.runs.trained import load_workdir
from ssd_jax.storage.checksums import CHECKSUMS_FILE
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.state import TrainState
from tools.attacks.attack import Attack
from tools.small_run import PROGRESS, copy_export, copy_run, state_of_step

KIND = "flipped bytes"
PLACES = 66  # of the files of a checkpoint
QUICK = 9  # the quick selection tries one of this number

state = functools.cache(state_of_step)


def flip(file: Path, share: float, bit: int) -> None:
    """Flips a bit of the byte at a share of a file."""
    content = bytearray(file.read_bytes())
    content[min(int(share * len(content)), len(content) - 1)] ^= 1 << bit
    file.write_bytes(bytes(content))


def files(folder: Path) -> list[Path]:
    """All files below a folder, in an order independent of Orbax's random names."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: (str(path.parent), path.stat().st_size, path.name))


def restored(checkpoints: Path) -> TrainState:
    opened = Checkpoints(checkpoints, read_only=True)
    with contextlib.closing(opened):
        assert opened.restore_progress() == PROGRESS, "other progress was loaded"
        return opened.restore(state(1))


def flip_in_checkpoint(number: int, folder: Path) -> None:
    """The checkpoint is rejected in favour of the previous one, or its content is intact."""
    run = copy_run(folder)
    places = files(run / "checkpoints" / "2")
    file = places[number % len(places)]
    flip(file, (number // len(places) * 0.37 + 0.05) % 1, number % 8)
    try:
        loaded = restored(run / "checkpoints")
    except UserError as error:
        for word in ("step 2", "damaged", "remove the folder 2", "of step 1"):
            assert word in str(error), error
    else:
        jax.tree.map(np.testing.assert_array_equal, loaded, state(2))
    # The previous checkpoint is intact.
    intact = load_workdir(run, 1).variables
    jax.tree.map(np.testing.assert_array_equal, intact, state(1).for_evaluation())


def flip_in_export(name: str, share: float, folder: Path) -> None:
    """The folder is rejected, and the message names the file."""
    export = copy_export(folder)
    flip(export / name, share, 2)
    try:
        load_folder(export)
    except UserError as error:
        assert str(export) in str(error) and "damaged" in str(error), error
        return
    raise AssertionError("it was loaded")


def lose_lines(kept: int, folder: Path) -> None:
    """Truncated checksums leave files of the checkpoint unverified."""
    run = copy_run(folder)
    sums = run / "checkpoints" / "2" / CHECKSUMS_FILE
    lines = sums.read_text().splitlines(keepends=True)
    assert kept < len(lines), f"it has {len(lines)} lines"
    sums.write_text("".join(lines[:kept]))
    try:
        restored(run / "checkpoints")
    except UserError as error:
        assert "step 2" in str(error) and "it has no line for" in str(error), error
        return
    raise AssertionError("it was loaded")


ATTACKS = (
    [
        Attack(
            KIND,
            f"in a checkpoint, place {number}",
            functools.partial(flip_in_checkpoint, number),
            quick=number % QUICK == 0,
        )
        for number in range(PLACES)
    ]
    + [
        Attack(
            KIND,
            f"in {name} of an export, at {share:.0%}",
            functools.partial(flip_in_export, name, share),
            quick=share == 0.5,
        )
        for name in ("model.safetensors", "config.json", "SHA256SUMS")
        for share in (0.001, 0.25, 0.5, 0.75, 0.999)
    ]
    + [
        Attack(
            KIND,
            f"the checksums of a checkpoint have lost all but {kept} lines",
            functools.partial(lose_lines, kept),
            quick=kept == 3,
        )
        for kept in range(6)
    ]
)
