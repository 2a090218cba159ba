"""The content of a data set, in a form that tests compare."""

from ssd_jax.data.discovery import Role
from ssd_jax.data.sources import open_dataset

Boxes = dict[str, list[tuple[str, list[float]]]]


def read_boxes(spec: str, *class_names: str, role: Role = "all") -> Boxes:
    """Class and box in pixels of each object, by image id."""
    dataset = open_dataset(spec, class_names, role=role)
    boxes: Boxes = {}
    for record in dataset:
        assert record.size and record.image_id not in boxes
        height, width = record.size
        pixels = (record.boxes * (width, height, width, height)).round(2).tolist()
        names = [dataset.class_names[label - 1] for label in record.labels]
        boxes[record.image_id] = list(zip(names, pixels, strict=True))
    return boxes
