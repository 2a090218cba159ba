"""Memory in pages of 2 MiB, for commands that compute. Importing this starts the program anew.

XLA takes the memory of a program from the system at each call, and gives it back afterwards. In
pages of 4 KiB Linux then fills a hundred thousand of them in a step, a fifth to two fifths of its
time on a CPU. glibc asks for huge pages where the variable `GLIBC_TUNABLES` says so, which it reads
only when a program starts. To be imported early, so that little is done twice.
"""

import os
import sys

from ssd_jax.cli.early_signals import command_of

COMPUTING = ("train", "evaluate", "predict", "sweep", "benchmark")
VARIABLE = "GLIBC_TUNABLES"
TUNABLE = "glibc.malloc.hugetlb"
# Has "[madvise]" where programs get huge pages if they ask for them.
SETTING = "/sys/kernel/mm/transparent_hugepage/enabled"


def use() -> None:
    """Starts the program anew, as the same process, if it computes and can ask for huge pages."""
    settings = os.environ.get(VARIABLE, "")
    if command_of(sys.argv) not in COMPUTING or TUNABLE in settings or not _are_on_request():
        return
    os.environ[VARIABLE] = f"{settings}:{TUNABLE}=1".lstrip(":")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _are_on_request() -> bool:
    """Whether this is glibc, on a Linux that gives huge pages to those who ask."""
    try:
        with open(SETTING) as file:
            return "[madvise]" in file.read() and bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (OSError, ValueError, AttributeError):
        return False


use()
