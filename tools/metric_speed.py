"""How long the metrics take on as much as VOC2007's test set, beside pycocotools.

    python -m tools.metric_speed

4952 images with 200 detections each of 20 classes. pycocotools alone takes one to two minutes.
"""

import time

from ssd_jax.evaluation.summary import summarise
from tests.evaluation.test_coco import as_coco, pycocotools_numbers
from tests.helpers.results import random_results

NUM_IMAGES, NUM_CLASSES, NUM_DETECTIONS = 4952, 20, 200


def main() -> None:
    results = random_results(NUM_IMAGES, NUM_CLASSES, NUM_DETECTIONS, difficult=0, crowd=0.02)
    names = [str(label) for label in range(1, NUM_CLASSES + 1)]
    numbers = {}
    for metric in ("voc07", "voc", "coco"):
        start = time.perf_counter()
        numbers[metric] = summarise(results, names, [metric])
        print(f"{metric}: {time.perf_counter() - start:.1f} s")
    truth, detections = as_coco(results, NUM_CLASSES)
    start = time.perf_counter()
    theirs, _ = pycocotools_numbers(truth, detections)
    print(f"pycocotools: {time.perf_counter() - start:.1f} s")
    differences = [abs(numbers["coco"][name] - value) for name, value in theirs.items()]
    print(f"largest difference of COCO's numbers: {max(differences):.1e}")


if __name__ == "__main__":
    main()
