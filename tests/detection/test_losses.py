import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.config.schema import LossConfig
from ssd_jax.detection import losses
from ssd_jax.detection.box_coder import encode
from ssd_jax.detection.default_boxes import default_boxes
from ssd_jax.detection.iou_losses import ciou_loss, giou_loss
from ssd_jax.detection.losses import focal_loss, smooth_l1, softmax_cross_entropy
from ssd_jax.detection.matcher import match_targets
from tests.helpers.reference_results import references
from tests.helpers.tilings import SSD300_VOC


@functools.partial(jax.jit, static_argnames="settings")
def hard_negatives(loss, positive, settings=LossConfig()):
    """The hard negatives of boxes that are positive or background."""
    return losses.hard_negatives(loss, jnp.where(positive, 1, 0), settings)


multibox_loss = jax.jit(losses.multibox_loss, static_argnames="settings")


def test_smooth_l1_by_hand():
    np.testing.assert_allclose(
        smooth_l1(jnp.array([-2.0, -1.0, -0.5, 0.0, 0.5, 3.0])), [1.5, 0.5, 0.125, 0, 0.125, 2.5]
    )


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]]))
    np.testing.assert_allclose(
        softmax_cross_entropy(logits, jnp.array([2, 0])), -np.log([0.7, 0.5]), rtol=1e-6
    )


def test_smoothed_cross_entropy_by_hand():
    # A tenth of the probability goes to the three classes in equal parts.
    logits = jnp.log(jnp.array([[0.1, 0.2, 0.7]]))
    wanted = np.array([0.1 / 3, 0.1 / 3, 0.9 + 0.1 / 3])
    np.testing.assert_allclose(
        softmax_cross_entropy(logits, jnp.array([2]), 0.1),
        [-(wanted * np.log([0.1, 0.2, 0.7])).sum()],
        rtol=1e-6,
    )


def test_cross_entropy_of_huge_logits_is_finite():
    loss = softmax_cross_entropy(jnp.array([[1e4, -1e4]]), jnp.array([1]))
    np.testing.assert_allclose(loss, [2e4])


def sorted_negatives(loss, positive, wanted):
    """Hard negatives by their definition: sorting."""
    order = [i for i in np.argsort(-loss, kind="stable") if not positive[i]]
    chosen = np.zeros(len(loss), bool)
    chosen[order[:wanted]] = True
    return chosen


def test_hard_negatives_equal_sorting():
    random = np.random.default_rng(0)
    loss = random.exponential(size=(64, 500)).astype(np.float32)
    loss[32:] = np.round(loss[32:], 1)  # many ties
    positive = random.uniform(size=loss.shape) < random.uniform(0, 0.5, (64, 1))
    positive[5] = False
    chosen = hard_negatives(loss, positive)
    for i in range(64):
        wanted = min(3 * positive[i].sum(), (~positive[i]).sum())
        np.testing.assert_array_equal(
            chosen[i], sorted_negatives(loss[i], positive[i], wanted), err_msg=f"row {i}"
        )


def test_ties_select_the_exact_number_of_negatives():
    positive = jnp.zeros((1, 20), bool).at[0, 3].set(True)
    chosen = hard_negatives(jnp.ones((1, 20)), positive)
    np.testing.assert_array_equal(np.flatnonzero(chosen[0]), [0, 1, 2])


def test_positives_are_never_hard_negatives():
    loss = jnp.array([[9.0, 1.0, 8.0, 0.5, 2.0]])
    positive = jnp.array([[True, False, False, False, False]])
    np.testing.assert_array_equal(
        hard_negatives(loss, positive, LossConfig(negatives_per_positive=2.0))[0],
        [False, False, True, False, True],
    )


