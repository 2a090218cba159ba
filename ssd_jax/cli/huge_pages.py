"""Memory in huge pages of 2 MiB, for commands that compute. Importing this restarts the program.

XLA allocates the memory of a program at each call and frees it afterwards. With pages of 4 KiB,
Linux clears a hundred thousand pages in a training step, which takes a fifth to two fifths of the
step on a CPU. glibc requests huge pages if the variable `GLIBC_TUNABLES` says so, but reads it only
when a program starts. Import this module early, so that little work is done twice.
"""

import os
import sys

from ssd_jax.cli.early_signals import command_of

COMPUTING = ("train", "evaluate", "predict", "sweep", "benchmark")
VARIABLE = "GLIBC_TUNABLES"
TUNABLE = "glibc.malloc.hugetlb"
# Contains "[madvise]" where programs get huge pages on request.
SETTING = "/sys/kernel/mm/transparent_hugepage/enabled"


def use() -> None:
    """Restarts the program in the same process, if it computes and can request huge pages."""
    settings = os.environ.get(VARIABLE, "")
    if command_of(sys.argv) not in COMPUTING or TUNABLE in settings or not _are_on_request():
        return
    os.environ[VARIABLE] = f"{settings}:{TUNABLE}=1".lstrip(":")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _are_on_request() -> bool:
    """Whether this is glibc on a Linux that gives huge pages on request."""
    try:
        with open(SETTING) as file:
            return "[madvise]" in file.read() and bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (OSError, ValueError, AttributeError):
        return False


use()
