import numpy as np
import pytest

from ssd_jax.config.files import load_config
from ssd_jax.config.schema import as_config
from ssd_jax.data.choice import open_run_data
from ssd_jax.data.content import Content
from ssd_jax.errors import UserError
from ssd_jax.models.network import build_network
from ssd_jax.runs.plan import format_choices, plan, plan_further, planned
from tests import tiny

CONFIG = as_config(tiny.get_config()).replace({"eval_every": 0, "init": "run:before"})


def content(num_images, side=0.25):
    centres = np.random.default_rng(0).uniform(side / 2, 1 - side / 2, (60, 2))
    boxes = np.concatenate([centres - side / 2, centres + side / 2], axis=1)
    count = np.array([len(boxes)])
    nothing = np.zeros((0, 2))
    return Content(("dog",), num_images, num_images, 0, count, 0, 0, nothing, boxes)


def chosen(num_images=292, given=(), side=0.25, config=CONFIG, recorded=None):
    if recorded:
        planned, choices = plan_further(config, given, num_images, recorded)
    else:
        planned, choices = plan(config, given, content(num_images, side))
    assert all(str(choice.value) for choice in choices)
    return planned, {choice.field: choice for choice in choices}


def test_from_scratch_training_takes_more_passes():
    scratch = CONFIG.replace({"init": ""})
    assert [chosen(number, config=scratch)[0].steps for number in (10, 80, 1000)] == [
        1500,
        2000,
        2400,
    ]