def test_ignored_boxes_are_neither_positive_nor_negative():
    logits = jnp.array([[[0.0, 0.0], [0.0, 5.0], [0.0, 1.0]]])
    offsets = jnp.ones((1, 3, 4))
    labels = jnp.array([[1, -1, 0]])
    sums = multibox_loss(offsets, logits, 0 * offsets, labels)
    assert sums.num_positives == sums.num_negatives == 1 and sums.localisation == 4 * 0.5
    np.testing.assert_allclose(sums.confidence, np.log(2) + np.log(1 + np.e), rtol=1e-6)
    gradient = jax.grad(
        lambda logits: multibox_loss(offsets, logits, 0 * offsets, labels).confidence
    )(logits)
    assert not gradient[0, 1].any() and gradient[0, 2].any()


def test_all_positive_leaves_no_negatives():
    assert not hard_negatives(jnp.ones((1, 6)), jnp.ones((1, 6), bool)).any()


def test_all_negatives_are_taken_if_there_are_too_few():
    positive = jnp.array([[True, True, True, True, False, False]])
    np.testing.assert_array_equal(hard_negatives(jnp.ones((1, 6)), positive), ~positive)
    np.testing.assert_array_equal(
        hard_negatives(
            jnp.zeros((1, 6)), positive, LossConfig(negatives_per_positive=0.0, min_negatives=9)
        ),
        ~positive,
    )


def test_every_image_mines_for_itself():
    # The first image has the harder negatives, but one positive only.
    loss = jnp.array([[9.0] * 8, [1.0] * 8])
    positive = jnp.zeros((2, 8), bool).at[0, 0].set(True).at[1, :2].set(True)
    np.testing.assert_array_equal(hard_negatives(loss, positive).sum(axis=1), [3, 6])


def test_an_image_without_objects_gives_negatives_only_if_requested():
    loss, positive = jnp.arange(6.0)[None], jnp.zeros((1, 6), bool)
    assert not hard_negatives(loss, positive).any()
    np.testing.assert_array_equal(
        np.flatnonzero(hard_negatives(loss, positive, LossConfig(min_negatives=2))[0]), [4, 5]
    )


def test_multibox_loss_by_hand():
    offsets = jnp.array([[[0.5, 0, 0, 0], [9.0, 9, 9, 9], [9.0, 9, 9, 9]]])
    target_offsets = jnp.array([[[0.0, 2, 0, 0], [0.0, 0, 0, 0], [jnp.inf] * 4]])
    logits = jnp.log(jnp.array([[[0.5, 0.5], [0.8, 0.2], [0.4, 0.6]]]))
    labels = jnp.array([[1, 0, 0]])
    loss = multibox_loss(
        offsets, logits, target_offsets, labels, LossConfig(negatives_per_positive=1.0)
    )
    np.testing.assert_allclose(loss.localisation, 0.125 + 1.5, rtol=1e-6)
    np.testing.assert_allclose(loss.confidence, -np.log(0.5) - np.log(0.4), rtol=1e-6)
    assert loss.num_positives == loss.num_negatives == 1


def test_without_objects_the_loss_is_zero_and_so_are_gradients():
    offsets, logits = jnp.ones((2, 5, 4)), jnp.ones((2, 5, 3))

    def total(offsets, logits):
        targets = jnp.full((2, 5, 4), jnp.nan), jnp.zeros((2, 5), jnp.int32)
        sums = multibox_loss(offsets, logits, *targets)
        return (sums.localisation + sums.confidence) / jnp.maximum(sums.num_positives, 1)

    loss, gradients = jax.value_and_grad(total, argnums=(0, 1))(offsets, logits)
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients)


def test_without_negatives_all_default_boxes_are_in_the_loss():
    offsets, logits = jnp.zeros((1, 7, 4)), jnp.zeros((1, 7, 3))
    loss = multibox_loss(offsets, logits, jnp.full((1, 7, 4), 0.5), jnp.full((1, 7), 2))
    np.testing.assert_allclose(loss, [7 * 4 * 0.125, 7 * np.log(3), 7, 0], rtol=1e-6)


