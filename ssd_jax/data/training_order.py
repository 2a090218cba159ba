"""The order of the images in training, as indices into the data set."""

# Pyright's types of TensorFlow have neither slices with `...` nor tensors as seeds.
# pyright: reportArgumentType=false

from collections.abc import Sequence

import numpy as np

from ssd_jax.data.balance import repeat_factors
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.tensorflow_setup import tf
from ssd_jax.errors import UserError


def training_order(
    dataset: Dataset,
    seed: int,
    repeat_threshold: float = 0.0,
    *,
    first_position: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> tf.data.Dataset:
    """The endless sequence of one process's indices, shuffled again in every epoch.

    The order depends only on the arguments, so that a run can continue at any step. Skipping
    indices takes hardly any time.

    Args:
      dataset: the images.
      seed: the seed of the order.
      repeat_threshold: see `repeat_factors`. The length of an epoch does not change: images with
        rare classes are repeated, and some others are left out.
      first_position: the number of indices of this process to leave out.
      process_index: the index of this process.
      process_count: the number of processes.

    Returns:
      `[] int64`, indices into `dataset`.

    Raises:
      UserError: this process has no images.
    """
    shares = dataset.shares(process_index, process_count)
    buffers = [part.shuffle_buffer for part in dataset.parts]
    epoch_size = sum(map(len, shares))
    if epoch_size == 0:
        raise UserError(
            f"the training data has {len(dataset)} images, too few for {process_count} processes"
        )
    factors = repeat_factors(dataset, repeat_threshold)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        # One seed for shuffling: distant for consecutive seeds, consecutive for epochs.
        epoch_seed = tf.constant(seed, tf.int64) * 1_000_003 + number
        if factors is None:
            return _all_images(shares, buffers, epoch_seed)
        images = np.concatenate([np.array(share, np.int64) for share in shares])
        drawn = draw_repeated(tf.stack([epoch_seed, 0]), images, factors[images])
        return _shuffled(tf.data.Dataset.from_tensor_slices(drawn), epoch_size, epoch_seed)

    first_epoch, skipped = divmod(first_position, epoch_size)
    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
    return epochs.flat_map(epoch).skip(skipped)


def _all_images(
    shares: Sequence[range], buffers: Sequence[int], epoch_seed: tf.Tensor
) -> tf.data.Dataset:
    """Every index of each part's share once; `buffers` are the sizes of shuffle buffers."""
    shuffled = [
        _shuffled(tf.data.Dataset.range(share.start, share.stop, share.step), buffer, epoch_seed)
        for share, buffer in zip(shares, buffers, strict=True)
    ]
    if len(shuffled) == 1:
        return shuffled[0]
    return tf.data.Dataset.sample_from_datasets(
        shuffled, weights=[float(len(share)) for share in shares], seed=epoch_seed
    )


def _shuffled(indices: tf.data.Dataset, buffer: int, seed: tf.Tensor) -> tf.data.Dataset:
    return indices.shuffle(buffer, seed=seed, reshuffle_each_iteration=False)


def draw_repeated(seed: tf.Tensor, indices: np.ndarray, factors: np.ndarray) -> tf.Tensor:
    """Draws `count` of `count` indices, in order; some are repeated or left out.

    The expected frequency of an index is proportional to its factor. Its actual frequency is the
    expected one, rounded up or down.

    Args:
      seed: `[2]`, for stateless random numbers.
      indices: `[count]`.
      factors: `[count]`, above 0.
    """
    ends = np.cumsum(factors) * (len(factors) / factors.sum())
    ends[-1] = len(factors)  # without rounding errors
    offset = tf.random.stateless_uniform([], seed, dtype=tf.float64)
    until = tf.cast(tf.floor(np.concatenate([[0.0], ends]) + offset), tf.int64)
    return tf.repeat(indices, until[1:] - until[:-1])
