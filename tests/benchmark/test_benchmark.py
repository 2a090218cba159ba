import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from ssd_jax import Detector
from ssd_jax.benchmark import engines, host, network, starts, tables
from ssd_jax.benchmark.lowering import flops_per_image
from ssd_jax.benchmark.network import benchmark_network, random_batch
from ssd_jax.benchmark.parts import benchmark_parts
from ssd_jax.benchmark.timing import time_calls
from ssd_jax.benchmark.tracing import PARTS, format_times, trace
from ssd_jax.benchmark.voc_like import write_voc_like
from ssd_jax.cli import benchmark as benchmark_command
from ssd_jax.config.schema import as_config
from ssd_jax.data.sources import open_dataset
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.inference.jax_engine import JaxEngine
from ssd_jax.models.network import build_network
from ssd_jax.training.optimizer import make_optimizer, make_schedule
from ssd_jax.training.state import initial_state
from ssd_jax.training.steps import make_train_step, step_numbers
from tests import tiny, tiny_two_maps
from tests.helpers.commands import run_command, run_in_process
from tests.helpers.pictures import VocFolder

pytestmark = pytest.mark.slow

SMALL = as_config(tiny_two_maps.get_config())


@pytest.mark.slow
def test_the_input_pipeline_is_measured(tmp_path):
    voc = VocFolder(tmp_path / "voc")
    for i in range(8):
        voc.add(f"picture{i}", [("dog", 6, 4, 30, 20)])
    source = voc.split("all", *[f"picture{i}" for i in range(8)])
    output = tmp_path / "rates.json"
    done = run_command(
        "benchmark",
        "data",
        "--config=tests/tiny.py",
        f"--source={source}",
        "--cores=1",
        "--images=50",
        "--seconds=0.1",
        f"--output={output}",
    )
    result = json.loads(output.read_text())["data"]
    assert result["cores"] == 1
    for name in ("read", "decode_resize", "pipeline"):
        assert result[name] > 0 and result["per_core"][name] > 0
        assert f"{result[name]:,.0f}" in done.stdout
    assert result["fraction"] == result["pipeline"] / result["decode_resize"]


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["speed"], "WHAT to measure is 'speed', but must be one of train, predict, parts, data,"),
        (["train", "--batch_sizes=8,x"], "--batch_sizes has 'x', but must be whole numbers"),
    ],
)
def test_wrong_flags_are_refused(arguments, complaint):
    done = run_command("benchmark", *arguments, "--config=tests/tiny.py", expect=1)
    assert done.stderr.startswith(f"error: {complaint}")


def test_invalid_measurements_are_rejected():
    config = tiny.get_config()
    for measure, complaint in (
        (lambda: host.benchmark_data(config, cores=-2), "cores is -2, but must be 0 or more"),
        (lambda: host.benchmark_data(config, seconds=0.0), "seconds is 0.0, but must be more"),
        (lambda: benchmark_network(config, seconds=0.0), "--seconds is 0.0, but must be more"),
        (lambda: benchmark_network(config, batch_sizes=[0]), "has 0, but must be multiples of 1,"),
        (lambda: benchmark_parts(config, ["fp16"]), "'fp16', but must be of float32, tf32, bf"),
    ):
        with pytest.raises(UserError, match=complaint):
            measure()


def test_pictures_are_like_those_of_voc(tmp_path):
    source = open_dataset(write_voc_like(tmp_path / "pictures", count=6))
    records = [source[i] for i in range(len(source))]
    assert len(records) == 6
    files = [Path(record.path) for record in records]
    assert all(Image.open(file).size == (500, 375) for file in files)
    assert 70_000 < np.mean([file.stat().st_size for file in files]) < 110_000
    assert all(len(record.boxes) for record in records)


@pytest.mark.slow
def test_prediction_is_measured_with_its_limits():
    result = host.benchmark_files(tiny.get_config(), num_images=9, batch_size=4)
    assert all(result[name] > 0 for name in ("decode", "network", "predict"))
    assert 0 < result["fraction"] < 3
    assert f"{result['predict']:,.1f}" in host.format_files(result)


