"""Measures the gain of each optimisation of network and detection over its plain version.

    python -m tools.optimisations --output=optimisations.json
    python -m tools.optimisations --config=ssd300_voc --batch_size=128 --only=relu,pooling

Each measurement is the whole train step, or detection including preprocessing, with one function
replaced. Our version and the plain version are measured in turns. Weights and images are random. An
optimisation that gains less than 3 % on every machine is not worth its code.
"""

import argparse
import contextlib
import functools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ssd_jax.benchmark import network as benchmark
from ssd_jax.config.files import load_config
from ssd_jax.detection import losses, postprocess
from ssd_jax.detection.boxes import overlap_more_than
from ssd_jax.models import heads, layers, ssd, vgg
from ssd_jax.models.prediction import compiler_options


def plain_pool(x, window, stride, padding=0):
    """XLA's own pooling, whose gradient is a scatter."""
    pads = layers._window_pads(x, window, stride, padding)
    sides, strides = (1, window, window, 1), (1, stride, stride, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, sides, strides, pads)


def separate_convolutions(x, *convolutions):
    """Separate convolutions, each of which reads the map."""
    return jnp.concatenate([layers.convolve(x, each) for each in convolutions], axis=-1)


def unfilled_convolution(x, *convolutions):
    """Flax's convolution, with the original number of channels."""
    return jnp.concatenate([each(x) for each in convolutions], axis=-1)


def sorted_largest(values, k):
    """Marks the k largest by their ranks."""
    order = jnp.argsort(-values, axis=-1, stable=True)
    return jnp.argsort(order, axis=-1) < jnp.expand_dims(jnp.asarray(k), -1)


def packed(bits):
    """Packs 32 rows of bits into one row of integers; the last group may have fewer rows."""
    missing = -bits.shape[-2] % 32
    bits = jnp.pad(bits, [(0, 0)] * (bits.ndim - 2) + [(0, missing), (0, 0)])
    words = (
        jnp.where(row, jnp.uint32(1 << place), jnp.uint32(0))
        for place, row in enumerate(jnp.split(bits, 32, axis=-2))
    )
    return functools.reduce(jnp.bitwise_or, words)


def suppression_of_all_pairs(boxes, scores, iou_threshold):
    """Rounds over all pairs of boxes, until nothing changes."""
    place = jnp.arange(scores.shape[-1])
    before = place[:, None] < place
    suppresses = packed(before & overlap_more_than(iou_threshold, boxes, boxes))
    candidate = scores > 0

    def settle(state):
        keep, _ = state
        new_keep = candidate & ~jnp.any((suppresses & packed(keep[..., None])) != 0, axis=-2)
        return new_keep, jnp.any(new_keep != keep)

    return jax.lax.while_loop(lambda state: state[1], settle, (candidate, jnp.array(True)))[0]


VGG_OPTIONS = vgg.ConvOptions

# By name: the mode, and the functions that are replaced: module, name, plain version.
TRICKS = {
    "relu": (
        "train",
        (ssd, "relu", jax.nn.relu),
        (vgg, "ConvOptions", functools.partial(VGG_OPTIONS, activation=jax.nn.relu)),
    ),
    "pooling": ("train", (vgg, "max_pool", plain_pool)),
    "joined heads": ("train", (heads, "convolve", separate_convolutions)),
    "filled channels": (
        "train",
        (layers, "convolve", unfilled_convolution),
        (heads, "convolve", unfilled_convolution),
    ),
    "counting in mining": ("train", (losses, "largest", sorted_largest)),
    "suppression in blocks": (
        "predict",
        (postprocess, "non_maximum_suppression", suppression_of_all_pairs),
    ),
}


@contextlib.contextmanager
def exchanged(*patches: tuple[Any, str, Any]) -> Iterator[None]:
    """Replaces functions of modules for the block."""
    old = [getattr(module, name) for module, name, _ in patches]
    for patch in patches:
        setattr(*patch)
    try:
        yield
    finally:
        for (module, name, _), function in zip(patches, old, strict=True):
            setattr(module, name, function)


def compiled_call(config, mode: str, batch_size: int) -> Callable[[], Any]:
    """A function that starts a step once and returns its outputs."""
    jax.clear_caches()
    case = benchmark._prepare(config, mode, batch_size)
    options = {} if mode == "train" else compiler_options()
    return case.calls(case.lowered.compile(options))


def milliseconds(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The medians of two calls that are measured in turns."""
    for call in calls.values():
        jax.block_until_ready(call())
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["ours"]) < 3:
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(measured) for name, measured in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="ssd300_voc")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each pair")
    parser.add_argument("--only", default="", help="optimisations, joined by commas")
    parser.add_argument("--output", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    config = benchmark.with_precision(load_config(arguments.config), arguments.precision)
    rows, ours = [], {}
    print(f"{'trick':<24}{'of':<10}{'ours ms':>10}{'plain ms':>10}{'gain':>8}")
    for name in arguments.only.split(",") if arguments.only else TRICKS:
        mode, *patches = TRICKS[name]
        if mode not in ours:
            ours = {mode: compiled_call(config, mode, arguments.batch_size)}
        with exchanged(*patches):
            plain = compiled_call(config, mode, arguments.batch_size)
        medians = milliseconds({"ours": ours[mode], "plain": plain}, arguments.seconds)
        gain = medians["plain"] / medians["ours"] - 1
        rows.append({"trick": name, "mode": mode, **medians, "gain": gain})
        print(
            f"{name:<24}{mode:<10}{medians['ours']:>10.2f}{medians['plain']:>10.2f}{gain:>8.1%}",
            flush=True,
        )
        if arguments.output:
            arguments.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
