"""`ssd-jax COMMAND`: finds the command, parses its flags and runs it."""

from ssd_jax.cli import early_signals, huge_pages  # noqa: F401, which restarts the program

# isort: split
import faulthandler
import gc
import importlib
import sys
from types import ModuleType
from typing import NoReturn

import ssd_jax
from ssd_jax.cli import console
from ssd_jax.cli.command_line import format_help
from ssd_jax.config.spelling import did_you_mean
from ssd_jax.errors import UserError

COMMANDS = (
    "train",
    "evaluate",
    "predict",
    "import",
    "export",
    "check-data",
    "convert-data",
    "show-data",
    "fit-boxes",
    "sweep",
    "benchmark",
)
# `import` cannot be the name of a module.
MODULES = {"import": "import_weights"}

GARBAGE_THRESHOLD = 10_000  # new objects until Python searches for reference cycles

HELP = ("--help", "-help", "-h")

OVERVIEW = """\
usage: ssd-jax COMMAND [FLAGS]

SSD, the Single Shot MultiBox Detector: train it on your images, evaluate, detect, export.

    ssd-jax train --data=path/to/dataset
    ssd-jax evaluate --workdir=runs/dataset --report=report
    ssd-jax predict --workdir=runs/dataset --output=detected path/to/images

commands:"""


def main() -> NoReturn:
    """Runs the command that the command line names, with the remaining arguments."""
    name, *arguments = sys.argv[1:] or [""]
    if name in (*HELP, "help", ""):
        _print_and_exit(overview(), 0 if name else 1)  # 1: no command was run
    if name == "--version":
        _print_and_exit(f"ssd-jax {ssd_jax.__version__}")
    run(name, arguments)


def run(name: str, arguments: list[str] | None = None) -> NoReturn:
    """Runs a command and ends the program with its status.

    Args:
      name: one of `COMMANDS`.
      arguments: its flags and arguments; None = those of the program.
    """
    faulthandler.enable()
    # Imports and traced programs create many objects that stay. By default, Python scans them again
    # after every 700 new ones, which takes a fifth of the start-up time.
    gc.set_threshold(GARBAGE_THRESHOLD)
    arguments = sys.argv[1:] if arguments is None else arguments
    console.escape_unencodable()
    with console.one_line_errors():
        if name not in COMMANDS:
            near = did_you_mean(name, COMMANDS) or f": known are {', '.join(COMMANDS)}"
            raise UserError(f"there is no command {name}{near}")
        module = command_module(name)
    command = module.COMMAND
    if any(argument in HELP for argument in arguments):
        _print_and_exit(format_help(name, module.__doc__ or "", command))
    with console.one_line_errors(command.failure_status):
        others = command.parse([name, *arguments])
    with console.session(command.failure_status):
        early_signals.release()
        status = command.main(others)
        sys.stdout.flush()  # here, so that a closed pipe ends the program without a traceback
    sys.exit(status)


def _print_and_exit(text: str, status: int = 0) -> NoReturn:
    console.escape_unencodable()
    with console.one_line_errors():
        print(text, flush=True)
    sys.exit(status)


def command_module(name: str) -> ModuleType:
    """The file of a command: its docstring is the help, its `COMMAND` says how to run it."""
    return importlib.import_module(f"ssd_jax.cli.{MODULES.get(name, name).replace('-', '_')}")


def overview() -> str:
    """The help of `ssd-jax`: examples, and one line for each command."""
    lines = [OVERVIEW]
    for name in COMMANDS:
        first = (command_module(name).__doc__ or "").strip().splitlines()[0]
        lines.append(f"  {name:<14}{first}")
    lines += ["", "ssd-jax COMMAND --help shows examples and the flags of a command."]
    return "\n".join(lines)
