import json

import jax
import numpy as np
import pytest

from configs import ssd300_voc
from ssd_jax.config.files import load_config
from ssd_jax.config.schema import AugmentConfig, Config, DataConfig, Group, as_config, field_names
from ssd_jax.config.unused import unused_fields
from ssd_jax.errors import UserError
from ssd_jax.runs.train import train
from tests import tiny
from tests.helpers.all_configs import ALL_CONFIGS


def paths(fields, prefix=""):
    """Fields and groups of a config as a dictionary."""
    for name, value in fields.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{name}.")


def changed(**fields):
    """The tiny config with other values, of any type: `data__train` is `data.train`."""
    config = tiny.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict(
            {name.replace("__", "."): value for name, value in fields.items()}
        )
    return config


def complaint(config):
    with pytest.raises(UserError) as error:
        as_config(config)
    return str(error.value)


def test_the_schema_has_the_fields_of_the_config_that_explains_them():
    assert sorted(field_names()) == sorted(paths(ssd300_voc.get_config().to_dict()))


@pytest.mark.parametrize("name", ALL_CONFIGS)
def test_every_config_passes(name):
    config = ALL_CONFIGS[name]
    # As a work directory records it: with lists in place of tuples.
    assert as_config(json.loads(json.dumps(config.model_dump(mode="json")))) == config


