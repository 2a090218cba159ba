"""Compares the speed of `ssd_jax` and torchvision on a CPU, measured in turns.

    python -m tools.compare_torchvision --python=OTHER/bin/python
        python -m tools.compare_torchvision --python=OTHER/bin/python --only=ssd300_train

OTHER has torch and torchvision; this interpreter needs neither. Three networks in float32, the same
layers, channels and default boxes on both sides (`tools/torchvision_networks.py`): SSD300-VGG16,
SSDLite320 on MobileNetV2, and `ssd_small`. Weights and images are random.

`train` is a step of SGD with momentum and weight decay; ours also augments the images. `predict` is
images to detections. With random weights nearly every box passes the score threshold; in
`predict_few` about 1,000 boxes per image pass it, like with a trained network. torchvision
runs without changes (`eager`), in its other memory format (`channels_last`), and for detection with
`torch.compile` of backbone and head (`parts`) and of the whole model (`whole`).

Each side is a process. Compare the CPU time and its ratio, ours over theirs; other work on the
machine changes the wall time. By default PyTorch's threads wait for each other in a busy loop,
which counts as CPU time: up to four times the work itself on a busy machine. Here they sleep
(`OMP_WAIT_POLICY=PASSIVE`), unless `--spinning` is given. Ours uses huge pages, as the commands of
`ssd_jax` do; theirs uses them if `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` is set for this program.
Memory is the maximum growth of the process since before its first run, when weights, momentum and
images are already allocated; the memory that XLA plans for ours includes these.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ssd_jax.config.files import load_config
from tools.pairs.sides import ROOT, Side, SideError, ours, prepare_all, take_turns, use_cores
from tools.pairs.table import COLUMNS, compared_row, format_row

CONFIGS = {
    "ssd300": "ssd300_voc",
    "ssdlite320": "ssdlite320_mobilenetv2_voc",
    "ssd_small": "ssd_small",
}
TRAIN_BATCH_SIZES = {"ssd300": 4, "ssdlite320": 8, "ssd_small": 8}
PREDICT_BATCH_SIZES = (1, 8)
OUTPUT = ROOT / "runs" / "compare_torchvision.json"
OURS = "ours"
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
# By mode; "whole" comes last, because it may reach its time limit.
VARIANTS = {
    "train": ("eager", "channels_last"),
    "predict": ("eager", "channels_last", "parts", "whole"),
}


def cases() -> dict[str, dict[str, Any]]:
    """The cases by name, training first."""
    found: dict[str, dict[str, Any]] = {}
    for network, batch_size in TRAIN_BATCH_SIZES.items():
        found[f"{network}_train"] = {"network": network, "batch_size": batch_size}
    for network in CONFIGS:
        for batch_size in PREDICT_BATCH_SIZES:
            values = {"network": network, "batch_size": batch_size}
            found[f"{network}_predict_{batch_size}"] = values
    for name, case in found.items():
        config = load_config(f"{ROOT}/configs/{CONFIGS[case['network']]}.py")
        case["config"] = CONFIGS[case["network"]]
        case["modes"] = ("train",) if name.endswith("train") else ("predict", "predict_few")
        case["model"] = config.model.model_dump()
        case["detection"] = config.detection.model_dump()
    return found


def measured_rows(name: str, case: dict[str, Any], options: argparse.Namespace) -> list[Any]:
    """The rows of a case: one for each mode and variant of torchvision."""
    kind = case["modes"][0]
    sides = [ours(OURS, ROOT)]
    worker = [options.python, "-m", "tools.pairs.torchvision_worker"]
    sides += [
        Side(variant, [*worker, variant], {} if options.spinning else PASSIVE)
        for variant in VARIANTS[kind]
        if variant in options.variants
    ]
    rows: list[dict[str, Any]] = []
    try:
        for mode in case["modes"]:
            about, failed = prepare_all(sides, case | {"mode": mode}, options.seconds)
            for side in [side for side in sides if side.name in failed]:
                rows.append({"case": name, "mode": mode, "against": side.name})
                rows[-1]["error"] = failed[side.name]
                side.close()
                sides.remove(side)
            if OURS in failed:
                break
            if len(counts := {of["parameters"] for of in about.values()}) > 1:
                raise SideError(f"the networks of {name} differ in parameters: {sorted(counts)}")
            runs = take_turns(sides, options.rounds)
            for side in sides[1:]:
                row = {"case": name, "mode": mode, "against": side.name}
                row |= compared_row(runs[OURS], runs[side.name], about[OURS], about[side.name])
                if mode == "predict_few":
                    row["peak"] = None  # the process has grown before
                rows.append(row)
    finally:
        for side in sides:
            side.close()
    return rows


def main() -> None:
    """Measures the chosen cases; prints and writes each result at once."""
    known = cases()
    every_variant = VARIANTS["predict"]
    parser = argparse.ArgumentParser(description="Our speed compared with torchvision's, on a CPU.")
    parser.add_argument("--python", required=True, help="an interpreter with torchvision")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--only", default=",".join(known), help="cases, joined by commas")
    parser.add_argument("--variants", default=",".join(every_variant), help="of torchvision's")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side")
    parser.add_argument("--cores", type=int, default=2, help="of this machine, for every side")
    parser.add_argument("--seconds", type=float, default=400.0, help="limit of compilation")
    parser.add_argument("--spinning", action="store_true", help="busy loops of PyTorch's threads")
    options = parser.parse_args()
    for field, possible in (("only", known), ("variants", every_variant)):
        chosen = getattr(options, field).split(",")
        if unknown := sorted(set(chosen) - set(possible)):
            parser.error(f"--{field} has {unknown[0]!r}, but must be of {', '.join(possible)}")
        setattr(options, field, chosen)
    use_cores(options.cores)
    print("".join(COLUMNS), flush=True)
    rows: list[dict[str, Any]] = []
    for name in options.only:
        for row in measured_rows(name, known[name], options):
            rows.append(row)
            print(format_row(row), flush=True)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps({"cores": options.cores, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
