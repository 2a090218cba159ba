"""The pictures of an evaluation: captions of the sheet, and galleries of the report."""

import numpy as np

from ssd_jax.data.class_lists import similar_groups
from ssd_jax.data.records import NamedImage
from ssd_jax.evaluation import error_analysis, voc
from ssd_jax.evaluation.drawing import draw_detections
from ssd_jax.evaluation.galleries import draw_galleries
from ssd_jax.evaluation.ranking import best_f1
from ssd_jax.evaluation.statistics import thresholds
from tests.helpers.results import result

A, B, C = (0, 0, 19, 19), (30, 30, 49, 49), (60, 60, 79, 79)
NEAR_B = (22, 30, 41, 49)  # with an IoU of 0.4
TRUTH = [(1, False, A), (2, False, B), (2, True, C)]


def images_of(*image_ids):
    return {name: NamedImage(f"{name}.jpg", np.zeros((8, 8, 3), np.uint8)) for name in image_ids}


def test_captions_have_the_number_of_objects():
    results = [
        result(TRUTH, [(1, 0.9, A), (1, 0.8, B), (2, 0.7, C), (2, 0.3, B)], "some"),
        result(TRUTH, [(2, 0.399, B), (1, 0.2, A)], "below"),
        result(TRUTH, [], "none"),
        result([(2, True, C)], [(1, 0.5, A)], "empty"),
        result(TRUTH, [(1, 0.9, A)], "of another process"),
    ]
    pictures = draw_detections(images_of("some", "below", "none", "empty"), results, ["cat", "dog"])
    assert [picture.caption.splitlines() for picture in pictures] == [
        ["some.jpg", "1 of 2 found, 1 wrong"],
        ["below.jpg", "0 of 2 found: best score 0.39, below 0.4"],
        ["none.jpg", "0 of 2 found: no detection"],
        ["empty.jpg", "no object, 1 wrong"],
    ]
    # The objects of the third, which has no detection, are white. Its 100 pixels became 480.
    pixels = np.asarray(pictures[2].image)
    assert pixels.shape == (480, 480, 3)
    assert {tuple(color) for color in pixels[:, 240].tolist()} == {(0, 0, 0)}
    assert (255, 255, 255) in {tuple(color) for color in pixels[:, 190].tolist()}


def test_objects_are_missed_where_no_right_detection_reaches_the_operating_point():
    # A weak detector: its detections touch every object, so none is missed altogether.
    results = [
        result(TRUTH, [(1, 0.3, A), (2, 0.2, NEAR_B)], "first"),
        result([(2, False, B)], [(2, 0.25, B), (2, 0.2, A)], "second"),
    ]
    rankings = voc.rank(results, 2)
    analysis = error_analysis.analyse(results, rankings, ["cat", "dog"], similar_groups([]))
    assert not any(undetected.any() for undetected in analysis.undetected)
    least = thresholds([best_f1(ranking) for ranking in rankings])
    galleries = draw_galleries(
        *(results, rankings, ["cat", "dog"], least, analysis), lambda names: images_of(*names)
    )
    told = {
        gallery["name"]: [(item["text"], item["image"]) for item in gallery["items"]]
        for gallery in galleries
    }
    assert told["missed"] == [("dog", "first.jpg")]
    assert sorted(told["correct"]) == [("cat 0.30", "first.jpg"), ("dog 0.25", "second.jpg")]
    assert told["localisation"] == [("dog 0.20", "first.jpg")]
    assert [gallery["total"] for gallery in galleries] == [1, 0, 0, 1, 1, 2]
    # The false positives have lower scores than the operating points.
    assert [gallery["at_points"] for gallery in galleries] == [0, 0, 0, 0, 1, 2]


def test_examples_reach_the_operating_point_and_come_from_several_images():
    # The operating point of cats is 0.6: each image has a cat and three wrong boxes above it.
    wrong = [(50, 0, 59, 9), (50, 20, 59, 29), (50, 40, 59, 49)]
    results = [
        result([(1, False, A)], [(1, 0.6, A)] + [(1, score, box) for box in wrong], name)
        for name, score in (("first", 0.9), ("second", 0.8), ("third", 0.1))
    ]
    rankings = voc.rank(results, 1)
    analysis = error_analysis.analyse(results, rankings, ["cat"], [])
    galleries = draw_galleries(
        *(results, rankings, ["cat"], np.array([0.6]), analysis), lambda names: images_of(*names)
    )
    (background,) = (each for each in galleries if each["name"] == "background")
    shown = [(item["text"], item["image"]) for item in background["items"]]
    assert shown == [("cat 0.90", "first.jpg")] * 2 + [("cat 0.80", "second.jpg")] * 2
    assert (background["total"], background["at_points"]) == (9, 6)
