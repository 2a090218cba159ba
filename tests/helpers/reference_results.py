"""Reference results: those in this repository, and the complete ones next to it."""

import json
from pathlib import Path

import numpy as np
import pytest

CARRIED = Path(__file__).parents[1] / "reference"
COLLECTION = Path(__file__).parents[3] / "shared"


def carried(name: str) -> dict[str, np.ndarray]:
    """The arrays that the project carries under a name; see `reference/README.md`."""
    with np.load(CARRIED / f"{name}.npz") as arrays:
        return dict(arrays)


def carried_json(name: str) -> dict:
    """A JSON file of the project's reference results."""
    return json.loads((CARRIED / f"{name}.json").read_text())


def references(name: str) -> list[dict[str, np.ndarray]]:
    """The carried rows of a result, and all of it where the collection lies beside the project.

    `rows` tells which rows the carried arrays hold.
    """
    found = [carried(name)]
    complete = COLLECTION / "golden" / f"{name}.npz"
    if complete.exists():
        with np.load(complete) as arrays:
            found.append(dict(arrays))
    return found


def shared(name: str) -> Path:
    """A file or folder of the collection next to the project; skips the test without it."""
    path = COLLECTION / name
    if not path.exists():
        pytest.skip(f"needs {name} from the collection beside the project")
    return path
