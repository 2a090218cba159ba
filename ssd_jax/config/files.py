"""Finds config files by name or path, runs them, and applies `--config.FIELD=VALUE`.

`ssd_small` and `ablations/table2:squares` name configs of the package, and work in any folder;
`configs/ssd_small.py` and `my_config.py:row` are files.
"""

import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from ssd_jax.config.flag_messages import readable_messages
from ssd_jax.config.schema import Config, as_config, field_names, nearest_field
from ssd_jax.config.spelling import did_you_mean, did_you_mean_path
from ssd_jax.errors import UserError, path_text

LONGEST_FLAG = 100  # characters of a name


def load_config(
    name: str | os.PathLike[str], overrides: Sequence[str] | Mapping[str, Any] = ()
) -> Config:
    """Loads a config by its name and applies overrides.

    Args:
      name: of a config that comes with the package, like `ssd_small`, or a file; `NAME:ROW` selects
        a row.
      overrides: a list of `FIELD=VALUE`, like `batch_size=8` and `data.train=path/to/dataset`,
        also with `--config.` before it; or a dict of values by field.

    Raises:
      UserError: there is no such config, row or field, the file cannot be run, or a value is not
        allowed.
    """
    name = path_text(name, "name")
    if "://" not in name:
        find_file(name.partition(":")[0])  # here, because absl would name a flag
    if isinstance(overrides, Mapping):
        return load_config(name).replace(overrides)
    for word in [overrides] if isinstance(overrides, str) else overrides:
        if isinstance(overrides, str) or not ("=" in word or word.startswith("-")):
            raise UserError(
                f"overrides has {word!r}, but must be a list like ['steps=3'], or a dict like "
                "{'steps': 3}"
            )
    given = [word if word.startswith("-") else f"--config.{word}" for word in overrides]
    values, argv = flags.FlagValues(), ["", f"--config={name}", *given]
    define_config(values=values, argv=argv)
    parse(values, argv)
    return given_config(values)


def given_config(values: flags.FlagValues, implied: str = "") -> Config:
    """The config given by --config and --config.FIELD, after parsing.

    Args:
      values: the flags.
      implied: a config that another flag implies; messages do not name it.

    Raises:
      UserError: --config is missing; or see `as_config`, where the message names the config.
    """
    if values["config"].value is None:
        raise UserError("--config is missing")
    try:
        return as_config(values["config"].value)
    except UserError as error:
        name, message = config_name(values), str(error)
        if _first_field(message) in given_fields(values):
            raise UserError(f"--{message}") from error
        raise UserError(message if name == implied else f"--config={name}: {message}") from error


def _first_field(message: str) -> str:
    """The field that a message of `as_config` begins with, without an index."""
    found = re.match(r"config\.([\w.]+)", message)
    return found[1] if found else ""


def config_name(values: flags.FlagValues) -> str:
    """The value of --config, after parsing."""
    return config_flags.get_config_filename(values["config"])


def given_fields(values: flags.FlagValues) -> set[str]:
    """The names of the fields set by --config.FIELD=VALUE, after parsing."""
    return {name.removeprefix("config.") for name in values if name.startswith("config.")}


def rows_of(name: str) -> tuple[str, ...]:
    """The rows of a config file; empty if it has only one config.

    Raises:
      UserError: there is no such file, or it cannot be run.
    """
    return tuple(getattr(_run_file(find_file(name)), "ROWS", ()))


def published(name: str) -> str:
    """The published result of a config, `FILE` or `FILE:ROW`; "" if none is known."""
    file, _, row = name.partition(":")
    module = _run_file(find_file(file))
    rows, words = getattr(module, "ROWS", {}), getattr(module, "PUBLISHED", "")
    return f"{rows[row]} {words}" if row in rows and words else words


