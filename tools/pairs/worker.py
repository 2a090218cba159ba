"""A process that prepares and runs cases on request. Needs only the standard library.

It reads requests from stdin and answers on stdout, both one JSON object a line: `{"prepare": case}`
prepares a case and answers with its description, `{}` runs it once and answers with the time. An
answer with `error` has the reason of a failure.
"""

import ctypes
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Case = dict[str, Any]
Prepared = tuple[Callable[[], object], dict[str, Any]]

STATUS = Path("/proc/self/status")
PEAK, CURRENT = "VmHWM", "VmRSS"


def serve(prepare: Callable[[Case], Prepared]) -> None:
    """Answers requests until stdin ends.

    Args:
      prepare: returns, for a case, the function to measure, which returns when its work is
        finished, and a description as JSON. With `works_ahead` the CPU time between two runs counts
        for the second run.
    """
    # Output of libraries must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    call, about = _no_work, {}
    memory, last = 0, 0.0
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prepare" in request:
                call, about = prepare(request["prepare"])
                memory, answer = _start_of_memory(), about
                call()
                call()
                _reset_peak()
            else:
                start = last if about.get("works_ahead") else _processor_time()
                wall_start = time.perf_counter()
                call()
                answer = {
                    "cpu_seconds": _processor_time() - start,
                    "wall_seconds": time.perf_counter() - wall_start,
                    "peak_bytes": max(0, _memory(PEAK) - memory),
                }
            last = _processor_time()
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            answer = {"error": f"{type(error).__name__}: {lines[0]}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


def _no_work() -> None:
    """Measured before a case is prepared: no work."""


def _processor_time() -> float:
    """Processor seconds of this process and its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _memory(name: str) -> int:
    """The current or largest memory of this process in bytes; 0 without Linux."""
    if not STATUS.exists():
        return 0
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields[name].split()[0]) * 1024


def _start_of_memory() -> int:
    """The memory in bytes after free memory was returned to the system."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # glibc
            trim(0)
    return _memory(CURRENT)


def _reset_peak() -> None:
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")
