"""Draws training images next to their files, to show wrong annotations."""

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ssd_jax.config.schema import Config, as_config
from ssd_jax.data.datasets import Dataset
from ssd_jax.errors import UserError, counted
from ssd_jax.images.contact_sheet import Picture, contact_sheet
from ssd_jax.images.drawing import DRAWN_SIDE, draw_boxes, draw_input
from ssd_jax.images.opening import open_image
from ssd_jax.storage.files import local_path
from ssd_jax.storage.outputs import check_output_files, check_picture_file
from ssd_jax.storage.replacing import replacing
from ssd_jax.training.augmentation import augment, image_keys, strength_at


def show_training_images(config: Config | ConfigDict, output: str, num_images: int) -> None:
    """Draws the first images of a training run with boxes, each next to its file.

    Args:
      config: a config of `configs/`.
      output: the file to write.
      num_images: the number of images.

    Raises:
      UserError: the config, the number or the source is wrong, or the file cannot be written.
    """
    from ssd_jax.data.choice import open_training_data
    from ssd_jax.data.training_order import training_order

    config = as_config(config)
    picture_file = local_path(output)
    check_output_files(picture_file)
    check_picture_file(output)
    if num_images < 1:
        raise UserError(f"images is {num_images}, but must be 1 or more")
    dataset = open_training_data(config)
    indices = training_order(dataset, config.seed, config.data.repeat_threshold).take(num_images)
    pictures = []
    for index, image, boxes, labels in zip(
        indices.as_numpy_iterator(), *_as_trained(config, dataset, num_images), strict=True
    ):
        record = dataset[index]
        try:
            picture = open_image(record.image)
        except UserError:  # left out by the run, which otherwise would have stopped before
            picture = Image.new("RGB", (DRAWN_SIDE, DRAWN_SIDE))
        scale = DRAWN_SIDE / max(picture.size)
        picture = picture.resize([max(1, round(side * scale)) for side in picture.size])
        in_pixels = record.boxes * np.array(picture.size * 2)
        drawn = draw_boxes(picture, in_pixels, record.labels, dataset.class_names)
        pictures.append(Picture(drawn, f"{record.name}\nthe file"))

        pixels = image.round().astype(np.uint8)
        drawn = draw_input(pixels, boxes, labels, dataset.class_names)
        caption = f"network input: {_num_objects(config, (labels > 0).sum(), len(record.labels))}"
        pictures.append(Picture(drawn, f"{record.name}\n{caption}"))
    try:
        with replacing(picture_file) as unfinished:
            contact_sheet(pictures).save(unfinished)
    except (OSError, ValueError) as error:
        raise UserError(f"{output} cannot be written: {error}") from error


def _num_objects(config: Config, num_trained: int, num_in_file: int) -> str:
    """The number of objects in the network input, and in the file if they correspond."""
    if config.augment.custom or config.augment.mosaic:
        return counted(num_trained, "object")
    return f"{num_trained} of {counted(num_in_file, 'object')}"


def _as_trained(config: Config, dataset: Dataset, num_images: int) -> list[np.ndarray]:
    """Pixels, boxes and labels of the first images of a run, after the device's augmentation."""
    from ssd_jax.data.training_batches import training_batches

    parts = []
    batches = training_batches(config, dataset, config.batch_size)
    for step in range(-(-num_images // config.batch_size)):
        batch = next(batches)
        keys = image_keys(config.seed, jnp.array(step), jnp.arange(config.batch_size))
        pixels, boxes = augment(
            keys,
            jnp.asarray(batch["image"]),
            jnp.asarray(batch["window"]),
            jnp.asarray(batch["boxes"]),
            jnp.asarray(batch["labels"]),
            config.augment,
            strength_at(config, step),
        )
        parts.append((pixels, boxes, batch["labels"]))
    return [np.concatenate(arrays)[:num_images] for arrays in zip(*parts, strict=True)]
