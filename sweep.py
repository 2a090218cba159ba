"""Trains several configs, one after the other, and puts what they reach into one table.

    python sweep.py --configs=configs/ablations/table2.py --workdir=runs/table2

`--configs` are files joined by commas. A file with several rows stands for all of them; one row is
`FILE:ROW`. Fields given as --config.FIELD=VALUE hold for every run, so that a table can be had on
any data. Started again with the same work directory it goes on where it stopped.
"""

import importlib.util
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from ssd_jax import console
from ssd_jax.errors import UserError
from ssd_jax.sweep import format_markdown, sweep

CONFIGS = flags.DEFINE_list("configs", None, "Config files, FILE or FILE:ROW, joined by commas.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the runs and the table are kept.")


def all_rows(config: str) -> list[str]:
    """`FILE:ROW` for every row of a file that has rows; otherwise the file itself."""
    file, _, row = config.partition(":")
    if not Path(file).is_file():
        raise UserError(f"--configs names {file}, which does not exist")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = getattr(module, "ROWS", ())
    if row and row not in rows:
        raise UserError(f"--configs names {config}, but {file} has the rows {', '.join(rows)}")
    return [f"{file}:{name}" for name in rows] if rows and not row else [config]


def load(config: str, overrides: list[str]) -> Any:
    """A config with the fields that were given on the command line."""
    values, arguments = flags.FlagValues(), ["sweep.py", f"--config={config}", *overrides]
    try:
        config_flags.DEFINE_config_file(
            "config", flag_values=values, lock_config=True, sys_argv=arguments
        )
        values(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{config}: {error}") from error
    return values.config


def main(argv: list[str]) -> None:
    """Flags in, one call, a printed result."""
    with console.session():
        overrides = argv[1:]
        for argument in overrides:
            if not argument.startswith("--config.") or "=" not in argument:
                raise UserError(
                    f"{argument} is neither a flag of sweep.py nor --config.FIELD=VALUE"
                )
        configs = [row for config in CONFIGS.value for row in all_rows(config)]
        names = [config.replace(".py", "").split("/")[-1].replace(":", "_") for config in configs]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"--configs has {name} twice")
        runs = [
            (name, load(config, overrides)) for name, config in zip(names, configs, strict=True)
        ]
        print(format_markdown(sweep(runs, WORKDIR.value)), end="")


if __name__ == "__main__":
    flags.mark_flags_as_required(["configs", "workdir"])
    app.run(main, flags_parser=lambda argv: flags.FLAGS(argv, known_only=True))
