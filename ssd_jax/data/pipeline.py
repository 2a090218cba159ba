"""Batches of one static shape, as NumPy arrays.

A batch is a dictionary:

    image      [batch, S, S, 3] uint8      the canvas; 0 outside the window
    window     [batch, 4] float32 xyxy     where on the canvas the picture lies; the rest is fill
    boxes      [batch, G, 4] float32 xyxy  objects on the canvas, padded with zeros
    labels     [batch, G] int32            classes from 1, 0 = padding
    difficult  [batch, G] bool
    image_id   [batch] bytes
    size       [batch, 2] int32            height and width of the picture in its file
    dropped    [batch] int32               objects left out: without area, or beyond G
    mask       [batch] bool                false = padding, or a picture that cannot be read

for training,

    broken     [batch] bool                a picture that cannot be read: all zeros, no objects
    file       [batch] bytes               the picture's; empty for those of TFDS

and, for evaluation,

    crowd      [batch, G] bool             a box round many objects
    area       [batch, G] float64          of the object's outline in square pixels, or NaN
"""

import os
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ssd_jax.data import geometry, rendering
from ssd_jax.data.damage import Batch, Tensors, explain_failure, for_each, tell, tell_of_broken
from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import Source, num_cores, pictures_at_once, with_picture
from ssd_jax.errors import UserError
from ssd_jax.images.opening import open_picture, resize_to_square, upright_size

# Nothing here needs Python's statements turned into TensorFlow's, which takes seconds at the start.
as_written = tf.autograph.experimental.do_not_convert


@as_written
def train_batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    max_objects: int,
    expand_probability: float,
    expand_max_ratio: float,
    crop: bool,
    seed: int,
    first_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    cache: bool = False,
) -> Iterator[Batch]:
    """Endless augmented batches; which ones depends on the arguments alone.

    A batch is that of its step, whether the steps before it were taken in one run or several.

    Args:
      source: the pictures.
      image_size: S.
      batch_size: images a batch for this process.
      max_objects: G; of more objects the largest are kept.
      expand_probability: see `geometry.draw_windows`.
      expand_max_ratio: see `geometry.draw_windows`.
      crop: see `geometry.draw_windows`.
      seed: of order and augmentation.
      first_step: how many batches to leave out.
      process_index: this process.
      process_count: how many processes share the data.
      cache: see `Source.shuffled_records`.

    Raises:
      UserError: when batches are taken: a picture cannot be read, or too many cannot.
    """

    def load(record: Tensors) -> Tensors:
        record = with_picture(record)
        return record | {"size": rendering.picture_size(record["image"])}

    def load_nothing(record: Tensors) -> Tensors:
        return record | {"image": tf.constant(b""), "size": tf.ones([2], tf.int32)}

    def draw(step: tf.Tensor, records: Tensors) -> Tensors:
        batch_seed = tf.stack([tf.constant(seed, tf.int64), step * process_count + process_index])
        window_seed, method_seed = tf.unstack(tf.random.split(batch_seed, 2))
        windows = geometry.draw_windows(
            window_seed, records["boxes"], expand_probability, expand_max_ratio, crop
        )
        placement = rendering.place(windows, records["size"], image_size)
        kept = (records["labels"] > 0) & geometry.centre_inside(records["boxes"], windows)
        boxes = rendering.place_boxes(records["boxes"], placement, records["size"], image_size)
        records = records | {"boxes": tf.clip_by_value(boxes, 0.0, 1.0)}
        return _keep_largest(records, kept, max_objects) | {
            "placement": placement,
            "method": tf.random.stateless_uniform(
                [batch_size], method_seed, maxval=len(rendering.RESIZE_METHODS), dtype=tf.int32
            ),
        }

    def show(record: Tensors) -> Tensors:
        placement = rendering.Placement(*record["placement"])
        example = _example(
            record,
            image=rendering.render(record["image"], placement, image_size, record["method"]),
            window=rendering.canvas_window(placement, image_size),
            size=record["size"],
        )
        return example | {"broken": tf.constant(False), "file": record["path"]}

    def show_nothing(record: Tensors) -> Tensors:
        example = _example(
            record,
            image=tf.zeros([image_size, image_size, 3], tf.uint8),
            window=tf.zeros([4]),
            size=tf.zeros([2], tf.int32),
        )
        for key in ("boxes", "labels", "difficult", "dropped", "mask"):
            example[key] = tf.zeros_like(example[key])
        return example | {"broken": tf.constant(True), "file": record["path"]}

    def records_from(step: int, cache: bool = False) -> tf.data.Dataset:
        return source.shuffled_records(seed, step * batch_size, process_index, process_count, cache)

    # Pictures one by one where they are read and decoded; in between, what needs numbers alone
    # is done for a whole batch. Where damaged pictures are left out, a batch is one piece of work:
    # see `for_each`.
    skips = source.problems.skips
    parallel = {"num_parallel_calls": num_cores() if skips else pictures_at_once()}
    records = records_from(first_step, cache).map(_without_crowds)
    if skips:
        load = for_each(load, load_nothing, batch_size)
        loaded = records.padded_batch(batch_size).map(load, **parallel)
    else:
        loaded = records.map(load, **parallel).padded_batch(batch_size)
    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    drawn = tf.data.Dataset.zip(steps, loaded).map(draw)
    if skips:
        examples = drawn.map(for_each(show, show_nothing, batch_size), **parallel)
    else:
        examples = drawn.unbatch().map(show, **parallel).batch(batch_size, drop_remainder=True)
    batches = explain_failure(
        iterate(examples),
        lambda number: records_from(first_step + number).take(batch_size),
        source.problems,
    )
    return tell_of_broken(batches, source.problems) if skips else batches


