import subprocess
import sys

import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.errors import UserError
from ssd_jax.runs.train import train
from tests import tiny

IMPORTS = """
import sys
import ssd_jax.runs.train
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(loaded & {"jinja2", "matplotlib", "tensorflow", "keras"}), end="")
"""


@pytest.mark.slow
def test_training_imports_no_report_and_no_tensorflow():
    command = [sys.executable, "-c", IMPORTS]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_an_unknown_metric_is_refused_before_anything_is_written(tmp_path):
    config = as_config(tiny.get_config()).replace({"metric": "map"})
    with pytest.raises(UserError, match=r"config\.metric is 'map', but must be one of voc07, voc"):
        train(config, tmp_path / "run")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_new_run_tells_what_it_reached(tmp_path):
    config = as_config(tiny.get_config()).replace({"steps": 2, "log_every": 1, "eval_every": 1})
    result = train(config, str(tmp_path / "run"))
    assert (result.workdir, result.last_step) == (tmp_path / "run", 2)
    assert sorted(result.metrics) == [1, 2]
    assert all({"train/loss", "eval/mAP"} <= set(values) for values in result.metrics.values())
    rated = {step: values["eval/mAP"] for step, values in result.metrics.items()}
    assert result.best_mean_ap == max(rated.values()) == rated[result.best_step]
    # A run that is further than `config.steps` is neither shortened nor called done.
    further = r"is at step 2, but config\.steps is 1: set it to 2 or more, with --change_config"
    for change_config in (False, True):
        with pytest.raises(UserError, match=further):
            train(config.replace({"steps": 1}), tmp_path / "run", change_config)
