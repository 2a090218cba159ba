"""Measures the speed of torchvision's SSD300 on this machine, for a comparison with ours.

    python -m tools.torchvision_speed --output=torchvision.json
    python -m tools.torchvision_speed --output=torchvision.json --modes=train --batch_sizes=32,64

Needs torch and torchvision, and nothing of `ssd_jax`. Uses the GPU if there is one. The network
has random weights, 20 classes and a background. It gets random images of 300 × 300 in device
memory, in several batches in turn. `train` is a whole step of SGD. `predict` turns images into
detections, both in device memory. With random weights nearly every box passes the score threshold,
which is more work for the postprocessing than with a trained network; `predict_few` has about 1,000
candidates per image. `forward` is backbone and head alone.

Each mode is measured without changes (`eager`), with `torch.compile` of backbone and head
(`parts`), and of the whole model (`whole`). For the latter the loops over images and classes are
unrolled, so that compiling takes minutes at larger batch sizes; it comes last and has a time limit.

A row of the output has `images_per_second` of many steps with one wait at their end, and
`step_ms_median` and `step_ms_p95` of steps with a wait after each.
"""

import argparse
import gc
import json
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch._dynamo.utils import counters

from tools.torchvision_model import DEVICE, NUM_BATCHES, Model, random_batches
from tools.torchvision_networks import ssd300

MAX_STEPS = 200  # more steps do not improve the median
COMPILE_SECONDS = 200
THRESHOLDS = {"score_thresh": 0.01, "topk_candidates": 400, "detections_per_img": 200}
PRECISIONS = ("bfloat16", "tf32", "float32")
MODES = ("train", "predict")
VARIANTS = ("parts", "eager", "whole")
COMPILED = {"parts": "backbone, head", "eager": None, "whole": "model"}
# The most important comes first, for runs with a budget.
BATCH_SIZES = (32, 64, 128, 16, 8, 4, 2, 1, *(2**power for power in range(8, 16)))
SMALLEST = {"train": 8, "predict": 1}
COLUMNS = {
    "mode": 14,
    "compiled": 16,
    "precision": 10,
    "batch_size": 11,
    "images_per_second": 18,
    "step_ms_median": 15,
    "step_ms_p95": 12,
    "peak_memory_bytes": 18,
    "compile_seconds": 16,
}


class TimeUpError(BaseException):
    """A time limit has passed. Not an Exception, because torch catches those during compilation."""


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def num_graphs() -> int:
    """The number of graphs that `torch.compile` has compiled so far."""
    return counters["stats"]["unique_graphs"]


def warm_up(step: Callable[[int], Any]) -> float:
    """Takes steps until all is compiled.

    Returns:
      Seconds until the end of the last compilation; 0 if there was none.
    """
    start = time.perf_counter()
    compiled = 0.0
    for round_number in range(5):
        graphs_of_round = num_graphs()
        for number in range(NUM_BATCHES):
            graphs = num_graphs()
            step(number)
            synchronize()
            if num_graphs() != graphs:
                compiled = time.perf_counter() - start
        if num_graphs() == graphs_of_round and (compiled == 0 or round_number):
            break
    return compiled


def measure(step: Callable[[int], Any], batch_size: int, seconds: float) -> dict[str, float]:
    """The speed of a warm step; see the top of this file."""
    times: list[float] = []
    while len(times) < MAX_STEPS and (len(times) < 3 or sum(times) < seconds):
        start = time.perf_counter()
        step(len(times))
        synchronize()
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    num_steps = max(2, round(seconds / median))
    start = time.perf_counter()
    for number in range(num_steps):
        step(number)
    synchronize()
    return {
        "images_per_second": num_steps * batch_size / (time.perf_counter() - start),
        "step_ms_median": 1000 * median,
        "step_ms_p95": 1000 * float(np.percentile(times, 95)),
    }


