import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.config.schema import DetectionConfig
from ssd_jax.detection import postprocess
from ssd_jax.detection.box_coder import encode
from ssd_jax.detection.default_boxes import default_boxes
from tests.helpers.reference_results import references
from tests.helpers.tilings import SSD300_VOC

detect = jax.jit(postprocess.detect, static_argnames="settings")
non_maximum_suppression = jax.jit(postprocess.non_maximum_suppression)


def greedy_nms(boxes, scores, threshold):
    """The definition, one box after the other, the best first."""
    keep = []
    for i in np.flatnonzero(scores):
        size = np.minimum(boxes[i, 2:], boxes[keep, 2:]) - np.maximum(boxes[i, :2], boxes[keep, :2])
        intersection = np.maximum(size, 0).prod(axis=1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        if not (intersection / (area[i] + area[keep] - intersection) > threshold).any():
            keep.append(i)
    return np.isin(np.arange(len(boxes)), keep)


def random_boxes(random, *shape):
    corner = random.uniform(0, 0.6, (*shape, 2))
    sides = random.uniform(0.1, 0.5, (*shape, 2))
    boxes = np.concatenate([corner, corner + sides], axis=-1).astype(np.float32)
    boxes[..., 10:20, :] = boxes[..., :10, :]  # ties
    return boxes


@pytest.mark.parametrize("num_boxes", [20, 32, 33, 100])
def test_nms_equals_greedy_nms(num_boxes):
    random = np.random.default_rng(num_boxes)
    for _ in range(60):
        boxes = random_boxes(random, num_boxes)
        scores = -np.sort(-random.integers(0, 20, num_boxes)).astype(np.float32)  # ties and zeros
        threshold = random.choice([0.3, 0.45, 0.6])
        expected = greedy_nms(boxes, scores, threshold)
        np.testing.assert_array_equal(non_maximum_suppression(boxes, scores, threshold), expected)


def test_nms_treats_each_row_separately():
    random = np.random.default_rng(0)
    boxes = random_boxes(random, 2, 3, 70)
    scores = -np.sort(-random.random((2, 3, 70))).astype(np.float32)
    scores[0, 0, 5:], scores[1, 2] = 0, 0  # a row of one block, and one of none
    keep = np.asarray(non_maximum_suppression(boxes, scores, 0.45))
    for row in np.ndindex(2, 3):
        np.testing.assert_array_equal(keep[row], greedy_nms(boxes[row], scores[row], 0.45))
    assert keep[0, 0].any() and not keep[1, 2].any()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5)])
def test_nms_of_no_boxes(shape):
    keep = non_maximum_suppression(np.zeros((*shape, 4), np.float32), np.zeros(shape), 0.45)
    assert keep.shape == shape


@pytest.mark.parametrize("distance", [1, 40])
def test_only_an_iou_beyond_the_threshold_suppresses(distance):
    # The second box has an IoU of a half with the first; those between overlap nothing.
    boxes = np.full((distance + 1, 4), 5, np.float32)
    boxes[0], boxes[-1] = [0, 0, 1, 1], [0, 0, 1, 0.5]
    scores = np.linspace(0.9, 0.8, distance + 1).astype(np.float32)
    for threshold, kept in ((0.5, True), (0.49, False)):
        keep = non_maximum_suppression(boxes, scores, threshold)
        assert keep[:-1].all() and keep[-1] == kept


def test_detect_by_hand():
    default = jnp.array([[0.3, 0.3, 0.2, 0.2], [0.31, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]])
    probabilities = jnp.array([[0.2, 0.7, 0.1], [0.1, 0.3, 0.6], [0.995, 0.0025, 0.0025]])
    found = detect(jnp.zeros((1, 3, 4)), jnp.log(probabilities)[None], default)
    # Box 1 of class 1 overlaps box 0 and goes; of class 2 it is the best, and box 0 goes.
    np.testing.assert_array_equal(found.labels[0, :3], [1, 2, 0])
    np.testing.assert_allclose(found.scores[0, :3], [0.7, 0.6, 0], rtol=1e-5)
    np.testing.assert_allclose(found.boxes[0, 0], [0.2, 0.2, 0.4, 0.4], rtol=1e-5)
    assert found.boxes.shape == (1, 200, 4)


def test_only_the_best_are_kept():
    default = jnp.stack([jnp.linspace(0.1, 0.9, 9)] * 2 + [jnp.full(9, 0.05)] * 2, axis=1)
    logits = jnp.stack([jnp.zeros(9), jnp.arange(9.0)], axis=1)[None]
    found = detect(
        encode(default[None] * 0 + 0.5, default) * 0,
        logits,
        default,
        DetectionConfig(detections_per_image=2),
    )
    np.testing.assert_allclose(found.boxes[0, :, 0], [0.875, 0.775], rtol=1e-5)