def test_background_changes_only_the_confidence_loss():
    offsets, logits = jnp.ones((2, 5, 4)), jnp.ones((2, 5, 3))

    def total(offsets, logits):
        targets = jnp.full((2, 5, 4), jnp.nan), jnp.zeros((2, 5), jnp.int32)
        sums = multibox_loss(offsets, logits, *targets, LossConfig(min_negatives=2))
        return sums.localisation + sums.confidence

    loss, gradients = jax.value_and_grad(total, argnums=(0, 1))(offsets, logits)
    np.testing.assert_allclose(loss, 2 * 2 * np.log(3), rtol=1e-6)
    assert not gradients[0].any()
    # Of equal losses the first two boxes; softmax less the target.
    third = [[-2 / 3, 1 / 3, 1 / 3]] * 2 + [[0, 0, 0]] * 3
    np.testing.assert_allclose(gradients[1], [third] * 2, rtol=1e-5)


def test_defaults_are_the_paper_bit_for_bit():
    random = np.random.default_rng(0)
    offsets, targets = random.normal(size=(2, 3, 50, 4)).astype(np.float32)
    logits = random.normal(size=(3, 50, 5)).astype(np.float32)
    labels = np.maximum(random.integers(-12, 5, (3, 50)), 0)

    def paper(offsets, logits):
        cross_entropy = softmax_cross_entropy(logits, labels)
        mined = losses.hard_negatives(jax.lax.stop_gradient(cross_entropy), labels)
        difference = jnp.where((labels > 0)[..., None], offsets - targets, 0)
        used = jnp.where((labels > 0) | mined, cross_entropy, 0)
        return jnp.sum(smooth_l1(difference)) + jnp.sum(used)

    def ours(offsets, logits):
        return losses.multibox_loss(offsets, logits, targets, labels).total(LossConfig())

    expected, got = (
        jax.jit(jax.value_and_grad(of, argnums=(0, 1)))(offsets, logits) for of in (paper, ours)
    )
    jax.tree.map(np.testing.assert_array_equal, expected, got)


def test_focal_loss_by_hand():
    logits = jnp.log(jnp.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]]))
    labels = jnp.array([2, 0])
    np.testing.assert_allclose(
        focal_loss(logits, labels),
        [0.25 * 0.3**2 * -np.log(0.7), 0.75 * 0.5**2 * -np.log(0.5)],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        focal_loss(logits, labels, LossConfig(focal_alpha=0.4, focal_gamma=0.5)),
        [0.4 * 0.3**0.5 * -np.log(0.7), 0.6 * 0.5**0.5 * -np.log(0.5)],
        rtol=1e-5,
    )
    # Without its power and with equal weights it is half of the cross entropy, smoothed or not.
    for smoothing in (0.0, 0.1):
        plain = LossConfig(focal_alpha=0.5, focal_gamma=0.0, label_smoothing=smoothing)
        np.testing.assert_allclose(
            focal_loss(logits, labels, plain),
            softmax_cross_entropy(logits, labels, smoothing) / 2,
            rtol=1e-6,
        )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_huge_logits_has_finite_gradients(gamma):
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4], [30.0, 0.0], [0.0, 0.0]])
    settings = LossConfig(focal_gamma=gamma)
    total = jax.jit(lambda logits: focal_loss(logits, jnp.zeros(4, int), settings).sum())
    gradient = jax.grad(total)(logits)
    assert np.isfinite(gradient).all() and gradient[1, 1] > 0.7


