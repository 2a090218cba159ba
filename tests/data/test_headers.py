"""Headers of images, and their cache."""

import dataclasses
import os
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ssd_jax.data import headers
from ssd_jax.data.annotations import Annotations
from ssd_jax.data.headers import read_headers
from ssd_jax.data.records import annotation
from ssd_jax.storage import objects

MINUTE = 60 * 10**9  # nanoseconds
SIZES = [(20, 30), (16, 40), (25, 25)]  # (height, width)


@pytest.fixture
def columns(tmp_path, monkeypatch):
    """Four images, written a minute ago; EXIF turns the last one, which is stored as 16 × 40."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(headers, "FEWEST", 0)
    clock = SimpleNamespace(time_ns=lambda: time.time_ns() + MINUTE)
    monkeypatch.setattr(headers, "time", clock)
    for index, (height, width) in enumerate(SIZES):
        write(tmp_path / f"{index}.png", (height, width))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 16)).save(tmp_path / "3.jpg", exif=exif)
    paths = [tmp_path / name for name in ("0.png", "1.png", "2.png", "3.jpg")]
    return Annotations([annotation(path.stem, path, "", []) for path in paths], "set").columns


def write(path, size):
    Image.new("RGB", size[::-1]).save(path)


def delay(path, nanoseconds):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + nanoseconds))


@pytest.fixture
def opened(monkeypatch):
    """The names of the images that are opened."""
    names = []
    read = headers.size_and_turned

    def noting(file, name):
        names.append(os.path.basename(file) if isinstance(file, str) else "")
        return read(file, name)

    monkeypatch.setattr(headers, "size_and_turned", noting)
    return names


def check(found, sizes=(*SIZES, (40, 16))):
    assert found.sizes.tolist() == list(map(list, sizes)) and not found.errors
    assert found.turned.tolist() == [False, False, False, True]


def test_images_that_are_the_same_are_not_opened_again(columns, opened):
    check(read_headers(columns))
    assert sorted(opened) == ["0.png", "1.png", "2.png", "3.jpg"]
    opened.clear()
    for _ in range(2):
        check(read_headers(columns))
    assert not opened
    some = np.array([True, False, True, False])
    assert read_headers(columns.chosen(some, np.zeros(0, bool))).sizes.tolist() == [
        [20, 30],
        [25, 25],
    ]
    assert sorted(opened) == ["0.png", "2.png"]  # another data set


def test_placeholders_are_kept_although_they_are_new(columns, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(headers.time, "time_ns", time.time_ns)
    for _ in range(2):
        check(read_headers(columns))
    assert len(opened) == 8  # files that may change again
    folders = {f"{tmp_path}/{number}": "gs://bucket/" for number in range(4)}
    monkeypatch.setattr(objects, "_folders", folders)
    monkeypatch.setattr(headers, "size_and_turned", lambda path, name: ((20, 30), False))
    opened.clear()
    for _ in range(2):
        assert read_headers(columns).sizes.tolist() == [[20, 30]] * 4
        monkeypatch.setattr(headers, "size_and_turned", None)


def test_a_changed_image_is_opened_again(columns, opened, tmp_path):
    read_headers(columns)
    opened.clear()
    write(tmp_path / "1.png", (50, 60))
    delay(tmp_path / "2.png", 5 * 10**9)
    for expected in (["1.png", "2.png"], []):
        check(read_headers(columns), (SIZES[0], (50, 60), SIZES[2], (40, 16)))
        assert sorted(opened) == expected
        opened.clear()


def test_an_edited_image_is_opened_again_if_it_keeps_its_size_and_time(columns, opened, tmp_path):
    read_headers(columns)
    opened.clear()
    path = tmp_path / "3.jpg"
    content, times = path.read_bytes(), path.stat()
    tag = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00"  # of the orientation; its value follows
    path.write_bytes(content.replace(tag + b"\x06", tag + b"\x01"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read_headers(columns).sizes[3].tolist() == [16, 40]
    assert opened == ["3.jpg"]


def test_an_image_written_just_now_is_opened_again(columns, opened, tmp_path):
    delay(tmp_path / "0.png", MINUTE)
    for expected in (["0.png", "1.png", "2.png", "3.jpg"], ["0.png"]):
        check(read_headers(columns))
        assert sorted(opened) == expected
        opened.clear()


def test_a_damaged_image_is_reported_each_time(columns, tmp_path):
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "2.png").unlink()
    for _ in range(2):
        found = read_headers(columns)
        assert found.sizes[:, 0].tolist() == [20, -1, -1, 40] and sorted(found.errors) == [1, 2]
    write(tmp_path / "1.png", SIZES[1])
    write(tmp_path / "2.png", SIZES[2])
    check(read_headers(columns))


@pytest.mark.parametrize("file", ["stamps.npy", "sizes.npy", "turned.npy", "details.json"])
def test_a_damaged_entry_is_replaced(columns, opened, tmp_path, file):
    read_headers(columns)
    (path,) = tmp_path.glob(f"cache/ssd_jax/headers/*/table/{file}")
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    check(read_headers(columns))
    assert len(opened) == 8
    check(read_headers(columns))
    assert len(opened) == 8


def test_one_of_several_readers_reads(columns, opened):
    found = []
    threads = [threading.Thread(target=lambda: found.append(read_headers(columns))) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4 and len(found) == 3
    for each in found:
        check(each)


def test_without_a_cache_folder_images_are_opened(columns, opened, tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    for _ in range(2):
        check(read_headers(columns))
    assert len(opened) == 8


def test_images_in_files_are_read_each_time(columns, opened, tmp_path):
    paths = list(columns.paths)
    spans = np.array([[0, os.path.getsize(path)] for path in paths])
    inside = dataclasses.replace(columns, spans=spans)
    check(read_headers(inside))
    assert not (tmp_path / "cache").exists()
