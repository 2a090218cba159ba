"""Flags and configs as the scripts get them; what is wrong with them ends in one line."""

import importlib.util
import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from ssd_jax.cli import console
from ssd_jax.config.schema import field_names, nearest_field
from ssd_jax.config.spelling import did_you_mean
from ssd_jax.errors import UserError

flags.disclaim_key_flags()  # --help lists --config with the flags of the script


def run(
    main: Callable[[list[str]], int | None],
    required: Sequence[str] = (),
    *,
    known_only: bool = False,
    failure_status: int = 1,
) -> None:
    """Parses the flags of a script and leaves with the status that `main` returns.

    Args:
      main: gets what `parse` returns.
      required: see `parse`.
      known_only: see `parse`.
      failure_status: the exit status where flags are wrong.
    """

    def parse_flags(argv: list[str]) -> list[str]:
        with console.session(failure_status):
            return parse(flags.FLAGS, argv, required, known_only=known_only)

    app.run(main, flags_parser=parse_flags)


def define_config(
    help_text: str = "The config file, FILE or FILE:ROW.",
    values: flags.FlagValues = flags.FLAGS,
    argv: list[str] | None = None,
) -> flags.FlagHolder:
    """Defines --config, and --config.FIELD for every field of it.

    Args:
      help_text: what --help says of it.
      values: where to define it.
      argv: the command line that names the fields; that of this program where None.
    """
    holder = config_flags.DEFINE_config_file(
        "config", None, help_text, values, lock_config=True, sys_argv=argv
    )
    values["config"].parser = _ConfigFile()
    return holder


def define_processes() -> Callable[[], dict[str, str | int]]:
    """Defines the flags of a program that may run as several processes.

    Returns:
      Gives, once flags are parsed, the arguments of `devices.initialize`.
    """
    holders = (
        flags.DEFINE_string("coordinator", "", 'host:port of process 0; "" asks the launcher.'),
        flags.DEFINE_integer(
            "num_processes", 0, "How many processes; 0 asks the launcher.", lower_bound=0
        ),
        flags.DEFINE_integer(
            "process_id", -1, "Which one this is; -1 asks the launcher.", lower_bound=-1
        ),
        flags.DEFINE_integer(
            "heartbeat_timeout",
            100,
            "Seconds without a sign of life after which a process counts as dead.",
            lower_bound=1,
        ),
    )
    return lambda: {holder.name: holder.value for holder in holders}


def parse(
    values: flags.FlagValues,
    argv: list[str],
    required: Sequence[str] = (),
    *,
    known_only: bool = False,
) -> list[str]:
    """Parses a command line.

    Args:
      values: the flags.
      argv: the command line, the name of the program first.
      required: names of flags that must be given.
      known_only: whether flags that are not defined are returned too, and not refused.

    Returns:
      The name of the program, and the arguments that are not flags.

    Raises:
      UserError: a flag, or a field of a config, is unknown or has a value of a wrong type; the
        config cannot be read; a required flag is missing.
    """
    if "config" in values:
        _check_overrides(argv)
    try:
        arguments = values(argv, known_only=known_only)
    except flags.UnrecognizedFlagError as error:
        raise UserError(_describe_unknown(error.flagname, values)) from error
    except flags.Error as error:
        raise UserError(str(error)) from error
    for name in required:
        if values[name].value is None:
            raise UserError(f"--{name} is missing: {values[name].help}")
    return arguments


def load_config(name: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """A config with fields from the command line.

    Args:
      name: `FILE` or `FILE:ROW`.
      overrides: arguments like `--config.FIELD=VALUE`.

    Raises:
      UserError: see `parse`.
    """
    values, argv = flags.FlagValues(), ["", f"--config={name}", *overrides]
    define_config(values=values, argv=argv)
    parse(values, argv)
    return values.config


def rows_of(file: str) -> tuple[str, ...]:
    """The rows of a config file; none where it has but one config.

    Raises:
      UserError: the file does not exist or cannot be run.
    """
    return tuple(getattr(_run_file(file), "ROWS", ()))


def published(name: str) -> str:
    """What was published for a config, `FILE` or `FILE:ROW`; "" where nothing is known."""
    file, _, row = name.partition(":")
    module = _run_file(file)
    rows, words = getattr(module, "ROWS", {}), getattr(module, "PUBLISHED", "")
    return f"{rows[row]} {words}" if row in rows and words else words


def _check_names(config: ConfigDict) -> None:
    """Refuses fields that no config has, before flags can change their values."""
    known = field_names()
    for name, value in config.items():
        inner = [f"{name}.{field}" for field in value] if isinstance(value, ConfigDict) else []
        for field in (name, *inner):
            if field not in known:
                near = nearest_field(field, "config.")
                raise UserError(f"config.{field} is no field of a config{near}")


class _ConfigFile(flags.ArgumentParser):
    """Makes a config of `FILE` or `FILE:ROW`."""

    def parse(self, argument: str) -> ConfigDict:
        """The config, locked. What it raises absl reports with the flag and its value."""
        file, colon, row = argument.partition(":")
        module = _run_file(file)
        rows = getattr(module, "ROWS", ())
        if rows and colon and row not in rows:
            raise UserError(
                f"the file has no row {row!r}, but {', '.join(rows)}{did_you_mean(row, rows)}"
            )
        try:
            config = module.get_config(*([row] if colon else []))
        except Exception as error:
            raise UserError(_describe_failure(error, file)) from error
        if not isinstance(config, ConfigDict):
            raise UserError(
                f"get_config returns {type(config).__name__}, but must return a ConfigDict of "
                "ml_collections"
            )
        _check_names(config)
        return config.lock()


def _run_file(file: str) -> ModuleType:
    path = Path(file)
    if not path.is_file():
        near = did_you_mean(file, map(str, path.parent.glob("*.py")))
        raise UserError(f"{file} does not exist{near}")
    spec = importlib.util.spec_from_file_location(path.stem, path.absolute())
    if spec is None:
        raise UserError(f"{file} is no file of Python: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(_describe_failure(error, file)) from error
    return module


def _describe_failure(error: Exception, file: str) -> str:
    """What went wrong in a config file, and in which line of it."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(Path(file).absolute())]
    place = f"{file}, line {lines[-1]}" if lines else file
    return f"{place}: {type(error).__name__}: {error}"


def _check_overrides(argv: Sequence[str]) -> None:
    """Refuses --config.FIELD and --noconfig.FIELD where there is no such field."""
    known = field_names()
    for argument in argv[1:]:
        given = re.match(r"--?(?:no)?config\.([^=]*)", argument)
        if given and given[1] not in known:
            near = nearest_field(given[1], "--config.")
            raise UserError(f"{argument}: a config has no field {given[1]}{near}")


def _describe_unknown(name: str, values: flags.FlagValues) -> str:
    if name.removeprefix("no").startswith("config."):
        return f"--{name} changes a field of a config: name that with --config before"
    near = did_you_mean(name, values, "--")
    if not near and "config" in values:
        near = nearest_field(name, "--config.")
    return f"there is no flag --{name}{near}"