def shipped_folder() -> Path:
    """The folder of the configs that come with the package.

    It is inside the package when installed, and next to it in a checkout.
    """
    package = Path(__file__).absolute().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shipped_names() -> list[str]:
    """The names of the configs that come with the package, like `ablations/table2`."""
    files = [file.relative_to(shipped_folder()) for file in shipped_folder().rglob("*.py")]
    return sorted(file.with_suffix("").as_posix() for file in files if file.stem != "__init__")


def shipped_configs() -> list[str]:
    """The configs that come with the package; a file with rows counts as one config per row."""
    rows = {name: rows_of(name) for name in shipped_names()}
    return [
        config
        for name in rows
        for config in ([f"{name}:{row}" for row in rows[name]] if rows[name] else [name])
    ]


def find_file(name: str) -> Path:
    """The file of a config, without its row.

    Args:
      name: the name of a config that comes with the package, or the path of a file.

    Raises:
      UserError: there is no such config; the message suggests the nearest name.
    """
    path, shipped = Path(name), shipped_names()
    if name in shipped:
        return shipped_folder() / f"{name}.py"
    if path.is_file():
        if path.suffix != ".py":
            raise UserError(f"{name} is not a Python file: its name must end in .py")
        return path
    # A shipped config may be named by its path in a checkout, from any folder.
    stem = name.removeprefix("configs/").removesuffix(".py")
    near = did_you_mean_path(path, lambda file: file.suffix == ".py")
    near = near or did_you_mean(stem, shipped)
    if path.suffix == ".py":
        raise UserError(f"{name} does not exist{near}")
    raise UserError(f"there is no config {name}{near or ': known are ' + ', '.join(shipped)}")


def define_config(
    help_text: str = "The config: a name like ssd_small, a file, or FILE:ROW for one of its rows.",
    values: flags.FlagValues = flags.FLAGS,
    argv: list[str] | None = None,
) -> flags.FlagHolder[ConfigDict | None]:
    """Defines --config, and --config.FIELD for every field of it.

    Args:
      help_text: the text for --help.
      values: where to define it.
      argv: the command line that names the fields; None = that of this program.
    """
    with readable_messages():  # the definition already reads --flagfile
        holder = config_flags.DEFINE_config_file(
            "config", None, help_text, values, lock_config=True, sys_argv=argv
        )
    values["config"].parser = _ConfigFile()
    return holder


def parse(values: flags.FlagValues, argv: list[str], *, known_only: bool = False) -> list[str]:
    """Parses a command line.

    Args:
      values: the flags.
      argv: the command line, the name of the program first.
      known_only: whether unknown flags are returned instead of refused.

    Returns:
      The name of the program, and the arguments that are not flags.

    Raises:
      UserError: a flag, or a field of a config, is unknown or has a value of a wrong type; or the
        config cannot be read.
    """
    if "config" in values:
        _check_overrides(argv)
    names = [word.lstrip("-").partition("=")[0] for word in argv[1:] if word.startswith("-")]
    too_long = [name for name in names if len(name) > LONGEST_FLAG]
    if too_long and not known_only:  # absl's search for similar names would not end
        raise UserError(_describe_unknown(too_long[0], values))
    with readable_messages():
        try:
            rest = values(argv, known_only=known_only)
        except flags.UnrecognizedFlagError as error:
            raise UserError(_describe_unknown(error.flagname, values)) from error
    _clear_evaluation(values, argv)
    return rest


