"""An image with its objects, the input of the writers of formats."""

import dataclasses

from ssd_jax.data.records import Object


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image with its objects.

    Attributes:
      name: the file name, like `a.jpg`.
      encoded: the bytes of the file.
      size: (height, width), upright.
      objects: boxes in pixels.
    """

    name: str
    encoded: bytes
    size: tuple[int, int]
    objects: tuple[Object, ...]
