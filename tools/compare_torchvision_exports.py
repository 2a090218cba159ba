"""Compares the speed of our exported SSDLite with torchvision's in the same engines.

    LD_LIBRARY_PATH=… python -m tools.compare_torchvision_exports --python=OTHER/bin/python

Torchvision's `ssdlite320_mobilenet_v3_large` is exported in OTHER by PyTorch's exporters
(`tools/pairs/torchvision_export.py`), ours by `ssd-jax export`, with the same random weights and a
score threshold that about 200 boxes an image pass; our MobileNetV2 is measured too. This
interpreter runs all files in onnxruntime and LiteRT, one after the other on the same images, as
`ssd-jax predict` sets these up. Ours take uint8 images and normalise them; torchvision's network
alone takes them normalised, its detector as floats in [0, 1].

The table has operators, milliseconds of a batch, wall and processor time of all threads, and the
median over turns of the processor time divided by that of ours with MobileNetV3. LiteRT's files of
ours take one image at a time, and run once for each image of a batch.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

from ssd_jax.benchmark.engines import random_trained
from ssd_jax.config.files import load_config
from ssd_jax.interop.export import export, state_dict
from tools.pairs.sides import ROOT, use_cores

OURS, OTHER = "ssdlite320_mobilenetv3_coco", "ssdlite320_mobilenetv2_coco"
BATCH_SIZES = (1, 8)
SIDE = 320
MINIMUM_TURNS = 10
NUM_COMPARED = 50  # scores of detections, which all have
Call = Callable[[], list[np.ndarray]]
WIDTHS = {
    "engine": 13,
    "part": 10,
    "batch": 7,
    "file": 34,
    "operators": 11,
    "wall ms": 10,
    "CPU ms": 10,
    "× ours": 8,
}


def write_files(python: str, folder: Path) -> None:
    """Writes all exported files, except existing ones."""
    theirs = folder / "torchvision"
    theirs.mkdir(parents=True, exist_ok=True)
    for name in (OURS, OTHER):
        wanted = [folder / name / kind for kind in ("onnx", "tflite")]
        if all(each.exists() for each in (*wanted, theirs / "failed.json")):
            continue
        trained = random_trained(load_config(f"{ROOT}/configs/{name}.py"))
        for kind in ("onnx", "tflite"):
            if not (folder / name / kind).exists():
                export(kind, trained, folder / name / kind)
        if name == OURS and not (theirs / "failed.json").exists():
            case = {
                "num_classes": trained.network.num_classes + 1,
                "detection": trained.config.detection.model_dump(),
                "batch_sizes": BATCH_SIZES,
            }
            (theirs / "case.json").write_text(json.dumps(case))
            np.savez(theirs / "weights.npz", **state_dict(trained, "torchvision"))
            command = [python, "-m", "tools.pairs.torchvision_export", str(theirs)]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def candidates(folder: Path, kind: str, part: str, batch: int) -> dict[str, Path]:
    """The files of one comparison, ours with MobileNetV3 first."""
    theirs = folder / "torchvision"
    files = {"ours, MobileNetV3": folder / OURS / kind / f"{part}.{kind}"}
    if kind == "onnx" and part == "network":
        files["torchvision, torch.onnx.export"] = theirs / "network.onnx"
        files["torchvision, dynamo=False"] = theirs / "network_script.onnx"
        files["torchvision, from pixels"] = theirs / "network_pixels.onnx"
    else:
        files["torchvision"] = theirs / f"{part}_{batch}.{kind}"
    files["ours, MobileNetV2"] = folder / OTHER / kind / f"{part}.{kind}"
    return {name: file for name, file in files.items() if file.exists()}


def images_for(file: Path, batch: np.ndarray) -> np.ndarray:
    """Images in the format of a file's input."""
    if file.parent.name != "torchvision" or file.stem == "network_pixels":
        return batch
    floats = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32) / 255
    return floats if file.name.startswith("detector") else floats * 2 - 1


