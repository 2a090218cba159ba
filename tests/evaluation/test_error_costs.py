import numpy as np

from ssd_jax.evaluation.error_costs import format_error_costs, with_error_costs
from ssd_jax.evaluation.summary import summarise
from tests.evaluation.test_voc import FAR, A, B
from tests.helpers.results import result

NAMES = ["circle", "star"]


def test_costs_of_errors_are_means_over_classes_with_words():
    images = [
        # Without the detection on the background, the circles have AP 1 instead of 1/2 + 1/2 · 2/3.
        result([(1, False, A), (1, False, B)], [(1, 0.9, A), (1, 0.8, FAR), (1, 0.7, B)]),
        # A missed star: AP 0, and nothing else would be left to find.
        result([(2, False, A)], []),
    ]
    summary = with_error_costs(summarise(images, NAMES, ["voc"]), images, NAMES)
    wanted = {"undetected": 0.5, "localisation": 0.0, "other": 0.0, "background": 1 / 12}
    assert set(summary["error_costs"]) == set(wanted)  # no classes are similar
    for kind, cost in wanted.items():
        np.testing.assert_allclose(summary["error_costs"][kind], cost, atol=1e-9)
    title, *lines, overlap, why = format_error_costs(summary).splitlines()
    assert title == "mAP (AP, area) lost to each kind of error"
    assert lines == [
        "undetected object              0.5000  no detection of its class overlaps it",
        "background                     0.0833  overlaps no object",
        "inaccurate box (localisation)  0.0000  overlaps its object too little, or the object is "
        "already found",
        "other class                    0.0000  overlaps an object of another class",
    ]
    assert "IoU of 0.1" in overlap and "do not add up to the missing mAP" in why


def test_without_objects_there_are_no_costs():
    images = [result([], [(1, 0.9, A)])]
    summary = with_error_costs(summarise(images, NAMES, ["coco"]), images, NAMES)
    assert summary["error_costs"] == {} and format_error_costs(summary) == ""
