"""Image files that would need minutes or gigabytes of a decoder: each is rejected."""

import functools
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ssd_jax.images.limits import MAX_MEMORY, MAX_PIXELS
from ssd_jax.images.opening import ORIENTATION_TAG
from tools.attacks.attack import Attack
from tools.attacks.measuring import MAX_BYTES, check_refused, run_measured

KIND = "image bombs"
Make = Callable[[], bytes]


def encoded(image_format: str, side: int = 64, **options: object) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, image_format, **options)
    return file.getvalue()


def scans(count: int, **options: object) -> bytes:
    """A JPEG with many copies of its last scan."""
    content = encoded("JPEG", 256, **options)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * count + b"\xff\xd9"


def segments(segment: bytes, count: int) -> bytes:
    """A JPEG that begins with many segments."""
    content = encoded("JPEG")
    return content[:2] + segment * count + content[2:]


def app(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def tags(count: int, size: int) -> bytes:
    """A directory of tags that all refer to the same bytes."""
    entries = b"".join(struct.pack("<HHLL", 40_000 + i, 7, size, 8) for i in range(count))
    return (
        struct.pack("<2sHL", b"II", 42, 8 + size)
        + bytes(size)
        + struct.pack("<H", count)
        + entries
        + bytes(4)
    )


def exif() -> bytes:
    content = b"Exif\0\0" + tags(2000, 40_000)
    pieces = [content[:65_000]]
    return segments(b"".join(app(0xE1, piece) for piece in pieces), 1)


def tiff() -> bytes:
    """A TIFF with thousands of tags that refer to the same 2 MB."""
    return tags(20_000, 2_000_000)


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">L", len(content)) + name + content + struct.pack(">L", checksum)


def png(width: int, height: int, kind: int = 2, bits: int = 8, extra: bytes = b"") -> bytes:
    header = struct.pack(">LLBBBBB", width, height, bits, kind, 0, 0, 0)
    pixels = zlib.compress(bytes(10**6))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def large_texts(count: int) -> bytes:
    """Texts of the largest accepted size, each of which takes a decoder 30 ms."""
    return chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(7_900_000))) * count


def png_behind(content: bytes) -> bytes:
    """A complete PNG, with chunks after its pixels."""
    whole = encoded("PNG")
    return whole[:-12] + content + whole[-12:]


def gif(comments: bytes) -> bytes:
    content = encoded("GIF")
    place = content.index(b",", 13 + 3 * 256)
    return content[:place] + comments + content[place:]


def header_only(image_format: str) -> bytes:
    """A file whose header is changed to claim 60,000 × 60,000 pixels."""
    content = bytearray(encoded(image_format))
    places = {"BMP": (18, "<LL"), "GIF": (6, "<HH")}
    place, form = places[image_format]
    struct.pack_into(form, content, place, 60_000, 60_000)
    return bytes(content)


