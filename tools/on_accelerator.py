"""Runs all measurements and tests that need an accelerator, in one command.

    python -m tools.on_accelerator --output=accelerator

It runs `ssd-jax benchmark` for SSD300, SSD512 and SSDLite, torchvision's SSD300
(`tools/torchvision_speed.py`; needs torch and torchvision), each optimisation compared with its
plain version (`tools/optimisations.py`), and tests of the maths on the device. Each is a separate
program that writes its numbers and its log to the folder. The last lines compare the results with
the targets for an H200. When time is short, `--only=ssd300_train,parts` selects programs, and
`--budget` starts no program after that many seconds; the most important ones come first. It needs
the core packages, psutil, Matplotlib, pytest and beartype, but not TensorFlow. Compiled programs
are kept in the folder.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
VOC = "--config=configs/ssd300_voc.py"
LITE = "--config=configs/ssdlite320_mobilenetv2_voc.py"
MATHEMATICS = [
    "tests/detection",
    "tests/training/test_augmentation.py",
    "tests/training/test_photometric.py",
]

# The programs by name, with their arguments; JSON goes to NAME.json.
BENCHMARKS = {
    "ssd300_train": ("train", VOC, "--precisions=bfloat16", "--batch_sizes=32,64,128,256,512"),
    "ssd300_predict": ("predict", VOC, "--precisions=bfloat16", "--batch_sizes=1,8,64,128,256"),
    "parts": ("parts", VOC, "--precisions=bfloat16", "--batch_sizes=128"),
    "ssd512_train": (
        "train",
        "--config=configs/ssd512_voc.py",
        "--precisions=bfloat16",
        "--batch_sizes=32,64,128",
    ),
    "ssdlite_predict": ("predict", LITE, "--precisions=bfloat16", "--batch_sizes=1,128,256,512"),
    "ssdlite_train": ("train", LITE, "--precisions=bfloat16", "--batch_sizes=128,256"),
    "ssd300_exact_train": ("train", VOC, "--precisions=float32,tf32", "--batch_sizes=64,128"),
    "ssd300_exact_predict": ("predict", VOC, "--precisions=float32,tf32", "--batch_sizes=1,128"),
}
PROFILED = {"ssd300_train", "ssd300_predict"}
TORCHVISION = ("--precisions=bfloat16", "--batch_sizes=32,64,128", "--variants=parts,eager")

# Targets of the best row in bfloat16: file, mode, batch size (0 = any), images per second.
WANTED = (
    ("ssd300_train", "train", 0, 1900),
    ("ssd512_train", "train", 0, 660),
    ("ssd300_predict", "predict", 0, 6000),
    ("ssd300_predict", "predict", 1, 500),  # 2 ms per image
    ("ssdlite_predict", "predict", 0, 10000),
)
# Targets of the speed relative to torchvision.
TIMES = (("ssd300_train", "train", 2), ("ssd300_predict", "predict", 3))


def programs(folder, seconds, batch_sizes):
    """The commands by name, the most important first."""
    python, options = [sys.executable], [f"--seconds={seconds}"]
    options += [f"--batch_sizes={batch_sizes}"] if batch_sizes else []
    found = {}
    for name, arguments in BENCHMARKS.items():
        found[name] = [*python, "-m", "ssd_jax", "benchmark", *arguments, *options]
        found[name] += [f"--output={folder / name}.json", f"--chart={folder / name}.png"]
        if name in PROFILED:
            found[name].append(f"--profile={folder / 'traces' / name}")
    gains = [
        *python,
        "-m",
        "tools.optimisations",
        f"--output={folder / 'optimisations.json'}",
    ]
    torchvision = [*python, "-m", "tools.torchvision_speed", *TORCHVISION, *options]
    found["torchvision"] = [*torchvision, f"--output={folder / 'torchvision.json'}"]
    check = [*python, "-m", "pytest", "-q", "-o", "addopts=", *MATHEMATICS]
    return found | {"optimisations": gains, "check": check}


def best(folder, name, mode, batch_size=0):
    """The most images per second in a file for a mode in bfloat16; None if it has none."""
    file = folder / f"{name}.json"
    rows = json.loads(file.read_text())["rows"] if file.is_file() else []
    return max(
        (
            row["images_per_second"]
            for row in rows
            if row["mode"] == mode
            and row["precision"] == "bfloat16"
            and "error" not in row
            and batch_size in (0, row["batch_size"])
        ),
        default=None,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", default="", help="names, joined by commas")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--batch_sizes", default="", help="other ones, for a smaller device")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds of all")
    parser.add_argument("--limit", type=float, default=560.0, help="seconds of each program")
    arguments = parser.parse_args()
    folder = arguments.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    commands = programs(folder, arguments.seconds, arguments.batch_sizes)
    wanted = [name for name in arguments.only.split(",") if name] or list(commands)
    if unknown := set(wanted) - commands.keys():
        sys.exit(f"--only has {', '.join(unknown)}, but must be of {', '.join(commands)}")
    end = time.monotonic() + arguments.budget
    for name in wanted:
        started = time.monotonic()
        if started > end:
            print(f"==== {name}: no time left")
            continue
        with open(folder / f"{name}.log", "w") as log:
            try:
                status = subprocess.run(
                    commands[name],
                    cwd=ROOT,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Otherwise the tests would switch off XLA's optimisations.
                    env={"XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
                    | os.environ,
                    timeout=min(arguments.limit, max(end - started, 1)),
                ).returncode
            except subprocess.TimeoutExpired:
                status = "out of time"
        print(f"==== {name}: status {status}, {time.monotonic() - started:.0f} s", flush=True)
        print((folder / f"{name}.log").read_text()[-3000:], flush=True)

    for name, mode, batch_size, rate in WANTED:
        reached = best(folder, name, mode, batch_size)
        of = f" at batch {batch_size}" if batch_size else ""
        print(f"{name}{of}: {verdict(reached, rate)} images/s")
    for name, mode, times in TIMES:
        ours, theirs = best(folder, name, mode), best(folder, "torchvision", mode)
        ratio = ours / theirs if ours and theirs else None
        print(f"{name} over torchvision's: {verdict(ratio, times)}")


def verdict(reached, wanted):
    if reached is None:
        return f"not measured, {wanted:,} wanted"
    return f"{'reached' if reached >= wanted else 'missed'}: {reached:,.1f} of {wanted:,}"


if __name__ == "__main__":
    main()
