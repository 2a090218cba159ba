import numpy as np
import pytest

from configs import ssd300_voc
from ssd_jax.detection.default_boxes import Tiling, default_boxes
from ssd_jax.models.network import build_network
from tests.reference_results import golden

SSD300_VOC = build_network(ssd300_voc.get_config().model, 20).tiling


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


def test_sizes_are_truncated_to_whole_pixels():
    tiling = Tiling(512, (1,), (512,), (35.84,), (76.8,), ((),))
    np.testing.assert_allclose(default_boxes(tiling)[:, 2] * 512, [35, np.sqrt(35 * 76)], rtol=1e-6)


def test_counts():
    assert SSD300_VOC.num_boxes == 8732
    assert len(default_boxes(SSD300_VOC)) == 8732


def test_ssd300_equals_the_reference():
    np.testing.assert_allclose(
        default_boxes(SSD300_VOC), golden("default_boxes.npz")["ssd300_voc"], atol=1e-6
    )


def test_a_tiling_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="min_sizes has 1 entries, but feature_sizes has 2"):
        Tiling(300, (2, 1), (150, 300), (30,), (60, 90), ((2,), (2,)))
