import functools
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from ssd_jax.config.schema import OptimizerConfig, as_config
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.models.network import build_network
from ssd_jax.training.checkpoints import Checkpoints, Progress
from ssd_jax.training.optimizer import make_optimizer
from ssd_jax.training.state import initial_state
from tests import tiny
from tests.helpers.commands import ROOT

pytestmark = pytest.mark.slow

OPTIMIZER = make_optimizer(OptimizerConfig(), lambda step: 1e-2)


@functools.cache
def network_of(num_classes):
    return build_network(as_config(tiny.get_config()).model, num_classes)


@functools.cache
def state_at(step, num_classes=5):
    state = initial_state(*network_of(num_classes).init(seed=step), OPTIMIZER)
    return devices.replicate(state._replace(step=np.int32(step)))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoints")
    checkpoints = Checkpoints(directory, keep=2)
    for step, mean_ap in ((1, None), (2, 0.5), (3, 0.9), (4, 0.7), (5, None), (6, 0.1)):
        checkpoints.save(state_at(step), Progress(values=[{"loss": step / 3}]))
        if mean_ap is not None:
            checkpoints.rate(step, mean_ap)
    checkpoints.close()
    return directory


@pytest.mark.slow
def test_the_last_and_the_best_checkpoints_are_kept(directory):
    checkpoints = Checkpoints(directory, read_only=True)
    assert checkpoints.steps() == [3, 5, 6]


@pytest.mark.slow
def test_a_state_is_restored_exactly(directory):
    saved = state_at(3)
    restored = Checkpoints(directory, read_only=True).restore(state_at(0), step=3)
    assert restored.step == 3
    jax.tree.map(np.testing.assert_array_equal, restored, saved)
    assert jax.tree.structure(restored) == jax.tree.structure(saved)


def test_progress_is_restored_exactly(directory):
    restored = Checkpoints(directory, read_only=True).restore_progress()
    assert restored == Progress(values=[{"loss": 6 / 3}])


@pytest.mark.slow
def test_checkpoints_with_earlier_ratings_are_kept(tmp_path):
    for steps, ratings in (((1, 2), {1: 0.9, 2: 0.5}), ((3, 4), {1: 0.9})):
        checkpoints = Checkpoints(tmp_path, keep=1)
        for step, mean_ap in ratings.items():
            checkpoints.rate(step, mean_ap)
        for step in steps:
            checkpoints.save(state_at(step))
        checkpoints.close()
    assert Checkpoints(tmp_path, read_only=True).steps() == [1, 4]


@pytest.mark.slow
def test_a_better_last_evaluation_removes_the_earlier_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, mean_ap in ((1, 0.5), (2, 0.4), (3, 0.3), (4, 0.6)):
        checkpoints.save(state_at(step))
        checkpoints.rate(step, mean_ap)
    assert checkpoints.steps() == [1, 3, 4]
    checkpoints.close()
    assert checkpoints.steps() == Checkpoints(tmp_path, read_only=True).steps() == [3, 4]


# Prints what it is told. In a process of its own, for what else is being written goes on then.
WITHOUT_ROOM = """
import resource, sys
from ssd_jax.errors import UserError
from ssd_jax.training.checkpoints import Checkpoints, Progress
from tests.training.test_checkpoints import state_at

checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(state_at(1))
checkpoints.wait()
state = state_at(2)
# As a full disk, but for files larger than this.
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    checkpoints.save(state)
    checkpoints.wait()
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_keeps_complete_checkpoints(tmp_path):
    command = [sys.executable, "-c", WITHOUT_ROOM, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert str(tmp_path) in said and "(steps: 1)" in said and "free some space" in said

    # What is unfinished is neither taken for a checkpoint nor in the way of the next try.
    assert {path.name.partition(".")[0] for path in tmp_path.iterdir()} == {"1", "2"}
    again = Checkpoints(tmp_path)
    assert again.steps() == [1]
    again.save(state_at(3))
    again.close()
    assert {path.name for path in tmp_path.iterdir()} == {"1", "3"}


def test_the_model_can_be_loaded_separately(directory):
    saved, other = state_at(6), state_at(0)
    restored = Checkpoints(directory, read_only=True).restore_model(
        other.parameters, other.batch_stats
    )
    jax.tree.map(np.testing.assert_array_equal, restored, (saved.parameters, saved.batch_stats))


def test_averaged_parameters_are_restored_instead_of_the_last(tmp_path):
    state = state_at(1)
    averaged = jax.tree.map(lambda array: array + 1, state.parameters)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state._replace(averaged=averaged))
    checkpoints.wait()
    parameters, _ = checkpoints.restore_model(state.parameters, state.batch_stats, averages=True)
    jax.tree.map(np.testing.assert_array_equal, parameters, averaged)
    with pytest.raises(UserError, match="model, ema, optimizer and freeze decide"):
        checkpoints.restore_model(state.parameters, state.batch_stats)
    checkpoints.close()


@pytest.mark.parametrize("damage", [lambda file: os.truncate(file, 9), lambda file: file.unlink()])
@pytest.mark.slow
def test_a_damaged_checkpoint_is_named(directory, tmp_path, damage):
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    for file in (tmp_path / "5" / "training").rglob("d/*"):
        damage(file)
    checkpoints = Checkpoints(tmp_path, read_only=True)
    with pytest.raises(UserError, match=r"step 5 .* is damaged .* remove the folder 5"):
        checkpoints.restore(state_at(0), step=5)
    shutil.rmtree(tmp_path / "6" / "model")
    with pytest.raises(UserError, match=r"step 6 .* is damaged .* remove the folder 6"):
        checkpoints.restore(state_at(0), step=6)
    assert checkpoints.restore(state_at(0), step=3).step == 3


def test_a_flipped_bit_is_noticed_in_each_file_of_an_item(directory, tmp_path):
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    template = state_at(0)
    checkpoints = Checkpoints(tmp_path, read_only=True)
    files = [path for path in sorted((tmp_path / "6").rglob("*")) if path.is_file()]
    assert tmp_path / "6" / "SHA256SUMS" in files
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-9] + bytes([content[-9] ^ 4]) + content[-8:])
        inside = file.relative_to(tmp_path / "6").as_posix()
        if inside in ("_CHECKPOINT_METADATA", "commit_success.txt"):  # nothing of them is used
            jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(template), state_at(6))
        else:
            with pytest.raises(UserError, match=r"step 6 .* damaged .* the one before, of step 5"):
                checkpoints.restore(template)
                checkpoints.restore_progress()
        file.write_bytes(content)
    assert checkpoints.restore(template).step == 6


def test_checkpoints_of_older_versions_have_no_checksums(directory, tmp_path):
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    (tmp_path / "6" / "SHA256SUMS").unlink()
    assert Checkpoints(tmp_path, read_only=True).restore(state_at(0)).step == 6


def test_a_step_that_is_not_there_is_refused(directory):
    with pytest.raises(UserError, match="no checkpoint of step 4, but of 3, 5, 6"):
        Checkpoints(directory, read_only=True).restore(state_at(0), step=4)


def test_another_network_is_refused(directory):
    with pytest.raises(UserError, match="is not of the network that the config describes"):
        Checkpoints(directory, read_only=True).restore(state_at(0, num_classes=7))


def test_an_empty_directory_is_explained(tmp_path):
    with pytest.raises(UserError, match="has no checkpoint: train there first"):
        Checkpoints(tmp_path / "none", read_only=True).restore(state_at(0))
