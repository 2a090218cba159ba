"""Placeholders and copies in the cache: other processes and later starts use them."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from ssd_jax.data.image_bytes import request_image
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import StoreError, UserError
from ssd_jax.storage import clouds, placeholder_cache, placeholders
from ssd_jax.storage.files import read_bytes
from ssd_jax.storage.placeholder_cache import UNUSED
from ssd_jax.storage.placeholders import data_path, given_place

MONTH = 30 * 24 * 3600  # seconds


@pytest.fixture
def place(stores, request, monkeypatch, tmp_path):
    """A place with an annotation and an image; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = f"gs://bucket/{request.node.name}"
    clouds.write(f"{place}/a.json", b"{}")
    clouds.write(f"{place}/a.jpg", b"image")
    return place


@pytest.fixture
def requests(monkeypatch):
    """The requests: listings by "", and the names of copied objects."""
    sent, list_objects, fetch = [], clouds.objects_at, clouds.fetch
    monkeypatch.setattr(clouds, "objects_at", lambda at: (sent.append(""), list_objects(at))[1])
    monkeypatch.setattr(clouds, "fetch", lambda *given: (sent.extend(given[2]), fetch(*given))[1])
    return sent


def another_process(place):
    """The path of a place as a process finds it that has not listed it yet."""
    placeholders._listed.clear()
    return data_path(place)


def entry_of(path):
    """The entry of a path directly below a place of the form gs://bucket/NAME."""
    return path.parents[2]


def test_the_next_process_lists_and_copies_nothing(place, requests):
    first = data_path(place)
    assert requests == ["", "a.json", ""]
    assert another_process(place) == first
    assert requests == ["", "a.json", "", ""]
    assert read_bytes(first / "a.json") == b"{}" and read_bytes(first / "a.jpg") == b"image"
    assert not (first / "a.jpg").stat().st_blocks and given_place(first) == place


def test_places_below_a_listed_place_are_not_listed(place, requests):
    path = data_path(place)
    assert data_path(f"{place}/a.jpg") == path / "a.jpg"
    assert data_path(f"{place}/") == path
    assert len(requests) == 3
    assert data_path(f"{place}2") != path and not data_path(f"{place}2").exists()


def test_processes_that_wait_for_each_other_list_once(place, requests, monkeypatch):
    scheme, bucket, key = clouds.parts_of(place)

    def write_all(made, found):
        for name, about in found.items():
            file = made / scheme / bucket / key / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes(about.size))

    folder = placeholder_cache.cache_folder("data") / placeholder_cache._digest(place)
    folder.mkdir()
    found = []
    with placeholder_cache.locked_in_turn(folder):
        threads = [
            threading.Thread(
                target=lambda: found.append(placeholder_cache.entry_of(place, write_all))
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.3)  # all of them wait
    for thread in threads:
        thread.join()
    assert requests == ["", ""] and len(set(found)) == 1
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a clock that is set back
    assert placeholder_cache.entry_of(place, write_all) == found[0]
    assert requests == ["", "", ""]  # later, it may have changed


@pytest.mark.parametrize("name", ["a.json", "a.jpg"])
def test_a_changed_place_has_another_entry(place, name):
    first = data_path(place)
    clouds.write(f"{place}/{name}", b"[1]")
    second = another_process(place)
    assert entry_of(first).parent == entry_of(second).parent and first != second
    assert read_bytes(second / name) == b"[1]" and (second / name).stat().st_size == 3
    assert (first / name).exists()  # another process may use it


def test_copies_of_a_place_that_changes_meanwhile_are_for_one_process(place, monkeypatch):
    fetch = clouds.fetch

    def changing(*given):
        fetch(*given)
        clouds.write(f"{place}/a.json", b"[1]")

    monkeypatch.setattr(clouds, "fetch", changing)
    first = data_path(place)
    assert read_bytes(first / "a.json") == b"{}"
    monkeypatch.setattr(clouds, "fetch", fetch)
    second = another_process(place)
    assert first != second and read_bytes(second / "a.json") == b"[1]"
    assert another_process(place) == second


@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: os.truncate(path, 0)], ids=["gone", "empty"]
)
@pytest.mark.parametrize("name", ["a.json", "a.jpg"])
def test_a_damaged_entry_is_replaced(place, name, damage, is_used):
    first = data_path(place)
    damage(first / name)
    if not is_used:
        placeholder_cache._end_use()
    second = another_process(place)
    assert sorted(os.listdir(second)) == ["a.jpg", "a.json"]
    assert read_bytes(second / "a.json") == b"{}" and read_bytes(second / "a.jpg") == b"image"
    assert first.exists() and (first != second) == is_used


