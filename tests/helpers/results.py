"""Images with their objects and detections, written by hand or drawn at random."""

import numpy as np

from ssd_jax.evaluation.results import ImageResult


def result(truth=(), found=(), image_id="x", size=(100, 100), crowd=(), area=None):
    """truth: (label, difficult, box); found: (label, score, box); crowd: places among truth."""
    true_boxes = np.array([box for _, _, box in truth], float).reshape(-1, 4)
    return ImageResult(
        image_id=image_id,
        size=size,
        true_boxes=true_boxes,
        true_labels=np.array([label for label, _, _ in truth], int),
        difficult=np.array([difficult for _, difficult, _ in truth], bool),
        crowd=np.isin(np.arange(len(truth)), crowd),
        area=np.prod(true_boxes[:, 2:] - true_boxes[:, :2], axis=1) if area is None else area,
        boxes=np.array([box for _, _, box in found], float).reshape(-1, 4),
        scores=np.array([score for _, score, _ in found], float),
        labels=np.array([label for label, _, _ in found], int),
    )
