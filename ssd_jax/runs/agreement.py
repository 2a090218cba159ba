"""Checks before the first step that the processes of a run agree.

If they differ, every process ends at once and reports the difference. Otherwise the run would end
with meaningless weights and no error, or the processes would wait for each other forever.
"""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

import ssd_jax
from ssd_jax.config.schema import Config, as_config
from ssd_jax.data.cut import Cut, read_cut
from ssd_jax.data.datasets import Dataset
from ssd_jax.distributed import devices, exchange
from ssd_jax.errors import UserError, shown
from ssd_jax.runs.provenance import versions
from ssd_jax.runs.workdir import flat_fields, is_recorded, read_config

MOST_DIFFERENCES = 6  # the number of differences in a message

# Settings of JAX that change results.
JAX_SETTINGS = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_platforms",
    "jax_threefry_partitionable",
)

Facts = Mapping[str, object]  # values by name, in types of JSON


def check_same_start(config: Config, **others: object) -> None:
    """Compares the inputs of processes: config, code, packages, settings and devices.

    Args:
      config: the config of the run.
      **others: further arguments, in types of JSON.

    Raises:
      UserError: the processes differ.
    """
    if not devices.joined():
        return
    fields = flat_fields(config.model_dump(mode="json"))
    facts = {f"config.{name}": value for name, value in fields.items()}
    facts |= {f"--{name}": value for name, value in others.items()}
    facts |= {f"the version of {name}": value for name, value in versions().items()}
    facts["the version of ssd_jax"] = f"{ssd_jax.__version__}, code {_code_digest()}"
    facts |= {f"the setting {name}": jax.config.values[name] for name in JAX_SETTINGS}
    _check(facts, "start all processes with the same command, code and packages")
    # Second, because JAX waits for all processes when it counts devices.
    kinds = sorted({device.device_kind for device in jax.local_devices()})
    _check(
        {"the number of devices": jax.local_device_count(), "the kind of devices": kinds},
        "give each process the same number of devices, of the same kind",
    )


def check_same_data(train: Dataset | None, evaluation: Dataset | None) -> None:
    """Compares classes and images.

    Args:
      train: the training data, if any.
      evaluation: the evaluation data, if any.

    Raises:
      UserError: the processes differ.
    """
    if not devices.joined():
        return
    from ssd_jax.data.fingerprint import describe_parts

    facts: dict[str, object] = {}
    for name, dataset in (("training", train), ("evaluation", evaluation)):
        if dataset is not None:
            facts[f"the classes of the {name} data"] = list(dataset.class_names)
            facts |= {
                f"part {number} of the {name} data": words
                for number, words in enumerate(describe_parts(dataset), 1)
            }
    _check(facts, "let all processes see the same data")


def check_same_state(state: object) -> None:
    """Compares the arrays with which a run begins or continues.

    Raises:
      UserError: the processes differ.
    """
    if not devices.joined():
        return
    digest = hashlib.blake2b(digest_size=6)
    for array in jax.tree.leaves(state):
        digest.update(np.asarray(array).tobytes())
    _check(
        {"the digest of the parameters": digest.hexdigest()},
        "name weights that are the same for all processes",
    )


def _check(facts: Facts, fix: str) -> None:
    everything = exchange.gather_from_processes(dict(facts))
    differences = [
        f"{name} is {shown(own.get(name, 'missing'))} in process {number}, but "
        f"{shown(everything[0].get(name, 'missing'))} in process 0"
        for number, own in enumerate(everything)
        for name in sorted(everything[0].keys() | own.keys())
        if own.get(name, "missing") != everything[0].get(name, "missing")
    ]
    if differences:
        more = len(differences) - MOST_DIFFERENCES
        others = f"; and {more} more" if more > 0 else ""
        raise UserError(
            f"the processes of the run differ: {'; '.join(differences[:MOST_DIFFERENCES])}{others}."
            f" Fix: {fix}"
        )


@functools.cache
def _code_digest() -> str:
    """A digest of the source files of this package."""
    root, digest = Path(ssd_jax.__file__).parent, hashlib.blake2b(digest_size=6)
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def recorded_config(folder: Path) -> Config | None:
    """`shared_config`; None if no run is recorded in the folder."""
    recorded = exchange.from_main_process(devices.is_main_process() and is_recorded(folder))
    return shared_config(folder) if recorded else None


def shared_config(folder: Path) -> Config:
    """The config that the main process reads from a work directory, on every process.

    Raises:
      UserError: the config cannot be read.
    """
    own = read_config(folder).model_dump(mode="json") if devices.is_main_process() else {}
    return as_config(exchange.from_main_process(own))


def shared_cut(folder: Path) -> Cut | None:
    """The cut that the main process reads from a work directory, on every process; see `read_cut`.

    Raises:
      UserError: the file cannot be read.
    """
    stored = read_cut(folder) if devices.is_main_process() else None
    content = exchange.from_main_process(None if stored is None else stored.as_json())
    return None if content is None else Cut.from_json(content)
