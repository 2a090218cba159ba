"""Files of weights: tensors by name."""

import zipfile
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from ssd_jax.errors import UserError
from ssd_jax.interop.caffe_model import read_caffe_model
from ssd_jax.interop.torch_pickle import read_torch_file
from ssd_jax.storage.files import local_path

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
# Under these names training programs keep the state dict, beside other things.
WRAPPERS = ("state_dict", "model", "model_state_dict")


def read_weights(file: str) -> dict[str, np.ndarray]:
    """The tensors of a file, which runs nothing of what it may hold.

    Args:
      file: `.npz`, `.safetensors`, `.pth`, `.pt`, `.bin` (PyTorch) or `.caffemodel`.

    Raises:
      UserError: the file cannot be read.
    """
    path = local_path(file)
    if not path.is_file():
        raise UserError(f"{file} cannot be read: there is no such file")
    if path.suffix == ".caffemodel":
        return read_caffe_model(path)
    if path.suffix in TORCH_SUFFIXES:
        return _state_dict(read_torch_file(path), path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as content:
                return dict(content)
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        safetensors.SafetensorError,
    ) as error:
        raise UserError(f"{file} cannot be read: {error or type(error).__name__}") from error
    raise UserError(
        f"{file} cannot be read: its name must end in .npz, .safetensors, .caffemodel, "
        f"{', '.join(TORCH_SUFFIXES)}"
    )


def _state_dict(content: object, path: Path) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch file, out of what is wrapped round them."""
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} holds no state dict")
    strangers = [name for name, value in content.items() if not isinstance(value, np.ndarray)]
    if strangers:
        raise UserError(f"{path} holds no state dict: its {strangers[0]!r} is no tensor")
    # Data parallel training puts this before every name.
    return {str(name).removeprefix("module."): value for name, value in content.items()}