def test_with_focal_loss_every_negative_counts():
    # A positive, two negatives, and a box that is ignored; then an image without objects.
    logits = jnp.log(
        jnp.array([[[0.5, 0.5], [0.8, 0.2], [0.4, 0.6], [0.1, 0.9]], [[0.5, 0.5]] * 4])
    )
    labels = jnp.array([[1, 0, 0, -1], [0, 0, 0, 0]])
    zeros = jnp.zeros((2, 4, 4))
    loss = multibox_loss(zeros, logits, zeros, labels, LossConfig(confidence="focal"))
    half = -np.log(0.5) * 0.5**2
    hard = -np.log(0.8) * 0.2**2 - np.log(0.4) * 0.6**2
    np.testing.assert_allclose(loss, [0, 0.25 * half + 0.75 * (hard + 4 * half), 1, 6], rtol=1e-5)


def test_class_weights_by_hand():
    zeros = jnp.zeros((1, 6, 4))
    logits = jnp.zeros((1, 6, 3)).at[0, 3].set(jnp.array([0, 9.0, 0]))
    labels = jnp.array([[1, 2, 0, 0, 0, -1]])
    settings = LossConfig(negatives_per_positive=0.5, class_weights="2,7")
    hardest = np.log(2 + np.exp(9))
    # Neither what is mined nor the count of positives changes.
    np.testing.assert_allclose(
        multibox_loss(zeros, logits, zeros, labels, settings),
        [0, (2 + 7) * np.log(3) + hardest, 2, 1],
        rtol=1e-5,
    )
    weighted, plain = (
        multibox_loss(zeros, logits, zeros, labels, LossConfig(**focal)).confidence
        for focal in (
            {"confidence": "focal", "focal_gamma": 0.0, "class_weights": weights}
            for weights in ("2,7", "")
        )
    )
    np.testing.assert_allclose(weighted - plain, 0.25 * (1 + 6) * np.log(3), rtol=1e-5)


@pytest.mark.parametrize("weights", ["2", "2,7,1", "cat=2,dog=7", "balanced"])
def test_class_weights_are_one_number_for_each_class(weights):
    boxes, logits, labels = jnp.zeros((1, 3, 4)), jnp.zeros((1, 3, 3)), jnp.array([[1, 0, 0]])
    with pytest.raises(ValueError, match=f"class_weights is '{weights}', but the loss takes 2 num"):
        multibox_loss(boxes, logits, boxes, labels, LossConfig(class_weights=weights))


DEFAULT_BOXES = np.float32([[0.5, 0.5, 0.2, 0.4], [0.3, 0.3, 0.3, 0.3], [0.7, 0.6, 0.1, 0.1]])


@pytest.mark.parametrize("name, function", [("giou", giou_loss), ("ciou", ciou_loss)])
def test_losses_by_overlap_are_of_decoded_boxes_of_positives(name, function):
    boxes = np.float32([[[0.4, 0.3, 0.7, 0.75], [0.1, 0.15, 0.55, 0.4], [0.6, 0.6, 0.9, 0.9]]])
    targets = np.float32([[[0.45, 0.4, 0.6, 0.7], [0.2, 0.1, 0.4, 0.5], [0.6, 0.5, 0.8, 0.7]]])
    labels, logits = jnp.array([[1, 2, 0]]), jnp.zeros((1, 3, 3))
    offsets, target_offsets = (encode(each, DEFAULT_BOXES) for each in (boxes, targets))
    # What stands in the targets of negatives does not matter.
    target_offsets = target_offsets.at[0, 2].set(jnp.array([jnp.nan, jnp.inf, -jnp.inf, 0]))

    def localisation(offsets):
        settings = LossConfig(localisation=name)
        sums = losses.multibox_loss(
            offsets, logits, target_offsets, labels, settings, DEFAULT_BOXES
        )
        return sums.localisation

    loss = jax.jit(jax.value_and_grad(localisation))
    value, gradient = loss(offsets)
    np.testing.assert_allclose(value, function(boxes, targets)[0, :2].sum(), rtol=1e-4)
    assert gradient[0, :2].any(axis=-1).all() and not gradient[0, 2].any()
    # Offsets whose boxes are not finite, or have no area, change nothing else.
    for extreme in (1e5, -1e5):
        value, gradient = loss(offsets.at[0, 0, 2:].set(extreme))
        assert np.isfinite(value) and np.isfinite(gradient).all() and gradient[0, 1].any()


