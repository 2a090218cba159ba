"""Reads the lines of a YOLO label file: the class and the box, or polygon, of an object."""

from pathlib import Path

from ssd_jax.data.cleaning import MAX_FRACTION
from ssd_jax.data.formats.values import extremes, number
from ssd_jax.data.formats.yolo_files import MAX_BYTES
from ssd_jax.data.formats.yolo_layout import Layout
from ssd_jax.data.problems import Problem
from ssd_jax.data.records import Object
from ssd_jax.errors import UserError, counted, shown
from ssd_jax.storage.files import read_text

NUM_BOX = 4


def read_objects(file: Path, layout: Layout, found: list[Problem]) -> list[Object]:
    """Reads the objects of a label file; adds its problems to `found`."""
    try:
        content = read_text(file, MAX_BYTES)
    except UserError as error:
        message = str(error).removeprefix(f"{file} ")
        found.append(Problem("annotation unreadable", message))
        return []
    objects = []
    # Not `splitlines`, which also splits at other signs, like form feeds.
    for row, line in enumerate(content.replace("\r", "\n").split("\n"), 1):
        words = line.split()
        if not words:
            continue
        read = _object(words, layout)
        if isinstance(read, Problem):
            found.append(Problem(read.kind, f"line {row} {read.message}"))
        else:
            objects.append(read)
    return objects


def _object(words: list[str], layout: Layout) -> Object | Problem:
    """Parses a line: class, centre, width and height; or class and points of a polygon."""
    values = [number(word) for word in words]
    known = [value for value in values if value is not None]
    if values[0] is None and len(known) == len(words) - 1 >= NUM_BOX:
        return _class_as_word(words[0], layout)
    if len(known) < len(values):
        return Problem("box", f"has {shown(words[values.index(None)])}, which is not a number")
    index, *box = known
    name = _class_name(index, layout)
    if isinstance(name, Problem):
        return name
    if len(box) == NUM_BOX or (layout.keypoints and len(box) == NUM_BOX + layout.keypoints):
        x, y, width, height = box[:NUM_BOX]
        if max(box[:NUM_BOX]) > MAX_FRACTION:
            return Problem(
                "unit",
                f"has the box {shown(' '.join(words[1 : NUM_BOX + 1]))}, but YOLO's "
                "x_center y_center width height must be fractions of the image from 0 to 1: "
                "probably they are pixels; divide x and width by the image's width, y and height "
                "by its height",
            )
        return Object(name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    form = "a class and four numbers of a box, or three or more points of a polygon"
    if len(box) == NUM_BOX + 1:
        return Problem("box", f"has 6 numbers, but needs {form}; is the last number a confidence?")
    if len(box) % 2 or len(box) < NUM_BOX + 2:
        return Problem("box", f"has {len(words)} numbers, but needs {form}")
    if _may_be_keypoints(box):
        return Problem(
            "box", "may be a box with keypoints or a polygon: write kpt_shape into the data.yaml"
        )
    corners = extremes([box[i : i + 2] for i in range(0, len(box), 2)])
    assert corners is not None
    return Object(name, corners)


def _class_as_word(word: str, layout: Layout) -> Problem:
    """The problem of a line that has the name of a class, but needs its number."""
    numbers = {name: index for index, name in (layout.names or {}).items()}
    listed = layout.names_file or "classes.txt or data.yaml"
    needed = f", {numbers[word]}" if word in numbers else ""
    message = f"has the class {shown(word)}, but needs its number{needed}"
    return Problem("class number", f"{message}: names count from 0 in {listed}")


def _class_name(index: float, layout: Layout) -> str | Problem:
    names = layout.names
    if not index.is_integer() or index < 0:
        return Problem("class number", f"has the class {index:g}, which is not an index")
    if names is None:
        return str(int(index))
    if int(index) not in names:
        ends = dict.fromkeys([*names][:1] + [*names][-1:])  # a single class only once
        listed = " to ".join(f"{end} ({names[end]})" for end in ends)
        return Problem(
            "class number",
            f"has the class {index:g}, but {layout.names_file} lists "
            f"{counted(len(names), 'class')}{', ' * bool(listed)}{listed}",
        )
    return names[int(index)]


def _may_be_keypoints(box: list[float]) -> bool:
    """Whether every third number after a box may be the visibility of a keypoint: 0, 1 or 2."""
    visible = box[NUM_BOX + 2 :: 3]
    whole = (len(box) - NUM_BOX) % 3 == 0
    return whole and all(value in (0, 1, 2) for value in visible)
