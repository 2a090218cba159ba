import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from ssd_jax import benchmark
from ssd_jax.data import throughput
from ssd_jax.data.sources import open_source
from tests import tiny
from tests.data.pictures import VocFolder

ROOT = Path(__file__).parents[1]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "benchmark.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_input_pipeline_is_measured(tmp_path):
    voc = VocFolder(tmp_path / "voc")
    for i in range(8):
        voc.add(f"picture{i}", [("dog", 6, 4, 30, 20)])
    source = voc.split("all", *[f"picture{i}" for i in range(8)])
    output = tmp_path / "rates.json"
    done = run(
        "data",
        "--config=tests/tiny.py",
        f"--source={source}",
        "--cores=1",
        "--images=50",
        "--seconds=0.1",
        f"--output={output}",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["cores"] == 1
    for name in ("read", "decode_resize", "pipeline"):
        assert result[name] > 0 and result["per_core"][name] > 0
        assert f"{result[name]:,.0f}" in done.stdout
    assert result["fraction"] == result["pipeline"] / result["decode_resize"]


def test_what_cannot_be_measured_is_refused():
    done = run("speed", "--config=tests/tiny.py")
    assert done.returncode == 1
    assert done.stderr == "error: what to measure is 'speed', but must be data or predict\n"
    done = run("data", "--config=tests/tiny.py", "--cores=-2")
    assert done.stderr == "error: cores is -2, but must be 0 or more\n"
    done = run("data", "--config=tests/tiny.py", "--seconds=0")
    assert done.stderr == "error: seconds is 0.0, but must be more than 0\n"


def test_pictures_are_like_those_of_voc(tmp_path):
    source = open_source(throughput.write_voc_like(tmp_path / "pictures", count=6))
    records = list(source.records().as_numpy_iterator())
    assert len(records) == 6
    files = [Path(record["path"].decode()) for record in records]
    assert all(Image.open(file).size == (500, 375) for file in files)
    assert 70_000 < np.mean([file.stat().st_size for file in files]) < 110_000
    assert all(len(record["boxes"]) for record in records)


def test_prediction_is_measured_beside_what_bounds_it():
    result = benchmark.benchmark_predict(tiny.get_config(), num_images=9, batch_size=4)
    assert all(result[name] > 0 for name in ("decode", "network", "predict"))
    assert 0 < result["fraction"] < 3
    assert f"{result['predict']:,.1f}" in benchmark.format_predict(result)
