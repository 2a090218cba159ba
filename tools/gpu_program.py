"""Shows the program that XLA compiles for an H200, on a machine without a GPU.

    python -m tools.gpu_program train --config=ssd300_voc --batch_size=32

The program is the train step or detection. It needs `pip install "jax[cuda13]"`, but no GPU and no
driver. It prints the memory of the program and the bytes that its operations read and write, by
kind: the operands and results of each operation, as if there were no cache. Loops count once.
Convolution algorithms are chosen without autotuning, and sorts use another algorithm than on a GPU.
"""

import argparse
import collections
import itertools
import logging
import math
import re
import sys
from pathlib import Path

import jax
from jax.experimental import topologies

from ssd_jax.benchmark.lowering import lower_step, mesh_of
from ssd_jax.config.files import load_config

TARGET = Path(__file__).parents[1] / "tests" / "reference" / "h200.txtpb"
BANDWIDTH = 4.3e12  # bytes a second, of a large copy
NO_WORK = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while"}
SIZES = {"bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "u8": 1, "s8": 1, "pred": 1}
ARRAY = re.compile(rf"\b({'|'.join(SIZES)})\[([0-9,]*)\]")
INSTRUCTION = re.compile(r"\s*(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)")


def described_gpu():
    """One H200."""
    logging.disable(logging.ERROR)  # hides the error that there is no GPU
    jax.config.update("jax_platforms", "cpu")
    jax.devices()  # finds the plugins
    try:
        target = topologies.get_topology_desc(
            "h200", platform="cuda", target_config=TARGET.read_text(), topology="1x1x1"
        )
    except NotImplementedError:
        sys.exit('there is no compiler for CUDA here: pip install "jax[cuda13]" (no GPU is needed)')
    return target.devices[0]


def computations(program):
    """The lines of each computation of a program by its name; "" is the entry computation."""
    found, lines = {}, []
    for line in program.splitlines():
        start = re.match(r"(ENTRY )?%?([\w.\-]+) .*->.*\{$", line)
        if start:
            lines = found.setdefault("" if start[1] else start[2], [])
        lines.append(line)
    return found


def traffic(lines):
    """(bytes, kind, name, where it comes from) of every operation of a computation."""
    types, operations = {}, []
    for line in lines:
        found = INSTRUCTION.match(line)
        if not found:
            continue
        name, kind, operands = found[1], found[3], found[4].split("), ")[0]
        # The scratch memory of a library does not count as traffic.
        types[name] = re.sub(r"u8\[\d+\]", "", found[2]) if kind == "custom-call" else found[2]
        if kind in NO_WORK:
            continue
        total = bytes_of(types[name])
        total += sum(bytes_of(types.get(each, "")) for each in re.findall(r"%([\w.\-]+)", operands))
        for pattern in (r'custom_call_target="([^"]*)"', r"kind=(\w+)"):
            detail = re.search(pattern, line)
            kind += f" {detail[1]}" if detail else ""
        origin = re.search(r'op_name="([^"]*)"', line)
        operations.append((total, kind, name, origin[1] if origin else ""))
    return operations


def bytes_of(types):
    return sum(
        SIZES[kind] * math.prod(int(side) for side in sides.split(",") if side)
        for kind, sides in ARRAY.findall(types)
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("train", "predict"))
    parser.add_argument("--config", default="ssd300_voc")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--longest", type=int, default=12, help="how many operations to list")
    parser.add_argument("--output", help="a file for the program")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    config = config.replace({"model.precision": arguments.precision})
    lowered = lower_step(arguments.mode, config, arguments.batch_size, mesh_of(described_gpu()))
    compiled = lowered.compile({"xla_gpu_autotune_level": 0})
    program, plan = compiled.as_text(), compiled.memory_analysis()
    if arguments.output:
        Path(arguments.output).write_text(program)
    print(f"memory: {plan.temp_size_in_bytes / 1e9:.2f} GB besides inputs and outputs")

    every = computations(program)
    operations = traffic(every[""])
    kinds, counts = collections.Counter(), collections.Counter()
    for size, kind, _, _ in operations:
        kinds[kind] += size
        counts[kind] += 1
    kinds["all"], counts["all"] = kinds.total(), counts.total()
    for kind, size in kinds.most_common():
        milliseconds = size / BANDWIDTH * 1e3
        print(f"{size / 1e9:8.3f} GB {milliseconds:7.3f} ms {counts[kind]:5d} × {kind}")
    for size, kind, name, origin in sorted(operations, reverse=True)[: arguments.longest]:
        print(f"{size / 1e6:8.1f} MB  {kind:44.44} {name:34.34} {origin[-60:]}")
    for line in itertools.chain.from_iterable(every.values()):
        loop = re.search(r" while\(.*body=%([\w.\-]+)", line)
        if loop:
            inside = traffic(every[loop[1]])
            origin = re.search(r'op_name="([^"]*)"', line)
            total = sum(size for size, *_ in inside)
            where = origin[1][-60:] if origin else ""
            print(f"{total / 1e6:8.1f} MB a round of {len(inside)} operations  {where}")


if __name__ == "__main__":
    main()
