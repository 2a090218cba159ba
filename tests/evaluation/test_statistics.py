import numpy as np
import pytest

from ssd_jax.evaluation import statistics, voc
from tests.helpers.results import result

A, B, C = (0, 0, 19, 19), (30, 30, 49, 49), (60, 60, 79, 79)


def test_confusion_by_hand():
    truth = [(1, False, A), (2, False, B), (2, True, C)]
    found = [
        (1, 0.9, A),  # right
        (1, 0.8, B),  # the dog taken for a cat
        (2, 0.7, (85, 85, 99, 99)),  # nothing there
        (2, 0.6, C),  # difficult: counts neither way
        (2, 0.1, B),  # below the score of its class
    ]
    images = [result(truth, found), result([(2, False, A)])]
    matrix = statistics.confusion(images, voc.rank(images, 2), np.array([0.5, 0.5]))
    # Rows: cat, dog, nothing; columns: cat, dog, not detected.
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_recall_by_size_by_hand():
    truth = [(1, False, (0, 0, 10, 10)), (1, False, (20, 0, 30, 10)), (1, False, (0, 40, 40, 80))]
    images = [result([*truth, (1, True, B)], [(1, 0.9, truth[0][2]), (1, 0.2, truth[1][2])])]
    rankings = voc.rank(images, 1)
    found, at_points = (
        statistics.found_objects(images, rankings, np.array([least])) for least in (-np.inf, 0.5)
    )
    sides = [statistics.side(image) for image in images]
    assert sides[0].tolist() == [10, 10, 40, 19]
    bins = statistics.recall_by(
        images, sides, statistics.SIZE_EDGES, statistics.size_names(), found, at_points
    )
    assert bins == [("below 16", 2, 1.0, 0.5), ("32–64", 1, 0.0, 0.0)]


def test_shapes_are_width_over_height():
    image = result([(1, False, (0, 0, 40, 10)), (1, False, (0, 0, 10, 20))])
    assert statistics.aspect_ratio(image).tolist() == [4, 0.5]
    assert len(statistics.SHAPE_NAMES) == len(statistics.SHAPE_EDGES) + 1


def test_calibration_by_hand():
    truth = [(1, False, A), (1, True, C)]
    found = [(1, 0.95, A), (1, 0.85, B), (1, 0.81, B), (1, 0.5, C)]
    calibration = statistics.calibration(voc.rank([result(truth, found)], 1))
    assert calibration.counts.tolist() == [0] * 8 + [2, 1]  # the difficult one is ignored
    np.testing.assert_allclose(calibration.precision[8:], [0, 1])
    np.testing.assert_allclose(calibration.scores[8:], [0.83, 0.95])
    assert calibration.expected_error == pytest.approx((2 * 0.83 + 0.05) / 3)


def test_scores_that_are_no_probabilities_do_no_harm():
    found = [(1, 7.5, A), (1, -3.0, B)]
    calibration = statistics.calibration(voc.rank([result([(1, False, A)], found)], 1))
    assert calibration.counts.tolist() == [1] + [0] * 8 + [1]