def test_losses_by_overlap_need_default_boxes():
    boxes, logits, labels = jnp.zeros((1, 3, 4)), jnp.zeros((1, 3, 2)), jnp.array([[1, 0, 0]])
    with pytest.raises(ValueError, match="giou needs default_boxes"):
        multibox_loss(boxes, logits, boxes, labels, LossConfig(localisation="giou"))


def test_with_and_without_jit():
    random = np.random.default_rng(0)
    arrays = (
        random.normal(size=(2, 60, 4)).astype(np.float32),
        random.normal(size=(2, 60, 5)).astype(np.float32),
        random.normal(size=(2, 60, 4)).astype(np.float32),
        np.maximum(random.integers(-12, 5, (2, 60)), 0),
    )

    def total(offsets, logits, target_offsets, labels):
        sums = multibox_loss(offsets, logits, target_offsets, labels)
        return sums.localisation + sums.confidence

    function = jax.value_and_grad(total, argnums=(0, 1))
    compiled = jax.jit(function)(*arrays)
    with jax.disable_jit():
        plain = function(*arrays)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), compiled, plain)


def test_targets_equal_the_reference():
    # The reference matches by ssd.pytorch's rule, which is the same where no objects compete for
    # a default box, as in the first two images.
    (reference, *_) = references("loss")
    real = np.arange(56) < reference["num_gt"][:, None]
    labels = np.where(real, reference["gt_labels"] + 1, 0)
    offsets, target_labels = jax.jit(match_targets)(
        reference["gt_boxes_xyxy"], labels, default_boxes(SSD300_VOC)
    )
    positive = np.asarray(target_labels[:2]) > 0
    np.testing.assert_array_equal(target_labels[:2], reference["target_labels"][:2])
    np.testing.assert_allclose(
        np.asarray(offsets[:2])[positive],
        reference["target_offsets_at_positives"][: positive.sum()],
        rtol=1e-4,
        atol=1e-4,
    )


def test_loss_mined_set_and_gradients_equal_the_reference():
    for reference in references("loss"):
        target_offsets = np.zeros((4, 8732, 4), np.float32)
        target_offsets[reference["target_labels"] > 0] = reference["target_offsets_at_positives"]
        selected = np.unpackbits(reference["selected_mask_packed"], axis=1, count=8732)
        rows = reference.get("rows", np.tile(np.arange(8732), (4, 1)))
        labels = np.take_along_axis(reference["target_labels"], rows, axis=1)
        target_offsets = np.take_along_axis(target_offsets, rows[..., None], axis=1)
        selected = np.take_along_axis(selected, rows, axis=1)
        count = reference["num_pos"]

        def total(offsets, logits, target_offsets=target_offsets, labels=labels):
            sums = multibox_loss(offsets, logits, target_offsets, labels)
            return (sums.localisation + sums.confidence) / sums.num_positives, sums

        (_, sums), gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(
            reference["offsets"], reference["logits"]
        )
        np.testing.assert_allclose(sums.num_positives, count)
        np.testing.assert_allclose(sums.localisation / count, reference["loc_loss"], rtol=1e-4)
        np.testing.assert_allclose(sums.confidence / count, reference["conf_loss"], rtol=1e-4)
        for gradient, norm in zip(gradients, ("loc_grad_norm", "conf_grad_norm"), strict=True):
            np.testing.assert_allclose(
                np.sqrt((gradient**2).sum(axis=(1, 2))), reference[norm], rtol=1e-4
            )
        cross_entropy = softmax_cross_entropy(reference["logits"], labels)
        mined = hard_negatives(cross_entropy, labels > 0)
        assert sums.num_negatives == mined.sum() == 3 * count
        np.testing.assert_array_equal((labels > 0) | mined, selected)