@pytest.mark.parametrize(
    ("num_images", "steps"),
    # 25 passes in batches of 4; at least 600 and at most 1,500 steps.
    [(10, 600), (200, 1250), (100_000, 1500)],
)
def test_the_length_suits_the_number_of_images(num_images, steps):
    planned, choices = chosen(num_images)
    assert planned.steps == choices["steps"].value == steps
    passes = steps * 4 / num_images
    assert choices["steps"].reason.startswith(f"{passes:.3g} passes over {num_images:,} images")
    assert planned.steps_between_evaluations == planned.checkpoint_every == -(-steps // 10)


def test_given_fields_are_kept():
    planned, choices = chosen(100, given=("steps", "checkpoint_every", "augment.color"))
    assert not {"steps", "checkpoint_every", "augment.color"} & set(choices)
    assert (planned.steps, planned.checkpoint_every) == (CONFIG.steps, CONFIG.checkpoint_every)
    epochs = CONFIG.replace({"epochs": 40.0})
    planned, choices = chosen(100, given=("epochs",), config=epochs)
    assert "steps" not in choices and planned.checkpoint_every == 40 * 100 // 4 // 10


def test_much_training_has_the_augmentation_of_the_paper():
    for num_images, is_full in ((25, False), (24, True)):  # 600 steps of 4 images
        planned, _ = chosen(num_images)
        augment = planned.augment
        assert (augment.color, augment.expand_max_ratio) == ((True, 4) if is_full else (False, 2))


def test_little_training_mirrors_alone():
    for num_images, is_plain in ((400, False), (401, True)):  # 1,500 steps of 4 images
        augment = chosen(num_images)[0].augment
        assert augment.crop != is_plain and augment.flip and not augment.color
        assert augment.expand_probability == (0.0 if is_plain else 0.5)


def test_new_default_boxes_are_searched_if_the_config_fits_few_objects():
    _, choices = chosen()
    assert "model.shapes" not in choices
    planned, choices = chosen(side=0.04)
    assert planned.model.shapes == choices["model.shapes"].value != ()
    assert "of these fit, not 0.0%" in choices["model.shapes"].reason


def test_a_continued_run_keeps_its_choices():
    planned, _ = chosen()
    again, choices = chosen(99_999, recorded=planned)
    assert (again, choices) == (planned, {})
    # Of another length only what is counted in steps is chosen anew.
    short = CONFIG.replace({"steps": 8, "log_every": 1, "checkpoint_every": 1, "warmup_steps": 1})
    longer = CONFIG.replace({"steps": 1000})
    again, choices = chosen(given=("steps",), config=longer, recorded=short)
    assert again.steps == 1000 and set(choices) == {"log_every", "checkpoint_every", "warmup_steps"}
    assert (again.log_every, again.checkpoint_every, again.warmup_steps) == (20, 100, 50)
    assert again.augment == short.augment


def test_one_length_is_given():
    both = CONFIG.replace({"steps": 4, "epochs": 3.0})
    with pytest.raises(UserError, match="epochs 3: give one length"):
        planned(both, ("steps", "epochs"), open_run_data(CONFIG).train, None)


@pytest.mark.parametrize("row", ["cpu", "scratch", "accelerator"])
def test_small_objects_get_a_larger_input_and_fewer_steps(row):
    config = load_config(f"own_images:{row}").replace({"init": "" if row == "scratch" else "x"})
    size, larger = {"cpu": (320, 480), "scratch": (256, 384), "accelerator": (300, 512)}[row]
    planned, choices = chosen(100_000, side=31 / size, config=config)
    assert "model.image_size" not in choices and planned.model.image_size == size
    smaller, choices = chosen(100_000, side=29 / size, config=config)
    reason = f"half of the objects are below 30 pixels at {size}"
    assert choices["model.image_size"] == ("model.image_size", larger, reason)
    build_network(smaller.model, 1)  # which refuses feature maps that the network does not have
    if row != "accelerator":
        assert smaller.steps == int(planned.steps * size**2 / larger**2)
    else:
        paper = load_config("ssd512_voc").model.model_dump(exclude={"precision", "shapes"})
        assert smaller.model.model_dump(exclude={"precision", "shapes"}) == paper


def test_rather_small_objects_get_a_larger_input_if_all_passes_fit():
    config = load_config("own_images:cpu").replace({"init": "x"})

    def size(num_images, pixels, config=config):
        planned, choices = chosen(num_images, side=pixels / 320, config=config)
        return planned.model.image_size, planned.steps, choices

    # 25 passes over 213 images are 666 steps of 8, as many as an input of 480 may have.
    assert size(213, 59)[:2] == (480, 666) and size(213, 61)[:2] == (320, 666)
    assert size(214, 59)[:2] == (320, 669) and size(214, 29)[:2] == (480, 666)
    reason = "half of the objects are below 60 pixels at 320"
    assert size(213, 59)[2]["model.image_size"].reason == reason
    # From scratch more steps are worth more.
    scratch = load_config("own_images:scratch").replace({"init": ""})
    assert chosen(100, side=50 / 256, config=scratch)[0].model.image_size == 256


def test_a_given_input_size_sets_the_related_fields():
    config = load_config("own_images:cpu", ["init=x", "model.image_size=256"])
    planned, choices = chosen(given=("init", "model.image_size"), config=config)
    assert planned.model.feature_sizes == (32, 16, 8, 4, 2, 1, 1)
    reason = "for an input of 256 pixels"
    lines = format_choices(list(choices.values())).splitlines()
    fields = "feature_sizes, strides, min_sizes, max_sizes"
    assert lines[-2] == f"  config.model.{fields}: {reason}"
    build_network(planned.model, 1)
    # Who gives more than the size gives all of it.
    given = ("model.image_size", "model.feature_sizes")
    assert "model.strides" not in chosen(given=given, config=config)[1]


def test_a_given_strength_of_colours_is_kept():
    for num_images in (24, 25, 401):  # 100, 96 and 15 passes: canvas and crop are chosen as before
        own, others = (
            {name: choice.value for name, choice in chosen(num_images, given)[1].items()}
            for given in (("augment.color_strength",), ())
        )
        assert own == others | {"augment.color": True}


def test_every_choice_has_a_line():
    _, choices = chosen(292, side=0.04)
    lines = format_choices(list(choices.values())).splitlines()
    # One list of numbers is among them; the last line has both choices without a reason.
    assert len(lines) == 1 + len(choices) - 1
    assert lines[-1] == "  config.log_every=20, config.warmup_steps=75: from the number of steps"
    reason = "20.5 passes over 292 images, so that two cores need at most twenty minutes"
    assert f"  config.steps=1500{'':21}{reason}" in lines
