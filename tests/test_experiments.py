"""The programs that run many short trainings, and their tables."""

import json
import sys

import pytest
from filelock import FileLock

from tools.compare_torchvision_training import OURS, THEIRS, VARIANTS, torchvision_layout
from tools.experiments import (
    Parser,
    arguments,
    parse_variants,
    run_command,
    stop_if_stopped,
)
from tools.trials import RESULTS, Trial, format_table, read_results, run_all


def trials(*variants, seeds=(0, 1)):
    return [Trial("cells", 160, 300, seed, variant) for seed in seeds for variant in variants]


def test_each_trial_runs_once_in_one_process(tmp_path):
    run = []

    def half_the_seed(trial, place):
        run.append(trial)
        assert place.parent.is_dir()
        if len(run) == 3:
            raise KeyboardInterrupt
        return None if trial.variant == "failing" else {"mAP": trial.seed / 2}

    first, failing, third, fourth = trials("plain", "failing")
    with pytest.raises(KeyboardInterrupt):
        run_all(trials("plain", "failing"), tmp_path, half_the_seed)
    assert run == [first, failing, third]
    assert read_results(tmp_path) == {first: first._asdict() | {"mAP": 0.0}}
    run.clear()
    with FileLock(tmp_path / "trials" / f"{fourth.name}.lock"):
        run_all(trials("plain", "failing"), tmp_path, half_the_seed)
    assert run == [failing, third]
    lines = (tmp_path / RESULTS).read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [0, 1]


def test_the_table_has_means_spreads_and_gains_over_common_seeds():
    values = {
        "plain": {0: 0.5, 1: 0.52},
        "colours": {0: 0.40, 1: 0.46},
        "one seed": {1: 0.6},
        "failed": {0: None},
    }
    results = {
        Trial("cells", 160, steps, seed, variant): {"mAP": value}
        for variant, of_seeds in values.items()
        for seed, value in of_seeds.items()
        for steps in ((300, 900) if variant == "plain" else (300,))
    }
    variants = dict.fromkeys([*values, "later"], "plain")
    assert format_table(results, variants).splitlines() == [
        "|  | cells, 160 pixels, 300 steps | cells, 160 pixels, 900 steps |",
        "|---|---:|---:|",
        "| plain | 51.0 ± 1.0 | 51.0 ± 1.0 |",
        "| colours | 43.0 ± 3.0 (-8.0) | – |",
        "| one seed | 60.0 (+8.0) | – |",
        "| failed | – | – |",
        "| later | – | – |",
    ]
    assert format_table({}, {"plain": "plain"}).splitlines()[-1] == "| plain |"


def test_variants_change_what_a_trial_sets_and_may_leave_the_rest_to_the_plan():
    fields = {"data.train": "a", "seed": 1}
    assert arguments(fields, ["seed=2", "ema=0.9"]) == [
        "--config=own_images:cpu",
        "--config.data.train=a",
        "--config.seed=2",
        "--config.ema=0.9",
    ]
    assert arguments(fields, ["planned"]) == [
        "--config=own_images",
        "--data=a",
        "--config.seed=1",
    ]
    with pytest.raises(SystemExit, match="FIELD=VALUE"):
        arguments(fields, ["colours"])
    assert parse_variants(["a: x=1 y='b c'", "b:"]) == {"a": ["x=1", "y=b c"], "b": []}


def test_variants_may_be_in_a_file(tmp_path):
    (tmp_path / "variants").write_text("# of colours\nplain: x=1 y=2\n\ncolours:\n")
    parser = Parser(fromfile_prefix_chars="@")
    parser.add_argument("variants", nargs="+")
    found = parser.parse_args([f"@{tmp_path / 'variants'}"])
    assert found.variants == ["plain: x=1 y=2", "colours:"]


def test_a_command_that_was_stopped_ends_the_program_and_one_that_failed_does_not(tmp_path):
    with (tmp_path / "log").open("w") as log:
        program = "import os, sys; print(os.environ['WORD']); sys.exit(3)"
        status, seconds = run_command([sys.executable, "-c", program], log, {"WORD": "said"})
    assert (status, (tmp_path / "log").read_text()) == (3, "said\n")
    assert seconds > 0
    for status in (0, 1, 3):
        stop_if_stopped(status)
    for status in (75, 143, -9):
        with pytest.raises(SystemExit, match="continues"):
            stop_if_stopped(status)


def test_every_variant_of_both_sides_is_compared_with_one_of_the_others():
    assert VARIANTS.keys() == OURS.keys() | THEIRS.keys()
    assert set(VARIANTS.values()) == THEIRS.keys()


def test_names_of_torchvision_cut_its_backbone_at_the_finer_maps():
    names = torchvision_layout(num_maps=7, num_extras=4).names
    assert len(set(names.values())) == len(names)
    assert names["backbone.blocks.5.narrow.norm"] == "backbone.stages.0.6.conv.3"
    assert names["backbone.blocks.6.widen.norm"] == "backbone.stages.0.7.1"
    assert names["backbone.blocks.6.depthwise.conv"] == "backbone.stages.1.0.1.0"
    assert names["backbone.blocks.6.narrow.conv"] == "backbone.stages.1.0.2"
    assert names["backbone.blocks.7.widen.conv"] == "backbone.stages.1.1.conv.0.0"
    assert names["backbone.blocks.13.widen.norm"] == "backbone.stages.1.7.1"
    assert names["backbone.last.conv"] == "backbone.stages.2.4.0"
    assert names["extras.shrink.3.pointwise.conv"] == "backbone.stages.6.2.0"
    assert names["heads.logits.6.pointwise"] == "head.classification_head.module_list.6.1"
    names = torchvision_layout(num_maps=6, num_extras=4).names
    assert names["backbone.blocks.13.widen.norm"] == "backbone.stages.0.14.1"
    assert names["backbone.blocks.13.depthwise.norm"] == "backbone.stages.1.0.1.1"
    assert names["heads.offsets.5.depthwise.conv"] == "head.regression_head.module_list.5.0.0"
    assert "heads.offsets.6.depthwise.conv" not in names
