"""Train several configs, one after the other, and write their results to one table.

    ssd-jax sweep --configs=ablations/table2 --workdir=runs/table2
    ssd-jax sweep --configs=ssd300_voc,ablations/table2:squares --workdir=runs/two \\
        --config.steps=5000

A config with several rows counts as all of its rows; CONFIG:ROW selects one. --config.FIELD=VALUE
applies to every run. Started again with the same work directory, the sweep continues.
"""

from absl import flags

from ssd_jax.cli.command_line import Command, given
from ssd_jax.config.files import load_config, published, rows_of
from ssd_jax.config.spelling import did_you_mean
from ssd_jax.errors import UserError

FLAGS = flags.FlagValues()
CONFIGS = flags.DEFINE_list(
    "configs", None, "The configs: names, files or CONFIG:ROW, joined by commas.", FLAGS
)
WORKDIR = flags.DEFINE_string("workdir", None, "The folder for the runs and the table.", FLAGS)


def main(arguments: list[str]) -> None:
    """Runs the command with its flags and prints the result."""
    for argument in arguments:
        if not argument.startswith("--config.") or "=" not in argument:
            near = did_you_mean(argument.lstrip("-").partition("=")[0], FLAGS, "--")
            raise UserError(f"{argument} is neither a flag nor --config.FIELD=VALUE{near}")
    configs = [row for config in given(CONFIGS) for row in _all_rows(config)]
    if not configs:
        raise UserError("--configs names no config: write --configs=ssd300_voc,ssd_small")
    names = [config.replace(".py", "").split("/")[-1].replace(":", "_") for config in configs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--configs has {name} twice")
    runs = [
        (name, load_config(config, arguments)) for name, config in zip(names, configs, strict=True)
    ]
    numbers = {name: published(config) for name, config in zip(names, configs, strict=True)}

    from ssd_jax.runs.sweep import format_markdown, sweep

    print(format_markdown(sweep(runs, given(WORKDIR), numbers)), end="")


def _all_rows(config: str) -> list[str]:
    """`CONFIG:ROW` for every row of a config that has rows; otherwise the config itself."""
    if "://" in config:
        return [config]  # `load_config` refuses it
    file, _, row = config.partition(":")
    rows = rows_of(file)
    return [f"{file}:{name}" for name in rows] if rows and not row else [config]


COMMAND = Command(
    FLAGS,
    main,
    required=("configs", "workdir"),
    arguments="[--config.FIELD=VALUE…]",
    passes_unknown=True,
    needs="tensorflow",
)
