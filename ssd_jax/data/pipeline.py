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
    mask       [batch] bool                false = padding, not an image

and, for evaluation,

    crowd      [batch, G] bool             a box round many objects
    area       [batch, G] float64          of the object's outline in square pixels, or NaN
"""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ssd_jax.data import augment, render
from ssd_jax.data.sources import Source, with_picture
from ssd_jax.pictures import open_picture, resize_to_square, size_in_file

Batch = dict[str, np.ndarray]


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
      expand_probability: see `augment.draw_windows`.
      expand_max_ratio: see `augment.draw_windows`.
      crop: see `augment.draw_windows`.
      seed: of order and augmentation.
      first_step: how many batches to leave out.
      process_index: this process.
      process_count: how many processes share the data.
      cache: see `Source.shuffled_records`.
    """

    def load(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        record = with_picture(_select_objects(record, ~record["crowd"]))
        return record | {"size": render.picture_size(record["image"])}

    def draw(step: tf.Tensor, records: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch_seed = tf.stack([tf.constant(seed, tf.int64), step * process_count + process_index])
        window_seed, method_seed = tf.unstack(tf.random.split(batch_seed, 2))
        windows = augment.draw_windows(
            window_seed, records["boxes"], expand_probability, expand_max_ratio, crop
        )
        placement = render.place(windows, records["size"], image_size)
        kept = (records["labels"] > 0) & augment.centre_inside(records["boxes"], windows)
        boxes = render.place_boxes(records["boxes"], placement, records["size"], image_size)
        records = records | {"boxes": tf.clip_by_value(boxes, 0.0, 1.0)}
        return _keep_largest(records, kept, max_objects) | {
            "placement": placement,
            "method": tf.random.stateless_uniform(
                [batch_size], method_seed, maxval=len(render.RESIZE_METHODS), dtype=tf.int32
            ),
        }

    def show(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        placement = render.Placement(*record["placement"])
        return _example(
            record,
            image=render.render(record["image"], placement, image_size, record["method"]),
            window=render.canvas_window(placement, image_size),
            size=record["size"],
        )

    # Pictures one by one where they are read and decoded; in between, what needs numbers alone
    # is done for a whole batch.
    first_position = first_step * batch_size
    records = source.shuffled_records(seed, first_position, process_index, process_count, cache)
    loaded = records.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    drawn = tf.data.Dataset.zip(steps, loaded.padded_batch(batch_size)).map(draw)
    examples = drawn.unbatch().map(show, num_parallel_calls=tf.data.AUTOTUNE)
    return iterate(examples.batch(batch_size, drop_remainder=True))


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


def eval_batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Every picture of this process's share once, whole and in order; the last batch is padded.

    Pictures are opened and resized as for prediction (`ssd_jax/pictures.py`), not as for training:
    a network is evaluated on the pixels that it will be given in use.

    All objects are there: G is the most that a picture of the batch has. Every process gets the
    same number of batches, so that all can work in step.

    Args:
      source: the pictures.
      image_size: S.
      batch_size: images a batch for this process.
      process_index: this process.
      process_count: how many processes share the data.
    """

    def show(encoded: bytes, image_id: bytes) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.asarray(open_picture(encoded, name=image_id.decode()))
        return resize_to_square(pixels, image_size), np.array(pixels.shape[:2], np.int32)

    def prepare(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        record = with_picture(record)
        image, size = tf.numpy_function(
            show, [record["image"], record["image_id"]], (tf.uint8, tf.int32), stateful=False
        )
        example = _example(
            record,
            image=tf.ensure_shape(image, [image_size, image_size, 3]),
            window=tf.constant(augment.WHOLE_PICTURE),
            size=tf.ensure_shape(size, [2]),
        )
        return example | {"crowd": record["crowd"], "area": record["area"]}

    examples = source.records(process_index, process_count).map(
        prepare, num_parallel_calls=tf.data.AUTOTUNE
    )
    num_batches = num_eval_batches(source, batch_size, process_count)
    padding = tf.data.Dataset.from_tensors(
        {
            key: tf.zeros([size or 0 for size in spec.shape], spec.dtype)
            for key, spec in examples.element_spec.items()
        }
    )
    padded = examples.concatenate(padding.repeat())
    return iterate(padded.padded_batch(batch_size, drop_remainder=True).take(num_batches))


def num_eval_batches(source: Source, batch_size: int, process_count: int = 1) -> int:
    """How many batches `eval_batches` gives."""
    largest_share = -(-source.num_examples // process_count)
    return -(-largest_share // batch_size)


def read_objects(source: Source) -> Iterator[dict[str, np.ndarray]]:
    """Every picture's objects, in order: a record of `Source`, and `size` as in a batch."""
    for record in iterate(source.records().map(with_picture, tf.data.AUTOTUNE)):
        width, height = size_in_file(record.pop("image"), name=record["image_id"].decode())
        yield record | {"size": np.array([height, width], np.int32)}


def read_pictures(source: Source, image_ids: Collection[str]) -> dict[str, np.ndarray]:
    """The pictures of these names as `[height, width, 3] uint8` RGB, in the size of their files."""
    wanted = tf.constant(sorted(image_ids), tf.string)
    chosen = source.records().filter(lambda record: tf.reduce_any(record["image_id"] == wanted))
    pictures = {}
    for record in iterate(chosen.map(with_picture)):
        name = record["image_id"].decode()
        pictures[name] = np.asarray(open_picture(record["image"], name=name))
    return pictures


OBJECT_KEYS = ("boxes", "labels", "difficult", "crowd", "area")


def _select_objects(record: dict[str, tf.Tensor], selected: tf.Tensor) -> dict[str, tf.Tensor]:
    return record | {key: tf.boolean_mask(record[key], selected) for key in OBJECT_KEYS}


def _keep_largest(
    records: dict[str, tf.Tensor], kept: tf.Tensor, max_objects: int
) -> dict[str, tf.Tensor]:
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


def _example(
    record: dict[str, tf.Tensor], *, image: tf.Tensor, window: tf.Tensor, size: tf.Tensor
) -> dict[str, tf.Tensor]:
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
    # A thread for each core, of our own. One picture is a small piece of work: threads go to many
    # pictures, not into one.
    options.threading.private_threadpool_size = 0
    options.threading.max_intra_op_parallelism = 1
    return batches.prefetch(2).with_options(options).as_numpy_iterator()
