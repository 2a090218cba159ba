import pytest

from ssd_jax.config.schema import Config
from ssd_jax.runs.length import with_steps
from ssd_jax.runs.workdir import record_run


@pytest.mark.parametrize(("epochs", "steps"), [(0, 120_000), (1, 4), (2, 7), (0.01, 1)])
def test_epochs_set_the_steps(epochs, steps, tmp_path):
    config = Config().replace({"epochs": epochs, "batch_size": 3})
    assert with_steps(config, 10, tmp_path).steps == steps  # the last epoch is a whole one


def test_a_run_keeps_its_steps_after_images_are_added_or_removed(tmp_path):
    config = Config().replace({"epochs": 2.0, "batch_size": 3})
    record_run(tmp_path, with_steps(config, 10, tmp_path), ["dog"], [1])
    assert with_steps(config, 99, tmp_path).steps == 7
    for changes in ({"epochs": 3.0}, {"batch_size": 6}):
        changed = config.replace(changes)
        assert with_steps(changed, 12, tmp_path).steps == 12 * changed.epochs / changed.batch_size
