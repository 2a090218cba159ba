"""Files of weights that would take gigabytes: each is rejected with little memory."""

import functools
import json
import pickle
import struct
import zipfile
from pathlib import Path

from tools.attacks.attack import Attack
from tools.attacks.measuring import Write, weight_attack
from tools.attacks.pickle_bombs import dictionary, storage, tensor, torch_pickle, write, zip_file

# The most expensive ones for the readers.
QUICK = {
    "an npz of one gigabyte of void",
    "an npz of 400,000 parts",
    "safetensors with a header of 2 ** 60",
    "a caffemodel of ten million blobs",
}


def npz(arrays: dict[str, bytes], path: Path, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)


def npy(shape: str, kind: str, content: bytes = b"") -> bytes:
    """An array whose header claims a shape and a type."""
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def zeros(count: int) -> bytes:
    return npy(f"({count},)", "<f4", bytes(4 * count))


def many_entries(path: Path) -> None:
    """A directory of 400,000 entries of one empty part."""
    name = b"archive/data/0"
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0) + name
    entry = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0
    )
    directory = (entry + name) * 400_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), len(local), 0)
    path.write_bytes(local + directory + end)


def in_holes(content: bytes, path: Path) -> None:
    """A file of 40 GB of holes between some bytes; it takes no disk space."""
    with path.open("wb") as file:
        file.write(content)
        file.truncate(40 * 10**9)
        file.seek(0, 2)
        file.write(content)


def overlapping(path: Path) -> None:
    """A hundred storages that all refer to the same 30 MB of the archive."""
    content = bytes(30 * 10**6)
    count = len(content) // 4
    index = dictionary(
        **{f"a{i}": tensor(storage(str(i), count), (count,), (1,)) for i in range(100)}
    )
    zip_file(torch_pickle(index), {"0": content}, path)
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("archive/data/0")
        for i in range(1, 100):
            other = zipfile.ZipInfo(f"archive/data/{i}")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(other, name, getattr(first, name))
            archive.filelist.append(other)
            archive.NameToInfo[other.filename] = other
        archive._didModify = True  # pyright: ignore


def safetensors(header: bytes, path: Path, claimed: int | None = None) -> None:
    length = len(header) if claimed is None else claimed
    path.write_bytes(struct.pack("<Q", length) + header)


def one_tensor(shape: list[int], end: int) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()


def field(tag: int, content: bytes) -> bytes:
    """A protobuf field of bytes."""

    def varint(value: int) -> bytes:
        parts = bytearray()
        while value > 127:
            parts.append(value & 127 | 128)
            value >>= 7
        return bytes([*parts, value])

    return varint(tag << 3 | 2) + varint(len(content)) + content


def hdf5(path: Path, **links: object) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, value in links.items():
            file[name] = value
        if not links:
            file.create_dataset("a", (2**33,), "f4", compression="gzip", chunks=(2**20,))


def npz_of_zeros(path: Path) -> None:
    """An array of 1.2 GB in a megabyte."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as part,
    ):
        part.write(npy("(300000000,)", "<f4"))
        for _ in range(300):
            part.write(bytes(4 * 10**6))


def npz_in_holes(path: Path) -> None:
    npz_of_zeros(path)
    in_holes(path.read_bytes(), path)


def thousand_arrays(path: Path) -> None:
    npz({f"a{i}": zeros(500_000) for i in range(400)}, path)


def packed_index(path: Path) -> None:
    zip_file(torch_pickle(b"(" + b"]" * 10**8 + b"t"), {}, path, zipfile.ZIP_DEFLATED)


def one_array(shape: str, kind: str, content: bytes = b"") -> Write:
    return functools.partial(npz, {"a": npy(shape, kind, content)})


FILES: list[tuple[str, str, Write]] = [
    ("an npz of 1.2 GB of zeros", ".npz", npz_of_zeros),
    ("an npz in a file of holes", ".npz", npz_in_holes),
    ("an npz of 400 arrays", ".npz", thousand_arrays),
    ("an npz with a formula", ".npz", one_array("(2**60,)", "<f4")),
    ("an npz that claims 2 ** 60", ".npz", one_array(f"({2**60},)", "<f4")),
    ("an npz of one text of a gigabyte", ".npz", one_array("()", "<U1000000000")),
    ("an npz of one gigabyte of void", ".npz", one_array("()", "|V1000000000")),
    ("an npz of objects", ".npz", one_array("(1,)", "|O", b"x" * 9)),
    ("an npz with a long header", ".npz", one_array("(" + "1," * 20_000 + ")", "<f4")),
    (
        "an npz packed with LZMA",
        ".npz",
        functools.partial(npz, {"a": zeros(1000)}, method=zipfile.ZIP_LZMA),
    ),
    ("an npz of 400,000 parts", ".npz", many_entries),
    ("a pth of 400,000 parts", ".pth", many_entries),
    (
        "a pth in a file of holes",
        ".pth",
        functools.partial(in_holes, pickle.dumps(0x1950A86A20F9469CFC6C, 2)),
    ),
    ("parts that overlap", ".pth", overlapping),
    ("a pth whose index is packed", ".pth", packed_index),
    (
        "safetensors with a header of 2 ** 60",
        ".safetensors",
        functools.partial(safetensors, b"{}", claimed=2**60),
    ),
    (
        "safetensors with a header of 20 MB",
        ".safetensors",
        functools.partial(safetensors, b'{"__metadata__":{"a":"' + b"b" * 2 * 10**7 + b'"}}'),
    ),
    (
        "safetensors that claim 2 ** 60",
        ".safetensors",
        functools.partial(safetensors, one_tensor([2**58], 2**60)),
    ),
    (
        "safetensors whose shape overflows",
        ".safetensors",
        functools.partial(safetensors, one_tensor([2**32, 2**32, 4], 0)),
    ),
    (
        "safetensors in a file of holes",
        ".safetensors",
        functools.partial(in_holes, struct.pack("<Q", 2) + b"{}"),
    ),
    (
        "a caffemodel of ten million blobs",
        ".caffemodel",
        functools.partial(write, field(100, field(7, b"") * 10**7)),
    ),
    (
        "a caffemodel of ten million layers",
        ".caffemodel",
        functools.partial(write, field(100, b"") * 10**7),
    ),
    (
        "a caffemodel with a shape of 20 MB",
        ".caffemodel",
        functools.partial(write, field(100, field(7, field(7, field(1, b"\1" * 2 * 10**7))))),
    ),
    (
        "a caffemodel in a file of holes",
        ".caffemodel",
        functools.partial(in_holes, field(100, b"")),
    ),
]


def keras_files() -> list[tuple[str, str, Write]]:
    def link(path: Path) -> None:
        import h5py

        hdf5(path, a=h5py.ExternalLink("/dev/zero", "/"))

    return [
        ("an HDF5 file of 34 GB of zeros", ".h5", hdf5),
        ("an HDF5 file with a link", ".h5", link),
        ("an HDF5 file of holes", ".h5", functools.partial(in_holes, b"\x89HDF\r\n\x1a\n")),
        (
            "a Keras archive of a gigabyte",
            ".keras",
            functools.partial(npz, {"a": bytes(10**9)}),
        ),
    ]


keras_attack = functools.partial(
    weight_attack,
    before="from ssd_jax.interop.keras_weights import load_application\nimport keras",
    read="load_application('vgg16', {})",
)
ATTACKS: list[Attack] = [
    *(weight_attack(*each, quick=each[0] in QUICK) for each in FILES),
    *(keras_attack(*each) for each in keras_files()),
]
