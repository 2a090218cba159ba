"""Interprets slices of splits, in the notation of TensorFlow Datasets."""

from pathlib import Path

import tensorflow_datasets as tfds

from ssd_jax.data.spec import compose
from ssd_jax.errors import UserError


def slice_of_folder(folder: Path, split: str) -> list[tuple[str, int, int]]:
    """The shards of a slice: the name of each, its first record, and the number (-1: the rest).

    Raises:
      UserError: the text is not a slice.
    """
    builder = tfds.builder_from_directory(folder)
    try:
        instructions = builder.info.splits[split].file_instructions
    except (KeyError, ValueError, AssertionError) as error:
        raise UserError(f"{compose('tfds', folder, split)}: {split!r} is not a slice") from error
    return [(Path(each.filename).name, each.skip, each.take) for each in instructions]
