"""Runs Python code in a separate process, and measures its memory."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools.attacks.attack import ROOT, Attack

# The limits of an attack: bytes above an idle start, and seconds.
MAX_BYTES = 500_000_000
MAX_SECONDS = 60
START_SECONDS = 240  # for imports and compiling on a busy machine, before anything is measured

Write = Callable[[Path], None]

# The limit of the process in addition to its libraries, to protect the machine.
MOST_ADDRESSES = 8 * 2**30

# The peak is reset after the imports, to measure only the work.
PROGRAM = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, ({most}, {most}))
{before}
def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024
open("/proc/self/clear_refs", "w").write("5")
start = status("VmRSS")
start_time = time.monotonic()
try:
    {work}
except UserError as error:
    print("refused:", error)
print("taken", status("VmHWM") - start, time.monotonic() - start_time)
"""


def run_measured(before: str, work: str, timeout: float = MAX_SECONDS) -> tuple[str, int]:
    """Runs Python code; returns its output, and the growth of its memory in bytes.

    Args:
      before: imports and preparations, which are not measured.
      work: one statement; its `UserError` is printed after `refused: `.
      timeout: the limit in seconds.
    """
    before = f"from ssd_jax.errors import UserError\n{before}"
    program = PROGRAM.format(most=MOST_ADDRESSES, before=before, work=work)
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout + START_SECONDS,
    )
    assert result.returncode == 0, result.stderr[-1500:]
    *lines, last = result.stdout.splitlines()
    _, taken, seconds = last.split()
    assert float(seconds) < timeout, f"it took {seconds} seconds"
    return "\n".join(lines), int(taken)


def check_refused(before: str, work: str) -> None:
    """Checks that Python code is rejected with one line, in time, and with little memory."""
    printed, taken = run_measured(before, work)
    assert printed.startswith("refused: "), f"it was read: {printed[-300:]}"
    assert taken < MAX_BYTES, f"it took {taken:,} bytes"
    assert "\n" not in printed and len(printed) < 1500, printed[:2000]


def _read_weights(suffix: str, write: Write, before: str, read: str, folder: Path) -> None:
    file = folder / f"weights{suffix}"
    write(file)
    check_refused(before, read.format(repr(str(file))))


def weight_attack(
    name: str,
    suffix: str,
    write: Write,
    *,
    quick: bool = False,
    before: str = "from ssd_jax.interop.weight_files import read_weights",
    read: str = "read_weights({})",
) -> Attack:
    """An attack with a file of weights, which must be rejected.

    Args:
      name: the name of the attack.
      suffix: the suffix of the file.
      write: writes the file.
      quick: see `Attack`.
      before: see `run_measured`.
      read: code that reads the file; `{}` is replaced by its path.
    """
    run = functools.partial(_read_weights, suffix, write, before, read)
    return Attack("weight bombs", name, run, quick)