def test_engines_are_measured_in_turn(tmp_path):
    config = as_config(tiny.get_config())
    trained = engines.random_trained(config)
    found = Detector(JaxEngine(trained))(
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), "u1")
    )
    # The boxes that pass are about those that are meant to, and suppression takes some of them.
    assert 20 < len(found) < 1.5 * engines.CANDIDATES

    voc = VocFolder(tmp_path / "voc")
    for i in range(3):  # fewer than the batches have
        voc.add(f"picture{i}", [("dog", 6, 4, 30, 20)])
    source = voc.split("all", *[f"picture{i}" for i in range(3)])
    rows = engines.benchmark_engines(config, ("onnx", "jax"), (2,), 0.05, source)
    assert [(row["engine"], row["batch_size"]) for row in rows] == [("onnx", 2), ("jax", 2)]
    assert rows[0]["version"] == onnxruntime.__version__ and rows[0]["speed"] == 1.0
    for row in rows:
        assert 0 < row["ms_median"] <= row["ms_p95"] and row["cpu_ms_median"] > 0
        assert row["start_seconds"] > 0
        assert row["images_per_second"] == pytest.approx(2e3 / row["ms_median"])
    table = engines.format_engines(rows)
    assert "× onnx" in table and all(f"{row['ms_p95']:.2f}" in table for row in rows)


def test_starts_are_commands_with_an_empty_cache_and_with_that_of_the_first(tmp_path):
    (row,) = starts.benchmark_starts(as_config(tiny.get_config()), ("onnx",))
    assert row.pop("engine") == "onnx" and set(row) == {
        f"{turn}_{what}" for turn in ("first", "again") for what in ("seconds", "cpu_seconds")
    }
    assert all(0.1 < seconds < 300 for seconds in row.values())
    assert f"{row['again_cpu_seconds']:.1f}" in starts.format_starts([row | {"engine": "onnx"}])
    (tmp_path / "detector.onnx").write_bytes(b"none")
    with pytest.raises(UserError, match=r"^detection by onnx ended with status 2: .*is damaged"):
        starts.benchmark_starts(str(tmp_path / "detector.onnx"), ("onnx",))


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["predict", "--engines=onnx,cuda"], "--engines has 'cuda', but must be of jax, onnx, ope"),
        (["train", "--engines=onnx"], "--engines goes with predict, not with train"),
        (["predict", "--engines=onnx", "--seconds=nan"], "--seconds is nan, but must be more than"),
        (["train", "--seconds=inf"], "--seconds is inf, but must be more than 0 and less than"),
        (["predict", "--engines=onnx", "--cores=1"], "--cores does not go with --engines"),
        (["predict", "--weights=a.onnx", "--engines=onnx"], "name either --weights, an exp"),
    ],
)
def test_flags_of_engines_are_refused_by_name(arguments, complaint):
    with pytest.raises(UserError, match=f"^{complaint}"):
        run_in_process(benchmark_command, "--config=tests/tiny.py", *arguments)


