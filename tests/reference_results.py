"""Where reference results lie that tests compare with, and what to do where they are missing."""

from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "shared"


def shared(name: str) -> Path:
    """A file or folder of the reference collection beside the project; skips without it."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} from the collection of reference results")
    return path


def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of a golden file."""
    with np.load(shared(f"golden/{name}")) as arrays:
        return dict(arrays)
