"""The report: its conclusions, and the figures that depend on few numbers."""

import base64
import re

import numpy as np

from ssd_jax.evaluation import figures, voc
from ssd_jax.evaluation.conclusions import Conclusion, conclude
from ssd_jax.evaluation.statistics import Calibration
from ssd_jax.evaluation.summary import summarise
from tests.helpers.results import result

A, B = (0, 0, 19, 19), (30, 30, 49, 49)


def texts(figure: str) -> list[str]:
    """The texts of a figure; Matplotlib writes them as comments."""
    svg = base64.b64decode(figure.partition("base64,")[2]).decode()
    return re.findall(r"<!-- (.*?) -->", svg)


def test_many_objects_allow_a_conclusion_on_the_weakest_class():
    # Of 120 dogs half are found, and all 120 cats.
    images = [
        result([(1, False, A), (2, False, B)], [(1, 0.9, A)] + [(2, 0.8, B)] * (number % 2))
        for number in range(120)
    ]
    names = ["cat", "dog"]
    summary = summarise(images, names, ["voc"])
    uncertain, weakest, advice = conclude(images, names, summary, voc.METRIC.average, 300)
    # 1.96 sqrt(2 · (92 / 124) (32 / 124) / 124) / 2 = 0.054, for p = (0.75 · 120 + 2) / 124
    assert "by about ±5 points" in uncertain.text and "on 240 objects" in uncertain.text
    assert weakest.text.startswith("Weakest class: dog, AP 0.50 (120 objects)")
    assert advice == Conclusion("Try next: more images of it, or more steps")
    # The advice of a run takes its course into account.
    of_run = "the mAP was still rising\ntry next: more steps:\n  ssd-jax train"
    lines = conclude(images, names, summary, voc.METRIC.average, 300, of_run)
    more = [
        Conclusion("The mAP was still rising"),
        Conclusion("Try next: more steps", "ssd-jax train"),
    ]
    assert lines == [uncertain, *more]


def test_without_objects_there_is_no_conclusion():
    summary = summarise([result()], ["cat"], ["voc"])
    (line,) = conclude([result()], ["cat"], summary, voc.METRIC.average, None)
    assert "no object to find" in line.text


def test_few_detections_are_no_point_of_the_reliability_diagram():
    some = np.array([0.3, 0.7])
    for many, shown in ((1234, "1,234"), (23_456, "23k")):
        drawn = figures.reliability(Calibration(np.array([5, many]), some, some, 0))
        assert {"5", shown} <= set(texts(drawn))
    drawn = texts(figures.reliability(Calibration(np.array([4, 1]), some, some, 0)))
    assert "no range of scores has 5 detections" in drawn and not {"4", "1"} & set(drawn)


def test_objects_are_counted_in_whole_numbers():
    for figure in (figures.object_sizes(np.array([20.0])), figures.objects_per_class(["a"], [1])):
        assert {"0", "1"} <= set(texts(figure)) and not any("." in text for text in texts(figure))