def _clear_evaluation(values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Resets `data.eval` to "" if only `data.train` is given: the config's belongs to other data.

    Args:
      values: the flags, parsed.
      argv: the command line.
    """
    given = {word.lstrip("-").partition("=")[0] for word in argv[1:] if word.startswith("-")}
    config = values["config"].value if "config" in values else None
    if config is not None and "config.data.train" in given and "config.data.eval" not in given:
        config.data.eval = ""


class _ConfigFile(flags.ArgumentParser):
    """Parses the value of --config into a config."""

    def parse(self, argument: str) -> ConfigDict:
        """Returns the config, locked. absl adds the flag and its value to error messages."""
        if "://" in argument:  # the text after this colon is not a row
            raise UserError(
                f"{argument} begins with {argument.partition('://')[0]}://, but configs are local "
                "Python files: copy it here and name the copy"
            )
        name, colon, row = argument.partition(":")
        file = find_file(name)
        module = _run_file(file)
        rows = getattr(module, "ROWS", ())
        if not hasattr(module, "get_config"):
            raise UserError("the file has no function get_config, which returns the config")
        if colon and not rows:
            raise UserError(f"the file has only one config, and no row {row!r}")
        if rows and colon and row not in rows:
            raise UserError(
                f"the file has no row {row!r}, but {', '.join(rows)}{did_you_mean(row, rows)}"
            )
        try:
            config = module.get_config(*([row] if colon else []))
        except (Exception, SystemExit) as error:
            raise UserError(_describe_failure(error, file)) from error
        if not isinstance(config, ConfigDict):
            raise UserError(
                f"get_config returns {type(config).__name__}, but must return a ConfigDict of "
                "ml_collections"
            )
        _check_names(config)
        _fill_in_defaults(config)
        return config.lock()


def _fill_in_defaults(config: ConfigDict) -> None:
    """Adds the fields that a config file leaves out, so that flags can change them."""
    for name, default in Config().model_dump().items():
        group: object = config.get(name, None)
        if name not in config:
            config[name] = default
        elif isinstance(default, dict) and isinstance(group, ConfigDict):
            if name == "data" and "train" in group and "eval" not in group:
                group.eval = ""  # the default belongs to the default training data
            for field, value in default.items():
                if field not in group:
                    group[field] = value


def _run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path.absolute())
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    _make_configs_importable()
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(_describe_failure(error, path)) from error
    return module


def _make_configs_importable() -> None:
    """Lets config files say `from configs import …`, from any folder and after `pip install`.

    The shipped configs come first; another package `configs` on the path is searched after them.
    """
    folder = shipped_folder()
    if folder in map(Path, getattr(sys.modules.get("configs"), "__path__", ())):
        return
    sys.modules.pop("configs", None)
    other = importlib.util.find_spec("configs")
    others = (other.submodule_search_locations if other else None) or []
    spec = importlib.util.spec_from_file_location(
        "configs", folder / "__init__.py", submodule_search_locations=[str(folder), *others]
    )
    assert spec is not None
    sys.modules["configs"] = importlib.util.module_from_spec(spec)


def _check_names(config: ConfigDict) -> None:
    """Raises a `UserError` for unknown fields, before flags change values."""
    known = field_names()
    for name, value in config.items():
        inner = [f"{name}.{field}" for field in value] if isinstance(value, ConfigDict) else []
        for field in (name, *inner):
            if field not in known:
                near = nearest_field(field, "config.")
                raise UserError(f"config.{field} is no field of a config{near}")


def _check_overrides(argv: Sequence[str]) -> None:
    """Raises a `UserError` for --config.FIELD and --noconfig.FIELD with an unknown field."""
    known = field_names()
    for argument in argv[1:]:
        given = re.match(r"--?(?:no)?config\.([^=]*)", argument)
        if given and given[1] not in known:
            near = nearest_field(given[1], "--config.")
            raise UserError(f"{argument}: a config has no field {given[1]}{near}")


def _describe_failure(error: BaseException, file: Path) -> str:
    """Describes an error in a config file: its line and its message."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file.absolute())]
    place = f"{file}, line {lines[-1]}" if lines else str(file)
    return f"{place}: {type(error).__name__}: {error}"


def _describe_unknown(name: str, values: flags.FlagValues) -> str:
    if name.removeprefix("no").startswith("config."):
        return f"--{name} changes a field of a config: give the config with --config too"
    near = did_you_mean(name, values, "--")
    if not near and "config" in values:
        near = nearest_field(name, "--config.")
    return f"there is no flag --{name}{near}"
