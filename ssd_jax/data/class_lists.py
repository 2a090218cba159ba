"""The class lists of published weights: names in the order of the network's outputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssd_jax.errors import UserError, shown

VOC = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]

# COCO's ids are from 1 to 90 without ten of these numbers.
COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = [number for number in range(1, 91) if number not in COCO_GAPS]
COCO = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
]
_COCO_BY_ID = dict(zip(COCO_IDS, COCO, strict=True))

# torchvision has an output for every number up to 90.
TORCHVISION_COCO = tuple(_COCO_BY_ID.get(number, f"unused {number}") for number in range(1, 91))
# The class lists, by the number of classes.
KNOWN = {20: tuple(VOC), 80: tuple(COCO), 90: TORCHVISION_COCO}


def category_ids(class_names: Sequence[str]) -> tuple[int, ...]:
    """The ids of classes in results: COCO's ids for its classes, otherwise 1, 2, …."""
    if tuple(class_names) == KNOWN[80]:
        return tuple(COCO_IDS)
    return tuple(range(1, len(class_names) + 1))


def describe_classes(
    class_names: Sequence[str], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """The `id` and `name` of each class, in the form of files."""
    return [
        {"id": category_id, "name": name}
        for category_id, name in zip(category_ids, class_names, strict=True)
    ]


def check_described(classes: object, file: Path) -> list[dict[str, Any]]:
    """Checks classes that were read from a file; see `describe_classes`.

    Raises:
      UserError: the classes have another form.
    """
    entries = classes if isinstance(classes, list) else []
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    ids = [entry.get("id") if isinstance(entry, dict) else None for entry in entries]
    if (
        not entries
        or not all(isinstance(name, str) and name for name in names)
        or not all(type(number) is int for number in ids)
        or len(set(names)) < len(names)
    ):
        raise UserError(
            f"{file} is damaged: its classes are {shown(classes)}, but must be a list, each class "
            'with a whole number as "id" and a unique "name"'
        )
    return entries


# Classes that are easily confused: the groups of Hoiem et al., "Diagnosing error in object
# detectors" (ECCV 2012), which figure 3 of the SSD paper uses, and COCO's supercategories.
VOC_SIMILAR = [
    {"aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"},
    {"bird", "cat", "cow", "dog", "horse", "person", "sheep"},
    {"chair", "diningtable", "sofa"},
    {"aeroplane", "bird"},
]
# The number of COCO's classes, in their order, in each supercategory.
COCO_GROUP_SIZES = (1, 8, 5, 10, 5, 10, 7, 10, 6, 6, 5, 7)
COCO_SIMILAR = [
    set(COCO[sum(COCO_GROUP_SIZES[:i]) : sum(COCO_GROUP_SIZES[: i + 1])])
    for i in range(len(COCO_GROUP_SIZES))
]


def similar_groups(class_names: Sequence[str]) -> list[set[str]]:
    """Groups of similar classes for the classes of VOC or COCO; none for other classes."""
    for known, groups in ((VOC, VOC_SIMILAR), (COCO, COCO_SIMILAR)):
        if set(class_names) <= set(known):
            return groups
    return []


def category_ids_of(set_name: str, names: Sequence[str]) -> dict[str, int]:
    """The ids of classes in results, by name: COCO's ids, for other sets 1, 2, ….

    TFDS numbers COCO's classes from 0 to 79.
    """
    is_coco = set_name == "coco" and len(names) == len(COCO_IDS)
    return dict(zip(names, COCO_IDS if is_coco else range(1, len(names) + 1), strict=True))
