"""A table of the training and evaluation data of a run, for the terminal."""

import unicodedata

import numpy as np

from ssd_jax.config.schema import Config
from ssd_jax.data.content import Content
from ssd_jax.detection.default_boxes import Tiling
from ssd_jax.detection.fit import LOW_RECALL, default_box_recall
from ssd_jax.errors import counted, first_names

MOST_CLASSES = 20
MOST_NAMES = 10
MAX_LABEL = 40  # columns
MOST_ENLARGED = 4  # times the longer side of the median image without a remark

Row = tuple[str, list[str]]


def format_data(
    config: Config,
    train: Content,
    evaluation: Content | None,
    origins: tuple[str, str],
    tiling: Tiling,
) -> str:
    """The images and objects of a run.

    Args:
      config: of the run.
      train: the training data.
      evaluation: the evaluation data, if any.
      origins: a description of the origin of each.
      tiling: the default boxes.
    """
    contents = [train] if evaluation is None else [train, evaluation]
    headings = ["training", "evaluation"][: len(contents)]
    rows: list[Row] = [
        ("", headings),
        ("images", [_count(content.num_images) for content in contents]),
        ("without objects", [_count(content.num_background) for content in contents]),
        ("objects", [_count(int(content.num_objects.sum())) for content in contents]),
        *_class_rows(contents),
        *_size_rows(contents),
        *_object_rows(contents, config.model.image_size),
    ]
    notes = [f"training data: {origins[0]}"]
    if evaluation is not None:
        # Both from the same source: only the part, without the name of the source.
        notes.append(f"evaluation data: {origins[1].removeprefix(f'{config.data.train}, ')}")
    return "\n".join([*notes, *_aligned(rows), *_remarks(config, contents, tiling)])


def _class_rows(contents: list[Content]) -> list[Row]:
    names = contents[0].class_names
    order = np.lexsort([np.arange(len(names)), *[-c.num_objects for c in contents[::-1]]])
    shown = order[:MOST_CLASSES] if len(names) > MOST_CLASSES + 1 else order
    rows = [(f"  {names[i]}", [_count(int(c.num_objects[i])) for c in contents]) for i in shown]
    rest = order[len(shown) :]
    if len(rest):
        label = f"  and {counted(len(rest), 'more class')}"
        rows.append((label, [_count(int(c.num_objects[rest].sum())) for c in contents]))
    return rows


def _size_rows(contents: list[Content]) -> list[Row]:
    """Width and height of the smallest, the median and the largest image, by area."""
    places = {"image size, smallest": 0.0, "  median": 0.5, "  largest": 1.0}
    return [
        (label, [_image_size(content.sizes, place) for content in contents])
        for label, place in places.items()
    ]


def _image_size(sizes: np.ndarray, place: float) -> str:
    if not len(sizes):
        return "–"
    order = np.argsort(sizes.prod(axis=1), kind="stable")
    height, width = sizes[order[round(place * (len(order) - 1))]]
    return f"{width:g} × {height:g}"


def _object_rows(contents: list[Content], image_size: int) -> list[Row]:
    """The sizes of objects: square roots of their areas, in pixels of the network's input."""
    places = {"object size, 10 %": 10, "  median": 50, "  90 %": 90}
    sides = [
        np.sqrt(np.prod(content.boxes[:, 2:] - content.boxes[:, :2], axis=1)) * image_size
        for content in contents
    ]
    return [
        (label, [f"{np.percentile(own, place):.1f}" if len(own) else "–" for own in sides])
        for label, place in places.items()
    ]


def _remarks(config: Config, contents: list[Content], tiling: Tiling) -> list[str]:
    """Lines below the table."""
    train = contents[0]
    side = config.model.image_size
    remarks = [f"object size: square root of the area, in pixels of the {side} × {side} input"]
    for name, content in zip(("training", "evaluation"), contents, strict=False):
        if content.num_counted < content.num_images:
            first = counted(content.num_counted, "image")
            remarks.append(f"objects and sizes of {name} data: of the first {first}")
    if enlarged := _enlarged(train.sizes, side):
        remarks.append(enlarged)
    passes = config.epochs_in(config.steps, train.num_images)
    number = f"{passes:,.1f}" if passes >= 1 else f"{passes:.2g}"
    remarks.append(
        f"{counted(config.steps, 'step')} of {counted(config.batch_size, 'image')}: {number} "
        "passes over the training data"
    )
    if len(train.boxes):
        recall = default_box_recall(train.some_boxes(), tiling, config.loss)
        judged = "enough" if recall >= LOW_RECALL else "few: see fit-boxes"
        remarks.append(
            f"default-box recall: {recall:.1%} of objects have a box of IoU "
            f"{config.loss.match_iou_threshold:g} or more ({judged})"
        )
    if len(contents) > 1:
        found, asked = (content.num_objects > 0 for content in contents)
        remarks += _missing("evaluation", "training", asked & ~found, train.class_names)
        remarks += _missing("training", "evaluation", found & ~asked, train.class_names)
    return remarks


def _enlarged(sizes: np.ndarray, side: int) -> str:
    """A line about images that are much smaller than the input; "" for others."""
    if not len(sizes) or (times := side / np.median(sizes.max(axis=1))) < MOST_ENLARGED:
        return ""
    return (
        f"images are enlarged {times:.0f} times: use larger ones, or a smaller "
        "config.model.image_size"
    )


def _missing(there: str, lacking: str, which: np.ndarray, names: tuple[str, ...]) -> list[str]:
    """A line about classes that are in one of the two data sets only."""
    listed = [names[i] for i in np.flatnonzero(which)]
    if not listed:
        return []
    return [f"in {there} data but not in {lacking} data: {first_names(listed, MOST_NAMES)}"]


def _count(number: int) -> str:
    return f"{number:,}"


def _aligned(rows: list[Row]) -> list[str]:
    """Aligns the rows in columns, with numbers right-aligned."""
    labels = [_shortened(label) for label, _ in rows]
    label_width = max(map(_width, labels)) + 2
    widths = [max(len(cells[i]) for _, cells in rows) + 2 for i in range(len(rows[0][1]))]
    return [
        label
        + " " * (label_width - _width(label))
        + "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for label, (_, cells) in zip(labels, rows, strict=True)
    ]


def _shortened(label: str) -> str:
    while _width(label) > MAX_LABEL:
        label = f"{label.removesuffix('…')[:-1]}…"
    return label


def _width(text: str) -> int:
    """The columns of a terminal that a text takes."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )
