"""The folders and files that sources of data name, on a disk or in a bucket."""

from pathlib import Path

from ssd_jax.data import spec as grammar
from ssd_jax.data.discovery import Splits
from ssd_jax.errors import UserError
from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.placeholders import data_path, given_place

YAML = (".yaml", ".yml")
COPY = "copy them to a local disk, or convert them there, and copy the shards to the bucket"


def folder_and_split(source: str) -> tuple[Path | None, str]:
    """The folder or file that exists, and the split after the last colon, if any."""
    if whole := _existing(grammar.unquoted(source)):
        return whole, ""
    values = grammar.split_arguments(source, 2)
    if values and (folder := _existing(values[0])):
        return folder, values[1]
    return None, ""


def _existing(text: str) -> Path | None:
    """The path that a text names as a whole, if any."""
    if not text or (is_remote(text) and text.count("://") > 1):  # empty, or several places
        return None
    path = _local(text)
    return path if path.exists() else None


def _local(place: str) -> Path:
    """The local path of a place; of a `data.yaml`, next to the folders that it names."""
    path = data_path(place)
    if is_remote(place) and path.suffix.lower() in YAML and path.is_file():
        return data_path(place.rpartition("/")[0]) / path.name
    return path


def given_sources(splits: Splits) -> Splits:
    """The same sources, with the places in stores that users name instead of their placeholders."""
    return {split: list(map(given_place, own)) for split, own in splits.items()}


def placeholder(name: str, place: str) -> str:
    """The local placeholder of an argument that is a place in a store.

    Args:
      name: the name of the format.
      place: the argument.

    Raises:
      UserError: the place has no objects, or the format is read from local files alone.
    """
    if name == "tfrecord":
        raise UserError(
            f"{place}: records of the format tfrecord are read from local files: {COPY}"
        )
    path = _local(place)
    if not path.exists():
        raise UserError(f"{place} does not exist: there is no such object, and none below it")
    return str(path)
