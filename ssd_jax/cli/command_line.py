"""Commands and their flags.

A command is a file of `ssd_jax/cli` with its flags, a `main` and a `COMMAND`. It imports what it
calls when it calls it, so that `--help` and a mistyped flag are answered at once, and `predict`
needs nothing of what training does.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict, TypeVar

from absl import flags

from ssd_jax.config.files import parse
from ssd_jax.errors import UserError, check_installed
from ssd_jax.runs.which_checkpoint import WhichCheckpoint

ValueT = TypeVar("ValueT")
HELP_WIDTH = 100
JOIN_TIMEOUT = 300  # seconds until all processes must have come


class Command(NamedTuple):
    """A command.

    Attributes:
      flags: its flags.
      main: gets the arguments that are not flags; returns the exit status, None for 0.
      required: names of flags that must be given.
      arguments: what the arguments are, for the help; "" where there are none.
      passes_unknown: whether flags that are not defined count as arguments.
      failure_status: the exit status after a `UserError`.
      needs: a package of `EXTRAS` without which nothing of it works.
      defaults: flags to be added to those that are given, without the name of the program.
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
          UserError: see `files.parse`; or a flag or a package is missing, or there is an argument
            too many.
        """
        if self.defaults is not None:
            argv = [argv[0], *self.defaults(argv[1:]), *argv[1:]]
        arguments = parse(self.flags, argv, known_only=self.passes_unknown)[1:]
        for name in self.required:
            if self.flags[name].value is None:
                meant = ""
                if arguments:
                    is_data = "data" in self.flags and os.path.isdir(arguments[0])
                    flag = "data" if is_data else name
                    meant = f". Did you mean --{flag}={arguments[0]}?"
                raise UserError(
                    f"--{name}=… is missing: it names {_named(self.flags[name])}{meant}"
                )
        if arguments and not self.arguments:
            raise UserError(f"there is no argument {arguments[0]!r}, only flags: --NAME=VALUE")
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
    """Defines `--checkpoint`; returns what gives its value after parsing.

    What it returns raises:
      UserError: the value is none that the flag can have.
    """
    holder = flags.DEFINE_string(
        "checkpoint", "best", "A step of the run, or best (by mAP), or last.", values
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
        "What `ssd-jax export` wrote: its folder, detector.onnx or detector.tflite.",
        values,
    )


def define_engine(values: flags.FlagValues) -> flags.FlagHolder[str]:
    """Defines `--engine`."""
    return flags.DEFINE_string(
        "engine",
        "",
        "What runs the network: jax, onnx (onnxruntime), openvino or tflite (LiteRT); by default "
        "jax, or what runs the file that --weights names.",
        values,
    )


def _named(flag: flags.Flag[Any]) -> str:
    """What a flag names: its help within a sentence."""
    text, choices = flag.help.removesuffix("."), getattr(flag.parser, "enum_values", ())
    if choices:  # absl puts them before the help, between brackets
        text = f"{text.partition('>: ')[2]}, one of {', '.join(choices)}"
    return text[:1].lower() + text[1:]


def given(holder: flags.FlagHolder[ValueT | None]) -> ValueT:
    """The value of a flag that must be given: one of `Command.required`."""
    if holder.value is None:
        raise UserError(f"--{holder.name} is missing")
    return holder.value


def define_processes(values: flags.FlagValues) -> Callable[[], Processes]:
    """Defines the flags of a command that may run as several processes.

    Returns:
      Gives, once flags are parsed, the arguments of `devices.initialize`.
    """
    coordinator = flags.DEFINE_string(
        "coordinator", "", 'host:port of process 0; "" asks the launcher.', values
    )
    num_processes = flags.DEFINE_integer(
        "num_processes",
        0,
        "How many processes; 0 asks the launcher.",
        lower_bound=0,
        flag_values=values,
    )
    process_id = flags.DEFINE_integer(
        "process_id",
        -1,
        "Which one this is; -1 asks the launcher.",
        lower_bound=-1,
        flag_values=values,
    )
    heartbeat_timeout = flags.DEFINE_integer(
        "heartbeat_timeout",
        100,
        "Seconds without a sign of life after which a process counts as dead.",
        lower_bound=1,
        flag_values=values,
    )
    wait_timeout = flags.DEFINE_integer(
        "wait_timeout",
        1800,
        "Seconds that a wait for other processes may take before this one ends.",
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
        value = "--[no]" if flag.boolean else "--"
        default = "" if flag.default in (None, "", [], False) else f" (default: {flag.default})"
        text = f"{value}{flag.name}: {flag.help}{default}"
        lines.append(flags.text_wrap(text, HELP_WIDTH, indent="      ", firstline_indent="  "))
    if "config" in command.flags:
        lines.append("  --config.FIELD: any field of the config: --config.batch_size=8")
    return "\n".join(lines)
