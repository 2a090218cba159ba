"""The multibox loss (paper equations 1-3) with hard negative mining at static shapes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssd_jax.detection.selection import largest


def smooth_l1(difference: jax.Array) -> jax.Array:
    """0.5 d² where |d| < 1, else |d| - 0.5, elementwise (Girshick 2015, equation 3)."""
    size = jnp.abs(difference)
    return jnp.where(size < 1, 0.5 * size * size, size - 0.5)


def softmax_cross_entropy(
    logits: jax.Array, labels: jax.Array, smoothing: float = 0.0
) -> jax.Array:
    """-log softmax(logits)[label].

    Args:
      logits: `[..., classes]`.
      labels: `[...]` integers in [0, classes).
      smoothing: the share of the probability that all classes have in equal parts, the labelled
        one included (Szegedy et al. 2015).

    Returns:
      `[...]`, never negative.
    """
    # A comparison in place of a gather: the gather's gradient would be a scatter-add.
    chosen = labels[..., None] == jnp.arange(logits.shape[-1])
    label_logit = jnp.sum(jnp.where(chosen, logits, 0), axis=-1)
    if smoothing:
        label_logit = (1 - smoothing) * label_logit + smoothing * jnp.mean(logits, axis=-1)
    return jnp.maximum(jax.nn.logsumexp(logits, axis=-1) - label_logit, 0)


@jax.named_scope("mining")
def hard_negatives(
    background_loss: jax.Array,
    target_labels: jax.Array,
    negatives_per_positive: float = 3.0,
    min_negatives: int = 0,
) -> jax.Array:
    """Chooses, image by image, the negatives on which the network errs most.

    Paper section 2.2, "Hard negative mining". Among equal losses the lower index is taken.

    Args:
      background_loss: `[batch, boxes] float32`, not negative: the confidence loss of each box.
      target_labels: `[batch, boxes]`: positive where matched to an object; of those that are 0 some
        are chosen; negative ones are left alone.
      negatives_per_positive: how many are chosen for each positive of the image.
      min_negatives: how many are chosen at least, so that images without objects teach too.

    Returns:
      `[batch, boxes] bool`.
    """
    num_positive = jnp.sum(target_labels > 0, axis=1)
    candidate = target_labels == 0
    wanted = jnp.floor(negatives_per_positive * num_positive).astype(jnp.int32)
    wanted = jnp.maximum(wanted, min_negatives)
    wanted = jnp.minimum(wanted, jnp.sum(candidate, axis=1))

    loss = jnp.where(candidate, background_loss, -jnp.inf)
    chosen = largest(loss, jnp.maximum(wanted, 1))
    return chosen & (wanted > 0)[:, None]


class MultiboxLoss(NamedTuple):
    """Sums over a batch, to be divided by the positives of the global batch (at least 1)."""

    localisation: jax.Array  # [] float32
    confidence: jax.Array  # [] float32
    num_positives: jax.Array  # [] float32
    num_negatives: jax.Array  # [] float32, those that were mined


@jax.named_scope("loss")
def multibox_loss(
    offsets: jax.Array,
    logits: jax.Array,
    target_offsets: jax.Array,
    target_labels: jax.Array,
    negatives_per_positive: float = 3.0,
    min_negatives: int = 0,
    label_smoothing: float = 0.0,
) -> MultiboxLoss:
    """Smooth L1 over the positives, cross entropy over positives and hard negatives.

    The sums come back undivided: the normaliser N counts the positives of the *global* batch,
    which a single device does not know.

    Args:
      offsets: `[batch, boxes, 4]`, the network's.
      logits: `[batch, boxes, classes + 1]`, class 0 is background.
      target_offsets: `[batch, boxes, 4]`, read at positives only.
      target_labels: `[batch, boxes]`, 0 = background, negative = neither that nor an object.
      negatives_per_positive: see `hard_negatives`.
      min_negatives: see `hard_negatives`.
      label_smoothing: see `softmax_cross_entropy`.
    """
    positive = target_labels > 0
    cross_entropy = softmax_cross_entropy(logits, target_labels, label_smoothing)
    negative = hard_negatives(
        jax.lax.stop_gradient(cross_entropy), target_labels, negatives_per_positive, min_negatives
    )
    # Selected before smooth L1, so that what stands in the targets of negatives (it may be
    # infinite) cannot reach the gradient.
    difference = jnp.where(positive[..., None], offsets - target_offsets, 0)
    return MultiboxLoss(
        localisation=jnp.sum(smooth_l1(difference)),
        confidence=jnp.sum(jnp.where(positive | negative, cross_entropy, 0)),
        num_positives=jnp.sum(positive, dtype=jnp.float32),
        num_negatives=jnp.sum(negative, dtype=jnp.float32),
    )
