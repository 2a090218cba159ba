import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ssd_jax.config.schema import as_config
from ssd_jax.errors import UserError
from ssd_jax.runs.train import train
from ssd_jax.training.hooks import Hook, StopTraining
from tests import tiny

IMPORTS = """
import sys

def loaded(*names):
    return sorted(set(names) & {name.partition(".")[0] for name in sys.modules})

import ssd_jax.inference.predict
print(loaded("orbax", "tensorstore", "jinja2", "tensorboardX", "tensorflow"))
import ssd_jax.runs.train
print(loaded("jinja2", "matplotlib", "tensorflow", "keras", "wandb", "mlflow"))
import ssd_jax.data.training_batches
print(loaded("jinja2", "matplotlib", "pandas", "keras"))

from ssd_jax.data.tensorflow_setup import tf

pixels = tf.random.uniform([64, 64, 3], 0, 255, tf.int32)
encoded = tf.io.encode_jpeg(tf.cast(pixels, tf.uint8))
truncated = tf.data.Dataset.from_tensors(tf.strings.substr(encoded, 0, 900))
try:
    truncated.map(tf.io.decode_jpeg).get_single_element()
except tf.errors.InvalidArgumentError:
    print("truncated")
"""


@pytest.mark.slow
def test_commands_import_only_their_packages_and_tensorflow_logs_nothing():
    command = [sys.executable, "-c", IMPORTS]
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n" * 3 + "truncated\n", "")


def test_an_unknown_metric_is_refused_before_anything_is_written(tmp_path):
    config = as_config(tiny.get_config()).replace({"metric": "map"})
    with pytest.raises(UserError, match=r"config\.metric is 'map', but must be one of voc07, voc"):
        train(config, tmp_path / "run")
    assert not any(tmp_path.iterdir())


OTHER_LOSSES = {
    "loss.confidence": "focal",
    "loss.class_weights": "circle=2,cross=2,square=2,star=2,triangle=2",
    "loss.localisation": "giou",
}


class StopAfterOne(Hook):
    def scalars(self, step, values):
        assert step == 1
        if "train/loss" in values:
            raise StopTraining


class KeepDetections(Hook):
    def __init__(self):
        self.pictures = {}

    def image(self, step, name, picture):
        if name == "detections":
            self.pictures[step] = picture


@pytest.mark.slow
def test_a_run_that_a_hook_ended_continues_and_reports_its_best_result(tmp_path, caplog):
    config = as_config(tiny.get_config()).replace({"log_every": 1, "eval_every": 1})
    # Nothing is learned, so nothing gets better than the first time.
    impatient = config.replace({"epochs": 3, "patience": 1, "learning_rate": 1e-12})
    impatient = impatient.replace({"report": True} | OTHER_LOSSES)
    caplog.set_level("INFO", "ssd_jax")
    # A hook ends the run, which goes on without it.
    kept = KeepDetections()
    stopped = train(impatient, tmp_path / "run", hooks=[kept, StopAfterOne()])
    assert stopped.last_step == 1
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == 9
    result = train(impatient, str(tmp_path / "run"), hooks=[kept])
    with Image.open(tmp_path / "run" / "pictures" / "detections.png") as drawn:
        np.testing.assert_array_equal(drawn, kept.pictures.pop(result.best_step))
        (other,) = kept.pictures.values()
        assert not np.array_equal(drawn, other)
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert f"step {result.best_step}" in page
    assert "the mAP is uncertain by about" in caplog.text and "try next: " in caplog.text
    assert f"  ssd-jax predict --workdir={tmp_path / 'run'} " in caplog.text
    assert (result.workdir, result.last_step) == (tmp_path / "run", 2)
    assert sorted(result.metrics) == [1, 2]
    assert all({"train/loss", "eval/mAP"} <= set(values) for values in result.metrics.values())
    assert [values["train/epoch"] for values in result.metrics.values()] == [4 / 12, 8 / 12]
    rated = {step: values["eval/mAP"] for step, values in result.metrics.items()}
    assert result.best_mean_ap == max(rated.values()) == rated[result.best_step]
    # A new network gives objects the probability 0.01, each of five classes a fifth of it.
    assert result.metrics[1]["train/conf_loss"] == pytest.approx(
        2 * 0.25 * 0.998**2 * -np.log(0.002), rel=0.01
    )
    assert 0 < result.metrics[1]["train/loc_loss"] < 1  # 1 - GIoU: 0 to 2
    assert train(impatient, tmp_path / "run").last_step == 2
    # A run that is further than `config.steps` is neither shortened nor called done.
    further = r"is at step 2, but config\.steps is 1: set it to 2 or more, with --change_config"
    for change_config in (False, True):
        with pytest.raises(UserError, match=further):
            train(impatient.replace({"steps": 1, "epochs": 0}), tmp_path / "run", change_config)
