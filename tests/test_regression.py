"""The programs that measure two trees, or two libraries, in turns."""

import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from ssd_jax.benchmark.network import NUM_CLASSES, random_batch
from ssd_jax.config.schema import as_config
from ssd_jax.models.network import build_network
from tests import tiny
from tools.pairs.networks import CANDIDATES, with_few_candidates
from tools.pairs.sides import ROOT, compare
from tools.pairs.table import format_row
from tools.regression import RevisionError, checked_out, measured_rows

METRICS = {"few": {"mode": "metrics", "images": 4, "detections": 5}}


def git(repository, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(repository), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository(tmp_path):
    """Two commits of a file, and a change that is not committed."""
    git(tmp_path, "init", "-q")
    for text in ("old", "new"):
        (tmp_path / "file").write_text(text)
        git(tmp_path, "add", "file")
        git(tmp_path, "commit", "-qm", text)
    (tmp_path / "file").write_text("changed")
    return tmp_path


def test_a_revision_is_a_folder_for_a_while(repository):
    with pytest.raises(KeyError), checked_out(repository, "HEAD~1") as tree:
        assert (tree / "file").read_text() == "old"
        raise KeyError
    assert not tree.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert (repository / "file").read_text() == "changed"
    with pytest.raises(RevisionError, match="nowhere"), checked_out(repository, "nowhere"):
        pass


def test_ratios_compare_consecutive_runs():
    first, second = ([{"s": value} for value in values] for values in ((2, 4, 6), (1, 4, 12)))
    assert compare(first, second, "s") == {
        "first": 4,
        "second": 4,
        "ratio": 1,
        "lowest": 0.5,
        "highest": 2,
    }
    assert compare(first, [{"s": 0}] * 3, "s")["ratio"] is None


def test_two_trees_are_measured_and_what_one_cannot_run_is_left_out(tmp_path):
    (tmp_path / "ssd_jax").mkdir()
    (tmp_path / "ssd_jax" / "__init__.py").touch()
    (row,) = measured_rows({"new": ROOT, "old": ROOT}, METRICS, rounds=2)
    for field in ("cpu", "wall"):
        numbers = row[field]
        assert numbers["first"] > 0
        assert numbers["second"] > 0
        assert 0 < numbers["lowest"] <= numbers["ratio"] <= numbers["highest"]
    assert f"{row['cpu']['first']:.3f} / {row['cpu']['second']:.3f}" in format_row(row)
    (row,) = measured_rows({"new": ROOT, "old": Path(tmp_path)}, METRICS, rounds=2)
    assert row["error"] == (
        "left out: old: ModuleNotFoundError: No module named 'ssd_jax.evaluation'"
    )
    assert row["error"] in format_row(row)


def test_a_likelier_background_leaves_few_candidates():
    config = as_config(tiny.get_config()).replace({"model.separable": True})
    network, images = build_network(config.model, NUM_CLASSES), random_batch(config, 2)["image"]
    variables = network.init(0)

    @jax.jit
    def logits(variables, images):
        return network.apply(*variables, network.normalise(images), train=False)[0][1]

    before = np.asarray(logits(variables, images))
    after = logits(with_few_candidates(config, network, variables, 2), images)
    scores = np.asarray(jax.nn.softmax(after)[..., 1:])
    assert (scores > config.detection.score_threshold).sum() / 2 == pytest.approx(CANDIDATES, 0.01)
    # All others are as they were, but for their standard deviation, which was that of all.
    np.testing.assert_allclose(after[..., 1:], before[..., 1:] / before.std(), rtol=1e-3, atol=1e-4)
