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


def test_iou_by_hand():
    a = jnp.array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    b = jnp.array([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    np.testing.assert_allclose(
        boxes.intersection_over_union(a, b), [[1 / 7, 1, 0], [0, 1 / 4, 0]], rtol=1e-6
    )


def test_iou_of_two_empty_boxes_is_zero_not_nan():
    empty = jnp.zeros((1, 4))
    assert boxes.intersection_over_union(empty, empty)[0, 0] == 0


def test_mirroring_by_hand_and_back():
    xyxy = jnp.array([[[0.1, 0.2, 0.5, 0.8]]])
    mirrored = boxes.mirrored(xyxy)
    np.testing.assert_allclose(mirrored, [[[0.5, 0.2, 0.9, 0.8]]], atol=1e-7)
    np.testing.assert_allclose(boxes.mirrored(mirrored), xyxy, atol=1e-7)
