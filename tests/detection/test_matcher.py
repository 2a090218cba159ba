import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.detection.default_boxes import default_boxes
from ssd_jax.detection.matcher import bipartite_match, match, match_targets
from tests.detection.test_default_boxes import SSD300_VOC
from tests.reference_results import golden


def greedy_match(iou: np.ndarray) -> np.ndarray:
    """The definition: the largest IoU of all pairs first, each object and box used once."""
    iou = iou.copy()
    matched = np.full(iou.shape[1], -1)
    for _ in range(iou.shape[0]):
        index, box = np.unravel_index(np.argmax(iou), iou.shape)
        if iou[index, box] <= 1e-6:
            break
        matched[box] = index
        iou[index, :] = iou[:, box] = 0
    return matched


def test_every_object_keeps_its_own_box_below_the_threshold():
    # Both like box 0 best: the best box of each alone would leave one object without any.
    iou = jnp.array([[0.4, 0.3, 0.0], [0.45, 0.1, 0.0]])
    np.testing.assert_array_equal(match(iou, 0.5), [1, 0, -1])


def float64_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    size = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    intersection = np.maximum(size, 0).prod(axis=-1)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(axis=-1) for x in (a, b))
    return intersection / (area_a[:, None] + area_b - intersection)


def test_objects_compete_for_a_box_and_the_better_wins():
    # Object 0 and 1 both like box 0 best; 1 likes it more, so 0 takes its second choice.
    iou = jnp.array([[0.6, 0.3, 0.1], [0.8, 0.4, 0.0]])
    np.testing.assert_array_equal(bipartite_match(iou), [1, 0, -1])


def test_a_loser_pushes_the_next_one_on():
    iou = jnp.array([[0.9, 0.1, 0.05], [0.8, 0.7, 0.2], [0.0, 0.6, 0.3]])
    np.testing.assert_array_equal(bipartite_match(iou), [0, 1, 2])


def test_equal_overlaps_go_to_the_lower_indices():
    iou = jnp.full((2, 3), 0.4)
    np.testing.assert_array_equal(bipartite_match(iou), [0, 1, -1])


def test_an_object_without_overlap_is_not_matched():
    np.testing.assert_array_equal(bipartite_match(jnp.array([[0.0, 0.0]])), [-1, -1])


def test_equals_greedy_matching_on_random_overlaps():
    random = np.random.default_rng(0)
    overlaps = random.uniform(0, 1, (200, 7, 30)).astype(np.float32)
    overlaps = np.where(random.uniform(size=overlaps.shape) < 0.5, np.round(overlaps, 1), overlaps)
    overlaps[overlaps < 0.2] = 0
    matched = jax.jit(jax.vmap(bipartite_match))(overlaps)
    for iou, ours in zip(overlaps, np.asarray(matched), strict=True):
        np.testing.assert_array_equal(ours, greedy_match(iou))


def test_free_boxes_join_from_the_threshold_on():
    iou = jnp.array([[0.9, 0.5, 0.49, 0.7], [0.1, 0.2, 0.3, 0.75]])
    np.testing.assert_array_equal(match(iou, 0.5), [0, 0, -1, 1])


@pytest.mark.parametrize("padded_to", [56, 64])
def test_equals_the_reference(padded_to):
    # The reference ranks overlaps in float64, where float32 sees ties. Matching needs the order
    # alone, so it gets the rank of each overlap, as whole numbers that float32 holds exactly.
    reference = golden("matching_bipartite.npz")
    default = default_boxes(SSD300_VOC).astype(np.float64)
    default = np.concatenate(
        [default[:, :2] - default[:, 2:] / 2, default[:, :2] + default[:, 2:] / 2], axis=1
    )
    ranks = np.zeros((24, padded_to, SSD300_VOC.num_boxes), np.float32)
    thresholds = np.zeros(24, np.float32)
    for i, num_objects in enumerate(reference["num_gt"]):
        boxes = reference["gt_boxes_xyxy"][i, :num_objects].astype(np.float64)
        iou = float64_iou(boxes, default)
        distinct, rank = np.unique(iou, return_inverse=True)
        ranks[i, :num_objects] = rank.reshape(iou.shape) + (distinct[0] > 0)
        thresholds[i] = np.searchsorted(distinct, 0.5) + (distinct[0] > 0)
    matched = jax.jit(jax.vmap(match))(ranks, thresholds)
    np.testing.assert_array_equal(matched, reference["matched_gt_index"])


def test_targets_of_an_image_without_objects_are_background():
    boxes, labels = jnp.zeros((3, 4)), jnp.zeros(3, jnp.int32)
    _, target_labels = match_targets(boxes, labels, default_boxes(SSD300_VOC))
    assert not target_labels.any()


def test_targets_point_to_the_object():
    default = jnp.array([[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]])
    boxes = jnp.array([[0.0, 0.0, 0.0, 0.0], [0.62, 0.6, 0.82, 0.8]])
    offsets, labels = match_targets(boxes, jnp.array([0, 5]), default)
    np.testing.assert_array_equal(labels, [0, 5])
    np.testing.assert_allclose(offsets[1], [0.02 / 0.2 / 0.1, 0, 0, 0], atol=1e-5)