def test_jax_runs_no_file_of_onnx():
    with pytest.raises(UserError, match=r"has jax, but a\.onnx runs only in onnx and openvino"):
        engines.check_engines(("onnx", "jax"), "a.onnx")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The measurements of the tiny network, and the folder with traces."""
    folder = tmp_path_factory.mktemp("traces")
    result = benchmark_network(SMALL, ("train", "predict"), ("float32",), (2, 4), 0.05, str(folder))
    return result, folder


@pytest.mark.slow
def test_a_row_for_every_mode_and_batch_size(measured):
    result, _ = measured
    rows = result["rows"]
    assert [(row["mode"], row["batch_size"]) for row in rows] == [
        ("train", 2),
        ("train", 4),
        ("predict", 2),
        ("predict", 4),
    ]
    for row in rows:
        assert row["precision"] == "float32"
        assert 0 < row["step_ms_median"] <= row["step_ms_p95"]
        assert row["compile_seconds"] > 0
        rate = row["images_per_second"] * result["flops_per_image"][row["mode"]]
        assert row["fraction_of_peak"] == pytest.approx(rate / result["peaks"]["float32"])
        # Calls that are not waited for are about as fast as those that are.
        one_by_one = 1e3 * row["batch_size"] / row["step_ms_median"]
        assert 0.1 < row["images_per_second"] / one_by_one < 10
    # A larger batch needs more memory.
    memory = [row["peak_memory_bytes"] for row in rows]
    assert memory[0] < memory[1] and memory[2] < memory[3]
    table = tables.format_network(result)
    assert all(f"{row['images_per_second']:,.1f}" in table for row in rows)


@pytest.mark.slow
def test_traces_of_all_modes_are_written(measured):
    _, folder = measured
    assert {path.name for path in folder.iterdir()} == {
        f"{mode}_float32_{size}" for mode in ("train", "predict") for size in (2, 4)
    }
    assert all(list(run.rglob("*.xplane.pb")) for run in folder.iterdir())


def test_the_time_of_a_program_by_part(tmp_path):
    def step(x):
        with jax.named_scope("network"):
            x = jnp.tanh(x @ x)
        with jax.named_scope("matching"):
            return jnp.sort(x, axis=0)

    x = jax.random.normal(jax.random.key(0), (400, 400))
    compiled = jax.jit(step).lower(x).compile()
    times = trace(lambda: compiled(x), 3, tmp_path, compiled.as_text())
    assert times["network"] > 0 and times["matching"] > 0
    assert list(times.values()) == sorted(times.values(), reverse=True)
    assert f"{times['matching']:.3f} ms" in format_times(times)


def test_the_parts_of_a_step_have_names():
    config = as_config(tiny.get_config())
    tiny_network = build_network(config.model, 20)
    optimizer = make_optimizer(config, make_schedule(config))
    step = devices.pmap_train_step(make_train_step(config, tiny_network))
    state = jax.eval_shape(lambda *v: initial_state(*v, optimizer), *tiny_network.variable_shapes())
    batch = devices.shard(random_batch(config, 2))
    lowered = step.lower(state, batch, step_numbers(config)(0)).as_text(debug_info=True)
    assert all(part in lowered for part in PARTS if part != "suppression")


@pytest.mark.slow
def test_operations_of_an_image_by_hand():
    """XLA does not count products with padding in convolutions."""
    config = as_config(tiny.get_config()).replace({"model.batch_norm": False})
    sizes = {"conv1": 64, "conv2": 32, "conv3": 16, "conv4": 8, "conv5": 4, "fc": 4}
    parameters, _ = build_network(config.model, 20).variable_shapes()
    operations = 0
    for name, layer in parameters["backbone"].items():
        if "conv" in layer:
            side = next(side for start, side in sizes.items() if name.startswith(start))
            operations += 2 * side**2 * layer["conv"]["kernel"].size
    for kind in ("offsets", "logits"):
        heads = parameters["heads"][kind].values()
        for side, head in zip(config.model.feature_sizes, heads, strict=True):
            operations += 2 * side**2 * head["kernel"].size
    assert 0.85 < flops_per_image(config, "forward") / operations < 1.1
    assert flops_per_image(config, "predict") == flops_per_image(config, "forward")
    assert 2 < flops_per_image(config, "train") / flops_per_image(config, "forward") < 6


@pytest.mark.slow
def test_batches_are_doubled_until_memory_ends(monkeypatch):
    # What is measured of the machine itself takes seconds, and is not asked for here.
    monkeypatch.setattr(network, "measure_peaks", lambda _: {"float32": 1e12})
    monkeypatch.setattr(network, "device_memory", lambda: 4 * 2**20)
    rows = benchmark_network(SMALL, ("forward",), ("float32",), (), 0.01)["rows"]
    sizes = [row["batch_size"] for row in rows]
    assert len(sizes) > 2 and sizes == [2**i for i in range(len(sizes))]
    assert rows[-1]["peak_memory_bytes"] < 4 * 2**20 * network.MEMORY_SHARE
    monkeypatch.setattr(network, "device_memory", lambda: 2**10)
    with pytest.raises(UserError, match="no batch fits into the memory"):
        benchmark_network(SMALL, ("forward",), ("float32",), (), 0.01)


@pytest.mark.slow
def test_parts_are_shares_of_the_whole():
    rows = benchmark_parts(SMALL, ("float32",), 2, 0.02)
    wholes = {row["of"]: row for row in rows if row["part"] == "the whole"}
    assert set(wholes) == {"train", "predict"}
    assert {row["part"] for row in rows} >= {"matching", "mining", "suppression", "decoding"}
    for row in rows:
        whole = wholes[row["of"]]["milliseconds"]
        assert row["share"] == pytest.approx(row["milliseconds"] / whole)
    assert "matching" in tables.format_parts(rows)


def test_calls_are_timed():
    calls = []

    def call():
        calls.append(time.sleep(0.02))
        return jnp.zeros(())

    timing = time_calls(call, seconds=0.2)
    assert 0.02 < timing.median <= timing.p95
    assert len(calls) > 8 and 0 < timing.per_second < 50


@pytest.mark.slow
def test_peaks_are_those_of_a_product_and_a_copy(measured):
    peaks = measured[0]["peaks"]
    a = np.ones((1024, 1024), np.float32)
    a @ a
    start = time.perf_counter()
    a @ a
    rate = 2 * 1024**3 / (time.perf_counter() - start)
    assert 0.02 < peaks["float32"] / rate < 50  # the same order, not another unit
    assert 1e8 < peaks["copy"] < 1e14


def test_the_chart(measured, tmp_path):
    tables.draw_network(measured[0], "a machine", tmp_path / "chart.png")
    assert Image.open(tmp_path / "chart.png").size > (400, 400)
