"""Uploads to the page that are damaged, not images, or far larger than they look."""

import functools
import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tools.attacks.attack import Attack
from tools.attacks.page_server import picture, the_server

KIND = "page: uploads"
MEMORY = 500 * 2**20  # the limit of memory of one file, in bytes


def _check(name: str, content: bytes, words: Sequence[str] = (), quick: bool = True) -> Attack:
    """A file that must be rejected or read within seconds; others are served after it."""

    def run(folder: Path) -> None:
        server = the_server()
        answer = server.detect(content)
        assert answer.status in (200, 422), f"{answer.status}: {answer.body[:300]!r}"
        if words:
            assert answer.status == 422, "it was read"
            assert any(word in answer.error for word in words), answer.error
        assert "\n" not in answer.error and len(answer.error) < 500
        if not quick:
            server.check_well()

    return Attack(KIND, name, run, quick)


KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")


def _damages(kind: str) -> dict[str, bytes]:
    whole = picture(90, 60, kind)
    middle = len(whole) // 2
    return {
        "half of": whole[:middle],
        "the first 20 bytes of": whole[:20],
        "zeros in": whole[:middle] + bytes(min(64, middle)) + whole[middle + 64 :],
        "ones in the headers of": whole[:12] + b"\xff" * 8 + whole[20:],
        "rubbish behind": whole + bytes(range(256)) * 100,
    }


DAMAGED = [
    _check(f"{name} {kind}", content) for kind in KINDS for name, content in _damages(kind).items()
]

OTHER_FILES = {
    "text": b"a text\n",
    "zeros": bytes(100_000),
    "an SVG with an entity of a file": b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a SYSTEM '
    b'"file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg"><text>&a;</text></svg>',
    "EPS, which starts a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "a PDF": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "a zip": b"PK\x03\x04" + bytes(100),
    "a pickle": b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.",
    "a page": b"<html><script>alert(1)</script>",
    "an ICO": struct.pack("<HHH", 0, 1, 1) + bytes(40),
    "a path": b"/etc/passwd",
}
OTHERS = [
    _check(name, content, ["no image of a known format"]) for name, content in OTHER_FILES.items()
]


