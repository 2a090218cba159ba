"""Measures the metrics, and pycocotools, on data as large as VOC2007's test set and COCO val2017.

    python -m tools.metric_speed

First 4952 images with 20 classes and 200 detections each, then COCO's numbers of 5000 images with
80 classes and 100 detections each. pycocotools alone takes one to two minutes.
"""

import contextlib
import io
import time

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssd_jax.evaluation.results import ImageResult
from ssd_jax.evaluation.summary import summarise

NAMES = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR_1",
    "AR_10",
    "AR_100",
    "AR_small",
    "AR_medium",
    "AR_large",
)
NUM_IMAGES, NUM_CLASSES, NUM_DETECTIONS = 4952, 20, 200


def random_results(
    num_images,
    num_classes,
    num_detections,
    seed=0,
    *,
    most_objects=5,
    difficult=0.1,
    crowd=0.1,
    ties=False,
):
    """Images of 500 × 400 pixels whose detections are near objects, right and wrong."""
    rng = np.random.default_rng(seed)
    results = []
    for number in range(num_images):
        count = int(rng.integers(0, most_objects + 1))
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
            # Whole pixels, so that many overlaps equal a threshold exactly.
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


def pycocotools_numbers(truth, detections):
    """The twelve numbers and AP by class, from pycocotools itself."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    numbers = {
        name: None if value == -1 else value
        for name, value in zip(NAMES, evaluation.stats, strict=True)
    }
    # [thresholds, recalls, classes, areas, maximal detections]
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    return numbers, np.where(precision == -1, np.nan, precision).mean(axis=(0, 1))


def as_coco(results, num_classes):
    """The same in COCO's format."""

    def xywh(box):
        return [*box[:2], *(box[2:] - box[:2])]

    annotations = [
        {
            "image_id": place,
            "category_id": int(label),
            "bbox": xywh(box),
            "area": float(area),
            "iscrowd": int(crowd),
        }
        for place, r in enumerate(results)
        for label, box, area, crowd in zip(
            r.true_labels, r.true_boxes, r.area, r.crowd, strict=True
        )
    ]
    truth = {
        "images": [{"id": place} for place in range(len(results))],
        "categories": [{"id": label} for label in range(1, num_classes + 1)],
        "annotations": [{"id": i, **entry} for i, entry in enumerate(annotations, start=1)],
    }
    detections = [
        {
            "image_id": place,
            "category_id": int(label),
            "bbox": xywh(box),
            "score": float(score),
        }
        for place, r in enumerate(results)
        for label, box, score in zip(r.labels, r.boxes, r.scores, strict=True)
    ]
    return truth, detections


def main() -> None:
    results = random_results(NUM_IMAGES, NUM_CLASSES, NUM_DETECTIONS, difficult=0, crowd=0.02)
    names = [str(label) for label in range(1, NUM_CLASSES + 1)]
    numbers = {}
    for metric in ("voc07", "voc", "coco"):
        start = time.perf_counter()
        numbers[metric] = summarise(results, names, [metric])
        print(f"{metric}: {time.perf_counter() - start:.1f} s")
    as_val2017 = random_results(5000, 80, 100, most_objects=14, difficult=0, crowd=0.01)
    start = time.perf_counter()
    summarise(as_val2017, [str(label) for label in range(1, 81)], ["coco"])
    print(f"coco, val2017's size: {time.perf_counter() - start:.1f} s")
    truth, detections = as_coco(results, NUM_CLASSES)
    start = time.perf_counter()
    theirs, _ = pycocotools_numbers(truth, detections)
    print(f"pycocotools: {time.perf_counter() - start:.1f} s")
    differences = [abs(numbers["coco"][name] - value) for name, value in theirs.items()]
    print(f"largest difference of COCO's numbers: {max(differences):.1e}")


if __name__ == "__main__":
    main()
