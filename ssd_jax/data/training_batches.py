"""Makes training batches of one static shape with TensorFlow, as NumPy arrays.

A batch is a dictionary:

    image      [batch, S, S, 3] uint8      the canvas; 0 outside the window
    window     [batch, 4] float32 xyxy     position of the image on the canvas; the rest is fill;
                                           with mosaics [batch, 4, 4], one for each quarter
    boxes      [batch, G, 4] float32 xyxy  objects on the canvas, padded with zeros
    labels     [batch, G] int32            classes from 1, 0 = padding
    difficult  [batch, G] bool
    image_id   [batch] bytes
    size       [batch, 2] int32            height and width of the image in its file
    dropped    [batch] int32               left out objects: without area, or more than G
    mask       [batch] bool                false = an image that cannot be read
    broken     [batch] bool                an image that cannot be read: all zeros, no objects
    file       [batch] bytes               the image file; empty for images of TFDS

The stages, in order: order (`training_order.py`), read (`reading.py`), change (`custom.py`, with a
user's function), window (`geometry.py`), decode (`rendering.py`), join (`mosaic.py`, with mosaics).
"""

# Pyright's types of TensorFlow have neither slices with `...` nor tensors as seeds.
# pyright: reportArgumentType=false

import atexit
import contextlib
import functools
import traceback
import weakref
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from ssd_jax.config.schema import Config
from ssd_jax.data import geometry, mosaic, rendering
from ssd_jax.data.custom import custom_augmentation
from ssd_jax.data.custom_stage import raise_failure, reading
from ssd_jax.data.damage import Batch, each_image, explain_failure, report_broken
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.reading import OBJECT_KEYS, RecordReader
from ssd_jax.data.records import Record
from ssd_jax.data.tensorflow_setup import Tensors, tf
from ssd_jax.data.training_order import training_order
from ssd_jax.threads import num_cores

_running: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()

# Turns AutoGraph off: no function needs it, and it takes seconds at the start.
as_written = tf.autograph.experimental.do_not_convert


