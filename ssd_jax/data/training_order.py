"""The order of the images in training, as indices into the data set."""

# The types of TensorFlow that pyright brings know neither slices with `...` nor tensors as seeds.
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
    """Indices of one process's share, without end, shuffled anew for every epoch.

    The order depends on the arguments alone, so that a run can continue where it stopped: leaving
    out indices costs next to nothing.

    Args:
      dataset: the images.
      seed: of the order.
      repeat_threshold: see `repeat_factors`. An epoch is as long as without: images with rare
        classes are repeated, and of the others some are left out.
      first_position: how many indices of this process's sequence to leave out.
      process_index: this process.
      process_count: how many processes share the data.

    Returns:
      `[] int64`, indices into `dataset`.

    Raises:
      UserError: nothing falls to this process.
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
        # Shuffle takes one number: far apart for neighbouring seeds, successive for epochs.
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
    """Every index of each part's share once; so many of a part are shuffled together."""
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
    """As many of the indices as there are, in their order, some of them repeated or left out.

    The expected number of times of each is in proportion to its factor, and the number itself one
    of the two whole numbers next to that.

    Args:
      seed: `[2]`, for stateless random numbers.
      indices: `[count]`.
      factors: `[count]`, above 0.
    """
    ends = np.cumsum(factors) * (len(factors) / factors.sum())
    ends[-1] = len(factors)  # whatever rounding says
    offset = tf.random.stateless_uniform([], seed, dtype=tf.float64)
    until = tf.cast(tf.floor(np.concatenate([[0.0], ends]) + offset), tf.int64)
    return tf.repeat(indices, until[1:] - until[:-1])
