"""Checks the arguments ANNOTATIONS:IMAGE_DIR of most formats."""

from pathlib import Path

from ssd_jax.data.problems import file_exists
from ssd_jax.data.spec import compose
from ssd_jax.errors import UserError
from ssd_jax.storage.files import local_path


def file_and_folder(name: str, annotations: str, image_dir: str) -> tuple[str, Path, Path]:
    """Checks that an annotation file and a folder of images exist.

    Args:
      name: the name of the format.
      annotations: the annotation file.
      image_dir: the folder of the images.

    Returns:
      The spec of the source, the annotation file, and the folder.

    Raises:
      UserError: the file or the folder does not exist.
    """
    source = compose(name, annotations, image_dir)
    path, folder = local_path(annotations), local_path(image_dir)
    if not file_exists(path):
        raise UserError(f"{source}: {path} does not exist")
    if not folder.is_dir():
        raise UserError(f"{source}: the folder {folder} does not exist")
    return source, path, folder