FILES: dict[str, Make] = {
    "a progressive JPEG of 20,000 scans": functools.partial(scans, 20_000, progressive=True),
    "a progressive JPEG of 200 scans": functools.partial(scans, 200, progressive=True),
    "a JPEG of 20,000 scans": functools.partial(scans, 20_000),
    "a JPEG of 300,000 comments": functools.partial(segments, app(0xFE, b""), 300_000),
    "a JPEG of 300,000 EXIF blocks": functools.partial(
        segments, app(0xE1, b"Exif\0\0" + bytes(20)), 300_000
    ),
    "a JPEG of 20,000 XMP blocks": functools.partial(
        segments, app(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(100)), 20_000
    ),
    "a JPEG of 20,000 colour profiles": functools.partial(
        segments, app(0xE2, b"ICC_PROFILE\0\1\1" + bytes(100)), 20_000
    ),
    "a JPEG of ten million fill bytes": functools.partial(segments, b"\xff", 10**7),
    "a JPEG of ten million bytes of junk": functools.partial(segments, b"\0", 10**7),
    "a TIFF of tags that share 2 MB": tiff,
    "a PNG of 500,000 chunks": lambda: png(8, 8, extra=chunk(b"tEXt", b"a\0b") * 500_000),
    "a PNG of 500,000 empty pieces": lambda: png(500, 500, extra=chunk(b"IDAT", b"") * 500_000),
    "a PNG of 300,000 chunks behind it": lambda: png_behind(chunk(b"abCd", b"") * 300_000),
    "a PNG with a text of a gigabyte": lambda: png(
        8, 8, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))
    ),
    "a PNG of 200 texts of 900 KB": lambda: png(
        8, 8, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000))) * 200
    ),
    "a PNG of 1,000 texts of 8 MB": lambda: png(500, 500, extra=large_texts(1000)),
    "a PNG of 1,000 texts of 8 MB behind it": lambda: png_behind(large_texts(1000)),
    "a PNG of 60,000 × 60,000": lambda: png(60_000, 60_000),
    "a PNG of 2 ** 31 - 1 squared": lambda: png(2**31 - 1, 2**31 - 1),
    "a PNG of 16 bits and 14,000 × 14,000": lambda: png(14_000, 14_000, bits=16),
    "a GIF of 300,000 comments": lambda: gif(b"!\xfe\1a\0" * 300_000),
    "a GIF with a comment of 20 MB": lambda: gif(
        b"!\xfe" + (b"\xff" + bytes(255)) * 80_000 + b"\0"
    ),
    "a GIF of 60,000 × 60,000": lambda: header_only("GIF"),
    "a BMP of 60,000 × 60,000": lambda: header_only("BMP"),
    "a PPM of 60,000 × 60,000": lambda: b"P6\n60000 60000\n255\n" + bytes(100),
    "a PPM with a comment of 10 MB": lambda: b"P6\n#" + b"a" * 10**7 + b"\n1 1\n255\nabc",
    "ten million spaces in a PPM": lambda: b"P6\n" + b" " * 10**7 + b"1 1\n255\nabc",
}
# Pillow would go through these one by one; TensorFlow is done at once.
QUICK_FOR_TENSORFLOW = ("a PNG of 500,000 empty pieces", "a PNG of 300,000 chunks behind it")
# Valid images except for ignored parts.
READ: dict[str, Make] = {
    "a JPEG with EXIF tags that share 40 KB": exif,
    "a JPEG of 20 scans": lambda: encoded("JPEG", 256, progressive=True),
    "a JPEG with the mark of scans behind it": lambda: encoded("JPEG") + b"\xff\xda" * 10_000,
}