def _chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def _png(width: int, height: int, more: bytes = b"", content: bytes = b"") -> bytes:
    """A gray PNG of 8 bits that states this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = _chunk(b"IDAT", content or zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + more + pixels + _chunk(b"IEND", b"")


@functools.cache
def _large(mode: str, kind: str) -> bytes:
    """An image of 48 million pixels in a small file."""
    file = io.BytesIO()
    Image.new(mode, (8000, 6000)).save(file, kind)
    return file.getvalue()


def _many_frames() -> bytes:
    frames = [Image.new("L", (500, 500), i % 255) for i in range(200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def scans(number: int) -> bytes:
    """A progressive JPEG of 9 million pixels, with this number of copies of its last scan."""
    file = io.BytesIO()
    Image.new("RGB", (3000, 3000)).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    start = whole.rindex(b"\xff\xda")
    return whole[:start] + whole[start:-2] * number + whole[-2:]


BOMBS = {
    "a PNG of 2 billion pixels a side": _png(2**31 - 1, 2**31 - 1),
    "a PNG of 50,000 × 50,000": _png(50_000, 50_000),
    "a PNG of 2 billion × 1": _png(2**31 - 1, 1),
    "a PNG with 50 MB of text": _png(
        9, 9, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))
    ),
    "a PNG with a profile of 50 MB": _png(
        9, 9, _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000)))
    ),
    "a PNG with more pixels than it states": _png(9, 9, content=zlib.compress(bytes(100_000_000))),
    "a BMP of 2 billion pixels a side": picture(9, 9, "BMP")[:18]
    + struct.pack("<ii", 2**31 - 1, 2**31 - 1)
    + picture(9, 9, "BMP")[26:],
    "a PPM of 60,000 × 60,000": b"P6 60000 60000 255\n" + bytes(100),
    "a GIF of 65,535 × 65,535": picture(9, 9, "GIF")[:6] + b"\xff" * 4 + picture(9, 9, "GIF")[10:],
}
CLAIMS = [_check(name, content) for name, content in BOMBS.items()]


def _large_ones() -> list[Attack]:
    """Files of a few kilobytes whose images are within the limit of pixels, but large."""

    def check(name: str, make: functools.partial[bytes]) -> Attack:
        def run(folder: Path) -> None:
            server = the_server()
            content = make()
            with server.check_growth(MEMORY):
                answer = server.detect(content)
            assert answer.status in (200, 422), f"{answer.status}: {answer.error}"
            server.check_well()

        return Attack(KIND, name, run)

    attacks = [
        check(f"48 million pixels of {mode} as {kind}", functools.partial(_large, mode, kind))
        for mode, kind in (
            ("RGB", "JPEG"),
            ("CMYK", "JPEG"),
            ("L", "PNG"),
            ("P", "PNG"),
            ("RGBA", "PNG"),
            ("I;16", "PNG"),
            ("RGB", "WEBP"),
            ("RGB", "GIF"),
            ("RGB", "JPEG2000"),
            ("RGBA", "AVIF"),
            ("1", "TIFF"),
        )
    ]
    attacks += [
        check(f"a JPEG of {number:,} scans", functools.partial(scans, number))
        for number in (500, 20_000)
    ]
    attacks.append(check("a GIF of 200 frames", functools.partial(_many_frames)))
    return attacks


def _form(*parts: bytes, boundary: bytes = b"x") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"


FILE = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
FIELD = b'Content-Disposition: form-data; name="a"\r\n\r\n'
FORMS = {
    "no parts": _form(),
    "no end": b"--x\r\n" + FILE + picture(),
    "no headers": _form(b"\r\n" + picture()),
    "no name": _form(b'Content-Disposition: form-data; filename="a"\r\n\r\nb'),
    "a field alone": _form(FIELD + b"b"),
    "a file and a field": _form(FILE + picture(), FIELD + b"b"),
    "two files": _form(FILE + picture(), FILE + picture()),
    "10,000 files": _form(*[FILE + b"a"] * 10_000),
    "10,000 fields": _form(*[FIELD + b"a"] * 10_000),
    "a header of a megabyte": _form(b"A: " + b"a" * 2**20 + b"\r\n" + FILE + picture()),
    "100,000 headers": _form(b"A: b\r\n" * 100_000 + FILE + picture()),
    "another boundary": _form(FILE + picture(), boundary=b"y"),
    "line ends alone": b"\r\n" * 100_000,
    "boundaries alone": b"--x\r\n" * 100_000,
}


def _forms() -> list[Attack]:
    def check(name: str, body: bytes) -> Attack:
        def run(folder: Path) -> None:
            answer = the_server().detect(body, content_type="multipart/form-data; boundary=x")
            assert answer.status == 400, f"{answer.status}: {answer.body[:300]!r}"
            assert answer.error

        return Attack(KIND, f"a form with {name}", run, quick=True)

    return [check(name, body) for name, body in FORMS.items()]


NAMES = ("../../../etc/passwd", "/etc/passwd", "a\\..\\b", "a" * 10_000, "CON", "<script>", "")


def _names() -> list[Attack]:
    """Malicious file names: nothing is written to them."""

    def check(name: str) -> Attack:
        def run(folder: Path) -> None:
            body = _form(FILE.replace(b"a.png", name.encode()) + picture())
            answer = the_server().detect(body, content_type="multipart/form-data; boundary=x")
            assert answer.status in (200, 400), f"{answer.status}: {answer.error}"

        return Attack(KIND, f"a file of the name {name[:30]!r}", run, quick=True)

    return [check(name) for name in NAMES]


def _types() -> list[Attack]:
    def check(kind: str, status: int) -> Attack:
        def run(folder: Path) -> None:
            answer = the_server().detect(picture(), content_type=kind)
            assert answer.status == status, f"{answer.status}: {answer.error}"

        return Attack(KIND, f"an image as {kind[:40]!r}", run, quick=True)

    return [
        check(kind, status)
        for kind, status in (
            ("image/jpeg", 200),  # the bytes determine the type
            ("IMAGE/X", 200),
            ("text/html", 415),
            ("application/json", 415),
            ("application/x-www-form-urlencoded", 415),
            ("multipart/form-data", 400),
            ("multipart/form-data; boundary=", 400),
            ("multipart/form-data; boundary=" + "x" * 5000, 400),
            ("multipart/mixed; boundary=x", 415),
            ("a" * 5000, 415),
        )
    ]


ATTACKS = [
    *DAMAGED,
    *OTHERS,
    *CLAIMS,
    *_large_ones(),
    *_forms(),
    *_names(),
    *_types(),
]