def test_the_best_400_of_a_class_enter_suppression():
    # The best 399 are one box, the next lies elsewhere, and the one after that too.
    default = jnp.full((401, 4), 0.1).at[399].set([0.5, 0.5, 0.1, 0.1]).at[400].set(0.8)
    logits = jnp.stack([jnp.zeros(401), jnp.linspace(4, 2, 401)], axis=1)[None]
    found = detect(jnp.zeros((1, 401, 4)), logits, default)
    np.testing.assert_allclose(found.boxes[0, :2, 0], [0.05, 0.45], rtol=1e-5)
    assert (found.labels[0] > 0).sum() == 2


@pytest.mark.parametrize("few_together", [True, False])
@pytest.mark.parametrize("candidates", [60, 71, 110])
def test_few_and_many_candidates_give_the_same_detections(candidates, few_together, monkeypatch):
    # 60 and about 30 of two classes are few, 71 more than enter suppression, 110 and 30 many.
    monkeypatch.setattr(postprocess, "FEW", 128)
    random = np.random.default_rng(candidates)
    boxes = random_boxes(random, 300)
    scores = np.zeros((2, 300), np.float32)
    scores[0, random.permutation(300)[:candidates]] = random.integers(11, 90, candidates) / 100
    scores[1] = scores[0, ::-1] * (random.random(300) < 0.5) + 0.01  # the threshold is no candidate
    settings = DetectionConfig(detections_per_image=250, boxes_per_class=70)
    detect_best = functools.partial(
        postprocess.best_detections, settings=settings, few_together=few_together
    )
    found = jax.jit(detect_best)(boxes[None], scores[None])
    expected = []
    for label, of_class in enumerate(scores, start=1):
        best = [i for i in np.argsort(-of_class, kind="stable") if of_class[i] > np.float32(0.01)]
        best = best[:70]
        kept = np.array(best)[greedy_nms(boxes[best], of_class[best], 0.45)]
        expected += [(-of_class[i], label, *boxes[i]) for i in kept]
    expected = np.array(sorted(expected, key=lambda row: row[0]))
    rows = (-found.scores[0], found.labels[0], *found.boxes[0].T)
    np.testing.assert_array_equal(np.stack(rows, axis=1)[: len(expected)], expected)
    assert not found.labels[0, len(expected) :].any()


def test_boxes_suppress_their_own_label_alone():
    random = np.random.default_rng(0)
    boxes, labels = random_boxes(random, 90), random.integers(1, 4, 90)
    scores = -np.sort(-random.random(90)).astype(np.float32)
    keep = np.asarray(non_maximum_suppression(boxes, scores, 0.45, labels))
    for label in (1, 2, 3):
        own = labels == label
        np.testing.assert_array_equal(keep[own], greedy_nms(boxes[own], scores[own], 0.45))


def test_nothing_above_the_threshold_gives_nothing():
    default = jnp.array([[0.5, 0.5, 0.2, 0.2]])
    found = detect(jnp.zeros((1, 1, 4)), jnp.array([[[9.0, 0.0, 0.0]]]), default)
    assert not found.labels.any() and not found.scores.any() and not found.boxes.any()


def test_only_scores_beyond_the_threshold_count():
    default = np.array([[0.5, 0.5, 0.2, 0.2]], np.float32)
    for threshold, found in ((0.5, False), (0.49, True)):  # the score is a half
        settings = DetectionConfig(score_threshold=threshold)
        labels = detect(np.zeros((1, 1, 4)), np.zeros((1, 1, 2)), default, settings).labels
        assert labels.any() == found


def test_equals_the_reference():
    for reference in references("detection"):
        default = default_boxes(SSD300_VOC)[reference.get("rows", slice(None))]
        found = detect(reference["offsets"], reference["logits"], default)
        expected = reference["detections_label_score_xyxy"]
        np.testing.assert_array_equal(np.asarray(found.labels) - 1, expected[..., 0])
        real = expected[..., 0] >= 0
        np.testing.assert_allclose(found.scores[real], expected[real][:, 1], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.boxes[real], expected[real][:, 2:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 9])
def test_any_batch_size(batch):
    random = np.random.default_rng(0)
    default = random.uniform(0.2, 0.6, (50, 4)).astype(np.float32)
    logits = random.normal(size=(batch, 50, 4)).astype(np.float32)
    offsets = random.normal(size=(batch, 50, 4)).astype(np.float32)
    together = detect(offsets, logits, default)
    alone = detect(offsets[-1:], logits[-1:], default)
    np.testing.assert_array_equal(together.labels[-1], alone.labels[0])
    np.testing.assert_allclose(together.scores[-1], alone.scores[0], rtol=1e-6)
