"""Commands and their flags.

A command is a file of `ssd_jax/cli` with its flags, a `main` and a `COMMAND`. It imports heavy
packages inside `main`, so that `--help` and a mistyped flag are answered at once, and `predict`
needs no package of training.
"""

import os
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict, TypeVar

from absl import flags

from ssd_jax.config.files import parse
from ssd_jax.errors import UserError, check_installed
from ssd_jax.runs.which_checkpoint import WhichCheckpoint

ValueT = TypeVar("ValueT")
HELP_WIDTH = 100
NO_BREAK = "\u00a0"  # a space at which `textwrap` does not break a line
HELP_COLUMN = 24  # where the text of a flag begins
JOIN_TIMEOUT = 300  # seconds until all processes must have joined


class Command(NamedTuple):
    """A command.

    Attributes:
      flags: its flags.
      main: gets the arguments that are not flags; returns the exit status, None for 0.
      required: names of flags that must be given.
      arguments: the arguments in the usage line of the help; "" = none.
      passes_unknown: whether undefined flags count as arguments.
      failure_status: the exit status after a `UserError`.
      needs: a package of `EXTRAS` that the whole command depends on.
      defaults: gets the given arguments without the name of the program; returns flags to add.
    """

    flags: flags.FlagValues
    main: Callable[[list[str]], int | None]
    required: Sequence[str] = ()
    arguments: str = ""
    passes_unknown: bool = False
    failure_status: int = 1
    needs: str = ""
    defaults: Callable[[list[str]], list[str]] | None = None

    def parse(self, argv: list[str]) -> list[str]:
        """Parses a command line, the name of the program first; returns the arguments.

        Raises:
          UserError: see `files.parse`; or a flag or a package is missing, or there are too many
            arguments.
        """
        if self.defaults is not None:
            argv = [argv[0], *self.defaults(argv[1:]), *argv[1:]]
        arguments = parse(self.flags, argv, known_only=self.passes_unknown)[1:]
        for name in self.required:
            if self.flags[name].value is None:
                meant = ""
                missing = f"--{name}=… is missing: it names {_named(self.flags[name])}"
                if name == "config" and "data" in self.flags:
                    missing = "give --data=FOLDER (your images) or --config=NAME"
                if arguments:
                    is_data = "data" in self.flags and os.path.isdir(arguments[0])
                    flag = "data" if is_data else name
                    meant = f". Did you mean --{flag}={arguments[0]}?"
                raise UserError(f"{missing}{meant}")
        if arguments and not self.arguments:
            raise UserError(
                f"unexpected argument {arguments[0]!r}: this command takes only flags, --NAME=VALUE"
            )
        if self.needs:
            check_installed(self.needs)
        return arguments


class Processes(TypedDict):
    """The arguments of `devices.initialize`."""

    coordinator: str
    num_processes: int
    process_id: int
    heartbeat_timeout: int
    join_timeout: int
    wait_timeout: int


def define_checkpoint(values: flags.FlagValues) -> Callable[[], WhichCheckpoint]:
    """Defines `--checkpoint`; returns a function that gives its value after parsing.

    The returned function raises:
      UserError: the value is neither best, last nor a step.
    """
    holder = flags.DEFINE_string(
        "checkpoint", "best", "The checkpoint: best (by mAP), last, or a step like 600.", values
    )

    def value() -> WhichCheckpoint:
        text = given(holder)
        if text == "best" or text == "last":
            return text
        if not text.isdecimal():
            raise UserError(f"--checkpoint is {text!r}, but must be best, last or a step like 600")
        return int(text)

    return value


def define_weights(values: flags.FlagValues) -> flags.FlagHolder[str | None]:
    """Defines `--weights`."""
    return flags.DEFINE_string(
        "weights",
        None,
        "An exported detector: the folder that `ssd-jax export` wrote, detector.onnx or "
        "detector.tflite.",
        values,
    )


def define_engine(values: flags.FlagValues) -> flags.FlagHolder[str]:
    """Defines `--engine`."""
    return flags.DEFINE_string(
        "engine",
        "",
        "The inference engine: jax, onnx (onnxruntime), openvino or tflite (LiteRT). By default "
        "jax, or the engine for the file that --weights names.",
        values,
    )


