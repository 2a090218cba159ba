"""Ways to damage the bytes of a file: any file, XML, JSON and images."""

import json
import random


def cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def flip(rng: random.Random, content: bytes) -> bytes:
    spoiled = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
    return bytes(spoiled)


def garbage(rng: random.Random, content: bytes) -> bytes:
    return rng.randbytes(rng.randint(0, len(content)))


def hole(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randint(1, 40) :]


def double(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content))
    piece = content[start : start + rng.randint(1, 40)]
    return content[:start] + piece * rng.randint(2, 50) + content[start:]


def empty(rng: random.Random, content: bytes) -> bytes:
    return b""


def byte(rng: random.Random, content: bytes) -> bytes:
    """Changes, removes or inserts one byte."""
    start = rng.randrange(len(content))
    return content[:start] + rng.randbytes(rng.randint(0, 1)) + content[start + rng.randint(0, 1) :]


SPOIL = (empty, garbage, cut, flip, hole, double)
NUMBERS = ("nan", "inf", "-inf", "1e400", "-5", "0", "", "x", "9" * 5000, "1,5", "\u0661", "0x10")


def number(rng: random.Random, content: bytes) -> bytes:
    old = rng.choice([b"6", b"4", b"30", b"20", b"60", b"40", b"1"])
    return content.replace(old, rng.choice(NUMBERS).encode())


def tag(rng: random.Random, content: bytes) -> bytes:
    old = rng.choice([b"object", b"name", b"bndbox", b"xmin", b"ymax", b"size", b"annotation"])
    return content.replace(old, rng.choice([b"", b"a", b"object", b"\xff", b"name"]))


def entity(rng: random.Random, content: bytes) -> bytes:
    levels = "".join(
        f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha" * 10}">' for i in range(12)
    )
    doctype = rng.choice(
        [
            f"<!DOCTYPE a [{levels}]>",
            '<!DOCTYPE a [<!ENTITY e11 SYSTEM "file:///etc/passwd">]>',
            '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">',
            '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
        ]
    )
    return doctype.encode() + content.replace(b"dog", b"&e11;")


def encoding(rng: random.Random, content: bytes) -> bytes:
    name = rng.choice(["no-such", "utf-16", "gb2312", "idna", "rot13", "utf-7", "ascii", "zlib"])
    text = content.replace(b"dog", "d\u00f6g".encode(rng.choice(["utf-8", "latin-1", "utf-16"])))
    return f'<?xml version="1.0" encoding="{name}"?>'.encode() + text


def nested(rng: random.Random, content: bytes) -> bytes:
    depth = rng.choice([1_000, 50_000])
    return b"<annotation>" * depth + content + b"</annotation>" * depth


TEXT = (*SPOIL, byte, byte, byte, number)
XML = (*TEXT, tag, entity, encoding, nested)

JSON_VALUES = (
    *(None, True, -1, 0, 2.5, "1", "", [], {}, [1], {"id": 1}, [[[]]], "x" * 10_000, 10**400),
    *(float("nan"), float("inf"), "../a.jpg", "/etc/passwd", "a\0b", "\ud800", "C:\\a.jpg"),
)


def places(value: dict | list) -> list[tuple]:
    """Every (container, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in items:
        found.append((value, key))
        if isinstance(inner, dict | list):
            found += places(inner)
    return found


def other_value(rng: random.Random, content: bytes) -> bytes:
    decoded = json.loads(content)
    container, key = rng.choice(places(decoded))
    container[key] = rng.choice(JSON_VALUES)
    return json.dumps(decoded).encode()


def no_value(rng: random.Random, content: bytes) -> bytes:
    decoded = json.loads(content)
    container, key = rng.choice(places(decoded))
    del container[key]
    return json.dumps(decoded).encode()


def deep(rng: random.Random, content: bytes) -> bytes:
    return rng.choice([b"[", b'{"a":']) * rng.choice([10, 1_000, 100_000])


JSON = (*TEXT, other_value, other_value, no_value, deep)


def lie(rng: random.Random, content: bytes) -> bytes:
    """Changes the size in the header, for formats that have one."""
    spoiled, begin = bytearray(content), rng.choice([4, 6, 16, 18, 22])
    spoiled[begin : begin + 4] = rng.choice(
        [b"\xff" * 4, b"\0" * 4, b"\0\0\x7f\xff", b"\x7f\xff\0\0"]
    )
    start = content.find(b"\xff\xc0")
    if start > 0 and rng.random() < 0.5:
        spoiled[start + 5 : start + 9] = rng.randbytes(4)
    return bytes(spoiled)


IMAGES = (*SPOIL, lie)
