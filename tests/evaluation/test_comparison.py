import numpy as np
import pytest

from ssd_jax.evaluation.comparison import compare, format_comparison
from tests.helpers.results import result
from tools.metric_speed import random_results

A, B, FAR = (0, 0, 19, 19), (30, 30, 49, 49), (70, 70, 89, 89)


def perfect(images):
    return [
        image._replace(
            boxes=image.true_boxes,
            scores=np.ones(len(image.true_labels)),
            labels=image.true_labels,
        )
        for image in images
    ]


@pytest.mark.parametrize("metric", ["voc07", "voc", "coco"])
def test_the_same_detections_do_not_differ(metric):
    images = random_results(10, 2, 10, seed=1)
    comparison = compare(["a", "b"], [images, images], ["cat", "dog", "cow"], metric)
    for row in (*comparison["classes"][:2], comparison["mAP"]):
        assert row["difference"] == row["low"] == row["high"] == [0]
    assert comparison["classes"][2]["AP"] == [None, None]
    assert comparison["images"] == [[]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", ["voc07", "voc", "coco"])
def test_a_better_detector_is_significantly_better(metric):
    images = random_results(30, 2, 10, seed=2, difficult=0, crowd=0)
    comparison = compare(["a", "b"], [images, perfect(images)], ["cat", "dog"], metric)
    for row in (*comparison["classes"], comparison["mAP"]):
        assert row["AP"][1] == pytest.approx(1)
        assert 0 < row["low"][0] < row["difference"][0] < row["high"][0] < 1
    assert "*[" in format_comparison(comparison) and "zero" in format_comparison(comparison)


def test_the_interval_equals_that_of_a_bootstrap_over_images():
    # Ten images with an object each; the second detector finds those of five. The share found
    # among ten drawn anew is binomial: 95 % lie between 0.2 and 0.8.
    images = [result([(1, False, A)], image_id=str(i)) for i in range(10)]
    found = [image if i >= 5 else perfect([image])[0] for i, image in enumerate(images)]
    comparison = compare(["a", "b"], [images, found], ["cat"], "voc")
    row = comparison["classes"][0]
    assert row["AP"] == [0, 0.5]
    assert (row["low"], row["high"]) == ([0.2], [0.8])


def test_changed_images_by_hand():
    first = [
        result([(1, False, A)], [(1, 0.9, A)], image_id="same"),
        result([(1, False, A), (1, False, B)], [(1, 0.9, A)], image_id="one more"),
        result([(1, False, A)], [(1, 0.9, A)], image_id="false ones"),
    ]
    second = [
        first[0],
        first[1]._replace(**perfect(first)[1]._asdict()),
        first[2]._replace(
            boxes=np.array([A, FAR, B], float), scores=np.ones(3), labels=np.ones(3, int)
        ),
    ]
    files = {"false ones": "0.jpg"}
    comparison = compare(["a", "b"], [first, second], ["cat"], file_names=files)
    assert comparison["images"] == [
        [
            {
                "image_id": "false ones",
                "file_name": "0.jpg",
                "found": [1, 1],
                "false": [0, 2],
                "changes": 2,
            },
            {
                "image_id": "one more",
                "file_name": "one more",
                "found": [1, 2],
                "false": [0, 0],
                "changes": 1,
            },
        ]
    ]
    printed = format_comparison(comparison)
    assert "b: 2 of 3 images differ" in printed and "false 0 -> 2" in printed


@pytest.mark.filterwarnings("error")
def test_without_objects_nothing_is_compared():
    found = [result([], [(1, 0.9, A)])]
    comparison = compare(["a", "b"], [found, [result()]], ["cat"])
    assert comparison["mAP"]["AP"] == [None, None]
    assert comparison["mAP"]["difference"] == comparison["mAP"]["low"] == [None]
    assert format_comparison(comparison).splitlines()[4].split() == ["mAP", "–", "–"]
    assert "excludes zero" not in format_comparison(comparison)


def test_several_are_compared_with_the_first():
    images = random_results(8, 1, 6, seed=3, difficult=0, crowd=0)
    nothing = [
        image._replace(scores=image.scores[:0], boxes=image.boxes[:0], labels=image.labels[:0])
        for image in images
    ]
    comparison = compare(["a", "b", "c"], [images, perfect(images), nothing], ["cat"], "voc")
    row = comparison["mAP"]
    assert row["AP"][1:] == [1, 0]
    assert row["difference"] == [1 - row["AP"][0], -row["AP"][0]]
    assert row["high"][1] < 0 < row["low"][0]
    assert len(format_comparison(comparison).splitlines()[4].split("[")) == 3