def test_placeholders_removed_during_use_are_not_missing_images(place):
    path = data_path(place)
    (path / "a.jpg").unlink()
    for read in (read_bytes, lambda file: request_image(str(file), None)):
        with pytest.raises(FileNotFoundError):
            read(path / "a.jpg")
    shutil.rmtree(entry_of(path))
    for read in (read_bytes, lambda file: request_image(str(file), None)):
        with pytest.raises(StoreError, match="was removed by another program"):
            read(path / "a.jpg")


def test_an_entry_whose_removal_was_interrupted_is_not_used(place, monkeypatch):
    entry = entry_of(data_path(place))
    monkeypatch.setattr(placeholder_cache.shutil, "rmtree", lambda *_, **__: None)
    placeholder_cache._remove(entry)
    assert not entry.exists() and read_bytes(another_process(place) / "a.json") == b"{}"


@pytest.mark.parametrize("step", ["write", "copy"])
def test_a_full_cache_is_not_used(place, step, monkeypatch, tmp_path):
    def fill(*given):
        if str(tmp_path) in str(given):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*given)

    module, name = (placeholders, "_make_empty") if step == "write" else (clouds, "fetch")
    real = getattr(module, name)
    monkeypatch.setattr(module, name, fill)
    path = data_path(place)
    assert tmp_path not in path.parents and read_bytes(path / "a.json") == b"{}"
    monkeypatch.setattr(placeholders, "folder_of_copies", lambda: tmp_path / "full")
    with pytest.raises(UserError, match="full: No space left on device; free space there"):
        another_process(place)


def test_an_entry_without_all_copies_is_not_used(place, monkeypatch, requests):
    fetch = clouds.fetch
    monkeypatch.setattr(clouds, "fetch", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        data_path(place)
    monkeypatch.setattr(clouds, "fetch", fetch)
    assert read_bytes(data_path(place) / "a.json") == b"{}"


def test_entries_that_no_process_uses_are_removed_after_a_week(place):
    old, other = data_path(place), f"{place}-other"
    entry = entry_of(old)
    clouds.write(f"{other}/b.json", b"{}")
    program = (
        "import sys; from ssd_jax.storage.placeholders import data_path; data_path(sys.argv[1]);"
        "print(flush=True); input()"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", program, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with user:
        user.stdout.readline()
        placeholder_cache._end_use()  # of this process
        os.utime(entry, (0, time.time() - MONTH))
        another_process(other)
        assert old.exists()
        user.kill()
        user.wait()
    os.utime(entry, (0, time.time() - UNUSED / 2))
    another_process(other)
    assert old.exists()
    os.utime(entry, (0, time.time() - MONTH))
    another_process(other)
    assert not entry.exists()


def test_the_marks_of_killed_processes_are_removed(place):
    users = entry_of(data_path(place)) / "users"
    (own,) = users.iterdir()
    (users / "killed").touch()
    another_process(place)
    assert own in users.iterdir() and not (users / "killed").exists()
    placeholder_cache._end_use()
    assert not list(users.iterdir())


def test_without_a_cache_the_files_are_of_this_process(place, tmp_path, monkeypatch):
    (tmp_path / "blocked").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    path = data_path(place)
    assert read_bytes(path / "a.json") == b"{}" and read_bytes(path / "a.jpg") == b"image"
    assert given_place(path) == place


def test_columns_of_large_annotations_in_a_store_are_cached(pictures, monkeypatch, tmp_path):
    from ssd_jax.data import column_cache

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(column_cache, "SMALLEST", 0)
    placeholders._listed.clear()
    spec = "gs://bucket/pictures:train"
    expected = len(open_dataset(spec))
    placeholders._listed.clear()
    monkeypatch.setattr("ssd_jax.data.formats.coco_json._read", None)
    assert len(open_dataset(spec)) == expected
