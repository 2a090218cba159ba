import jax.numpy as jnp
import numpy as np

from ssd_jax.detection import boxes


def test_conversions_by_hand_and_back():
    xyxy = jnp.array([[0.1, 0.2, 0.5, 0.8]])
    cxcywh = boxes.xyxy_to_cxcywh(xyxy)
    np.testing.assert_allclose(cxcywh, [[0.3, 0.5, 0.4, 0.6]], atol=1e-7)
    np.testing.assert_allclose(boxes.cxcywh_to_xyxy(cxcywh), xyxy, atol=1e-7)


def test_area_of_an_inverted_box_is_zero():
    np.testing.assert_allclose(boxes.area(jnp.array([[0.0, 0, 2, 3], [1.0, 1, 0, 0]])), [6, 0])


def test_overlaps_by_hand():
    a = jnp.array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    b = jnp.array([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    iou = np.array([[1 / 7, 1, 0], [0, 1 / 4, 0]])
    for threshold in (0, 0.1, 1 / 4, 0.26, 0.9, 1):
        found = boxes.overlap_more_than(threshold, a, b)
        np.testing.assert_array_equal(found, iou > threshold)


def test_two_empty_boxes_do_not_overlap():
    empty = jnp.zeros((1, 4))
    assert not boxes.overlap_more_than(0, empty, empty)


def test_mirroring_by_hand_and_back():
    xyxy = jnp.array([[[0.1, 0.2, 0.5, 0.8]]])
    mirrored = boxes.mirrored(xyxy)
    np.testing.assert_allclose(mirrored, [[[0.5, 0.2, 0.9, 0.8]]], atol=1e-7)
    np.testing.assert_allclose(boxes.mirrored(mirrored), xyxy, atol=1e-7)
