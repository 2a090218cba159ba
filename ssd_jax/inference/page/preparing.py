"""Opens images for the network, in a separate process that can be killed.

Its protocol with `Preparer`: it reads the length of a file and the file from standard input, and
writes a line of JSON and the pixels to standard output.
"""

import json
import os
import sys
from typing import BinaryIO

import numpy as np
from PIL import Image

from ssd_jax.errors import UserError
from ssd_jax.images.opening import open_image
from ssd_jax.images.resizing import resize_to_square

LENGTH_BYTES = 8
MAX_PIXELS = 50_000_000
MAX_MEMORY = 500 * 2**20  # bytes of this process
STRIP = 64  # rows
NO_MEMORY = (
    f"the image cannot be read: it needs more than {MAX_MEMORY // 2**20} MiB of memory. Make it "
    "smaller"
)


def main() -> None:
    """Answers files one by one, until standard input ends."""
    side = int(sys.argv[1])
    files = sys.stdin.buffer
    # Other output must not mix with the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit_memory()
    while length := files.read(LENGTH_BYTES):
        _answer(files.read(int.from_bytes(length)), side, answers)
        answers.flush()


def _answer(file: bytes, side: int, answers: BinaryIO) -> None:
    try:
        image = open_image(file, name="the image", max_pixels=MAX_PIXELS)
        pixels = resize_to_square(_pixels(image), side)
    except (UserError, MemoryError) as error:
        is_memory = isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)
        answers.write(_line({"error": NO_MEMORY if is_memory else str(error)}))
    else:
        answers.write(_line({"height": image.height, "width": image.width}))
        answers.write(pixels.tobytes())


def _line(content: dict[str, str | int]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _pixels(image: Image.Image) -> np.ndarray:
    """`[height, width, 3] uint8` of an RGB image, with half of NumPy's memory."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, STRIP):
        strip = pixels[top : top + STRIP]
        strip[:] = np.asarray(image.crop((0, top, image.width, top + len(strip))))
    return pixels


def _limit_memory() -> None:
    """Makes decoders fail that need more than `MAX_MEMORY`, if the system supports it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))


if __name__ == "__main__":
    main()