def _named(flag: flags.Flag[Any]) -> str:
    """The help of a flag as the object of a sentence."""
    text, choices = _text_and_choices(flag)
    text = text.removesuffix(".")
    if choices:
        text = f"{text}, one of {', '.join(choices)}"
    return text[:1].lower() + text[1:]


def _text_and_choices(flag: flags.Flag[Any]) -> tuple[str, Sequence[str]]:
    """The help of a flag and the values that it allows; empty where it allows any."""
    choices = getattr(flag.parser, "enum_values", ())
    # absl puts the choices before the help, between brackets.
    return (flag.help.partition(">: ")[2] if choices else flag.help), choices


def given(holder: flags.FlagHolder[ValueT | None]) -> ValueT:
    """The value of a flag that must be given: one of `Command.required`."""
    if holder.value is None:
        raise UserError(f"--{holder.name} is missing")
    return holder.value


def define_processes(values: flags.FlagValues) -> Callable[[], Processes]:
    """Defines the flags of a command that may run as several processes.

    Returns:
      A function that gives the arguments of `devices.initialize` once flags are parsed.
    """
    coordinator = flags.DEFINE_string(
        "coordinator",
        "",
        "HOST:PORT of process 0. By default the launcher gives this and the next two: Slurm, Open "
        "MPI, Kubernetes, TPU pods.",
        values,
    )
    num_processes = flags.DEFINE_integer(
        "num_processes",
        0,
        "The number of processes; 0 asks the launcher.",
        lower_bound=0,
        flag_values=values,
    )
    process_id = flags.DEFINE_integer(
        "process_id",
        -1,
        "The number of this process, from 0; -1 asks the launcher.",
        lower_bound=-1,
        flag_values=values,
    )
    heartbeat_timeout = flags.DEFINE_integer(
        "heartbeat_timeout",
        100,
        "Seconds without a heartbeat after which a process counts as dead.",
        lower_bound=1,
        flag_values=values,
    )
    wait_timeout = flags.DEFINE_integer(
        "wait_timeout",
        1800,
        "The longest wait for other processes, in seconds; then this process ends.",
        lower_bound=1,
        flag_values=values,
    )
    return lambda: {
        "coordinator": coordinator.value,
        "num_processes": num_processes.value,
        "process_id": process_id.value,
        "heartbeat_timeout": heartbeat_timeout.value,
        "join_timeout": min(JOIN_TIMEOUT, wait_timeout.value),
        "wait_timeout": wait_timeout.value,
    }


def format_help(name: str, description: str, command: Command) -> str:
    """The text of `ssd-jax COMMAND --help`: usage, description and examples, flags."""
    usage = f"usage: ssd-jax {name} {command.arguments}".rstrip() + " [FLAGS]"
    lines = [usage, "", description.strip(), "", "flags:"]
    for flag in (command.flags[name] for name in command.flags):
        text, choices = _text_and_choices(flag)
        notes = [text]
        if choices:
            notes.append(f"One of {', '.join(choices)}.")
        if flag.default not in (None, "", [], False):
            notes.append(f"(default:{NO_BREAK}{flag.default})")
        elif flag.name in command.required and command.defaults is None:
            notes.append("(required)")
        lines.append(_flag_help(f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}", notes))
        if flag.name == "config":
            fields = "Any field of the config, like --config.batch_size=8; ssd_jax/config/schema.py"
            lines.append(_flag_help("--config.FIELD", [f"{fields} describes them."]))
    return "\n".join(lines)


def _flag_help(name: str, notes: Sequence[str]) -> str:
    """The lines of a flag in the help: its name, and its text in a column."""
    indent = " " * HELP_COLUMN
    text = textwrap.fill(
        " ".join(notes), HELP_WIDTH, initial_indent=indent, subsequent_indent=indent
    )
    return f"  {name}".ljust(HELP_COLUMN) + text.lstrip().replace(NO_BREAK, " ")
