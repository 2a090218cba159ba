"""The speed of the input pipeline in images per second, and of its lower bounds."""

import dataclasses
import os
import time
from collections.abc import Iterator

import psutil

from ssd_jax.data.custom_stage import reading
from ssd_jax.data.damage import images_at_once
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.reading import RecordReader
from ssd_jax.data.rendering import decode_whole
from ssd_jax.data.tensorflow_setup import tf
from ssd_jax.data.training_batches import as_numpy
from ssd_jax.data.training_order import training_order
from ssd_jax.threads import num_cores


@dataclasses.dataclass(frozen=True)
class Rate:
    """The speed of batches.

    Attributes:
      per_second: images per second.
      per_core: images per second of CPU time, summed over cores.
      memory_growth: growth of the process in bytes between a tenth of the images and the last.
    """

    per_second: float
    per_core: float
    memory_growth: int


def read_batches(dataset: Dataset, batch_size: int) -> Iterator:
    """Batches of encoded images that are only read."""
    reader = RecordReader(dataset)
    elements, read, _ = reading(training_order(dataset, seed=0), 0, reader, custom=None)
    lengths = elements.map(
        lambda element: tf.strings.length(read(element)["image"]),
        num_parallel_calls=images_at_once(),
    )
    return as_numpy(lengths.batch(batch_size), reader)


def decode_resize_batches(dataset: Dataset, batch_size: int, image_size: int) -> Iterator:
    """Batches of whole images, decoded and resized bilinearly: the minimum of any pipeline."""
    reader = RecordReader(dataset)
    elements, read, _ = reading(training_order(dataset, seed=0), 0, reader, custom=None)

    def decode_and_resize(element):
        encoded = read(element)["image"]
        image = tf.cond(
            tf.io.is_jpeg(encoded),
            lambda: tf.io.decode_jpeg(encoded, channels=3),
            lambda: decode_whole(encoded),
        )
        return tf.cast(tf.image.resize(image, [image_size, image_size]), tf.uint8)

    images = elements.map(decode_and_resize, num_parallel_calls=images_at_once())
    return as_numpy(images.batch(batch_size), reader)


def measure(batches: Iterator, batch_size: int, seconds: float, num_images: int = 0) -> Rate:
    """Measures the speed of batches, after a warm-up of up to a second.

    Args:
      batches: an endless iterator.
      batch_size: images per batch.
      seconds: the minimum time.
      num_images: the minimum number of images.
    """
    memory = psutil.Process().memory_info
    warm = time.perf_counter() + min(seconds, 1.0)
    while time.perf_counter() < warm:
        next(batches)
    start, processor_start, count, early_memory = time.perf_counter(), time.process_time(), 0, 0
    while (elapsed := time.perf_counter() - start) < seconds or count < num_images:
        if not early_memory and (elapsed >= seconds / 10 and count >= num_images / 10):
            early_memory = memory().rss
        next(batches)
        count += batch_size
    processor_time = time.process_time() - processor_start
    return Rate(
        per_second=count / (time.perf_counter() - start),
        per_core=count / processor_time,
        memory_growth=memory().rss - early_memory,
    )


def use_cores(count: int) -> int:
    """Limits this process to a number of cores; 0 = all. Returns the number that it uses.

    Call this before TensorFlow creates its threads.
    """
    if count and hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    return num_cores()
