"""Processes of one run with different inputs, or with malicious messages to each other."""

import functools
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy

from ssd_jax.data.convert import convert_data
from ssd_jax.distributed import exchange
from ssd_jax.errors import UserError
from tools.attacks.attack import ROOT, Attack
from tools.attacks.several_processes import ENVIRONMENT, TINY, Process, run

KIND = "processes that disagree"

# Fields of the config with another value in one process, and the words of the message.
FIELDS = {
    "learning_rate": "1.0",
    "base_batch_size": "8",
    "batch_size": "8",
    "steps": "5",
    "seed": "1",
    "accumulate": "2",
    "optimizer": "adamw",
    "momentum": "0.5",
    "weight_decay": "0.1",
    "schedule": "cosine",
    "warmup_steps": "1",
    "clip_norm": "1.0",
    "ema": "0.9",
    "log_every": "3",
    "checkpoint_every": "3",
    "eval_every": "3",
    "on_nonfinite": "skip",
    "metric": "coco",
    "freeze": "backbone/*",
    "model.width": "0.04",
    "model.precision": "bfloat16",
    "augment.flip": "False",
    "augment.color": "False",
    "loss.min_negatives": "3",
    "detection.score_threshold": "0.5",
    "data.train": "shapes:test[:11]",
    "data.eval": "shapes:test[:1]",
    "data.classes": "circle,cross",
    "data.max_objects": "5",
    "data.on_error": "skip",
}

# Settings of the environment, and the words of the message.
SETTINGS = {
    "JAX_ENABLE_X64": ("1", "jax_enable_x64"),
    "JAX_DEFAULT_MATMUL_PRECISION": ("bfloat16", "jax_default_matmul_precision"),
    "JAX_DEFAULT_PRNG_IMPL": ("rbg", "jax_default_prng_impl"),
    "JAX_THREEFRY_PARTITIONABLE": ("0", "jax_threefry_partitionable"),
    "XLA_FLAGS": (
        f"{ENVIRONMENT['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
        "the number of devices is 2 in process",
    ),
}
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint", "tensorflow-datasets")


def check_ended(ended: Sequence[tuple[int, str]], words: str) -> None:
    """Checks that every process exited with status 1 and one line with these words."""
    for number, (status, errors) in enumerate(ended):
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert status == 1, f"status {status} of process {number}: {errors[-800:]}"
        assert "Traceback" not in errors, errors[-1500:]
        assert len(lines) == 1 and words in lines[0], f"no {words!r} in {errors[-800:]}"


def differ(
    other: Callable[[Path], Process], words: str, folder: Path, count: int = 2, odd: int = 1
) -> None:
    """Trains in several processes, one of which differs."""
    own = other(folder)
    everyone = [own if number == odd else Process() for number in range(count)]
    ended = run("train", everyone, f"--config={TINY}", f"--workdir={folder / 'run'}")
    check_ended(ended, words)
    assert not (folder / "run" / "checkpoints").exists(), "something was trained"


def with_arguments(*arguments: str) -> Callable[[Path], Process]:
    return lambda folder: Process(arguments)


def with_environment(environment: Mapping[str, str]) -> Callable[[Path], Process]:
    return lambda folder: Process(environment=environment)


def with_package(name: str) -> Callable[[Path], Process]:
    """A process that finds another version of a package."""

    def make(folder: Path) -> Process:
        place = folder / "packages" / f"{name.replace('-', '_')}-0.0.1.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")
        return Process(environment={"PYTHONPATH": str(place.parent)})

    return make


def with_code(file: str) -> Callable[[Path], Process]:
    """A process whose copy of the package differs in a comment of one file."""

    def make(folder: Path) -> Process:
        copy = folder / "code" / "ssd_jax"
        shutil.copytree(ROOT / "ssd_jax", copy, ignore=shutil.ignore_patterns("__pycache__"))
        with open(copy / file, "a") as source:
            source.write("# another version\n")
        environment = {"PYTHONPATH": os.pathsep.join([str(copy.parent), str(ROOT)])}
        return Process(environment=environment, folder=copy.parent)

    return make


def _annotations(data: Path) -> Path:
    return data / "annotations" / "instances_test.json"


def _change(data: Path, change: Callable[[dict], object]) -> None:
    """Changes the annotations of a copy of the data."""
    content = json.loads(_annotations(data).read_text())
    change(content)
    _annotations(data).write_text(json.dumps(content))


def _without_image(content: dict) -> None:
    gone = content["images"].pop()["id"]
    content["annotations"] = [box for box in content["annotations"] if box["image_id"] != gone]


def _with_another_class(content: dict) -> None:
    first = content["annotations"][0]
    others = (category["id"] for category in content["categories"])
    first["category_id"] = next(number for number in others if number != first["category_id"])


# Differences in the data of one host, with the same names.
DATA: dict[str, Callable[[dict], object]] = {
    "an image less": _without_image,
    "an object less": lambda content: content["annotations"].pop(),
    "a box moved by a pixel": lambda content: content["annotations"][0].update(
        bbox=[1 + number for number in content["annotations"][0]["bbox"]]
    ),
    "an object of another class": _with_another_class,
    "a class of another name": lambda content: content["categories"][0].update(name="hexagon"),
    "a crowd": lambda content: content["annotations"][0].update(iscrowd=1),
    "images in another order": lambda content: content["images"].reverse(),
}


