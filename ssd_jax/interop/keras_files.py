"""Checks weights files of Keras (HDF5 and zip): their claimed sizes, and links to other files."""

import zipfile
from pathlib import Path

from ssd_jax.errors import UserError, shown
from ssd_jax.interop.archives import check_claim, max_tensor_bytes, open_archive
from ssd_jax.storage.files import open_file

MAX_ITEMS = 10_000  # datasets and groups of a file


def check_keras_file(path: Path, network_bytes: int) -> None:
    """Rejects a file that claims too much, or links to other files, before Keras reads it.

    Args:
      path: the file.
      network_bytes: see `max_tensor_bytes`.

    Raises:
      UserError: the file is rejected.
    """
    import h5py

    most = max_tensor_bytes(path, network_bytes)
    if zipfile.is_zipfile(path):
        with open_file(path) as file, open_archive(file) as archive:
            check_claim(path, sum(entry.file_size for entry in archive.infolist()), most)
        return
    claimed, groups, num_items = 0, [], 0
    with h5py.File(path) as file:
        groups.append(file)
        while groups:
            group = groups.pop()
            for name in group:
                num_items += 1
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise UserError(f"{path} is rejected: its {shown(name)} is a link")
                item = group[name]
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif item.external or item.is_virtual:
                    raise UserError(f"{path} is rejected: its {shown(name)} is in another file")
                else:
                    claimed += item.nbytes
            check_claim(path, num_items, MAX_ITEMS, "parts")
            check_claim(path, claimed, most)
