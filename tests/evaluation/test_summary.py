import json

import numpy as np
import pytest

from ssd_jax.evaluation.metrics import METRICS
from ssd_jax.evaluation.ranking import mean_over_classes
from ssd_jax.evaluation.results import sort_results
from ssd_jax.evaluation.summary import format_table, summarise
from tests.evaluation.test_voc import FAR, A, B
from tests.helpers.results import result


@pytest.fixture
def images():
    return [
        result([(1, False, A), (1, False, B)], [(1, 0.9, A), (1, 0.8, FAR), (1, 0.7, B)]),
        result([(3, False, A), (3, True, B)], [(3, 0.9, A)]),
    ]


def test_a_class_without_objects_is_reported_and_left_out(images):
    summary = summarise(images, ["cat", "dog", "cow"], ["voc"])
    assert summary["num_images"] == 2 and summary["metric"] == "voc"
    assert summary["num_objects"] == {"cat": 2, "dog": 0, "cow": 1}
    assert summary["AP_per_class"]["dog"] is None
    assert summary["AP_per_class"]["cow"] == 1.0
    np.testing.assert_allclose(summary["AP_per_class"]["cat"], 5 / 6)
    np.testing.assert_allclose(summary["mAP"], mean_over_classes(np.array([5 / 6, 1])))
    lines = [line.split() for line in format_table(summary).splitlines()]
    assert lines[0][:2] == ["2", "images,"]
    assert lines[2:] == [
        ["cat", "2", "0.8333"],
        ["dog", "none", "–"],
        ["cow", "1", "1.0000"],
        ["mAP", "3", "0.9167"],
    ]


def test_the_first_metric_is_on_top_and_the_others_under_their_names(images):
    names = ["cat", "dog", "cow"]
    alone = {metric: summarise(images, names, [metric]) for metric in METRICS}
    summary = summarise(images, names, ["coco", "voc07", "voc"])
    assert {key: summary[key] for key in alone["coco"]} == alone["coco"]
    for metric in ("voc07", "voc"):
        assert summary[metric] == {key: alone[metric][key] for key in summary[metric]}
        assert {"metric", "mAP", "AP_per_class", "iou_threshold"} == set(summary[metric])
    table = format_table(summary)
    for value in (*(numbers["mAP"] for numbers in alone.values()), alone["coco"]["AR_100"]):
        assert f"{value:.4f}" in table


def test_voc_at_another_threshold_of_iou(images):
    taller = np.array([0, 0, 0, 3])  # an IoU of 10 / 13
    images = [image._replace(boxes=image.boxes + taller) for image in images]
    strict = summarise(images, ["cat", "dog", "cow"], ["voc07"], metric_iou_threshold=0.8)
    assert strict["iou_threshold"] == 0.8
    assert strict["AP_per_class"]["cow"] == 0
    assert summarise(images, ["cat", "dog", "cow"])["AP_per_class"]["cow"] == 1


@pytest.mark.filterwarnings("error")
def test_perfect_detections_give_one_and_no_detections_zero(images):
    perfect = [
        image._replace(boxes=image.true_boxes, scores=np.ones(2), labels=image.true_labels)
        for image in images
    ]
    nothing = [result([(1, False, A)]), result([(3, False, A)]), result()]
    for found, expected in ((perfect, 1), (nothing, 0)):
        summary = summarise(found, ["cat", "dog", "cow"], list(METRICS))
        for numbers in (summary, summary["voc"], summary["coco"]):
            assert numbers["mAP"] == expected
            assert list(numbers["AP_per_class"].values()) == [expected, None, expected]


@pytest.mark.filterwarnings("error")
def test_without_objects_there_is_no_map():
    # Difficult objects and crowds are not to be found.
    images = [result([(1, True, A)], [(1, 0.9, A)]), result([], [(2, 0.9, A)])]
    summary = summarise(images, ["cat", "dog"], list(METRICS))
    for numbers in (summary, summary["voc"], summary["coco"]):
        assert numbers["mAP"] is None and set(numbers["AP_per_class"].values()) == {None}
    assert summary["coco"]["AP"] is None and json.loads(json.dumps(summary))["mAP"] is None
    lines = [line.split() for line in format_table(summary).splitlines()]
    assert ["mAP", "0", "–", "–", "–"] in lines and ["cat", "none", "–", "–", "–"] in lines


def test_images_are_in_the_order_of_their_names():
    names = ["10", "b", "9", "a10", "007"]
    ordered = [image.image_id for image in sort_results([result(image_id=n) for n in names])]
    assert ordered == ["007", "9", "10", "a10", "b"]
