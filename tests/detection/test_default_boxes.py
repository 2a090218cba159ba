import dataclasses

import numpy as np
import pytest

from configs import ssd300_coco, ssd300_coco_torchvision, ssd300_voc, ssd512_coco, ssd512_voc
from configs.ablations import table2, table3
from ssd_jax.config.schema import as_config
from ssd_jax.detection.boxes import cxcywh_to_xyxy
from ssd_jax.detection.default_boxes import Tiling, default_boxes, shapes_from_sizes
from ssd_jax.models.network import build_network
from tests.helpers import tilings
from tests.helpers.reference_results import references


def test_one_cell_by_hand():
    tiling = Tiling(
        image_size=100,
        feature_sizes=(2,),
        strides=(50,),
        shapes=shapes_from_sizes((20,), (45,), ((4,),)),
    )
    boxes = default_boxes(tiling)
    assert boxes.shape == (16, 4)
    np.testing.assert_allclose(
        boxes[:4],
        [
            [0.25, 0.25, 0.2, 0.2],
            [0.25, 0.25, 0.3, 0.3],
            [0.25, 0.25, 0.4, 0.1],
            [0.25, 0.25, 0.1, 0.4],
        ],
        atol=1e-7,
    )
    # Cells go row by row: the second one lies to the right of the first.
    np.testing.assert_allclose(boxes[4, :2], [0.75, 0.25])
    np.testing.assert_allclose(boxes[8, :2], [0.25, 0.75])


def test_the_formula_gives_the_sizes_of_the_paper():
    assert tilings.sizes("ssd300_voc") == (30, 60, 111, 162, 213, 264, 315)
    assert tilings.sizes("ssd300_coco") == (21, 45, 99, 153, 207, 261, 315)
    assert tilings.sizes("ssd512_voc") == (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6)
    coco = (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72)
    assert tilings.sizes("ssd512_coco") == coco


@pytest.mark.parametrize("config", [ssd300_voc, ssd300_coco, ssd512_voc, ssd512_coco])
def test_configs_have_the_sizes_of_the_formula(config):
    name = config.__name__.removeprefix("configs.")
    assert build_network(as_config(config.get_config()).model, 20).tiling == tilings.tiling(name)


@pytest.mark.parametrize(
    "config, num_boxes",
    [
        (table2.get_config("squares"), 3880),  # two boxes on each of 1940 cells
        (table2.get_config("no_thirds"), 7760),
        (table2.get_config("no_atrous"), 8732),
        (table3.get_config("six"), 8732),
        (table3.get_config("five"), 8764),
        (table3.get_config("four"), 8942),
        (table3.get_config("three"), 9864),
        (table3.get_config("two"), 9025),
        (table3.get_config("one"), 8664),
    ],
)
def test_ablations_have_the_number_of_boxes_of_the_paper(config, num_boxes):
    tiling = build_network(as_config(config).model, 20).tiling
    assert tiling.num_boxes == len(default_boxes(tiling)) == num_boxes


def test_table3_begins_with_the_tiling_of_the_paper():
    assert build_network(as_config(table3.get_config("six")).model, 20).tiling == tilings.tiling(
        "ssd300_voc"
    )


def test_sizes_are_rounded_down_to_whole_pixels_by_default():
    sizes = ((35.84,), (76.8,), ((),))
    large = np.sqrt(35 * 76)
    np.testing.assert_allclose(shapes_from_sizes(*sizes), [[(35, 35), (large, large)]])
    large = np.sqrt(35.84 * 76.8)
    np.testing.assert_allclose(
        shapes_from_sizes(*sizes, whole_pixels=False), [[(35.84, 35.84), (large, large)]]
    )


def test_a_map_may_have_any_shapes_or_none():
    tiling = Tiling(100, (2, 1, 1), (50, 100, 100), (((20, 30),), (), ((60, 50), (90, 10))))
    assert tiling.num_boxes == 6 and tiling.boxes_per_cell == (1, 0, 2)
    np.testing.assert_allclose(
        default_boxes(tiling)[3:],
        [[0.75, 0.75, 0.2, 0.3], [0.5, 0.5, 0.6, 0.5], [0.5, 0.5, 0.9, 0.1]],
        rtol=1e-6,
    )


def test_boxes_may_exceed_the_image_unless_clipped():
    tiling = Tiling(100, (1,), (100,), shapes_from_sizes((100,), (144,), ((4,),)))
    np.testing.assert_allclose(
        default_boxes(tiling),
        [[0.5, 0.5, 1, 1], [0.5, 0.5, 1.2, 1.2], [0.5, 0.5, 2, 0.5], [0.5, 0.5, 0.5, 2]],
        rtol=1e-6,
    )
    clipped = default_boxes(dataclasses.replace(tiling, clip=True))
    np.testing.assert_allclose(clipped[:, 2:], [[1, 1], [1, 1], [1, 0.5], [0.5, 1]], rtol=1e-6)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("whole_pixels", [True, False])
@pytest.mark.parametrize(
    "name, count",
    [("ssd300_voc", 8732), ("ssd300_coco", 8732), ("ssd512_voc", 24564), ("ssd512_coco", 24564)],
)
def test_tilings_equal_the_reference(name, count, whole_pixels, clip):
    tiling = tilings.tiling(name, whole_pixels, clip)
    boxes = default_boxes(tiling)
    assert len(boxes) == tiling.num_boxes == count
    if not whole_pixels and count == 24564:  # SSD300's sizes are whole pixels anyway
        name += "_untruncated"
    if clip:
        name += "_clipped"
    for reference in references("default_boxes"):
        rows = reference.get(f"rows_{count}", slice(None))
        np.testing.assert_allclose(boxes[rows], reference[name], rtol=0, atol=1e-6)


def test_ssd300_coco_equals_torchvision():
    config = as_config(ssd300_coco_torchvision.get_config())
    boxes = cxcywh_to_xyxy(build_network(config.model, 1).default_boxes()) * 300
    for reference in references("default_boxes_torchvision_ssd300"):
        rows = reference.get("rows", slice(None))
        np.testing.assert_allclose(boxes[rows], reference["xyxy_pixels"], rtol=0, atol=1e-4)


def test_lists_of_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="max_sizes has 2 entries, but min_sizes has 1"):
        shapes_from_sizes((30,), (60, 90), ((2,),))
    with pytest.raises(ValueError, match="strides has 1 entries, but feature_sizes has 2"):
        Tiling(300, (2, 1), (150,), (((30, 30),), ((60, 60),)))
    with pytest.raises(ValueError, match="shapes has 1 entries, but feature_sizes has 2"):
        Tiling(300, (2, 1), (150, 300), (((30, 30),),))
