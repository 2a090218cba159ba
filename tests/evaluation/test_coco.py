"""COCO's numbers, compared with pycocotools on the same objects and detections."""

import json

import numpy as np
import pytest

from ssd_jax.config.schema import DataConfig
from ssd_jax.evaluation.coco import measure, rank
from ssd_jax.runs.evaluate import EvaluationOptions, evaluate_file
from tests.helpers.reference_results import shared
from tests.helpers.results import result
from tools.metric_speed import as_coco, pycocotools_numbers, random_results

A, B = (10, 10, 60, 60), (110, 110, 160, 160)


def summarise(results, num_classes):
    """COCO's numbers, and AP by class."""
    return measure(rank(results, num_classes))


def assert_as_pycocotools(results, num_classes):
    ours, per_class = summarise(results, num_classes)
    expected, expected_per_class = pycocotools_numbers(*as_coco(results, num_classes))
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name
    np.testing.assert_allclose(per_class, expected_per_class, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_equals_pycocotools_with_crowds_and_ties(ties):
    results = random_results(40, 3, 30, seed=3, difficult=0, crowd=0.2, ties=ties)
    assert sum(result.crowd.sum() for result in results) > 10
    assert_as_pycocotools(results, 3)


def test_equals_pycocotools_beyond_a_hundred_detections_of_a_class():
    assert_as_pycocotools(random_results(4, 1, 150, seed=4, difficult=0), 1)


def test_equals_pycocotools_for_a_class_without_objects():
    results = random_results(10, 2, 10, seed=5, difficult=0)
    assert_as_pycocotools(results, 3)


def test_equal_overlaps_match_the_last_object():
    # The first detection lies between two objects; were it to take the left one, the second
    # detection would be wrong.
    left, between, right = (0, 0, 40, 40), (10, 0, 50, 40), (20, 0, 60, 40)
    image = result([(1, False, left), (1, False, right)], [(1, 0.9, between), (1, 0.8, left)])
    assert summarise([image], 1)[0]["AP50"] == 1
    assert_as_pycocotools([image], 1)


@pytest.mark.filterwarnings("error")
def test_without_objects_there_are_no_numbers():
    numbers, per_class = summarise([result((), [(1, 0.5, A)])], 1)
    assert set(numbers.values()) == {None} and np.isnan(per_class).all()


@pytest.mark.filterwarnings("error")
def test_perfect_detections_give_one_and_no_detections_zero():
    small, large = (5, 5, 15, 15), (0, 0, 99, 99)
    truth = [(1, False, small), (1, False, A), (2, False, large)]
    found = [(label, 0.9, box) for label, _, box in truth]
    numbers, per_class = summarise([result(truth, found)], 2)
    # One detection an image and class finds one of two objects.
    assert {name: value for name, value in numbers.items() if value != 1} == {"AR_1": 0.75}
    assert per_class.tolist() == [1, 1]
    numbers, per_class = summarise([result(truth)], 2)
    assert set(numbers.values()) == {0} and per_class.tolist() == [0, 0]


def test_a_difficult_object_may_be_found_once_at_no_cost():
    truth = [(1, False, A), (1, True, B)]
    ap = [
        summarise([result(truth, found)], 1)[0]["AP"]
        for found in (
            [(1, 0.5, A)],
            [(1, 0.9, B), (1, 0.5, A)],
            [(1, 0.9, B), (1, 0.8, B), (1, 0.5, A)],
        )
    ]
    assert ap == [1, 1, 0.5]


def test_a_crowd_may_be_found_any_number_of_times():
    # Each detection lies whole inside the crowd, which it would not match by IoU.
    truth = [(1, False, A), (1, False, (100, 100, 200, 200))]
    inside = [(1, score, (110, 110, 130, 140)) for score in (0.9, 0.8, 0.7)]
    found = [*inside, (1, 0.5, A)]
    assert summarise([result(truth, found, crowd=[1])], 1)[0]["AP"] == 1
    assert summarise([result(truth, found)], 1)[0]["AP"] < 0.3


def test_equals_pycocotools_on_pictures_of_coco(tmp_path, capsys):
    folder = shared("data/coco_tiny")
    annotations = folder / "annotations" / "instances_val2017.json"
    truth = json.loads(annotations.read_text())
    rng = np.random.default_rng(0)
    categories = [category["id"] for category in truth["categories"]]
    detections = []
    for score in rng.random(5000):
        about = truth["annotations"][rng.integers(len(truth["annotations"]))]
        x, y, width, height = np.array(about["bbox"]) + rng.normal(0, 4, 4)
        category = about["category_id"] if rng.random() < 0.8 else rng.choice(categories)
        detections.append(
            {
                "image_id": about["image_id"],
                "category_id": int(category),
                "bbox": [x, y, max(width, 1), max(height, 1)],
                "score": score,
            }
        )
    file, output = tmp_path / "detections.json", tmp_path / "numbers.json"
    file.write_text(json.dumps(detections))
    source = f"coco_json:{annotations}:{folder / 'val2017'}"
    options = EvaluationOptions(metrics=["coco"], output=output)
    evaluate_file(DataConfig(eval=source), file, options)
    ours = json.loads(output.read_text())
    expected, per_class = pycocotools_numbers(truth, detections)
    assert 0.05 < expected["AP"] < 0.95
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name
    assert ours["mAP"] == ours["AP"]
    values = [np.nan if value is None else value for value in ours["AP_per_class"].values()]
    np.testing.assert_allclose(values, per_class, rtol=0, atol=1e-12)
    assert f"{expected['AP75']:.4f}" in capsys.readouterr().out