def differ_in_data(change: Callable[[dict], object], field: str, folder: Path) -> None:
    """Trains on two hosts with different data at the same path."""
    for number in range(2):
        host = folder / f"host{number}"
        convert_data("shapes:test[:12]", "coco", host / "data")
        for source in (field, "train" if field == "eval" else "eval"):
            shutil.copytree(host / "data", host / source)
    _change(folder / "host1" / field, change)
    ended = run(
        "train",
        [Process(folder=folder / f"host{number}") for number in range(2)],
        f"--config={TINY}",
        f"--workdir={folder / 'run'}",
        "--config.data.train=train:test",
        "--config.data.eval=eval:test",
        "--config.eval_every=2",
    )
    check_ended(ended, "data")
    assert not (folder / "run" / "checkpoints").exists(), "something was trained"


def differ_in_missing_data(folder: Path) -> None:
    """One host has no data: the other one reports it."""
    for number in range(2):
        (folder / f"host{number}").mkdir()
    convert_data("shapes:test[:12]", "coco", folder / "host0" / "data")
    ended = run(
        "train",
        [Process(folder=folder / f"host{number}") for number in range(2)],
        *(f"--config={TINY}", f"--workdir={folder / 'run'}", "--config.data.train=data:test"),
    )
    check_ended(ended, "data")


class _Bomb:
    """An object whose pickle runs code when it is read."""

    def __reduce__(self):
        return print, ("the code of a stranger ran",)


def strange_values() -> dict[str, bytes]:
    """Bytes that an attacker may send as a value."""
    import pickle

    objects = np.array([_Bomb()], object)
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}})
    return {
        **{f"a pickle of protocol {n}": pickle.dumps(_Bomb(), n) for n in range(6)},
        "an array of objects": objects.dumps(),
        "nothing": b"",
        "a torn text": b'{"a": [1, 2',
        "a text of Latin-1": '"ä"'.encode("latin-1"),
        "a million brackets": b"[" * 10**6,
        "an integer of a million digits": b"9" * 10**6,
        "zeros": bytes(1000),
        "a header without end": (2**63).to_bytes(8, "little") + b"{}",
        "4 TB in a header": len(header).to_bytes(8, "little") + header.encode(),
    }


def refuse(data: bytes, folder: Path) -> None:
    """A malicious value of another process is rejected, as JSON and as arrays."""
    del folder
    for read in (exchange.parsed_json, exchange.parsed_arrays):
        try:
            read(data, 1)
        except UserError as error:
            assert "process 1 of the run sent data that is not" in str(error)
        else:
            raise AssertionError(f"{read.__name__} took it")


def give_back(number: int, folder: Path) -> None:
    """Arrays are received unchanged."""
    del folder
    random = np.random.default_rng(number)
    kinds = [np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_]
    array = (random.random((number, 3)) * 200).astype(kinds[number % len(kinds)])
    got = exchange.parsed_arrays(safetensors.numpy.save({"x": array}), 0)["x"]
    assert got.dtype == array.dtype and np.array_equal(got, array)


ATTACKS = [
    *(
        Attack(
            KIND,
            f"{field}={value}",
            functools.partial(
                differ,
                with_arguments(f"--config.{field}={value}"),
                f"config.{field.replace('classes', 'class')}",
            ),
        )
        for field, value in FIELDS.items()
    ),
    *(
        Attack(
            KIND,
            f"{name}={value}",
            functools.partial(differ, with_environment({name: value}), words),
        )
        for name, (value, words) in SETTINGS.items()
    ),
    *(
        Attack(
            KIND,
            f"another {name}",
            functools.partial(differ, with_package(name), f"the version of {name} is '0.0.1'"),
        )
        for name in PACKAGES
    ),
    *(
        Attack(
            KIND,
            f"other code in {file}",
            functools.partial(differ, with_code(file), "the version of ssd_jax"),
        )
        for file in ("training/steps.py", "detection/losses.py", "data/geometry.py")
    ),
    Attack(
        KIND,
        "--change_config",
        functools.partial(differ, with_arguments("--change_config"), "--change_config"),
    ),
    *(
        Attack(
            KIND,
            f"{field} in process {odd} of three",
            functools.partial(
                differ,
                with_arguments(f"--config.{field}={FIELDS[field]}"),
                f"config.{field}",
                count=3,
                odd=odd,
            ),
        )
        for field, odd in (("learning_rate", 0), ("seed", 2), ("data.eval", 2), ("batch_size", 0))
    ),
    *(
        Attack(
            KIND, f"{name} in the {field} data", functools.partial(differ_in_data, change, field)
        )
        for field in ("train", "eval")
        for name, change in DATA.items()
    ),
    Attack(KIND, "no data on one host", differ_in_missing_data),
    *(
        Attack("strangers among processes", name, functools.partial(refuse, data), quick=True)
        for name, data in strange_values().items()
    ),
    *(
        Attack(
            "strangers among processes",
            f"arrays of {number} rows",
            functools.partial(give_back, number),
            quick=True,
        )
        for number in range(6)
    ),
]
