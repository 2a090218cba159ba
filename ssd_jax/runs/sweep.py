"""Trains several configs in sequence and writes their results into one table."""

import logging
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from ssd_jax.config.schema import Config, as_config
from ssd_jax.data.choice import open_run_data
from ssd_jax.errors import UserError
from ssd_jax.models.network import build_network
from ssd_jax.runs.result import TrainResult
from ssd_jax.runs.train import train
from ssd_jax.runs.workdir import read_class_names
from ssd_jax.storage.files import AnyPath, local_path, write_json, write_text

logger = logging.getLogger(__name__)

Row = dict[str, Any]


def sweep(
    runs: Sequence[tuple[str, Config | ConfigDict]],
    folder: AnyPath,
    published: Mapping[str, str] | None = None,
) -> list[Row]:
    """Trains and evaluates every config; finished runs are not repeated.

    After every run except the last, `table.partial.md` and `table.partial.json` are rewritten with
    the rows so far; after the last one `table.md` and `table.json` are written.

    Args:
      runs: names and configs.
      folder: for the table, and a work directory with the name of each run.
      published: the published results, by the name of a run.

    Returns:
      A row for each run: see `summarise_run`.

    Raises:
      UserError: a config is wrong or its data cannot be read, before the first run; see `train`.
    """
    place = local_path(folder)
    checked = _checked(runs)
    rows = []
    for number, (name, config) in enumerate(checked, start=1):
        logger.info("%s (%d of %d)", name, number, len(runs))
        result = train(config, place / name)
        jax.clear_caches()
        rows.append(summarise_run(name, config, result, (published or {}).get(name, "")))
        table = "table.partial" if len(rows) < len(runs) else "table"
        write_json(place / f"{table}.json", rows)
        write_text(place / f"{table}.md", format_markdown(rows))
    for suffix in (".json", ".md"):
        (place / f"table.partial{suffix}").unlink(missing_ok=True)
    return rows


def _checked(runs: Sequence[tuple[str, Config | ConfigDict]]) -> list[tuple[str, Config]]:
    """The runs with checked configs, whose data sets can all be opened."""
    checked: list[tuple[str, Config]] = []
    for name, given in runs:
        try:
            config = as_config(given)
            if all(config.data != earlier.data for _, earlier in checked):
                open_run_data(config)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        checked.append((name, config))
    return checked


def summarise_run(name: str, config: Config, result: TrainResult, published: str = "") -> Row:
    """A finished run in one row.

    Args:
      name: of the run.
      config: its config.
      result: its result.
      published: its published result.

    Returns:
      `name`, `published`, `metric`, the last `mAP` by it (None if it was not evaluated),
      `parameters`, `default_boxes`, `images_per_second` (the median; None if the run was too
      short), `steps`.
    """
    classes = read_class_names(result.workdir)
    network = build_network(config.model, len(classes))
    parameters, _ = network.variable_shapes()
    lines = [values for _, values in sorted(result.metrics.items())]
    mean_aps = [values["eval/mAP"] for values in lines if "eval/mAP" in values]
    speeds = [speed for values in lines if (speed := values.get("train/images_per_second"))]
    return {
        "name": name,
        "published": published,
        "metric": config.metric,
        "mAP": mean_aps[-1] if mean_aps else None,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(parameters)),
        "default_boxes": network.tiling.num_boxes,
        "images_per_second": statistics.median(speeds) if speeds else None,
        "steps": result.last_step,
    }


def format_markdown(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = [
        "| run | mAP | metric | parameters | default boxes | images/s | steps | published |",
        "|---|---:|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        speed = row["images_per_second"]
        cells = [
            row["name"],
            "–" if row["mAP"] is None else f"{row['mAP']:.3f}",
            row["metric"],
            f"{row['parameters']:,}",
            f"{row['default_boxes']:,}",
            "–" if speed is None else f"{speed:.1f}",
            f"{row['steps']:,}",
            row["published"] or "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