class Clock:
    """The budget of the run, and time limits within it."""

    def __init__(self, budget: float):
        self.end = time.monotonic() + budget if budget else float("inf")
        signal.signal(signal.SIGALRM, self._ring)

    def _ring(self, *_: Any) -> None:
        raise TimeUpError

    def left(self) -> float:
        return self.end - time.monotonic()

    @contextmanager
    def limit(self, seconds: float = float("inf")) -> Iterator[None]:
        """Raises TimeUpError if the body takes longer than that, or than the rest of the budget."""
        seconds = min(seconds, self.left())
        if seconds <= 0:
            raise TimeUpError
        if seconds < float("inf"):
            signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def measured_rows(
    mode: str, variant: str, precision: str, batch_size: int, seconds: float, clock: Clock
) -> Iterator[dict[str, Any]]:
    """The rows of one model: one for `train`, several for `predict`.

    Yields:
      Rows. After a failure, the last one has an `error`.
    """
    parts = ["train"] if mode == "train" else ["predict", "forward", "predict_few"]
    if variant == "whole" and mode == "predict":
        parts.remove("forward")
    compile_seconds = 0.0
    model = None
    for part in parts:
        row = {
            "mode": part,
            "variant": "eager" if variant == "eager" else "compiled",
            "compiled": COMPILED[variant],
            "precision": precision,
            "batch_size": batch_size,
        }
        try:
            if DEVICE.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            with clock.limit(COMPILE_SECONDS):
                if model is None:
                    torch.manual_seed(0)
                    batches = random_batches(batch_size, np.random.default_rng(0))
                    model = Model(
                        ssd300(**THRESHOLDS), precision, variant, mode == "train", batches
                    )
                if part == "predict_few":
                    model.make_few()
                step = getattr(model, "predict" if part == "predict_few" else part)
                compile_seconds += warm_up(step)
            with clock.limit():
                row |= measure(step, batch_size, seconds)
                cuda = DEVICE.type == "cuda"
                row["peak_memory_bytes"] = torch.cuda.max_memory_allocated() if cuda else None
                # The total for this model so far; torch's caches on the disk reduce it.
                row["compile_seconds"] = None if variant == "eager" else compile_seconds
                if part == "train" and not torch.isfinite(model.loss):
                    row["error"] = "the loss is not finite"
                if part.startswith("predict"):
                    row["candidates_per_image"] = model.candidates()
        except TimeUpError:
            if clock.left() <= 0:
                raise
            row["error"] = f"not ready to be measured after {COMPILE_SECONDS} s"
        except torch.OutOfMemoryError:
            row["error"] = "out of memory"
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            row["error"] = f"{type(error).__name__}: {lines[0]}"[:300]
        yield row
        if "error" in row:
            return


def all_rows(options: argparse.Namespace, clock: Clock) -> Iterator[dict[str, Any]]:
    """All rows, the most important first. After an error, larger batch sizes are skipped."""
    sizes = options.batch_sizes or BATCH_SIZES
    for precision in options.precisions:
        too_large: dict[tuple[str, str], int] = {}
        for variants in ({"parts", "eager"}, {"whole"}):
            for size in sizes:
                for mode in options.modes:
                    if not options.batch_sizes and size < SMALLEST[mode]:
                        continue
                    for variant in options.variants:
                        series = (mode, variant)
                        if variant not in variants or size >= too_large.get(series, size + 1):
                            continue
                        for row in measured_rows(
                            mode, variant, precision, size, options.seconds, clock
                        ):
                            if "error" in row:
                                too_large[series] = size
                            yield row
                        gc.collect()
                        if DEVICE.type == "cuda":
                            torch.cuda.synchronize()  # fails if an error left the GPU unusable
                            torch.cuda.empty_cache()


def format_row(row: dict[str, Any]) -> str:
    texts = []
    for name, width in COLUMNS.items():
        value = row.get(name)
        if name == "compiled":
            value = value or "eager"
        elif name == "peak_memory_bytes" and value is not None:
            value = f"{value / 2**30:.2f} GiB"
        elif isinstance(value, float):
            value = f"{value:,.1f}"
        texts.append(f"{'' if value is None else value:<{width}}")
    return ("".join(texts) + row.get("error", "")).rstrip()


def device_name() -> str:
    if DEVICE.type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def parse_options() -> argparse.Namespace:
    def names(known):
        def parse(text):
            chosen = text.split(",")
            if unknown := sorted(set(chosen) - set(known)):
                raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
            return chosen

        return parse

    def sizes(text):
        chosen = [int(size) for size in text.split(",")]
        if min(chosen) < 1:
            raise argparse.ArgumentTypeError("batch sizes must be 1 or more")
        return chosen

    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True, help="the JSON file")
    parser.add_argument("--batch_sizes", type=sizes, help="default: until memory is full")
    parser.add_argument("--precisions", type=names(PRECISIONS), default=["bfloat16"])
    parser.add_argument("--modes", type=names(MODES), default=list(MODES))
    parser.add_argument("--variants", type=names(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each timed part")
    parser.add_argument("--budget", type=float, default=0.0, help="seconds in all; 0 = no limit")
    options = parser.parse_args()
    if DEVICE.type == "cpu":
        if not options.batch_sizes:
            parser.error("without a GPU, --batch_sizes must be given")
        if "tf32" in options.precisions:
            parser.error("tf32 needs a GPU")
    return options


def main() -> None:
    options = parse_options()
    clock = Clock(options.budget)
    result = {
        "device": device_name(),
        "versions": {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        },
        "rows": [],
    }
    print(result["device"], result["versions"])
    print("".join(f"{name:<{width}}" for name, width in COLUMNS.items()), flush=True)
    output = Path(options.output)
    partial = output.with_name(output.name + ".partial")
    try:
        for row in all_rows(options, clock):
            result["rows"].append(row)
            partial.write_text(json.dumps(result, indent=2) + "\n")
            os.replace(partial, output)
            print(format_row(row), flush=True)
    except TimeUpError:
        print(f"stopped after {options.budget:.0f} s")


if __name__ == "__main__":
    main()
