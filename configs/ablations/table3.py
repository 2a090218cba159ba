r"""Table 3 of the paper: the number of feature maps of SSD300, and default boxes at the boundary.

    ssd-jax train --config=configs/ablations/table3.py:four --workdir=runs/four

or all of them, into one table:

    ssd-jax sweep --configs=configs/ablations/table3.py --workdir=runs/table3

Published: mAP on VOC2007 test of

    row     cells a side of each map       boxes    mAP   `row_inside`
    six     38, 19, 10, 5, 3, 1             8732   74.3           63.4
    five    38, 19, 10, 5, 3                8764   74.6           63.1
    four    38, 19, 10, 5                   8942   73.8           68.4
    three   38, 19, 10                      9864   70.7           69.2
    two     38, 19                          9025   64.2           64.4
    one     19                              8664   62.4           64.0

In the rows `six_inside`, … default boxes that reach beyond the image are not trained. The paper
gives the number of boxes, and moves scales to the remaining maps. It does not give these scales; we
chose them.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc, ssd300_voc07
from ssd_jax.detection.default_boxes import shapes_from_sizes

PUBLISHED = "mAP on VOC2007 test (paper, table 3)"

ROWS = {
    "six": 74.3,
    "five": 74.6,
    "four": 73.8,
    "three": 70.7,
    "two": 64.2,
    "one": 62.4,
    "six_inside": 63.4,
    "five_inside": 63.1,
    "four_inside": 68.4,
    "three_inside": 69.2,
    "two_inside": 64.4,
    "one_inside": 64.0,
}

# Sides of the small squares in pixels; a large one is between each and the next.
SIZES = (30, 60, 111, 162, 213, 264, 315)


def _stack(first: int, *aspect_ratios: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    """The boxes of successive scales on one cell, with the aspect ratios of each scale."""
    last = first + len(aspect_ratios)
    maps = shapes_from_sizes(SIZES[first:last], SIZES[first + 1 : last + 1], aspect_ratios)
    return sum(maps, ())


def _squares_and_halves(*sizes: float) -> tuple[tuple[float, float], ...]:
    """A square and two boxes of ratio 2 for each size, without the large square."""
    shapes = shapes_from_sizes(sizes, sizes, ((2,),) * len(sizes))
    return tuple(shape for small, _, *others in shapes for shape in (small, *others))


TWO, THREE = (2,), (2, 3)
SHAPES = {
    "six": (_stack(0, TWO), *(_stack(i, THREE) for i in (1, 2, 3)), _stack(4, TWO), _stack(5, TWO)),
    "five": (_stack(0, TWO), *(_stack(i, THREE) for i in (1, 2, 3)), _stack(4, TWO, TWO)),
    "four": (_stack(0, TWO), _stack(1, THREE), _stack(2, THREE), _stack(3, THREE, THREE, TWO)),
    "three": (_stack(0, TWO), _stack(1, TWO, TWO), _stack(3, TWO, TWO, TWO)),
    "two": (_stack(0, TWO), _squares_and_halves(60, 126, 264)),
    "one": ((), _stack(0, TWO, TWO, TWO, TWO, TWO, TWO)),
}


def get_config(row: str = "six") -> ConfigDict:
    """One row of the table: the differences from SSD300 on VOC 2007 + 2012.

    Raises:
      ValueError: the table has no such row.
    """
    if row not in ROWS:
        raise ValueError(f"table 3 has no row {row!r}: its rows are {', '.join(ROWS)}")
    config = ssd300_voc07.before_expansion(ssd300_voc.get_config())
    shapes = SHAPES[row.removesuffix("_inside")]
    config.loss.boundary_boxes = not row.endswith("_inside")
    model = config.model
    model.shapes = shapes
    model.extra_blocks = model.extra_blocks[: len(shapes) - 2]
    model.feature_sizes = model.feature_sizes[: len(shapes)]
    model.strides = model.strides[: len(shapes)]
    return config
