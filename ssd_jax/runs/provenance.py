"""The provenance of a result: the command, the code and the packages that were used."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "ml-collections",
    "numpy",
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-datasets",
)


def describe_program() -> dict[str, Any]:
    """Time, command, place, process, host, `git` revision and versions, as JSON can hold them."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command(sys.argv[1:]),
        "folder": os.getcwd(),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "git": git_revision(Path(__file__).parents[2]),
        "versions": versions(),
    }


def command(arguments: Sequence[str]) -> str:
    """The command of this program with these arguments, in a form that can be typed again."""
    program = sys.argv[0]
    if Path(program).name == "ssd-jax":
        return shlex.join(["ssd-jax", *arguments])
    started = ["-m", "ssd_jax"] if Path(program).name == "__main__.py" else [program]
    return shlex.join([Path(sys.executable).name, *started, *arguments])


def versions() -> dict[str, str]:
    """The versions of Python and of the installed packages."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision(folder: Path) -> str | None:
    """The commit of a folder, with "+changes" if files differ; None without git."""
    try:
        revision = _git(folder, "rev-parse", "HEAD")
        return f"{revision}+changes" if _git(folder, "status", "--porcelain") else revision
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()
