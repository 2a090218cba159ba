"""Downloads weights published by torchvision once, verifies their hash, and keeps them.

They are stored in the user's cache folder (`ssd_jax/weights`). Files copied there by hand are used
like downloaded ones.
"""

import http.client
import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ssd_jax.errors import UserError, reason_of
from ssd_jax.progress import progress_bar
from ssd_jax.storage.caches import cache_folder
from ssd_jax.storage.checksums import digest
from ssd_jax.storage.locks import locked_in_turn
from ssd_jax.storage.replacing import UNFINISHED, replacing

logger = logging.getLogger(__name__)

ADDRESS = "https://download.pytorch.org/models"
SECONDS = 30.0  # without any byte; then the download fails
CHUNK = 2**20  # bytes

_VGG16 = "vgg16_features-amdegroot-88682ab5.pth"  # reads pixels minus their mean, like Caffe's
_MOBILENET_V2 = "mobilenet_v2-7ebf99e0.pth"  # top-1 accuracy 72.154 % (first version: 71.878 %)
_SSD300 = "ssd300_vgg16_coco-b556d3b4.pth"  # 25.1 AP on COCO val2017

# By training data and backbone. The eight hexadecimal digits in a name are the beginning of the
# file's SHA-256. Accuracies are torchvision's.
FILES = {
    "imagenet": {
        "vgg16": _VGG16,
        "vgg16_mmdetection": _VGG16,
        "resnet50": "resnet50-11ad3fa6.pth",  # top-1 accuracy 80.858 % (first version: 76.130 %)
        "mobilenet_v2": _MOBILENET_V2,
        "mobilenet_v2_narrow": _MOBILENET_V2,
        "mobilenet_v2_stride_8": _MOBILENET_V2,
        "mobilenet_v3": "mobilenet_v3_large-5c1a4163.pth",  # 75.274 % (first version: 74.042 %)
    },
    "coco": {
        "vgg16": _SSD300,
        "vgg16_mmdetection": _SSD300,
        "mobilenet_v3": "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",  # 21.3 AP
    },
}


def published_file(trained_on: str, backbone: str) -> Path:
    """The file of the weights for a backbone; downloads it the first time.

    If several processes share a cache folder, one downloads, and the others wait.

    Args:
      trained_on: a key of `FILES`.
      backbone: a key of its entry.

    Raises:
      UserError: the file cannot be downloaded or stored, or its hash differs from its name.
    """
    address, path = address_and_path(trained_on, backbone)
    if not path.exists():
        with locked_in_turn(path.parent):
            if not path.exists():
                _download(address, path)
    wrong = _wrong_hash(path, path.name)
    if wrong:
        raise UserError(
            f"{path} is damaged: {wrong}; remove it to download it again from {address}"
        )
    return path


def address_and_path(trained_on: str, backbone: str) -> tuple[str, Path]:
    """The address of the weights of `published_file`, and the place of the file on this machine.

    Raises:
      UserError: this user has no home folder.
    """
    name = FILES[trained_on][backbone]
    try:
        folder = cache_folder("weights")
    except RuntimeError as error:
        raise UserError(
            f"{name} cannot be stored, because this user has no home folder: set XDG_CACHE_HOME to "
            "a folder"
        ) from error
    return f"{ADDRESS}/{name}", folder / name


def _download(address: str, path: Path) -> None:
    """Downloads a complete file with the right hash, or nothing; the folder must be locked."""
    for left in path.parent.glob(f".*{UNFINISHED}*"):  # from killed processes
        left.unlink(missing_ok=True)
    logger.info("downloading %s to %s", address, path)
    with replacing(path) as unfinished:
        with unfinished.open("wb") as file:
            for chunk in _receive(address, path):
                file.write(chunk)
        wrong = _wrong_hash(unfinished, path.name)
        if wrong:
            raise UserError(
                f"{address} sent a wrong file: {wrong}; download it again, or copy the right file "
                f"to {path}"
            )


def _receive(address: str, target: Path) -> Iterator[bytes]:
    """Yields the bytes at an address, in pieces.

    Raises:
      UserError: the download is incomplete; the message names the path for a manual download.
    """
    received = 0
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:
            total = answer.length  # None if the server does not state it
            bar = progress_bar(total=total, desc=target.name, unit="B", unit_scale=True)
            with bar:
                while chunk := answer.read(CHUNK):
                    received += len(chunk)
                    bar.update(len(chunk))
                    yield chunk
        if total is not None and received < total:
            raise OSError(f"the connection ended after {received:,} of {total:,} bytes")
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)  # the reason of a URLError is often another error
        reason = reason_of(cause if isinstance(cause, Exception) else error)
        raise UserError(
            f"{address} cannot be downloaded ({reason}): download it on another machine, and copy "
            f"it to {target}"
        ) from error


def _wrong_hash(file: Path, name: str) -> str:
    """Describes a wrong hash of a file; "" if the hash matches the name."""
    wanted = name.removesuffix(".pth").rpartition("-")[2]
    try:
        found = digest(file)
    except OSError as error:
        return f"it cannot be read ({reason_of(error)})"
    if found.startswith(wanted):
        return ""
    return f"its SHA-256 begins with {found[: len(wanted)]}, but must begin with {wanted}"
