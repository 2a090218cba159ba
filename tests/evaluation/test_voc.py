import types

import numpy as np
import pytest

from ssd_jax.evaluation.ranking import area_under_curve, best_f1, mean_over_classes
from ssd_jax.evaluation.ranking import average_precision as ap_of_class
from ssd_jax.evaluation.voc import rank
from ssd_jax.evaluation.voc07 import eleven_point
from tests.helpers.reference_results import carried_json
from tests.helpers.results import result
from tools.metric_speed import random_results


def average_precision(images, num_classes, iou_threshold=0.5):
    """AP of every class by both rules."""
    rankings = rank(images, num_classes, iou_threshold)
    return types.SimpleNamespace(
        eleven_point=np.array([ap_of_class(ranking, eleven_point) for ranking in rankings]),
        area=np.array([ap_of_class(ranking, area_under_curve) for ranking in rankings]),
    )


A, B, FAR = (0, 0, 9, 9), (20, 20, 39, 39), (70, 70, 79, 79)


def test_by_hand():
    # Ranked: right, wrong, right. Two objects: recall 0.5, 0.5, 1; precision 1, 1/2, 2/3.
    image = result([(1, False, A), (1, False, B)], [(1, 0.9, A), (1, 0.8, FAR), (1, 0.7, B)])
    ap = average_precision([image], 1)
    np.testing.assert_allclose(ap.area, [0.5 * 1 + 0.5 * 2 / 3])
    np.testing.assert_allclose(ap.eleven_point, [(6 * 1 + 5 * 2 / 3) / 11])


def test_a_second_detection_of_an_object_is_wrong():
    image = result([(1, False, A)], [(1, 0.9, A), (1, 0.8, A)])
    assert average_precision([image], 1).area[0] == 1
    image = result([(1, False, A), (1, False, B)], [(1, 0.9, A), (1, 0.8, A), (1, 0.7, B)])
    np.testing.assert_allclose(average_precision([image], 1).area, [0.5 + 0.5 * 2 / 3])


def test_difficult_objects_are_neither_right_nor_wrong():
    truth = [(1, False, A), (1, True, B)]
    without = average_precision([result(truth, [(1, 0.8, A)])], 1)
    found = average_precision([result(truth, [(1, 0.9, B), (1, 0.8, A), (1, 0.7, B)])], 1)
    assert without.area[0] == found.area[0] == 1


def test_crowds_are_neither_right_nor_wrong():
    # A crowd that counted would be missed, or would make its second detection wrong.
    truth = [(1, False, A), (1, False, B)]
    found = [(1, 0.9, B), (1, 0.8, B), (1, 0.7, A)]
    assert average_precision([result(truth, found, crowd=[1])], 1).area[0] == 1
    assert average_precision([result(truth, [(1, 0.7, A)], crowd=[1])], 1).area[0] == 1


def test_the_threshold_must_be_exceeded_with_inclusive_pixels():
    # 10 × 10 against 10 × 20 pixels: an IoU of exactly 0.5.
    image = result([(1, False, (0, 0, 9, 19))], [(1, 0.9, (0, 0, 9, 9))])
    assert average_precision([image], 1, 0.5).area[0] == 0
    assert average_precision([image], 1, 0.49).area[0] == 1


def test_detections_of_other_classes_and_images_do_not_count():
    images = [result([(1, False, A)], []), result([], [(1, 0.9, A)], "y")]
    assert average_precision(images, 1).area[0] == 0
    assert average_precision([result([(1, False, A)], [(2, 0.9, A)])], 2).area[0] == 0


def test_a_class_without_objects_is_left_out():
    ap = average_precision([result([(1, False, A)], [(1, 0.9, A), (2, 0.9, A)])], 2)
    assert np.isnan(ap.area[1]) and mean_over_classes(ap.area) == 1


@pytest.mark.filterwarnings("error")
def test_nothing_found_is_zero_without_warnings():
    ap = average_precision([result([(1, False, A)])], 1)
    assert ap.area[0] == ap.eleven_point[0] == 0
    assert mean_over_classes(average_precision([result()], 1).area) is None


@pytest.mark.parametrize("threshold", ["0.5", "0.75"])
def test_equals_the_reference(threshold):
    reference = carried_json("voc_ap")
    images = [
        result(
            [(o["label"] + 1, o["difficult"], o["bbox"]) for o in image["ground_truth"]],
            [(d["label"] + 1, d["score"], d["bbox"]) for d in image["detections"]],
            image["id"],
        )
        for image in reference["images"]
    ]
    ap = average_precision(images, len(reference["classes"]), float(threshold))
    for rule, ours in (("voc07_11point", ap.eleven_point), ("area", ap.area)):
        expected = reference["expected"][rule][threshold]
        np.testing.assert_allclose(
            ours, [expected[name] for name in reference["classes"]], rtol=0, atol=1e-9
        )
        np.testing.assert_allclose(mean_over_classes(ours), expected["mAP"], rtol=0, atol=1e-9)


def test_an_image_of_weight_two_equals_two_images():
    images = random_results(12, 3, 8, seed=1)
    weights = np.random.default_rng(0).integers(0, 3, (2, len(images)))
    for row in weights:
        repeated = [image for image, count in zip(images, row, strict=True) for _ in range(count)]
        for average in (eleven_point, area_under_curve):
            once = [ap_of_class(ranking, average, weights) for ranking in rank(images, 3)]
            place = int(np.flatnonzero((weights == row).all(axis=1))[0])
            expected = [ap_of_class(ranking, average) for ranking in rank(repeated, 3)]
            np.testing.assert_allclose([values[place] for values in once], expected)


def test_the_best_f1_by_hand():
    # Precision 1, 1/2, 2/3, 1/2 and recall 1/2, 1/2, 1, 1: F1 is 2/3, 1/2, 4/5, 2/3.
    image = result(
        [(1, False, A), (1, False, B)],
        [(1, 0.9, A), (1, 0.8, FAR), (1, 0.7, B), (1, 0.6, FAR)],
    )
    point = best_f1(rank([image], 1)[0])
    np.testing.assert_allclose(point, (0.7, 2 / 3, 1, 4 / 5))
    # What has the same score cannot be told apart by it: two right, two wrong.
    image = image._replace(scores=np.array([0.9, 0.7, 0.7, 0.7]))
    np.testing.assert_allclose(best_f1(rank([image], 1)[0]), (0.9, 1, 1 / 2, 2 / 3))
    assert best_f1(rank([result([(1, False, A)])], 1)[0]) is None
