"""The order of the images in training, as indices into the data set."""

# The types of TensorFlow that pyright brings know neither slices with `...` nor tensors as seeds.
# pyright: reportArgumentType=false

import numpy as np

from ssd_jax.data.datasets import Dataset
from ssd_jax.data.tensorflow_setup import tf
from ssd_jax.errors import UserError


def training_order(
    dataset: Dataset,
    seed: int,
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

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        # Shuffle takes one number: far apart for neighbouring seeds, successive for epochs.
        epoch_seed = tf.constant(seed, tf.int64) * 1_000_003 + number
        shuffled = [
            tf.data.Dataset.range(share.start, share.stop, share.step).shuffle(
                buffer, seed=epoch_seed, reshuffle_each_iteration=False
            )
            for share, buffer in zip(shares, buffers, strict=True)
        ]
        if len(shuffled) == 1:
            return shuffled[0]
        return tf.data.Dataset.sample_from_datasets(
            shuffled, weights=[float(len(share)) for share in shares], seed=epoch_seed
        )

    first_epoch, skipped = divmod(first_position, epoch_size)
    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
    return epochs.flat_map(epoch).skip(skipped)
