"""The multibox loss (paper equations 1-3) with hard negative mining at static shapes.

Focal loss instead of mining, losses of boxes by overlap, and class weights are options.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from ssd_jax.config.schema import LossConfig
from ssd_jax.detection.box_coder import decode
from ssd_jax.detection.boxes import ArrayLike
from ssd_jax.detection.iou_losses import ciou_loss, giou_loss
from ssd_jax.detection.labels import BACKGROUND
from ssd_jax.detection.selection import largest

# The probability of an object in every default box of a new network, for focal loss: otherwise the
# many negatives make the first losses so large that they undo the rest (Lin et al. 2017, section
# 4.1).
FOCAL_PRIOR = 0.01

IOU_LOSSES = {"giou": giou_loss, "ciou": ciou_loss}

# Offsets are clipped to these, for sizes a factor of e¹⁰ on the default box: larger ones decode to
# boxes whose area is not finite.
LIMIT = np.array([np.inf, np.inf, 50, 50], np.float32)


def smooth_l1(difference: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """0.5 d² where |d| < 1, else |d| - 0.5, elementwise (Girshick 2015, equation 3)."""
    size = jnp.abs(difference)
    return jnp.where(size < 1, 0.5 * size * size, size - 0.5)


def softmax_cross_entropy(
    logits: Float[ArrayLike, "*shape classes"],
    labels: Integer[ArrayLike, "*shape"],
    smoothing: float = 0.0,
) -> Float[Array, "*shape"]:
    """-log softmax(logits)[label]; never negative.

    Args:
      logits: `[..., classes]`.
      labels: `[...]` in [0, classes).
      smoothing: the share of the target probability that is spread evenly over all classes, the
        labelled one included (Szegedy et al. 2015).
    """
    # A comparison instead of a gather: the gather's gradient would be a scatter-add.
    chosen = labels[..., None] == jnp.arange(logits.shape[-1])
    label_logit = jnp.sum(jnp.where(chosen, logits, 0), axis=-1)
    if smoothing:
        label_logit = (1 - smoothing) * label_logit + smoothing * jnp.mean(logits, axis=-1)
    return jnp.maximum(jax.nn.logsumexp(logits, axis=-1) - label_logit, 0)


def focal_loss(
    logits: Float[ArrayLike, "*shape classes"],
    labels: Integer[ArrayLike, "*shape"],
    settings: LossConfig = LossConfig(),
) -> Float[Array, "*shape"]:
    """Cross entropy times α (1 - p)^γ, where p = softmax(logits)[label] (Lin et al. 2017).

    Background has the factor 1 - α instead of α.

    Args:
      logits: `[..., classes]`.
      labels: `[...]` in [0, classes).
      settings: α, γ and label smoothing, which changes only the cross entropy, not p.
    """
    cross_entropy = softmax_cross_entropy(logits, labels)
    # 1 - p, exact also where p is nearly 1. Its power has no gradient at 0 where γ is below 1.
    doubt = jnp.maximum(-jnp.expm1(-cross_entropy), 1e-12)
    if settings.label_smoothing:
        cross_entropy = softmax_cross_entropy(logits, labels, settings.label_smoothing)
    alpha = jnp.where(labels > BACKGROUND, settings.focal_alpha, 1 - settings.focal_alpha)
    return alpha * doubt**settings.focal_gamma * cross_entropy


@jax.named_scope("mining")
def hard_negatives(
    background_loss: Float[ArrayLike, "batch boxes"],
    target_labels: Integer[ArrayLike, "batch boxes"],
    settings: LossConfig = LossConfig(),
) -> Bool[Array, "batch boxes"]:
    """Chooses the negatives with the highest loss in each image.

    Paper section 2.2, "Hard negative mining". Among equal losses the lower index is taken.

    Args:
      background_loss: the confidence loss of each box, not negative.
      target_labels: from `match_targets`. Only background is chosen.
      settings: how many are chosen: `negatives_per_positive` and `min_negatives`.
    """
    num_positive = jnp.sum(target_labels > BACKGROUND, axis=1)
    candidate = target_labels == BACKGROUND
    wanted = jnp.floor(settings.negatives_per_positive * num_positive).astype(jnp.int32)
    wanted = jnp.maximum(wanted, settings.min_negatives)
    wanted = jnp.minimum(wanted, jnp.sum(candidate, axis=1))

    loss = jnp.where(candidate, background_loss, -jnp.inf)
    chosen = largest(loss, jnp.maximum(wanted, 1))
    return chosen & (wanted > 0)[:, None]


class MultiboxLoss(NamedTuple):
    """Sums over a batch, to be divided by the positives of the global batch (at least 1)."""

    localisation: Float[Array, ""]
    confidence: Float[Array, ""]
    num_positives: Float[Array, ""]
    num_negatives: Float[Array, ""]  # the mined ones; with focal loss all

    def total(self, settings: LossConfig) -> Float[Array, ""]:
        """Confidence plus α times localisation (paper equation 1)."""
        return settings.localisation_weight * self.localisation + self.confidence


@jax.named_scope("loss")
def multibox_loss(
    offsets: Float[ArrayLike, "batch boxes 4"],
    logits: Float[ArrayLike, "batch boxes classes"],
    target_offsets: Float[ArrayLike, "batch boxes 4"],
    target_labels: Integer[ArrayLike, "batch boxes"],
    settings: LossConfig = LossConfig(),
    default_boxes: Float[ArrayLike, "boxes 4"] | None = None,
) -> MultiboxLoss:
    """Smooth L1 over the positives, cross entropy over positives and hard negatives.

    `settings` may select other losses. The sums are not divided by the normaliser N: it counts the
    positives of the *global* batch, which are on several devices.

    Args:
      offsets: outputs of the network.
      logits: outputs of the network; class 0 is background.
      target_offsets: used at positives only.
      target_labels: from `match_targets`.
      settings: the losses, the mining and the label smoothing. Class weights are numbers in
        the order of the labels: factors on the confidence loss of the positives of a class, which
        change neither the mining nor N.
      default_boxes: `cxcywh`; needed only for losses by overlap.

    Raises:
      ValueError: a loss by overlap has no default boxes, or there is not one class weight for
        each class.
    """
    positive = target_labels > BACKGROUND
    if settings.confidence == "focal":
        confidence = focal_loss(logits, target_labels, settings)
        negative = target_labels == BACKGROUND
    else:
        confidence = softmax_cross_entropy(logits, target_labels, settings.label_smoothing)
        negative = hard_negatives(jax.lax.stop_gradient(confidence), target_labels, settings)
    if settings.class_weights:
        confidence *= _label_weights(settings, logits.shape[-1])[target_labels]
    return MultiboxLoss(
        localisation=_localisation(offsets, target_offsets, positive, settings, default_boxes),
        confidence=jnp.sum(jnp.where(positive | negative, confidence, 0)),
        num_positives=jnp.sum(positive, dtype=jnp.float32),
        num_negatives=jnp.sum(negative, dtype=jnp.float32),
    )


def _label_weights(settings: LossConfig, num_labels: int) -> Float[Array, " labels"]:
    """The weight of each label: 1 for background, then the class weights."""
    weights = settings.weights_in_order
    if len(weights) != num_labels - 1:
        raise ValueError(
            f"class_weights is {settings.class_weights!r}, but the loss takes {num_labels - 1} "
            "numbers, one for each class"
        )
    return jnp.array([1, *weights], jnp.float32)


def _localisation(
    offsets: Float[ArrayLike, "batch boxes 4"],
    target_offsets: Float[ArrayLike, "batch boxes 4"],
    positive: Bool[ArrayLike, "batch boxes"],
    settings: LossConfig,
    default_boxes: Float[ArrayLike, "boxes 4"] | None,
) -> Float[Array, ""]:
    """The loss of the positives' boxes."""
    # Positives are selected first, so that the targets of negatives, which may be infinite, cannot
    # reach the gradient.
    if settings.localisation == "smooth_l1":
        difference = jnp.where(positive[..., None], offsets - target_offsets, 0)
        return jnp.sum(smooth_l1(difference))
    if default_boxes is None:
        raise ValueError(f"the loss {settings.localisation} needs default_boxes: pass them")
    boxes, targets = (
        decode(jnp.clip(jnp.where(positive[..., None], each, 0), -LIMIT, LIMIT), default_boxes)
        for each in (offsets, target_offsets)
    )
    loss = IOU_LOSSES[settings.localisation](boxes, targets)
    return jnp.sum(jnp.where(positive, loss, 0))