@pytest.mark.parametrize(
    "field, nearest",
    [
        ("bach_size", "config.batch_size"),
        ("data.trian", "config.data.train"),
        ("model.batch_size", "config.batch_size"),  # in a group where it does not belong
        ("width", "config.model.width"),
        ("loss.label_smothing", "config.loss.label_smoothing"),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest(field, nearest):
    config = tiny.get_config()
    group, _, name = field.rpartition(".")
    (config[group] if group else config)[name] = 1
    told = complaint(config)
    assert told.startswith(f"config.{field} ") and f"{nearest}?" in told


def test_an_unknown_field_without_similar_names_gets_no_suggestion():
    config = tiny.get_config()
    config.zebra = 1
    assert complaint(config).startswith("config.zebra ") and "?" not in complaint(config)


def test_a_field_that_is_left_out_takes_its_default():
    config = tiny.get_config()
    del config.data.max_objects, config.seed
    typed = as_config(config)
    assert typed.data.max_objects == Config().data.max_objects == 64
    assert typed.seed == 0 and typed.model.width == 0.02


def test_defaults_are_the_papers():
    # But for the class of the numbers: 8 and 8.0 are the same.
    assert as_config(ssd300_voc.get_config()) == Config()


def test_every_field_has_a_meaning():
    def groups(group):
        yield group
        for field in group.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
                yield from groups(field.annotation)

    for group in groups(Config):
        for name, field in group.model_fields.items():
            is_group = isinstance(field.annotation, type) and issubclass(field.annotation, Group)
            assert is_group or field.description.endswith("."), name


def test_a_config_is_frozen_and_replaced():
    config = Config()
    for group in (config, config.data):
        with pytest.raises(UserError, match=r"frozen, and steps cannot .* config\.replace"):
            group.steps = 3
    other = config.replace({"steps": 3, "data.train": "shapes:train"})
    assert (other.steps, other.data.train) == (3, "shapes:train")
    assert config.steps == 120_000 and other.replace({"steps": 120_000}).data == other.data
    with pytest.raises(UserError, match=r"no field stepz: did you mean steps\?"):
        config.replace({"stepz": 3})
    with pytest.raises(UserError, match=r"config\.steps is 0, but must be"):
        config.replace({"steps": 0})


def test_plain_steps_are_the_first_and_the_last():
    config = Config(steps=20, augment=AugmentConfig(plain_start=0.1, plain_end=0.26))
    is_augmented = [False] * 2 + [True] * 13 + [False] * 5
    assert [config.is_augmented(step) for step in range(20)] == is_augmented
    np.testing.assert_array_equal(config.is_augmented(np.arange(20)), is_augmented)
    assert all(Config(steps=20).is_augmented(np.arange(30)))  # also beyond the last step
    with pytest.raises(UserError, match="which leaves no step with augmentation"):
        Config().replace({"augment.plain_start": 0.5, "augment.plain_end": 0.5})


def test_groups_are_replaced_whole_or_field_by_field():
    given = {"train": "shapes:train", "eval": "shapes:test"}
    for group in (DataConfig(**given), given):
        changed = Config().replace({"data": group, "data.eval": "shapes:train"})
        assert changed.data == DataConfig(train="shapes:train", eval="shapes:train")
    assert given["eval"] == "shapes:test"  # what was passed stays as it was
    with pytest.raises(UserError, match=r"config\.data is 3, but must be"):
        Config().replace({"data": 3, "data.train": "x"})


def test_a_field_of_another_name_before_is_named():
    config = tiny.get_config()
    config.model.steps = (8, 16, 32, 64)
    assert complaint(config).endswith(": it is called config.model.strides now")


@pytest.mark.parametrize(
    "field, value, limit",
    [
        ("batch_size", 0, "1"),
        ("batch_size", 8.0, "whole number"),
        ("batch_size", True, "whole number"),
        ("seed", -1, "0"),
        ("steps", "100", "whole number"),
        ("log_every", 0, "1"),
        ("checkpoint_every", 0, "1"),
        ("keep_checkpoints", 0, "1"),
        ("eval_every", -2, "-1"),
        ("optimizer", "SGD", "sgd"),
        ("schedule", "linear", "cosine"),
        ("learning_rate", 0.0, "0"),
        ("learning_rate", float("nan"), "finite"),
        ("learning_rate", "1e-3", "number"),
        ("momentum", 1.0, "1"),
        ("ema", 1.0, "1"),
        ("weight_decay", -1e-4, "0"),
        ("warmup_steps", -1, "0"),
        ("accumulate", 0, "1"),
        ("on_nonfinite", "ignore", "skip"),
        ("max_skipped", -1, "0"),
        ("init", None, "string"),
        ("freeze_batch_norm", "no", "boolean"),
        ("data.on_error", "raise", "stop"),
        ("data.max_error_fraction", 1.5, "1"),
        ("data.max_objects", 0, "1"),
        ("data.split", 1.5, "must be greater than 0 and less than 1"),
        ("data.cache", 1, "boolean"),
        ("data", 3, "ConfigDict"),
        ("augment.expand_probability", -0.5, "0"),
        ("augment.expand_max_ratio", 0.5, "1"),
        ("model.precision", "float16", "bfloat16"),
        ("model.width", 0.0, "0"),
        ("model.strides", 8, "tuple"),
        ("loss.match_iou_threshold", 0.0, "0"),
        ("loss.label_smoothing", 1.0, "1"),
        ("loss.confidence", "hard", "focal"),
        ("loss.focal_alpha", 1.5, "1"),
        ("loss.focal_gamma", -1.0, "0"),
        ("loss.localisation", "iou", "giou"),
        ("detection.score_threshold", 1.5, "1"),
        ("detection.detections_per_image", 0, "1"),
    ],
)
def test_a_wrong_value_is_named_with_its_limit(field, value, limit):
    config = changed(**{field.replace(".", "__"): value})
    told = complaint(config)
    assert told.startswith(f"config.{field} is {value!r}, ") and limit in told.split("but")[1]
    assert "\n" not in told


@pytest.mark.parametrize(
    "field, value, place, limit",
    [
        ("learning_rate_drops", (0.5, 1.5), "learning_rate_drops[1] is 1.5", "less than 1"),
        ("model.min_sizes", (8, -1, 3, 4), "model.min_sizes[1] is -1", "greater than 0"),
        ("model.feature_sizes", (8, 4.5, 2, 1), "model.feature_sizes[1] is 4.5", "whole"),
        ("model.aspect_ratios", ((2,), (), ("a",), ()), "model.aspect_ratios[2][0] is 'a'", "numb"),
        ("model.extra_blocks", ((8, 8, 3, 2),), "model.extra_blocks[0] is (8, 8, 3, 2)", "entry 5"),
        ("model.extra_blocks", ((8, 8, 3, 2, 1, 1),), "model.extra_blocks[0] is (8", "most 5"),
        ("model.extra_blocks", ((8, 8, 0, 2, 1),), "model.extra_blocks[0][2] is 0", "1"),
        ("model.shapes", (((8, 8), (4,)), (), (), ()), "model.shapes[0][1] is (4,)", "entry 2"),
    ],
)
def test_a_wrong_entry_of_a_list_is_named_with_its_place(field, value, place, limit):
    config = changed(**{field.replace(".", "__"): value})
    told = complaint(config)
    assert told.startswith(f"config.{place}") and limit in told.split("but")[1]
    assert "validation" not in told  # of no use to who wrote the config


def test_lists_have_one_entry_a_feature_map():
    for field in ("strides", "min_sizes", "max_sizes"):
        told = complaint(changed(**{f"model__{field}": (8, 16, 32)}))
        assert told.startswith(f"config.model.{field} has 3 entries, but feature_sizes has 4")
    told = complaint(changed(model__aspect_ratios=((2,),) * 5))
    assert told.startswith("config.model.aspect_ratios has 5 entries, but feature_sizes has 4")
    # Shapes take the place of sizes and aspect ratios.
    shapes = (((8, 8),),) * 4
    told = complaint(changed(model__shapes=shapes[:3]))
    assert told.startswith("config.model.shapes has 3 entries, but feature_sizes has 4")
    as_config(changed(model__shapes=shapes, model__min_sizes=(), model__aspect_ratios=()))


def test_all_mistakes_are_reported_at_once():
    config = changed(batch_size=0, schedule="linear")
    config.bach_size = 3
    told = complaint(config).split("; ")
    assert [line.split()[0] for line in told] == [
        "config.batch_size",
        "config.schedule",
        "config.bach_size",
    ]


def unknown():
    config = tiny.get_config()
    config.bach_size = 3
    return config


@pytest.mark.parametrize(
    "config, told",
    [
        (unknown(), "config.batch_size?"),
        # On any number of devices: each would work through a third of a picture.
        (changed(batch_size=4, accumulate=3), "config.batch_size is 4, but must be a multiple of"),
        (changed(model__feature_sizes=(9, 4, 2, 1)), "config.model.feature_sizes is (9, 4, 2, 1)"),
        (changed(metric="map"), "config.metric is 'map', but must be one of voc07, voc, coco"),
        (changed(model__backbone="vgg19"), "config.model.backbone is 'vgg19'"),
        (changed(model__image_size=96), "gives feature maps of (12, 6, 3, 2) cells"),
        (changed(model__extra_blocks=((256, 512, 3, 2, 1),)), "make 3"),
        (changed(model__shapes=(((8, 8),),) * 3), "shapes has 3 entries"),
        (changed(learning_rate_drops=(0.9, 0.5)), "learning_rate_drops is (0.9, 0.5)"),
        (changed(loggers="tensorboard,wandbb"), "loggers names 'wandbb', but must be of tensorb"),
        (changed(loggers="wandb,wandb"), "loggers names wandb twice: name it once"),
    ],
)
def test_training_logs_before_it_compiles(config, told, tmp_path):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    with pytest.raises(UserError) as error:
        train(config, str(tmp_path / "run"))
    assert told in str(error.value)
    assert not compiled and not (tmp_path / "run").exists()
    jax.jit(lambda x: x + len(compiled))(1.5)  # what is counted
    assert compiled


@pytest.mark.parametrize(
    "written, by_class, in_order",
    [
        ('WBC=2,"a,b=c"=.5,x=1e1', {"WBC": 2, "a,b=c": 0.5, "x": 10}, ()),
        ("2,.5, 1e1", {}, (2, 0.5, 10)),
        ("balanced", {}, ()),
        ("", {}, ()),
    ],
)
def test_class_weights_are_read_from_the_command_line(written, by_class, in_order):
    loss = load_config("ssd_small", [f"--config.loss.class_weights={written}"]).loss
    assert (loss.weights_by_class, loss.weights_in_order) == (by_class, in_order)


@pytest.mark.parametrize("entry", ["cat", "=2", "cat=", "cat=0", "cat=-1", "cat=inf", "nan", "3"])
def test_invalid_class_weights_are_rejected(entry):
    told = complaint(changed(loss__class_weights=f"dog=2,{entry}"))
    assert told.startswith(f"config.loss.class_weights is 'dog=2,{entry}', but must be like")
    assert "names the class 'a' twice" in complaint(changed(loss__class_weights="a=1,b=2,a=3"))


def test_fields_without_effect_are_named():
    assert unused_fields(as_config({})) == []
    used = {"loss": {"confidence": "focal", "focal_alpha": 0.5}, "patience": 3}
    assert unused_fields(as_config(used)) == []
    useless = {
        "patience": 3,
        "eval_every": -1,
        "loss": {"focal_gamma": 1.0},
        "augment": {"color": False, "color_strength": 0.5},
    }
    assert unused_fields(as_config(useless)) == [
        "config.patience=3 has no effect with config.eval_every=-1",
        "config.loss.focal_gamma=1.0 has no effect with config.loss.confidence=mining",
        "config.augment.color_strength=0.5 has no effect with config.augment.color=False",
    ]
    focal = {"loss": {"confidence": "focal", "min_negatives": 2}}
    told = "config.loss.min_negatives=2 has no effect with config.loss.confidence=focal"
    assert unused_fields(as_config(focal)) == [told]
