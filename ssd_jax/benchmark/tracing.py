"""The time of each part of a compiled program, by JAX's profiler."""

import collections
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

# Parts of a step, named with `jax.named_scope`. If an operation is in several scopes, the first one
# of this list counts.
PARTS = ("augmentation", "matching", "mining", "loss", "suppression", "update", "network")


def trace(call: Callable[[], Any], count: int, folder: Path, program: str) -> dict[str, float]:
    """Traces some calls.

    Args:
      call: starts work on the device and returns its outputs.
      count: the number of calls.
      folder: the folder for the trace, for TensorBoard or Perfetto.
      program: the compiled program, as text.

    Returns:
      Milliseconds of device time of a call, by part, the largest first; on a CPU the sum over its
      cores.
    """
    jax.block_until_ready(call())
    last = None
    with jax.profiler.trace(str(folder)):
        for _ in range(count):
            last = call()
        jax.block_until_ready(last)
    file = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    times = _times(jax.profiler.ProfileData.from_file(str(file)), _parts(program))
    return {name: time / count for name, time in times.most_common()}


def format_times(times: Mapping[str, float]) -> str:
    """The result of `trace` as a table."""
    total = sum(times.values()) or 1.0
    return "\n".join(
        f"{name:<24}{time:>10.3f} ms{time / total:>8.1%}" for name, time in times.items()
    )


def _parts(program: str) -> dict[str, str]:
    """Maps the instructions of a program to the parts of the step."""
    found = {}
    for name, operation in re.findall(r'%([\w.\-]+) = .*?(?:op_name="([^"]*)"|\n)', program):
        words = re.split(r"\W+", operation)
        # Gradients of convolutions lose the name of their scope.
        rest = "network" if re.match(r"convolution|cudnn-conv", name) else "other"
        found[name] = next((part for part in PARTS if part in words), rest)
    return found


def _times(profile: Any, parts: Mapping[str, str]) -> collections.Counter:
    """Milliseconds of all operations in a profile, by part."""
    times = collections.Counter()
    # Loops contain the operations inside them, which are listed too.
    containers = re.compile(r"(while|call|conditional)\b")
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                name = next((value for key, value in event.stats if key == "hlo_op"), None)
                if name is not None and not containers.match(str(name)):
                    times[parts.get(str(name), "other")] += event.duration_ns / 1e6
    return times
