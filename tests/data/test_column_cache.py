"""Columns of annotation files in the cache folder."""

import json
import logging
import os
import threading

import numpy as np
import pytest

from ssd_jax.data import column_cache
from ssd_jax.data.formats import coco_json
from ssd_jax.data.formats.coco_json import open_coco_json
from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from tests.helpers.pictures import write_picture

ARRAYS = ("sizes", "spans", "splits", "boxes", "classes", "difficult", "crowd", "area")
CATEGORIES = [{"id": 10**20, "name": "cat"}, {"id": 4, "name": "cat"}, {"id": 2, "name": "dög"}]


def image(index, **change):
    return {"id": index, "file_name": f"ä {index}.jpg", "width": 60, "height": 40} | change


def box(image_id, category_id):
    return {"image_id": image_id, "category_id": category_id, "bbox": [6, 4, 24, 16]}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder with annotations of two images and with a third; files of any size are cached."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(column_cache, "SMALLEST", 0)
    for index in range(3):
        write_picture(tmp_path / f"images/ä {index}.jpg")
    write(tmp_path, [image(0), image(1)], [box(1, 2), box(0, 4), box(1, 10**20)])
    return tmp_path


def write(folder, images, objects):
    content = {"images": images, "annotations": objects, "categories": CATEGORIES}
    (folder / "a.json").write_text(json.dumps(content))


@pytest.fixture
def parsed(monkeypatch):
    """The files that are parsed."""
    files = []
    parse = coco_json._parse

    def counting(path):
        files.append(path)
        return parse(path)

    monkeypatch.setattr(coco_json, "_parse", counting)
    return files


def opened(folder, problems=None):
    annotations = open_coco_json(
        str(folder / "a.json"), str(folder / "images"), problems or Problems()
    )
    columns = annotations.columns
    arrays = [getattr(columns, name).tolist() for name in ARRAYS]
    return repr(
        [list(columns.image_ids), list(columns.paths), *arrays, annotations.names,
         annotations.category_ids, list(annotations.files)]
    )  # fmt: skip


def entries(folder):
    return sorted(path for path in folder.glob("cache/ssd_jax/annotations/*") if path.is_dir())


def test_the_cache_returns_the_same_content(data, parsed, monkeypatch, caplog):
    monkeypatch.setattr(column_cache, "SMALLEST", 10**9)
    problems = Problems()
    with caplog.at_level(logging.INFO):
        expected = opened(data, problems)
        told = caplog.messages
        assert len(told) == 2 and "ä 2.jpg" in told[1] and not entries(data)
        monkeypatch.setattr(column_cache, "SMALLEST", 0)
        assert opened(data) == expected and len(parsed) == 2 and len(entries(data)) == 1
        caplog.clear()
        again = Problems()
        assert opened(data, again) == expected and len(parsed) == 2
    assert caplog.messages == told and again.num_images == problems.num_images == 2


def test_records_are_the_same(data, parsed):
    spec = f"coco_json:{data / 'a.json'}:{data / 'images'}"
    first, second = open_dataset(spec), open_dataset(spec)
    assert len(parsed) == 1 and len(first) == len(second) == 2
    assert [repr(first[index]) for index in range(2)] == [repr(second[index]) for index in range(2)]


def change_annotations(data):
    write(data, [image(0), image(1)], [box(1, 2), box(0, 4), box(0, 10**20)])


def add_image(data):
    write_picture(data / "images/new.jpg")


@pytest.mark.parametrize("change", [change_annotations, add_image])
def test_a_changed_file_is_read_again(data, parsed, change):
    opened(data)
    change(data)
    opened(data)
    assert len(parsed) == 2 and len(entries(data)) == 2


def test_an_old_file_is_known_by_its_times(data, parsed, monkeypatch):
    monkeypatch.setattr(column_cache, "RECENT", -(10**9))  # every file is old
    expected = opened(data)
    assert opened(data) == expected and len(parsed) == 1
    os.utime(data / "a.json", (1, 1))
    assert opened(data) == expected and len(parsed) == 2
    write(data, [image(0), image(1)], [box(1, 2)])
    os.utime(data / "a.json", (1, 1))
    assert opened(data) != expected and len(parsed) == 3


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, cut_off, lambda path: path.unlink()])
@pytest.mark.parametrize("file", ["boxes.npy", "paths", "details.json"])
def test_a_damaged_entry_is_replaced(data, parsed, file, damage):
    expected = opened(data)
    damage(entries(data)[0] / file)
    assert opened(data) == expected and len(parsed) == 2
    assert opened(data) == expected and len(parsed) == 2 and len(entries(data)) == 1


def test_damaged_images_are_reported_each_time(data):
    write(data, [image(0), image(7)], [box(0, 2)])
    for _ in range(2):
        with pytest.raises(UserError, match=r"'ä 7\.jpg' is not in"):
            opened(data)
        problems = Problems("skip", 1.0)
        opened(data, problems)
        assert [each.image_id for each in problems.found] == ["7"] and problems.num_images == 2
    assert not entries(data)


def test_one_of_several_readers_reads(data, parsed):
    found = []
    threads = [threading.Thread(target=lambda: found.append(opened(data))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(parsed) == 1 and len(found) == 4 and len(set(found)) == 1


def test_the_least_recently_used_entry_is_removed(data, monkeypatch):
    opened(data)
    first = entries(data)
    size = sum(file.stat().st_size for file in first[0].iterdir())
    monkeypatch.setattr(column_cache, "MOST_BYTES", int(2.5 * size))
    change_annotations(data)
    opened(data)
    (second,) = set(entries(data)) - set(first)
    write(data, [image(0), image(1)], [box(0, 2), box(0, 4), box(0, 10**20)])
    opened(data)
    assert second in entries(data) and first[0] not in entries(data) and len(entries(data)) == 2


def test_without_a_cache_folder_files_are_read(data, parsed, monkeypatch):
    expected = opened(data)
    (data / "blocked").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(data / "blocked"))
    assert opened(data) == expected and len(parsed) == 2


def test_columns_that_were_kept_cannot_be_changed(data):
    opened(data)
    columns = open_coco_json(str(data / "a.json"), str(data / "images"), Problems()).columns
    with pytest.raises(ValueError, match="read-only"):
        columns.boxes[0] = 0
    assert type(columns.boxes) is np.ndarray
