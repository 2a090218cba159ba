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


def random_results(
    num_images, num_classes, num_detections, seed=0, *, difficult=0.1, crowd=0.1, ties=False
):
    """Images of 500 × 400 pixels whose detections are near objects, right and wrong."""
    rng = np.random.default_rng(seed)
    results = []
    for number in range(num_images):
        count = int(rng.integers(0, 6))
        corner = rng.integers(0, 300, (count, 2))
        extent = rng.integers(8, 200, (count, 2))
        true_boxes = np.concatenate([corner, corner + extent], axis=1).astype(float)
        true_labels = rng.integers(1, num_classes + 1, count)
        boxes = np.zeros((num_detections, 4))
        boxes[:, :2] = rng.integers(0, 300, (num_detections, 2))
        boxes[:, 2:] = boxes[:, :2] + rng.integers(8, 200, (num_detections, 2))
        labels = rng.integers(1, num_classes + 1, num_detections)
        if count:
            near = rng.integers(0, count, num_detections)
            aimed = rng.random(num_detections) < 0.7
            # On the grid of pixels many overlaps and thresholds are met exactly.
            moved = true_boxes[near] + rng.integers(-8, 9, (num_detections, 4))
            moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
            boxes[aimed] = moved[aimed]
            labels = np.where(rng.random(num_detections) < 0.7, true_labels[near], labels)
        scores = rng.integers(1, 20, num_detections) / 20 if ties else rng.random(num_detections)
        order = np.argsort(-scores, kind="stable")
        results.append(
            ImageResult(
                image_id=str(number),
                size=(400, 500),
                true_boxes=true_boxes,
                true_labels=true_labels,
                difficult=rng.random(count) < difficult,
                crowd=rng.random(count) < crowd,
                area=extent.prod(axis=1) * rng.uniform(0.4, 1, count),
                boxes=boxes[order],
                scores=scores[order],
                labels=labels[order],
            )
        )
    return results