def largest(image_format: str, mode: str, limit: float, folder: Path, **options: Any) -> None:
    """Reads the largest accepted image of a kind; its memory stays within the limit of an attack.

    Args:
      image_format: a format of Pillow.
      mode: a mode of Pillow.
      limit: bytes per pixel in `check_memory`.
      folder: the output folder.
      options: see `Image.save`.
    """
    side = int((MAX_MEMORY / limit) ** 0.5) if limit else int(MAX_PIXELS**0.5)
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (side // 64 + 1, side // 64 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((side, side), Image.Resampling.NEAREST)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200)
    elif mode == "P":
        image = image.quantize(64, method=Image.Quantize.FASTOCTREE)
    elif mode != "RGB":
        image = image.convert(mode)
    if mode == "RGBA":
        image.putalpha(77)
    file = folder / "image"
    image.save(file, image_format, **options)
    del image
    printed, taken = run_measured(BEFORE, f"image_to_square(open_image({str(file)!r}), 300)")
    assert printed == "", printed
    assert taken < MAX_BYTES, f"it took {taken:,} bytes"


def turned() -> Image.Exif:
    """EXIF that rotates an image by 90 degrees."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    return exif


def deep(folder: Path) -> None:
    """The largest PNG of 16-bit colours."""
    side = int((MAX_MEMORY / 13) ** 0.5)
    packed = zlib.compressobj(1)
    row = b"\0" + np.arange(3 * side, dtype=">u2").tobytes()
    pixels = b"".join([packed.compress(row) for _ in range(side)]) + packed.flush()
    header = struct.pack(">LLBBBBB", side, side, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    file = folder / "image"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    printed, taken = run_measured(BEFORE, f"image_to_square(open_image({str(file)!r}), 300)")
    assert printed == "", printed
    assert taken < MAX_BYTES, f"it took {taken:,} bytes"


def wide(size: tuple[int, int], folder: Path) -> None:
    """An image of few rows, or columns."""
    file = folder / "image"
    Image.new("RGB", size).save(file, "PNG")
    printed, taken = run_measured(BEFORE, f"image_to_square(open_image({str(file)!r}), 300)")
    assert printed == "", printed
    assert taken < MAX_BYTES, f"it took {taken:,} bytes"


Run = Callable[[Path], None]
LARGEST: dict[str, Run] = {
    "RGB JPEG": functools.partial(largest, "JPEG", "RGB", 0),
    "RGB PNG": functools.partial(largest, "PNG", "RGB", 0, compress_level=1),
    "RGB TIFF": functools.partial(largest, "TIFF", "RGB", 0),
    "packed TIFF of one strip": functools.partial(
        largest, "TIFF", "RGB", 7, compression="tiff_adobe_deflate", strip_size=2**40
    ),
    "gray JPEG": functools.partial(largest, "JPEG", "L", 5),
    "palette": functools.partial(largest, "GIF", "P", 5),
    "palette with transparency": functools.partial(
        largest, "PNG", "P", 5, transparency=bytes(range(64)), compress_level=1
    ),
    "RGBA PNG": functools.partial(largest, "PNG", "RGBA", 8, compress_level=1),
    "CMYK JPEG": functools.partial(largest, "JPEG", "CMYK", 8),
    "JPEG turned by EXIF": functools.partial(largest, "JPEG", "RGB", 8, exif=turned()),
    "gray of 16 bits": functools.partial(largest, "PNG", "I;16", 6, compress_level=1),
    "progressive JPEG": functools.partial(
        largest, "JPEG", "RGB", 10, progressive=True, subsampling=0
    ),
    "progressive CMYK JPEG": functools.partial(
        largest, "JPEG", "CMYK", 12, progressive=True, subsampling=0
    ),
    "WebP": functools.partial(largest, "WEBP", "RGBA", 20, method=0),
    "AVIF": functools.partial(largest, "AVIF", "RGBA", 20, speed=10, quality=40),
    "JPEG 2000": functools.partial(largest, "JPEG2000", "RGBA", 24, num_resolutions=2),
    "colours of 16 bits": deep,
    "a million columns": functools.partial(wide, (10**6, 100)),
    "a million rows": functools.partial(wide, (100, 10**6)),
}
BEFORE = "from pathlib import Path\nfrom ssd_jax.images.opening import open_image, upright_file"
BEFORE += "\nfrom ssd_jax.images.resizing import image_to_square"


def opened(make: Make, folder: Path) -> None:
    file = folder / "image"
    file.write_bytes(make())
    check_refused(BEFORE, f"open_image({str(file)!r})")


def for_training(make: Make, folder: Path) -> None:
    """TensorFlow gets an empty file, so that decoding fails at once."""
    file = folder / "image"
    file.write_bytes(make())
    printed, _ = run_measured(BEFORE, f"print(len(upright_file(Path({str(file)!r}).read_bytes())))")
    assert printed == "0", printed


def well(make: Make, folder: Path) -> None:
    file = folder / "image"
    file.write_bytes(make())
    printed, taken = run_measured(BEFORE, f"open_image({str(file)!r})")
    assert printed == "", printed
    assert taken < 100_000_000, f"it took {taken:,} bytes"


def holes(start: bytes, folder: Path) -> None:
    """A file of 40 GB of holes, which takes no disk space."""
    file = folder / "image.jpg"
    with file.open("wb") as opened_file:
        opened_file.write(start)
        opened_file.truncate(40 * 10**9)
    check_refused(BEFORE, f"open_image({str(file)!r})")


ATTACKS: list[Attack] = [
    *(
        Attack(KIND, name, functools.partial(opened, make), quick="20,000 scans" in name)
        for name, make in FILES.items()
    ),
    *(
        Attack(KIND, f"{name}, in training", functools.partial(for_training, make))
        for name, make in FILES.items()
        if name not in QUICK_FOR_TENSORFLOW
    ),
    *(Attack(KIND, name, functools.partial(well, make)) for name, make in READ.items()),
    *(Attack(KIND, f"the largest {name}", run) for name, run in LARGEST.items()),
    Attack(KIND, "a file of holes", functools.partial(holes, b"")),
    Attack(KIND, "a JPEG and holes", functools.partial(holes, encoded("JPEG"))),
]
