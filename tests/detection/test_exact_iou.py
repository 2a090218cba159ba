import jax
import numpy as np
import pytest

from ssd_jax.detection.exact_iou import ONE, fixed_point_iou


def float64_iou(boxes: np.ndarray, default_boxes: np.ndarray) -> np.ndarray:
    """IoU by its definition, in float64."""
    boxes, default_boxes = boxes.astype(np.float64), default_boxes.astype(np.float64)
    centre, half = default_boxes[:, :2], default_boxes[:, 2:] / 2
    top_left = np.maximum(boxes[:, None, :2], centre - half)
    bottom_right = np.minimum(boxes[:, None, 2:], centre + half)
    intersection = np.maximum(bottom_right - top_left, 0).prod(axis=-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None] + default_boxes[:, 2:].prod(axis=1)
    return intersection / (areas - intersection)


@pytest.mark.parametrize("smallest", [0.2, 0.003])
def test_equals_float64(smallest):
    random = np.random.default_rng(0)
    corner = random.uniform(0, 0.7, (50, 2))
    size = random.uniform(smallest, 0.3, (50, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    default = random.uniform(0.05, 0.9, (2000, 4)).astype(np.float32)
    iou = np.asarray(jax.jit(fixed_point_iou)(boxes, default))
    exact = float64_iou(boxes, default) * ONE
    # Rounded to the nearest unit; next to a half the last bits may decide otherwise.
    assert np.abs(iou - exact).max() < 0.6
    assert iou.max() > 0.4 * ONE


def test_by_hand():
    default = np.array([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 1.0, 0.5], [0.9, 0.9, 0.1, 0.1]])
    boxes = np.array([[0.25, 0.25, 0.75, 0.75], [0.0, 0.25, 0.5, 0.75]])
    np.testing.assert_array_equal(
        fixed_point_iou(boxes.astype(np.float32), default.astype(np.float32)),
        [[ONE, ONE // 2, 0], [round(ONE / 3), ONE // 2, 0]],
    )


def test_an_empty_box_overlaps_nothing():
    empty = np.array([[0.5, 0.5, 0.5, 0.5], [0.6, 0.6, 0.4, 0.4]], np.float32)
    assert not fixed_point_iou(empty, np.array([[0.5, 0.5, 0.2, 0.2]], np.float32)).any()


def test_default_boxes_of_nearly_equal_area_are_distinguished():
    # float32 rounds both areas and both quotients to the same number.
    box = np.array([[0.49, 0.49, 0.51, 0.51]], np.float32)
    square = np.float32(0.1)
    wide, tall = np.float32(0.1 * np.sqrt(2)), np.float32(0.1 / np.sqrt(2))
    default = np.array([[0.5, 0.5, square, square], [0.5, 0.5, wide, tall]])
    assert square * square != wide.astype(np.float64) * tall
    iou = fixed_point_iou(box, default)[0]
    assert iou[0] != iou[1]
    np.testing.assert_array_equal(iou, np.round(float64_iou(box, default)[0] * ONE))


def test_exact_ties_are_kept():
    # One object within default boxes of one size, in 1000 places.
    random = np.random.default_rng(1)
    centres = random.uniform(0.45, 0.55, (1000, 2))
    default = np.concatenate([centres, np.full((1000, 2), 0.3)], axis=1).astype(np.float32)
    box = np.array([[0.47, 0.46, 0.53, 0.55]], np.float32)
    assert len(np.unique(fixed_point_iou(box, default))) == 1


def test_compiled_and_not_compiled_results_are_equal():
    random = np.random.default_rng(2)
    corner = random.uniform(0, 0.7, (20, 2))
    boxes = np.concatenate([corner, corner + 0.2], axis=1).astype(np.float32)
    default = random.uniform(0.05, 0.9, (500, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        jax.jit(fixed_point_iou)(boxes, default), fixed_point_iou(boxes, default)
    )
