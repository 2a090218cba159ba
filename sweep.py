"""Trains several configs, one after the other, and puts what they reach into one table.

    python sweep.py --configs=configs/ablations/table2.py --workdir=runs/table2

`--configs` are files joined by commas. A file with several rows stands for all of them; one row is
`FILE:ROW`. Fields given as --config.FIELD=VALUE hold for every run, so that a table can be had on
any data. Started again with the same work directory it goes on where it stopped.
"""

from absl import flags

from ssd_jax.cli import command_line, console
from ssd_jax.config.spelling import did_you_mean
from ssd_jax.errors import UserError
from ssd_jax.runs.sweep import format_markdown, sweep

CONFIGS = flags.DEFINE_list("configs", None, "Config files, FILE or FILE:ROW, joined by commas.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the runs and the table are kept.")


def all_rows(config: str) -> list[str]:
    """`FILE:ROW` for every row of a file that has rows; otherwise the file itself."""
    file, _, row = config.partition(":")
    rows = command_line.rows_of(file)
    return [f"{file}:{name}" for name in rows] if rows and not row else [config]


def main(argv: list[str]) -> None:
    """Flags in, one call, a printed result."""
    with console.session():
        overrides = argv[1:]
        for argument in overrides:
            if not argument.startswith("--config.") or "=" not in argument:
                name = argument.lstrip("-").partition("=")[0]
                near = did_you_mean(name, flags.FLAGS, "--")
                raise UserError(
                    f"{argument} is neither a flag of sweep.py nor --config.FIELD=VALUE{near}"
                )
        configs = [row for config in CONFIGS.value for row in all_rows(config)]
        names = [config.replace(".py", "").split("/")[-1].replace(":", "_") for config in configs]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"--configs has {name} twice")
        runs = [
            (name, command_line.load_config(config, overrides))
            for name, config in zip(names, configs, strict=True)
        ]
        published = {
            name: command_line.published(config)
            for name, config in zip(names, configs, strict=True)
        }
        print(format_markdown(sweep(runs, WORKDIR.value, published)), end="")


if __name__ == "__main__":
    command_line.run(main, required=["configs", "workdir"], known_only=True)