@as_written
def training_batches(
    config: Config,
    dataset: Dataset,
    batch_size: int,
    *,
    first_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Yields augmented batches without end; they depend only on the arguments.

    The batch of a step is the same in a continued run.

    Args:
      config: its image size, augmentation, `data` and seed are used.
      dataset: the images.
      batch_size: the number of images in a batch of this process.
      first_step: the number of batches to leave out.
      process_index: the index of this process.
      process_count: the number of processes.

    Raises:
      UserError: when batches are taken: an image cannot be read, or too many cannot.
      StoreError: when batches are taken: images are in a store that does not answer.
    """
    problems = dataset.problems
    size, threshold = config.model.image_size, config.data.repeat_threshold
    process = {"process_index": process_index, "process_count": process_count}
    per_image = functools.partial(each_image, batch_size=batch_size, skips=problems.skips)
    reader = RecordReader(dataset, config.data.cache)
    custom = custom_augmentation(config, len(dataset.class_names), process_index)

    def order(step: int) -> tf.data.Dataset:
        skipped = step * batch_size
        return training_order(dataset, config.seed, threshold, first_position=skipped, **process)

    # Images are read and decoded one by one; windows need only numbers and are drawn for a whole
    # batch at once.
    records = per_image(*reading(order(first_step), first_step * batch_size, reader, custom))
    draws = draws_from(first_step, config, process_index, process_count)
    windows = tf.data.Dataset.zip(records, draws).map(functools.partial(draw_windows, config))
    examples = per_image(
        windows.unbatch(),
        functools.partial(decode, size=size),
        functools.partial(decode_nothing, size=size),
        padded=False,
    )
    if config.augment.mosaic:
        join = functools.partial(join_images, config)
        examples = tf.data.Dataset.zip(examples, draws).map(join, num_parallel_calls=num_cores())

    def records_of(number: int) -> Iterator[Record]:
        of_batch = order(first_step + number).take(batch_size)
        return (dataset[int(index)] for index in of_batch.as_numpy_iterator())

    made = raise_failure(as_numpy(examples, reader), reader, custom)
    batches = explain_failure(made, records_of, problems)
    return report_broken(batches, problems) if problems.skips else batches


class Draw(NamedTuple):
    """The inputs of the random numbers of a batch.

    Attributes:
      seed: `[2]`, for stateless random numbers.
      is_augmented: `[] bool`: whether there are windows other than whole images, and mosaics.
    """

    seed: tf.Tensor
    is_augmented: tf.Tensor


def draws_from(
    first_step: int, config: Config, process_index: int, process_count: int
) -> tf.data.Dataset:
    """The `Draw` of each batch of a process, from a step on."""

    def draw(step: tf.Tensor) -> Draw:
        seed = tf.stack([tf.constant(config.seed, tf.int64), step * process_count + process_index])
        return Draw(seed, config.is_augmented(step))

    return tf.data.Dataset.range(first_step, np.iinfo(np.int64).max).map(draw)


def draw_windows(config: Config, records: Tensors, draw: Draw) -> Tensors:
    """The window stage: draws windows and resize methods, and transforms boxes.

    Args:
      config: its image size, augmentation and `data.max_objects` are used.
      records: a batch of records; objects are padded with zeros.
      draw: the draw of the batch.

    Returns:
      The records with boxes on the canvas, `data.max_objects` of each, with a `placement`, its
      `paddings`, the `window` and a resize `method`.
    """
    image_size, augment = config.model.image_size, config.augment
    window_seed, method_seed = tf.unstack(tf.random.split(draw.seed, 2))
    expand_probability = augment.expand_probability
    if augment.mosaic:  # mosaics replace the expansion
        batch_size = tf.shape(records["boxes"])[0]
        is_mosaic = mosaic.draw_places(draw.seed, batch_size, augment.mosaic)
        expand_probability = tf.where(is_mosaic, 0.0, expand_probability)
    windows = geometry.draw_windows(
        window_seed,
        records["boxes"],
        expand_probability,
        augment.expand_max_ratio,
        augment.crop_probability if augment.crop else 0.0,
    )
    if augment.plain_start or augment.plain_end:
        windows = tf.where(draw.is_augmented, windows, geometry.WHOLE_IMAGE)
    placement = rendering.place(windows, records["size"], image_size)
    kept = (records["labels"] > 0) & geometry.centre_inside(records["boxes"], windows)
    boxes = rendering.place_boxes(records["boxes"], placement, records["size"], image_size)
    records = records | {"boxes": tf.clip_by_value(boxes, 0.0, 1.0)}
    return keep_largest(records, kept, config.data.max_objects) | {
        "placement": placement,
        "paddings": rendering.paddings(placement, image_size),
        "window": rendering.canvas_window(placement, image_size),
        "method": tf.random.stateless_uniform(
            tf.shape(kept)[:1], method_seed, maxval=len(rendering.RESIZE_METHODS), dtype=tf.int32
        ),
    }


def join_images(config: Config, batch: Tensors, draw: Draw) -> Tensors:
    """The mosaic stage: replaces some images by mosaics; see `mosaic.py`.

    Args:
      config: its image size, `augment.mosaic` and `data.max_objects` are used.
      batch: see the top of this file.
      draw: the draw of the batch.
    """
    batch_size = tf.shape(batch["labels"])[0]
    is_mosaic = mosaic.draw_places(draw.seed, batch_size, config.augment.mosaic)
    mosaics = mosaic.choose_images(is_mosaic & draw.is_augmented)
    made = mosaic.make_mosaics(batch, mosaics, config.model.image_size)
    made = keep_largest(made, made["labels"] > 0, config.data.max_objects)
    return mosaic.replace_images(batch, made, mosaics.places)


def keep_largest(records: Tensors, kept: tf.Tensor, max_objects: int) -> Tensors:
    """Selects a static number of objects: the largest ones that are `kept`, then zeros.

    Args:
      records: objects are padded to `[batch, objects]`.
      kept: `[batch, objects] bool`.
      max_objects: the static number.
    """
    # Enough places for all objects, and at least one empty place at the end.
    padding = [[0, 0], [0, max_objects]]
    objects = {
        key: tf.pad(records[key], padding + [[0, 0]] * (len(records[key].shape) - 2))
        for key in OBJECT_KEYS
    }
    kept = tf.pad(kept, padding)
    boxes = objects["boxes"]
    area = tf.reduce_prod(boxes[..., 2:] - boxes[..., :2], axis=2)
    largest = tf.argsort(tf.where(kept, area, -1.0), direction="DESCENDING", stable=True)
    largest = largest[:, :max_objects]
    empty = tf.shape(kept)[1] - 1
    # In the order of the file, so that padding alone changes nothing.
    places = tf.sort(tf.where(tf.gather(kept, largest, batch_dims=1), largest, empty), axis=1)
    objects = {key: tf.gather(values, places, batch_dims=1) for key, values in objects.items()}
    too_many = tf.reduce_sum(tf.cast(kept, tf.int32), axis=1) - max_objects
    return records | objects | {"dropped": records["dropped"] + tf.maximum(too_many, 0)}


def decode(record: Tensors, size: int) -> Tensors:
    """The decode stage: draws the part of an image in its window on a canvas of side `size`."""
    placement = rendering.Placement(*record["placement"])
    encoded, padded, method = record["image"], record["paddings"], record["method"]
    return {
        "image": rendering.render(encoded, placement, padded, size, method),
        "window": record["window"],
        "size": record["size"],
        "mask": tf.constant(True),
        "broken": tf.constant(False),
        "file": record["path"],
        **{key: record[key] for key in (*OBJECT_KEYS, "image_id", "dropped")},
    }


def decode_nothing(record: Tensors, size: int) -> Tensors:
    """Replaces `decode` for an image that cannot be read: zeros, and no objects."""
    return {
        "image": tf.zeros([size, size, 3], tf.uint8),
        "window": tf.zeros([4]),
        "size": tf.zeros([2], tf.int32),
        "mask": tf.constant(False),
        "broken": tf.constant(True),
        "file": record["path"],
        "image_id": record["image_id"],
        **{key: tf.zeros_like(record[key]) for key in (*OBJECT_KEYS, "dropped")},
    }


def as_numpy(batches: tf.data.Dataset, reader: RecordReader) -> Iterator[Batch]:
    """The batches as NumPy arrays, prepared in advance by separate threads."""
    options = tf.data.Options()
    options.deterministic = True
    # The parallelism is fixed. The thread of autotuning may delay the end of the program by up to a
    # minute.
    options.autotune.enabled = False
    # A private thread for each core, and more that wait for a store. One image is a small task:
    # threads process many images.
    options.threading.private_threadpool_size = reader.num_threads
    options.threading.max_intra_op_parallelism = 1
    prepared: Any = batches.prefetch(2).with_options(options)
    made = _each(prepared.as_numpy_iterator())
    _running.add(made)
    return made


def _each(batches: Iterator[Batch]) -> Generator[Batch, None, None]:
    """Yields the same batches, and removes their iterator when it ends, fails or is closed.

    Otherwise Python's garbage collection could remove the iterator in any thread, for example in
    the thread of gcsfs or s3fs. The removal waits for Python functions that the iterator is
    calling, and these may wait for that thread: a deadlock.
    """
    try:
        yield from batches
    except tf.errors.OpError as error:
        traceback.clear_frames(error.__traceback__)  # the frames refer to the iterator
        raise
    finally:
        del batches


@atexit.register
def _end_all() -> None:
    """Ends all batches before Python ends.

    Otherwise there is a deadlock: their threads call Python to read images, and Python waits for
    the threads.
    """
    for batches in list(_running):
        with contextlib.suppress(ValueError):  # a thread is taking a batch
            batches.close()
