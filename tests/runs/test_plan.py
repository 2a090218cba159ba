import numpy as np
import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.data.content import Content
from ssd_jax.models.network import build_network
from ssd_jax.runs.plan import choose_row, format_choices, plan
from ssd_jax.runs.workdir import record_run
from tests import tiny

CONFIG = as_config(tiny.get_config()).replace({"eval_every": 0})
TILING = build_network(CONFIG.model, 1).tiling


def content(num_images, side=0.25):
    centres = np.random.default_rng(0).uniform(side / 2, 1 - side / 2, (60, 2))
    boxes = np.concatenate([centres - side / 2, centres + side / 2], axis=1)
    count = np.array([len(boxes)])
    nothing = np.zeros((0, 2))
    return Content(("dog",), num_images, num_images, 0, count, 0, 0, nothing, boxes)


def chosen(folder, num_images=292, given=(), side=0.25, config=CONFIG):
    planned, choices = plan(config, given, content(num_images, side), TILING, folder)
    assert all(str(choice.value) for choice in choices)
    return planned, {choice.field: choice for choice in choices}


@pytest.mark.parametrize(
    ("num_images", "steps"),
    # 25 passes in batches of 4; at least 600 and at most 1,500 steps.
    [(10, 600), (200, 1250), (100_000, 1500)],
)
def test_the_length_suits_the_number_of_images(num_images, steps, tmp_path):
    planned, choices = chosen(tmp_path, num_images)
    assert planned.steps == choices["steps"].value == steps
    passes = steps * 4 / num_images
    assert choices["steps"].reason.startswith(f"{passes:.3g} passes over {num_images:,} images")
    assert planned.steps_between_evaluations == planned.checkpoint_every == -(-steps // 10)


def test_what_is_given_stays(tmp_path):
    planned, choices = chosen(tmp_path, 100, given=("steps", "checkpoint_every", "augment.color"))
    assert not {"steps", "checkpoint_every", "augment.color"} & set(choices)
    assert (planned.steps, planned.checkpoint_every) == (CONFIG.steps, CONFIG.checkpoint_every)
    epochs = CONFIG.replace({"epochs": 40.0})
    planned, choices = chosen(tmp_path, 100, given=("epochs",), config=epochs)
    assert "steps" not in choices and planned.checkpoint_every == 40 * 100 // 4 // 10


def test_much_training_has_the_augmentation_of_the_paper(tmp_path):
    for num_images, is_full in ((25, False), (24, True)):  # 600 steps of 4 images
        planned, _ = chosen(tmp_path, num_images)
        augment = planned.augment
        assert (augment.color, augment.expand_max_ratio) == ((True, 4) if is_full else (False, 2))


def test_boxes_are_looked_for_where_those_of_the_config_fit_few_objects(tmp_path):
    _, choices = chosen(tmp_path)
    assert "model.shapes" not in choices
    planned, choices = chosen(tmp_path, side=0.04)
    assert planned.model.shapes == choices["model.shapes"].value != ()
    assert "of these fit, not 0.0%" in choices["model.shapes"].reason


def test_a_run_that_goes_on_keeps_its_choices(tmp_path):
    planned, _ = chosen(tmp_path)
    record_run(tmp_path, planned, ["dog"], [1])
    again, choices = chosen(tmp_path, 99_999)
    assert (again, choices) == (planned, {})
    longer = CONFIG.replace({"steps": 9999})
    assert chosen(tmp_path, given=("steps",), config=longer)[0].steps == 9999


def test_every_choice_has_a_line(tmp_path):
    _, choices = chosen(tmp_path, 292, side=0.04)
    lines = format_choices(list(choices.values())).splitlines()
    assert len(lines) == 1 + len(choices)
    reason = "20.5 passes over 292 images, so that two cores need at most twenty minutes"
    assert f"  config.steps=1500{'':21}{reason}" in lines


def test_without_weights_a_small_network_begins_from_scratch(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "ssd_jax")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("ssd_jax.interop.published_weights.ADDRESS", "http://127.0.0.1:9")
    assert choose_row(None, tmp_path) == "scratch"
    assert "without start weights: http://127.0.0.1:9/mobilenet_v2" in caplog.text
    assert "put it at" in caplog.text
    assert choose_row("", tmp_path) == "scratch"
    # Weights of one's own are those of the network that a CPU is given, and nothing is downloaded.
    assert choose_row("torchvision:mine.pth", tmp_path) == "cpu"
    caplog.clear()
    record_run(tmp_path, CONFIG, ["dog"], [1])
    assert choose_row("", tmp_path) == "scratch" and not caplog.text
