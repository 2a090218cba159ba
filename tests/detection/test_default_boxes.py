import dataclasses

import numpy as np
import pytest

from configs import ssd300_coco, ssd300_voc, ssd512_coco, ssd512_voc
from ssd_jax.detection.boxes import cxcywh_to_xyxy
from ssd_jax.detection.default_boxes import Tiling, default_boxes
from ssd_jax.models.network import build_network
from tests.detection import tilings
from tests.detection.tilings import SSD300_COCO, SSD300_VOC, SSD512_COCO, SSD512_VOC
from tests.reference_results import references


def test_one_cell_by_hand():
    tiling = Tiling(
        image_size=100,
        feature_sizes=(2,),
        steps=(50,),
        min_sizes=(20,),
        max_sizes=(45,),
        aspect_ratios=((4,),),
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
    assert SSD300_VOC.min_sizes == (30, 60, 111, 162, 213, 264)
    assert SSD300_COCO.min_sizes == (21, 45, 99, 153, 207, 261)
    assert SSD512_VOC.min_sizes == (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8)
    assert SSD512_COCO.min_sizes == (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8)
    assert [tiling.max_sizes[-1] for tiling in (SSD300_VOC, SSD300_COCO)] == [315, 315]
    assert [tiling.max_sizes[-1] for tiling in (SSD512_VOC, SSD512_COCO)] == [537.6, 542.72]


@pytest.mark.parametrize(
    "config, tiling",
    [
        (ssd300_voc, SSD300_VOC),
        (ssd300_coco, SSD300_COCO),
        (ssd512_voc, SSD512_VOC),
        (ssd512_coco, SSD512_COCO),
    ],
)
def test_configs_have_the_sizes_of_the_formula(config, tiling):
    assert build_network(config.get_config().model, 20).tiling == tiling


def test_sizes_are_cut_to_whole_pixels_unless_told():
    tiling = Tiling(512, (1,), (512,), (35.84,), (76.8,), ((),))
    np.testing.assert_allclose(default_boxes(tiling)[:, 2] * 512, [35, np.sqrt(35 * 76)], rtol=1e-6)
    tiling = dataclasses.replace(tiling, whole_pixels=False)
    np.testing.assert_allclose(
        default_boxes(tiling)[:, 2] * 512, [35.84, np.sqrt(35.84 * 76.8)], rtol=1e-6
    )


def test_boxes_may_exceed_the_image_unless_clipped():
    tiling = Tiling(100, (1,), (100,), (100,), (144,), ((4,),))
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
    tiling = getattr(tilings, name.upper())
    boxes = default_boxes(dataclasses.replace(tiling, whole_pixels=whole_pixels, clip=clip))
    assert len(boxes) == tiling.num_boxes == count
    if not whole_pixels and count == 24564:  # SSD300's sizes are whole pixels anyway
        name += "_untruncated"
    if clip:
        name += "_clipped"
    for reference in references("default_boxes"):
        rows = reference.get(f"rows_{count}", slice(None))
        np.testing.assert_allclose(boxes[rows], reference[name], rtol=0, atol=1e-6)


def test_ssd300_coco_equals_torchvision():
    boxes = default_boxes(SSD300_COCO)
    boxes[:, 2:] = np.minimum(boxes[:, 2:], 1)  # torchvision cuts the sizes of two boxes
    boxes = cxcywh_to_xyxy(boxes) * 300
    for reference in references("default_boxes_torchvision_ssd300"):
        rows = reference.get("rows", slice(None))
        np.testing.assert_allclose(boxes[rows], reference["xyxy_pixels"], rtol=0, atol=1e-4)


def test_a_tiling_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="min_sizes has 1 entries, but feature_sizes has 2"):
        Tiling(300, (2, 1), (150, 300), (30,), (60, 90), ((2,), (2,)))