def in_onnxruntime(file: Path, batch: np.ndarray, threads: int) -> tuple[Call, int]:
    """A function that runs a file on a batch, and the number of its operators."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    images, inputs = images_for(file, batch), [each.name for each in session.get_inputs()]
    # torchvision's detector has an input for each image.
    each_alone = file.parent.name == "torchvision" and file.stem.startswith("detector")
    given = dict(zip(inputs, images if each_alone else [images], strict=True))
    graph = onnx.load(file, load_external_data=False).graph
    return lambda: list(map(np.asarray, session.run(None, given))), len(graph.node)


def in_litert(file: Path, batch: np.ndarray, threads: int) -> tuple[Call, int]:
    """A function that runs a file on a batch, and the number of its operators."""
    # More than one thread would lose classes: see `ssd_jax/inference/tflite_engine.py`.
    threads = 1 if file.name.startswith("detector") else threads
    interpreter = Interpreter(str(file), num_threads=threads)
    interpreter.allocate_tensors()
    (given,), found = interpreter.get_input_details(), interpreter.get_output_details()
    size = given["shape"][0]
    images = images_for(file, batch)
    parts = [images[start : start + size] for start in range(0, len(images), size)]

    def run() -> list[np.ndarray]:
        outputs = []
        for part in parts:
            interpreter.set_tensor(given["index"], part)
            interpreter.invoke()
            outputs.append([interpreter.get_tensor(each["index"]) for each in found])
        return [np.concatenate(arrays) for arrays in zip(*outputs, strict=True)]

    operators = [each["op_name"] for each in interpreter._get_ops_details()]
    return run, sum(name != "DELEGATE" for name in operators)


ENGINES = {"onnxruntime": ("onnx", in_onnxruntime), "LiteRT": ("tflite", in_litert)}


def measure(calls: dict[str, Call], seconds: float) -> dict[str, dict[str, list[float]]]:
    """Wall and processor time of each call, in turns whose order alternates."""
    times = {name: {"wall": [], "cpu": []} for name in calls}
    for call in calls.values():
        call()
    turn, start_of_all = 0, time.perf_counter()
    while turn < MINIMUM_TURNS or time.perf_counter() - start_of_all < seconds:
        for name in sorted(calls, reverse=bool(turn % 2)):
            start, cpu_start = time.perf_counter(), time.process_time()
            calls[name]()
            times[name]["wall"].append(time.perf_counter() - start)
            times[name]["cpu"].append(time.process_time() - cpu_start)
        turn += 1
    return times


def check_equal(calls: dict[str, Call], part: str) -> None:
    """Checks that offsets and logits, or scores, equal torchvision's with the same weights."""
    first, *others = [name for name in calls if name != "ours, MobileNetV2"]
    wanted = _comparable(calls[first](), part)
    for name in others:
        for ours, theirs in zip(wanted, _comparable(calls[name](), part), strict=True):
            worst = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
            assert worst < 1e-3, f"{name} differs from ours by {worst:.2g} of its largest output"


def _comparable(outputs: list[np.ndarray], part: str) -> list[np.ndarray]:
    """Offsets and logits; or of a detector the best scores, which have the fewest axes."""
    if part == "network":
        return sorted(outputs, key=lambda array: array.shape[-1])
    floats = [array for array in outputs if array.dtype == np.float32]
    rank = min(array.ndim for array in floats)
    scores = np.concatenate([array.ravel() for array in floats if array.ndim == rank])
    return [np.sort(scores)[::-1][:NUM_COMPARED]]


def measured_rows(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of the table."""
    rows = []
    rng = np.random.default_rng(0)
    for engine, (kind, make) in ENGINES.items():
        for part in ("network", "detector"):
            for batch in BATCH_SIZES:
                images = rng.integers(0, 256, (batch, SIDE, SIDE, 3), dtype=np.uint8)
                calls, operators = {}, {}
                for name, file in candidates(folder, kind, part, batch).items():
                    calls[name], operators[name] = make(file, images, options.threads)
                check_equal(calls, part)
                times = measure(calls, options.seconds)
                first = np.array(times[next(iter(calls))]["cpu"])
                for name, of in times.items():
                    row = {"engine": engine, "part": part, "batch": batch, "file": name}
                    row["operators"] = operators[name]
                    row["wall ms"] = 1e3 * float(np.median(of["wall"]))
                    row["CPU ms"] = 1e3 * float(np.median(of["cpu"]))
                    row["× ours"] = float(np.median(np.array(of["cpu"]) / first))
                    rows.append(row)
                    print(format_row(row), flush=True)
    return rows


def format_row(row: dict[str, Any]) -> str:
    """A row under the titles."""
    texts = [f"{each:.2f}" if isinstance(each, float) else str(each) for each in row.values()]
    return "".join(
        f"{text:<{width}}" for text, width in zip(texts, WIDTHS.values(), strict=True)
    ).rstrip()


def main() -> None:
    """Writes missing files, measures, and prints the table."""
    parser = argparse.ArgumentParser(description="Our exported SSDLite and torchvision's.")
    parser.add_argument("--python", required=True, help="with torchvision and litert-torch")
    parser.add_argument("--folder", type=Path, help="for the files; those there are not rewritten")
    parser.add_argument("--output", type=Path, help="a JSON file")
    parser.add_argument("--threads", type=int, default=2, help="and cores")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each comparison")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        write_files(options.python, folder)
        use_cores(options.threads)
        print("".join(f"{title:<{width}}" for title, width in WIDTHS.items()), flush=True)
        rows = measured_rows(folder, options)
        about = {
            name: json.loads((folder / "torchvision" / f"{name}.json").read_text())
            for name in ("versions", "failed")
        }
    for name, reason in about["failed"].items():
        print(f"torchvision's {name} could not be exported: {reason}")
    if options.output:
        options.output.write_text(json.dumps({"rows": rows, **about}, indent=2))


if __name__ == "__main__":
    main()
