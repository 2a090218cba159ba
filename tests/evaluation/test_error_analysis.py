import numpy as np
import pytest

from ssd_jax.data.class_lists import COCO, COCO_SIMILAR, VOC, similar_groups
from ssd_jax.evaluation import error_analysis, voc
from ssd_jax.evaluation.error_analysis import KINDS, analyse, costs, sensitivity
from tests.helpers.results import result
from tools.metric_speed import random_results

NAMES = ["cat", "dog", "car"]
GROUPS = [{"cat", "dog"}]
A, B, C, D = (0, 0, 19, 19), (30, 30, 49, 49), (60, 60, 79, 79), (0, 60, 19, 79)
HALF_A = (0, 0, 19, 7)  # an IoU of 0.4


def kinds_of(images, names=NAMES, groups=GROUPS):
    """For each class the kinds of its detections, the best first, in words."""
    analysis = analyse(images, voc.rank(images, len(names)), names, groups)
    return [[KINDS[kind] if kind >= 0 else "ignored" for kind in kinds] for kinds in analysis.kinds]


def test_each_kind_by_hand():
    truth = [(1, False, A), (2, False, B), (3, False, C), (1, True, D)]
    found = [
        (1, 0.9, A),  # correct
        (1, 0.8, A),  # found already
        (1, 0.7, HALF_A),  # too little
        (1, 0.6, B),  # a dog
        (1, 0.5, C),  # a car
        (1, 0.4, (85, 0, 99, 19)),  # nothing
        (1, 0.3, D),  # difficult
        (3, 0.9, A),
    ]
    assert kinds_of([result(truth, found)]) == [
        [
            "correct",
            "localisation",
            "localisation",
            "similar",
            "other",
            "background",
            "ignored",
        ],
        [],
        ["other"],
    ]


def test_the_own_class_comes_before_similar_and_other_classes():
    # One box over all three: it overlaps each by 0.1 or more.
    three = [(1, False, (0, 0, 9, 9)), (2, False, (10, 0, 19, 9)), (3, False, (20, 0, 29, 9))]
    over = (0, 0, 29, 9)
    for truth, expected in (
        (three, "localisation"),
        (three[1:], "similar"),
        (three[2:], "other"),
        ([], "background"),
    ):
        assert kinds_of([result(truth, [(1, 0.9, over)])])[0] == [expected]


def test_costs_of_errors_by_hand():
    # Of two objects one is found behind a false positive, the other is hit by too little.
    truth = [(1, False, A), (1, False, B)]
    found = [(1, 0.9, C), (1, 0.8, A), (1, 0.7, (30, 30, 49, 37))]
    images = [result(truth, found)]
    rankings = voc.rank(images, 1)
    gains = costs(images, rankings, analyse(images, rankings, ["cat"], []), voc.METRIC.average)
    # AP is 1/2 · 1/2. Without the first detection 1/2; with the last on its object both precisions
    # behind the first are 2/3 at best; nothing was missed altogether.
    expected = {"localisation": 2 / 3 - 1 / 4, "background": 1 / 4}
    expected |= {"similar": 0, "other": 0, "undetected": 0}
    assert {name: float(values[0]) for name, values in gains.items()} == pytest.approx(expected)


def test_a_moved_box_does_not_find_an_object_twice():
    images = [result([(1, False, A), (1, False, B)], [(1, 0.9, HALF_A), (1, 0.8, A)])]
    rankings = voc.rank(images, 1)
    gains = costs(images, rankings, analyse(images, rankings, ["cat"], []), voc.METRIC.average)
    # The first is taken away: 1/2 in place of 1/2 · 1/2. B is undetected: 1 · 1/2 in place of that.
    assert gains["localisation"][0] == pytest.approx(1 / 4)
    assert gains["undetected"][0] == pytest.approx(1 / 4)


