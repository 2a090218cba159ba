import dataclasses

import numpy as np
import pytest

from ssd_jax.data.records import NamedImage
from ssd_jax.errors import UserError
from ssd_jax.evaluation import metrics, voc
from ssd_jax.evaluation.comparison import compare
from ssd_jax.evaluation.metrics import METRICS, check_metric, check_options
from ssd_jax.evaluation.report import write_report
from ssd_jax.evaluation.summary import format_table, summarise
from tests.helpers.results import result
from tools.metric_speed import random_results


def test_an_unknown_metric_is_reported_with_the_known_ones():
    assert check_metric("coco") is METRICS["coco"]
    with pytest.raises(UserError) as error:
        check_metric("map")
    assert str(error.value) == "config.metric is 'map', but must be one of voc07, voc, coco"


@pytest.mark.parametrize(
    "names, threshold, told",
    [
        ("voc07", 0.5, "metrics is 'voc07', but must be a list of voc07, voc, coco"),
        ([], 0.5, r"metrics is \[\]"),
        (["voc", "map"], 0.5, "'map'"),
        (["voc"], 50, "metric_iou_threshold is 50, but must be a number between 0 and 1"),
        (["voc"], "0.5", "metric_iou_threshold is '0.5'"),
    ],
)
def test_wrong_options_of_an_evaluation_are_refused(names, threshold, told):
    check_options(["voc"], 1)
    with pytest.raises(UserError, match=told):
        check_options(names, threshold)


def test_the_numbers_of_a_metric_are_those_that_its_table_names():
    images = random_results(5, 2, 10)
    for name, metric in METRICS.items():
        told = summarise(images, ["cat", "dog"], [name])
        assert set(metric.numbers) <= set(told)
        assert ("iou_threshold" in told) != metric.own_iou_thresholds


# The recall that is reached, and how many detections there are.
RECALL = dataclasses.replace(
    voc.METRIC,
    name="recall",
    title="best recall",
    average=lambda precision, recall: recall.max(axis=-1, initial=0.0),
    numbers_title="More about recall",
    numbers={"detections": "how many detections"},
    measure=lambda rankings: (
        {"detections": float(sum(len(ranking.score) for ranking in rankings["all"]))},
        np.array([ranking.right.sum() / ranking.num_objects.sum() for ranking in rankings["all"]]),
    ),
)


def test_a_new_metric_is_one_entry(monkeypatch, tmp_path):
    monkeypatch.setitem(metrics.METRICS, "recall", RECALL)
    box, far = (0, 0, 9, 9), (50, 50, 59, 59)
    half = [result([(1, False, box), (1, False, far)], [(1, 0.9, box)])]
    whole = [half[0]._replace(boxes=half[0].true_boxes, scores=np.ones(2), labels=np.ones(2, int))]
    summary = summarise(half, ["cat"], ["recall", "voc"])
    assert summary["mAP"] == 0.5 and summary["detections"] == 1 and summary["voc"]["mAP"] == 0.5
    table = format_table(summary)
    assert "best recall" in table and "More about recall\nhow many detections  1.0000" in table
    comparison = compare(["a", "b"], [half, whole], ["cat"], "recall")
    assert comparison["mAP"]["AP"] == [0.5, 1]
    pictures = {"x": NamedImage("x.jpg", np.zeros((100, 100, 3), np.uint8))}
    about = {"run": "a", "data": "b"}
    write_report(tmp_path, half, ["cat"], summary, about, lambda image_ids: pictures)
    page = (tmp_path / "index.html").read_text()
    assert "More about recall" in page and "x.jpg" in page
    few = "<li>Only 2 objects to evaluate on: the mAP is uncertain by about ±40 points.</li>"
    assert few in page and "<li>Try next: evaluate on more images" in page
    # One class cannot be confused, and no name has a similar one.
    assert "cost: background" in page
    assert all(f"{kind} class" not in page for kind in ("similar", "Similar", "other", "Other"))
