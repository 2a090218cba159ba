"""Compares detections of exported files with those of the detector; some have equal scores."""

from collections.abc import Mapping

import numpy as np

from ssd_jax import Detections


def assert_same_detections(found: Mapping[str, np.ndarray], wanted: Detections) -> None:
    """Compares the detections of an exported file in an image with those of the detector.

    Args:
      found: `boxes` xyxy as fractions of the image, `scores` and `labels`, the best first and then
        zeros.
      wanted: the detections of the detector; more than ten, not all with equal scores.
    """
    boxes, scores, labels = (found[name] for name in ("boxes", "scores", "labels"))
    most = len(wanted.scores)
    assert most > 10 and np.count_nonzero(labels) == most
    assert not boxes[most:].any() and not scores[most:].any()
    np.testing.assert_allclose(scores[:most], wanted.scores, atol=1e-4)
    height, width = wanted.size
    ours = _rows(wanted.boxes / (width, height, width, height), wanted.scores, wanted.labels)
    theirs = _rows(boxes[:most], scores[:most], labels[:most])
    # Of those with the score of the last one that is kept, others may be kept.
    last = wanted.scores[-1] if most == len(scores) else 0
    assert (theirs[:, 4] > last + 1e-4).sum() > 10
    for some, others in ((ours, theirs), (theirs, ours)):
        nearest = np.abs(some[:, None] - others).max(-1).min(1)
        assert (nearest[some[:, 4] > last + 1e-4] < 1e-4).all()


def _rows(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`[detections, 6]`: box in parts of the image, score, label."""
    return np.concatenate([boxes, scores[:, None], labels[:, None]], axis=1)