def test_costs_of_classes_without_objects_and_of_missed_classes():
    images = [result([(1, False, A)])]
    rankings = voc.rank(images, 2)
    gains = costs(
        images, rankings, analyse(images, rankings, ["cat", "dog"], []), voc.METRIC.average
    )
    assert gains["undetected"][0] == 1 and np.isnan(gains["undetected"][1])
    assert gains["background"][0] == 0


def test_shares_by_hand():
    truth = [(1, False, A), (1, False, B)]
    images = [result(truth, [(1, 0.9, A), (1, 0.8, C), (1, 0.7, HALF_A), (1, 0.6, B)])]
    rankings = voc.rank(images, 1)
    analysis = analyse(images, rankings, ["cat"], [])
    per_object = np.array([0.5, 1, 2, 8])
    shares = error_analysis.cumulative_shares(rankings, analysis, per_object)
    np.testing.assert_allclose(shares[:, 0], [1, 1 / 2, 1 / 2, 1 / 2])
    np.testing.assert_allclose(shares[2], [1 / 2, 1 / 4, 0, 0, 1 / 4])
    false = error_analysis.false_positive_shares(rankings, analysis, per_object)
    np.testing.assert_allclose(false[0], [0, 0, 0, 0, 1])
    np.testing.assert_allclose(false[2], [0, 1 / 2, 0, 0, 1 / 2])
    recall = error_analysis.recall_at(rankings, per_object)
    np.testing.assert_allclose(recall, [1 / 2, 1 / 2, 1, 1])


def test_sensitivity_depends_on_the_found_objects():
    # Ten objects of growing size, of which the largest five are found.
    images = [
        result(
            [(1, False, (0, 0, side, side))], [(1, 0.9, (0, 0, side, side))] if side > 50 else []
        )
        for side in range(10, 101, 10)
    ]
    rankings = voc.rank(images, 1)
    sides = [image.true_boxes[:, 2] for image in images]
    values = sensitivity(images, rankings, sides)
    np.testing.assert_allclose(values, [0, 0, 1 / 2, 1, 1, 1 / 2])


def test_sensitivity_counts_false_positives_as_if_groups_were_as_large():
    # One false positive ahead of ten objects that are all found: a group of one object has the
    # precision 10 / 11 too, and not 1 / 2.
    boxes = [(0, 0, side, side) for side in range(10, 101, 10)]
    images = [result([(1, False, box)], [(1, 0.9, box)]) for box in boxes]
    images.append(result([], [(1, 0.95, A)]))
    values = [image.true_boxes[:, 2] for image in images]
    np.testing.assert_allclose(sensitivity(images, voc.rank(images, 1), values), [10 / 11] * 6)


def test_difficult_objects_and_crowds_are_not_missed():
    images = [result([(1, False, A), (1, True, B), (1, False, C)], [(1, 0.9, A)], crowd=[2])]
    rankings = voc.rank(images, 1)
    analysis = analyse(images, rankings, ["cat"], [])
    assert not analysis.undetected[0].any()
    assert costs(images, rankings, analysis, voc.METRIC.average)["undetected"][0] == 0


def test_every_detection_and_object_has_its_place():
    images = random_results(30, 3, 20, seed=6)
    rankings = voc.rank(images, 3)
    analysis = analyse(images, rankings, NAMES, GROUPS)
    for ranking, kinds in zip(rankings, analysis.kinds, strict=True):
        np.testing.assert_array_equal(kinds == 0, ranking.right[0])
        np.testing.assert_array_equal(kinds > 0, ranking.wrong[0])
    for gains in costs(images, rankings, analysis, voc.METRIC.average).values():
        assert (gains >= -1e-12).all()


def test_similar_classes_equal_those_of_the_lists():
    assert {"aeroplane", "bird"} in similar_groups(VOC[:3])
    assert similar_groups(["cat", "WBC"]) == []
    assert sum(len(group) for group in COCO_SIMILAR) == 80
    assert {"chair", "couch", "potted plant", "bed", "dining table", "toilet"} in COCO_SIMILAR
    assert similar_groups(COCO) is COCO_SIMILAR
