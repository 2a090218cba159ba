"""The multibox loss (paper equations 1-3) with hard negative mining at static shapes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from ssd_jax.config.schema import LossConfig
from ssd_jax.detection.boxes import ArrayLike
from ssd_jax.detection.labels import BACKGROUND
from ssd_jax.detection.selection import largest


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
      smoothing: the share of the probability that all classes have in equal parts, the labelled
        one included (Szegedy et al. 2015).
    """
    # A comparison in place of a gather: the gather's gradient would be a scatter-add.
    chosen = labels[..., None] == jnp.arange(logits.shape[-1])
    label_logit = jnp.sum(jnp.where(chosen, logits, 0), axis=-1)
    if smoothing:
        label_logit = (1 - smoothing) * label_logit + smoothing * jnp.mean(logits, axis=-1)
    return jnp.maximum(jax.nn.logsumexp(logits, axis=-1) - label_logit, 0)


@jax.named_scope("mining")
def hard_negatives(
    background_loss: Float[ArrayLike, "batch boxes"],
    target_labels: Integer[ArrayLike, "batch boxes"],
    settings: LossConfig = LossConfig(),
) -> Bool[Array, "batch boxes"]:
    """Chooses, image by image, the negatives on which the network errs most.

    Paper section 2.2, "Hard negative mining". Among equal losses the lower index is taken.

    Args:
      background_loss: the confidence loss of each box, not negative.
      target_labels: as of `match_targets`. Only background is chosen.
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
    num_negatives: Float[Array, ""]  # those that were mined

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
) -> MultiboxLoss:
    """Smooth L1 over the positives, cross entropy over positives and hard negatives.

    The sums are not divided: the normaliser N counts the positives of the *global* batch, which a
    single device does not know.

    Args:
      offsets: the network's.
      logits: the network's; class 0 is background.
      target_offsets: read at positives only.
      target_labels: as of `match_targets`.
      settings: the mining and the label smoothing.
    """
    positive = target_labels > BACKGROUND
    cross_entropy = softmax_cross_entropy(logits, target_labels, settings.label_smoothing)
    negative = hard_negatives(jax.lax.stop_gradient(cross_entropy), target_labels, settings)
    # Selected before smooth L1, so that what stands in the targets of negatives (it may be
    # infinite) cannot reach the gradient.
    difference = jnp.where(positive[..., None], offsets - target_offsets, 0)
    return MultiboxLoss(
        localisation=jnp.sum(smooth_l1(difference)),
        confidence=jnp.sum(jnp.where(positive | negative, cross_entropy, 0)),
        num_positives=jnp.sum(positive, dtype=jnp.float32),
        num_negatives=jnp.sum(negative, dtype=jnp.float32),
    )
