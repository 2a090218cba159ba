"""Compares variants of a config in short trainings, on several data sets, lengths and seeds.

    python -m tools.experiments --folder=runs/experiments --init=torchvision:FILE \\
        --data bccd voc_xml:BCCD:trainval voc_xml:BCCD:test --steps=300,900 --seeds=0,1 \\
        "plain: augment.color=false augment.crop=false" "colours: augment.color=true"
    python -m tools.experiments … @variants.txt     # one variant per line
    python -m tools.experiments … --table           # only prints the table of finished trainings

A variant is a name, a colon, and fields of the config with their values; the others are compared
with the first one. With the word `planned` among the fields, `ssd-jax train --data` chooses all
values that are not set here. The config is `own_images:cpu`, at `--image_size`: SSDLite with
MobileNetV2, 8 images per step, Adam, and one evaluation after the last step, unless a variant
changes it.

Each training is a run of `ssd-jax train`. FOLDER/results.jsonl has a line for each finished
training, with its arguments; the same command continues where it was stopped. Two such commands
share the work: started with `taskset -c 0` and `taskset -c 1`, they use two cores, with one thread
each.
"""

import argparse
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from ssd_jax.config.files import load_config
from ssd_jax.models.input_size import fields_of_size
from ssd_jax.training.metrics_writer import read_metrics
from tools.trials import Row, Trial, add_options, chosen_trials, run_and_print

PLANNED = "planned"
STOPPED = (75, 130, 143)  # exit statuses of a training that SIGTERM or Ctrl-C ended


class Parser(argparse.ArgumentParser):
    """Parses files of arguments, one per line, without empty lines and lines with a #."""

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        line = arg_line.strip()
        return [line] if line and not line.startswith("#") else []


def fields_of_trial(trial: Trial, sources: Sequence[str], init: str) -> dict[str, Any]:
    """The fields that a training sets in its config, before the changes of its variant.

    Args:
      trial: the training.
      sources: of training and evaluation data.
      init: `config.init`.
    """
    sized = fields_of_size(load_config("own_images:cpu").model, trial.image_size)
    return {
        "data.train": sources[0],
        "data.eval": sources[1],
        "init": init,
        "seed": trial.seed,
        "steps": trial.steps,
        "warmup_steps": max(1, trial.steps // 20),
        "log_every": max(1, trial.steps // 20),
        "checkpoint_every": max(1, trial.steps // 3),
        "keep_checkpoints": 1,
        "eval_every": trial.steps,
        "report": False,
        **{f"model.{name}": value for name, value in sized.items()},
    }


def arguments(fields: dict[str, Any], changes: Iterable[str]) -> list[str]:
    """The arguments of `ssd-jax train`, without the work directory.

    Args:
      fields: by name.
      changes: `FIELD=VALUE`, which go before them, or `PLANNED`.
    """
    values, config = {name: str(value) for name, value in fields.items()}, "own_images:cpu"
    for change in changes:
        if change == PLANNED:
            config = "own_images"
        else:
            name, equals, value = change.partition("=")
            if not equals:
                sys.exit(f"error: {change!r} does not change a config: write FIELD=VALUE")
            values[name] = value
    words = [f"--config={config}"]
    if config == "own_images":
        words.append(f"--data={values.pop('data.train')}")
    return words + [f"--config.{name}={value}" for name, value in values.items()]


def trained(words: Sequence[str], workdir: Path) -> Row | None:
    """Trains with these arguments, and removes the work directory.

    Returns:
      `mAP`, of the last evaluation, `evaluations`, the mAP of all of them by step, `cpu_seconds`,
      of the last start, and `arguments`; None after a failure.
    """
    program = [sys.executable, "-m", "ssd_jax", "train", f"--workdir={workdir}", *words]
    file = workdir.with_name(f"{workdir.name}.log")
    with file.open("a") as log:
        status, cpu_seconds = run_command(program, log)
    stop_if_stopped(status)
    if status:
        last = (file.read_text().strip().splitlines() or ["no message"])[-1]
        print(f"{workdir.name} failed: {last}", flush=True)
        return None
    lines = [line for line in read_metrics(workdir) if "eval/mAP" in line]
    found = {line["step"]: line["eval/mAP"] for line in lines}
    mean_ap = lines[-1]["eval/mAP"] if lines else None
    shutil.rmtree(workdir)
    print(f"{workdir.name}: mAP {mean_ap}, {cpu_seconds:.0f} CPU s", flush=True)
    return {
        "mAP": mean_ap,
        "evaluations": found,
        "cpu_seconds": round(cpu_seconds, 1),
        "arguments": list(words),
    }


def stop_if_stopped(status: int) -> None:
    """Ends this program if the command with this status was stopped by a signal."""
    if status in STOPPED or status < 0:  # below 0: it was killed
        sys.exit("stopped; the same command continues")


def run_command(
    words: Sequence[str], log: IO[str], environment: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, float]:
    """Runs a command to its end, and forwards signals to it.

    Args:
      words: the command.
      log: the file for its output.
      environment: variables in addition to those of this process.

    Returns:
      Its exit status, and its CPU time in seconds.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        words, stdout=log, stderr=subprocess.STDOUT, env=os.environ | dict(environment)
    ) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to both
        status = process.wait()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return status, used


def parse_variants(texts: Sequence[str]) -> dict[str, list[str]]:
    """Parses texts like "plain: augment.color=false" to changes by variant."""
    pairs = [text.partition(":") for text in texts]
    return {name.strip(): shlex.split(changes) for name, _, changes in pairs}


def main() -> None:
    """Runs the trainings that are not finished yet, and prints the table."""
    parser = Parser(description="A table of short trainings.", fromfile_prefix_chars="@")
    parser.add_argument("variants", nargs="+", help='"NAME: FIELD=VALUE FIELD=VALUE"')
    add_options(parser)
    options = parser.parse_args()
    variants = parse_variants(options.variants)
    sources = {name: pair for name, *pair in options.data}
    words = {}
    for trial in chosen_trials(options, variants):
        fields = fields_of_trial(trial, sources[trial.data], options.init)
        words[trial] = arguments(fields, variants[trial.variant])
    compared = dict.fromkeys(variants, next(iter(variants)))
    run_and_print(options, words, compared, lambda trial, place: trained(words[trial], place))


if __name__ == "__main__":
    main()
