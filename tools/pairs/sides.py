"""Sides of a comparison: worker processes that run in turns, under equal conditions."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class SideError(Exception):
    """A side has failed; the text is the reason."""


class Side:
    """A worker process (`tools/pairs/worker.py`).

    Args:
      name: the name of the side.
      command: the command of the process, in the root of this tree.
      environment: variables in addition to those of this process.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - see `close`
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def prepare(self, case: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Prepares a case; returns the worker's description of it.

        Raises:
          SideError: preparation failed, or took longer than `seconds`, which ends the process.
        """
        late = threading.Timer(seconds, self._process.kill)
        late.start()
        try:
            return self._ask({"prepare": case})
        except SideError:
            if not late.is_alive():
                raise SideError(f"not ready after {seconds:.0f} s") from None
            raise
        finally:
            late.cancel()

    def run(self) -> dict[str, Any]:
        """Runs the case once.

        Returns:
          `cpu_seconds`, `wall_seconds` and `peak_bytes`, the largest growth of the process since
          before its first run.

        Raises:
          SideError: the run has failed.
        """
        return self._ask({})

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or ["no message"])[-1]
            raise SideError(f"ended with status {self._process.returncode}: {last}"[:300])
        answer = json.loads(line)
        if "error" in answer:
            raise SideError(answer["error"])
        return answer


def ours(name: str, root: Path) -> Side:
    """The side of a tree's `ssd_jax`, measured by this tree, with memory settings of commands."""
    command = [sys.executable, "-m", "tools.pairs.ours", str(root)]
    return Side(name, command, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})


def use_cores(count: int) -> None:
    """Limits this process, and processes that it starts later, to this number of its cores."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def prepare_all(
    sides: Sequence[Side], case: dict[str, Any], seconds: float
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Prepares a case on all sides in parallel.

    Returns:
      By name of the side, its description of the case, and the errors of other sides.
    """
    about, failed = {}, {}
    with ThreadPoolExecutor(len(sides)) as pool:
        preparing = {side.name: pool.submit(side.prepare, case, seconds) for side in sides}
    for name, future in preparing.items():
        try:
            about[name] = future.result()
        except SideError as error:
            failed[name] = str(error)
    return about, failed


def take_turns(sides: Sequence[Side], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Runs the prepared case on all sides in turns, several times; returns results by name."""
    runs: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            runs[side.name].append(side.run())
    return runs


def compare(
    first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]], field: str
) -> dict[str, Any]:
    """Compares a number of two sides, by the ratios of consecutive measurements.

    Returns:
      `first` and `second`, the medians; `ratio`, the median of first over second, with `lowest` and
      `highest` of all rounds, the noise. None for a division by 0.
    """
    values = [[run[field] for run in runs] for runs in (first, second)]
    ratios = sorted(one / other for one, other in zip(*values, strict=True) if other)
    return {
        "first": statistics.median(values[0]),
        "second": statistics.median(values[1]),
        "ratio": statistics.median(ratios) if ratios else None,
        "lowest": ratios[0] if ratios else None,
        "highest": ratios[-1] if ratios else None,
    }
