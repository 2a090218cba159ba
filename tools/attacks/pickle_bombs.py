"""Pickles in PyTorch files that would take gigabytes, or forever, to read."""

import functools
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

from tools.attacks.attack import Attack
from tools.attacks.measuring import Write, weight_attack

# The most expensive ones for the reader.
QUICK = {
    "a place in the memo far away, zip",
    "one storage in 2,500 tensors, zip",
    "a key of tuples in tuples, before 1.6",
    "a tensor that repeats a value, before 1.6",
}


def torch_pickle(instructions: bytes) -> bytes:
    """A pickle of protocol 2 whose value the instructions leave on the stack."""
    return b"\x80\x02" + instructions + b"."


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    content = value.to_bytes(max(1, (value.bit_length() + 8) // 8), "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def storage(key: str, length: int, kind: str = "FloatStorage") -> bytes:
    """The instructions for a storage."""
    inside = text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    return b"(" + inside + number(length) + b"tQ"


def sizes(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(storage: bytes, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The instructions for a tensor."""
    arguments = storage + number(0) + sizes(shape) + sizes(strides) + b"\x89" + b"}"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def dictionary(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"u"


def write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def zip_file(index: bytes, parts: dict[str, bytes], path: Path, method: int = 0) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", index)
        for key, content in parts.items():
            archive.writestr(f"archive/data/{key}", content)


def as_zip(instructions: bytes, parts: dict[str, bytes] | None = None) -> Write:
    """Writes a PyTorch file of the format since 1.6."""
    return functools.partial(zip_file, torch_pickle(instructions), parts or {})


def as_legacy(instructions: bytes) -> Write:
    """Writes the index of a PyTorch file of the format before 1.6."""
    start = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    return functools.partial(write, start + torch_pickle(instructions))


def doubled(new: bytes, pair: bytes, times: int) -> bytes:
    """A value of two copies of the previous value, and so on: 2 ** times in total."""
    steps = (b"r" + struct.pack("<I", i) + b"j" + struct.pack("<I", i) + pair for i in range(times))
    return new + b"".join(steps)


PAIR = b"\x86"
FLOATS = np.zeros(300_000, np.float32).tobytes()  # of 1.2 MB
SHARED = {f"a{i}": tensor(storage("0", 300_000), (300_000,), (1,)) for i in range(2500)}
WIDE = {f"a{i}": tensor(storage("0", 1_000), (1_000, 1), (0, 0)) for i in range(9)}

PICKLES = {
    "a place in the memo far away": b"}r\xff\xff\xff\x0f",
    "a place in the memo at its end": b"}r\xff\xff\xff\xff",
    "tuples in tuples, doubled": dictionary(a=doubled(b")", PAIR, 60)),
    "a key of tuples in tuples": b"}" + doubled(b")", PAIR, 60) + b"Ns",
    "a million dictionaries": b"(" + b"}" * 1_000_000 + b"t",
    "ten million lists": b"(" + b"]" * 10_000_000 + b"t",
    "ten million sets": b"(" + b"\x8f" * 10_000_000 + b"t",
    "a million ordered dictionaries": b"ccollections\nOrderedDict\nq\x00("
    + b"h\x00)R" * 1_000_000
    + b"t",
    "tuples a million deep": b")" + b"\x85" * 1_000_000,
    "lists a million deep": b"]" * 1_000_000 + b"a" * 999_999,
    "lists that hold themselves": b"]q\x00h\x00a",
    "a text that claims 4 GB": b"X\xff\xff\xff\xff",
    "a text that claims 2 ** 62 bytes": b"\x8d" + struct.pack("<Q", 2**62),
    "a bytearray that claims 2 ** 40 bytes": b"\x96" + struct.pack("<Q", 2**40),
    "bytes that claim 2 ** 40 bytes": b"\x8e" + struct.pack("<Q", 2**40),
    "a frame that claims 2 ** 60 bytes": b"\x95" + struct.pack("<Q", 2**60) + b"}",
    "a number of ten million bytes": b"\x8b" + struct.pack("<I", 10**7) + b"\x7f" * 10**7,
    "a number of a million digits": b"I" + b"9" * 10**6 + b"\n",
    "a text of 20 MB": b"X" + struct.pack("<I", 2 * 10**7) + b"a" * 2 * 10**7,
    "one storage in 2,500 tensors": dictionary(**SHARED),
    "a storage of 2 ** 50 values": dictionary(
        a=tensor(storage("0", 2**50), (2**30,), (1,)),
    ),
    "a tensor that repeats a value": dictionary(a=tensor(storage("0", 10), (2**32,), (0,))),
    "a tensor of ten thousand dimensions": dictionary(
        a=tensor(storage("0", 10), (1,) * 10_000, (1,) * 10_000)
    ),
    "tensors of huge numbers": dictionary(
        a=tensor(storage("0", 10), (2**120, 2**120), (2**120, 0))
    ),
    "a storage called a million letters": dictionary(
        a=tensor(storage("0" * 10**6, 10), (10,), (1,))
    ),
}


ATTACKS: list[Attack] = [
    weight_attack(f"{name}, {form}", ".pth", write, quick=f"{name}, {form}" in QUICK)
    for name, instructions in PICKLES.items()
    for form, write in (
        ("zip", as_zip(instructions, {"0": FLOATS})),
        ("before 1.6", as_legacy(instructions)),
    )
]
