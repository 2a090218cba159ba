"""Fingerprints of data sets: the number of images of each part, and a digest of them."""

from ssd_jax.data.datasets import Dataset
from ssd_jax.errors import counted


def describe_parts(dataset: Dataset) -> list[str]:
    """Describes each part; equal parts have equal descriptions.

    The names of files and the order of images matter, folders do not. For records of TFDS, files
    and record numbers are compared, not the content.
    """
    return [f"{counted(len(part), 'image')} ({part.digest()})" for part in dataset.parts]
