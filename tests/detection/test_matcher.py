import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.config.schema import LossConfig
from ssd_jax.detection import matcher
from ssd_jax.detection.default_boxes import default_boxes
from ssd_jax.detection.exact_iou import ONE
from tests.helpers.reference_results import carried
from tests.helpers.tilings import SSD300_VOC

bipartite_match = jax.jit(matcher.bipartite_match)
match = jax.jit(matcher.match, static_argnums=1)
match_targets = jax.jit(matcher.match_targets, static_argnames="settings")


def match_image(boxes, labels, default_boxes, settings=LossConfig()):
    """Targets of a batch of one image."""
    offsets, target_labels = match_targets(boxes[None], labels[None], default_boxes, settings)
    return offsets[0], target_labels[0]


def units(iou) -> np.ndarray:
    """IoUs in the form of the matcher's input."""
    return np.round(np.asarray(iou) * ONE).astype(np.int32)


def greedy_match(iou: np.ndarray) -> np.ndarray:
    """The definition: the largest IoU of all pairs first, each object and box used once."""
    iou = iou.copy()
    matched = np.full(iou.shape[1], -1)
    for _ in range(iou.shape[0]):
        index, box = np.unravel_index(np.argmax(iou), iou.shape)
        if iou[index, box] <= 1e-6 * ONE:
            break
        matched[box] = index
        iou[index, :] = iou[:, box] = 0
    return matched


def test_every_object_keeps_its_own_box_below_the_threshold():
    # Both like box 0 best: the best box of each alone would leave one object without any.
    iou = units([[0.4, 0.3, 0.0], [0.45, 0.1, 0.0]])
    np.testing.assert_array_equal(match(iou, 0.5), [1, 0, -1])


def test_the_object_with_the_larger_overlap_gets_the_box():
    # Object 0 and 1 both like box 0 best; 1 likes it more, so 0 takes its second choice.
    iou = units([[0.6, 0.3, 0.1], [0.8, 0.4, 0.0]])
    np.testing.assert_array_equal(bipartite_match(iou), [1, 0, -1])


def test_an_object_that_loses_its_box_takes_the_next_best():
    iou = units([[0.9, 0.1, 0.05], [0.8, 0.7, 0.2], [0.0, 0.6, 0.3]])
    np.testing.assert_array_equal(bipartite_match(iou), [0, 1, 2])


def test_equal_overlaps_go_to_the_lower_indices():
    np.testing.assert_array_equal(bipartite_match(units(np.full((2, 3), 0.4))), [0, 1, -1])


def test_an_object_without_overlap_is_not_matched():
    np.testing.assert_array_equal(bipartite_match(units([[0.0, 1e-7]])), [-1, -1])


def test_equals_greedy_matching_on_random_overlaps():
    random = np.random.default_rng(0)
    overlaps = random.uniform(0, 1, (200, 7, 30))
    overlaps = np.where(random.uniform(size=overlaps.shape) < 0.5, np.round(overlaps, 1), overlaps)
    overlaps[overlaps < 0.2] = 0
    overlaps = units(overlaps)
    matched = jax.jit(jax.vmap(bipartite_match))(overlaps)
    for iou, ours in zip(overlaps, np.asarray(matched), strict=True):
        np.testing.assert_array_equal(ours, greedy_match(iou))


def test_free_boxes_join_from_the_threshold_on():
    iou = units([[0.9, 0.5, 0.49, 0.7], [0.1, 0.2, 0.3, 0.75]])
    np.testing.assert_array_equal(match(iou, 0.5), [0, 0, -1, 1])
    np.testing.assert_array_equal(match(iou, 0.4), [0, 0, 0, 1])


@pytest.mark.parametrize("padded_to", [56, 64, 100])
def test_equals_the_reference(padded_to):
    reference = carried("matching_bipartite")
    num_objects = reference["num_gt"]
    boxes = np.zeros((24, padded_to, 4), np.float32)
    boxes[:, :56] = reference["gt_boxes_xyxy"]
    # The class of an object is its place in the list, so that targets name the matched object.
    labels = np.where(np.arange(padded_to) < num_objects[:, None], np.arange(1, padded_to + 1), 0)
    _, matched = match_targets(boxes, labels, default_boxes(SSD300_VOC))
    np.testing.assert_array_equal(matched, reference["matched_gt_index"] + 1)


def test_padding_may_be_at_any_position():
    default = default_boxes(SSD300_VOC)
    boxes = jnp.array([[0.1, 0.1, 0.4, 0.5], [0.0, 0.0, 0.0, 0.0], [0.3, 0.2, 0.9, 0.8]])
    offsets, labels = match_image(boxes, jnp.array([3, 0, 7]), default)
    dense_offsets, dense_labels = match_image(boxes[::2], jnp.array([3, 7]), default)
    np.testing.assert_array_equal(labels, dense_labels)
    np.testing.assert_array_equal(offsets[labels > 0], dense_offsets[labels > 0])


def test_with_and_without_jit():
    default = default_boxes(SSD300_VOC)[::20]
    boxes = jnp.array([[0.1, 0.1, 0.4, 0.5], [0.12, 0.1, 0.42, 0.5], [0.3, 0.2, 0.9, 0.8]])
    labels = jnp.array([3, 4, 7])
    compiled_offsets, compiled_labels = match_image(boxes, labels, default)
    with jax.disable_jit():
        offsets, target_labels = match_image(boxes, labels, default)
    np.testing.assert_array_equal(compiled_labels, target_labels)
    positive = target_labels > 0
    np.testing.assert_allclose(compiled_offsets[positive], offsets[positive], rtol=1e-5, atol=1e-5)


def test_targets_of_an_image_without_objects_are_background():
    boxes, labels = jnp.zeros((3, 4)), jnp.zeros(3, jnp.int32)
    _, target_labels = match_image(boxes, labels, default_boxes(SSD300_VOC))
    assert not target_labels.any()


def test_one_object_as_large_as_the_image_and_one_of_a_pixel():
    default = default_boxes(SSD300_VOC)
    for box in ([0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.5 + 1 / 300, 0.5 + 1 / 300]):
        offsets, labels = match_image(jnp.array([box]), jnp.array([1]), default)
        assert labels.any()
        assert np.isfinite(offsets[labels > 0]).all()


def test_targets_point_to_the_object():
    default = jnp.array([[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]])
    boxes = jnp.array([[0.0, 0.0, 0.0, 0.0], [0.62, 0.6, 0.82, 0.8]])
    offsets, labels = match_image(boxes, jnp.array([0, 5]), default)
    np.testing.assert_array_equal(labels, [0, 5])
    np.testing.assert_allclose(offsets[1], [0.02 / 0.2 / 0.1, 0, 0, 0], atol=1e-5)


def test_boxes_beyond_the_image_can_be_ignored():
    default = jnp.array([[0.25, 0.5, 0.5, 0.5], [0.2, 0.5, 0.5, 0.5], [0.6, 0.5, 0.4, 0.4]])
    objects = jnp.array([[0.0, 0.25, 0.45, 0.75]])
    labels = jnp.array([3])
    # The object fits the second box best, which begins at -0.05.
    _, matched = match_image(objects, labels, default)
    np.testing.assert_array_equal(matched, [3, 3, 0])
    _, matched = match_image(objects, labels, default, LossConfig(boundary_boxes=False))
    np.testing.assert_array_equal(matched, [3, -1, 0])
    # The object is given the best of the boxes that take part, for all that it fits badly.
    _, matched = match_image(objects, labels, default[1:], LossConfig(boundary_boxes=False))
    np.testing.assert_array_equal(matched, [-1, 3])
