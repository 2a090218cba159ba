"""The type of attacks, and functions that run them."""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Attack:
    """One attack or accident.

    Attributes:
      kind: its target, a row of the table.
      name: a short description.
      run: performs it in an empty folder, and raises `AssertionError` (or another error) if the
        package does not survive.
      quick: whether it is in the quick selection, which takes seconds and is part of the tests.
    """

    kind: str
    name: str
    run: Callable[[Path], None]
    quick: bool = False


def command(
    *arguments: str | Path, timeout: float = 60, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs `ssd-jax ARGUMENTS` in a separate process."""
    return subprocess.run(
        [sys.executable, "-m", "ssd_jax", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
    )


def check_refused(
    result: subprocess.CompletedProcess[str], words: Sequence[str] = (), status: int = 1
) -> None:
    """Checks that a command ended with one line of error with these words."""
    assert result.returncode == status, f"status {result.returncode}: {result.stderr[-500:]}"
    assert "Traceback" not in result.stderr, result.stderr[-1500:]
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, f"{len(lines)} lines of error: {result.stderr[-500:]}"
    for word in words:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"


def seconds_of(work: Callable[[], object]) -> float:
    """The seconds that a call takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start