def build_train_batches(
    config: Any,
    source: Source,
    batch_size: int,
    *,
    first_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """`train_batches` as a config of `configs/` wants them."""
    return train_batches(
        source,
        image_size=config.model.image_size,
        batch_size=batch_size,
        max_objects=config.data.max_objects,
        expand_probability=config.augment.expand_probability,
        expand_max_ratio=config.augment.expand_max_ratio,
        crop=config.augment.crop,
        seed=config.seed,
        first_step=first_step,
        process_index=process_index,
        process_count=process_count,
        cache=config.data.cache,
    )


@as_written
def eval_batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Every picture of this process's share once, whole and in order; the last batch is padded.

    Pictures are opened and resized as for prediction (`ssd_jax/images`), not as for training: a
    network is evaluated on the pixels that it will be given in use.

    All objects are there: G is the most that a picture of the batch has. Every process gets the
    same number of batches, so that all can work in step.

    Args:
      source: the pictures.
      image_size: S.
      batch_size: images a batch for this process.
      process_index: this process.
      process_count: how many processes share the data.

    Raises:
      UserError: when batches are taken: a picture cannot be read, or too many cannot.
    """

    def show(path: bytes, encoded: bytes) -> tuple[np.ndarray, np.ndarray, bytes]:
        """The image, its size, and what is wrong."""
        try:
            pixels = np.asarray(open_picture(encoded or os.fsdecode(path), name="the picture"))
        except UserError as error:
            nothing = np.zeros((image_size, image_size, 3), np.uint8), np.zeros(2, np.int32)
            return *nothing, os.fsencode(str(error))
        size = np.array(pixels.shape[:2], np.int32)
        return resize_to_square(pixels, image_size), size, b""

    def prepare(record: Tensors) -> Tensors:
        image, size, error = tf.numpy_function(
            show,
            [record["path"], record["image"]],
            (tf.uint8, tf.int32, tf.string),
            stateful=False,
        )
        example = _example(
            record,
            image=tf.ensure_shape(image, [image_size, image_size, 3]),
            window=tf.constant(geometry.WHOLE_PICTURE),
            size=tf.ensure_shape(size, [2]),
        )
        return example | {
            "crowd": record["crowd"],
            "area": record["area"],
            "path": record["path"],
            "error": tf.ensure_shape(error, []),
        }

    records = source.records(process_index, process_count)
    examples = records.map(prepare, num_parallel_calls=pictures_at_once())
    num_batches = num_eval_batches(source, batch_size, process_count)
    padding = tf.data.Dataset.from_tensors(
        {
            key: tf.zeros([size or 0 for size in spec.shape], spec.dtype)
            for key, spec in examples.element_spec.items()
        }
    )
    padded = examples.concatenate(padding.repeat())
    batches = explain_failure(
        iterate(padded.padded_batch(batch_size, drop_remainder=True).take(num_batches)),
        lambda number: records.skip(number * batch_size).take(batch_size),
        source.problems,
    )
    return _without_unreadable(batches, source.problems)


def _without_unreadable(batches: Iterator[Batch], problems: Problems) -> Iterator[Batch]:
    """Tells of pictures with an error, and takes them out of the mask."""
    for batch in batches:
        paths, errors = batch.pop("path"), batch.pop("error")
        for i in np.flatnonzero(errors != b""):
            record = {"path": paths[i], "image_id": batch["image_id"][i]}
            tell(problems, record, os.fsdecode(errors[i]))
        yield batch | {"mask": batch["mask"] & (errors == b"")}


def num_eval_batches(source: Source, batch_size: int, process_count: int = 1) -> int:
    """How many batches `eval_batches` gives."""
    largest_share = -(-source.num_examples // process_count)
    return -(-largest_share // batch_size)


def read_objects(source: Source) -> Iterator[dict[str, np.ndarray]]:
    """Every picture's objects, in order: a record of `Source`, and `size` as in a batch.

    Pictures that cannot be read are left out.

    Raises:
      UserError: a picture cannot be read, or too many cannot.
    """
    for record in iterate(source.records()):
        try:
            width, height = upright_size(_file(record), name="the picture")
        except UserError as error:
            tell(source.problems, record, str(error))
            continue
        del record["image"]
        yield record | {"size": np.array([height, width], np.int32)}


def read_pictures(source: Source, image_ids: Collection[str]) -> dict[str, np.ndarray]:
    """The pictures of these names as `[height, width, 3] uint8` RGB, in the size of their files.

    Those that cannot be read are left out.

    Raises:
      UserError: a picture cannot be read, or too many cannot.
    """
    wanted = tf.constant(sorted(image_ids), tf.string)
    chosen = source.records().filter(lambda record: tf.reduce_any(record["image_id"] == wanted))
    pictures = {}
    for record in iterate(chosen):
        try:
            picture = open_picture(_file(record), name="the picture")
        except UserError as error:
            tell(source.problems, record, str(error))
            continue
        pictures[record["image_id"].decode()] = np.asarray(picture)
    return pictures


def _file(record: dict[str, bytes]) -> str | bytes:
    """The picture of a record, for what opens files."""
    return record["image"] or os.fsdecode(record["path"])


OBJECT_KEYS = ("boxes", "labels", "difficult", "crowd", "area")


def _without_crowds(record: Tensors) -> Tensors:
    return record | {key: tf.boolean_mask(record[key], ~record["crowd"]) for key in OBJECT_KEYS}


def _keep_largest(records: Tensors, kept: tf.Tensor, max_objects: int) -> Tensors:
    """Brings the objects of a batch to a static number: the largest of those kept, then zeros.

    Args:
      records: objects are padded to `[batch, objects]`.
      kept: `[batch, objects] bool`.
      max_objects: the static number.
    """
    # Room for all, and behind it a place that is surely empty.
    room = [[0, 0], [0, max_objects]]
    objects = {
        key: tf.pad(records[key], room + [[0, 0]] * (len(records[key].shape) - 2))
        for key in OBJECT_KEYS
    }
    kept = tf.pad(kept, room)
    boxes = objects["boxes"]
    area = tf.reduce_prod(boxes[..., 2:] - boxes[..., :2], axis=2)
    largest = tf.argsort(tf.where(kept, area, -1.0), direction="DESCENDING", stable=True)
    largest = largest[:, :max_objects]
    nowhere = tf.shape(kept)[1] - 1
    # In the order of the file, so that padding alone changes nothing.
    places = tf.sort(tf.where(tf.gather(kept, largest, batch_dims=1), largest, nowhere), axis=1)
    objects = {key: tf.gather(values, places, batch_dims=1) for key, values in objects.items()}
    too_many = tf.reduce_sum(tf.cast(kept, tf.int32), axis=1) - max_objects
    return records | objects | {"dropped": records["dropped"] + tf.maximum(too_many, 0)}


def _example(record: Tensors, *, image: tf.Tensor, window: tf.Tensor, size: tf.Tensor) -> Tensors:
    return {
        "image": image,
        "window": window,
        "boxes": record["boxes"],
        "labels": record["labels"],
        "difficult": record["difficult"],
        "image_id": record["image_id"],
        "size": size,
        "dropped": record["dropped"],
        "mask": tf.constant(True),
    }


def iterate(batches: tf.data.Dataset) -> Iterator[Batch]:
    options = tf.data.Options()
    options.deterministic = True
    # How much is done at once is given. The thread that would tune it may, when asked to end, sleep
    # on for up to a minute.
    options.autotune.enabled = False
    # A thread for each core, of our own. One picture is a small piece of work: threads go to many
    # pictures, not into one.
    options.threading.private_threadpool_size = 0
    options.threading.max_intra_op_parallelism = 1
    return batches.prefetch(2).with_options(options).as_numpy_iterator()
