"""Files are replaced completely or not at all."""

import os

import pytest

from ssd_jax.errors import UserError
from ssd_jax.storage.files import shortened
from ssd_jax.storage.locks import locked
from ssd_jax.storage.replacing import replacing, replacing_files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a" * 255, "a." + "b" * 250, "..png", "\udcff.png", ".png"])
def test_files_of_any_name_can_be_replaced(name, tmp_path):
    with replacing(tmp_path / name) as unfinished:
        unfinished.write_text("whole")
        assert names(tmp_path) == [unfinished.name]
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "whole"


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    with replacing(tmp_path / "a.png") as unfinished:
        assert unfinished.suffix == ".png"
    assert names(tmp_path) == []  # nothing was written


def test_two_parallel_writes_do_not_mix(tmp_path):
    file = tmp_path / "a"
    with replacing(file) as first, replacing(file) as second:
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first" and names(tmp_path) == ["a"]


def test_errors_name_the_file_that_the_user_knows(tmp_path):
    with pytest.raises(OSError) as raised, replacing(tmp_path / "none" / "a") as unfinished:
        unfinished.write_text("")
    assert raised.value.filename == str(tmp_path / "none" / "a")


def test_a_folder_of_files_is_replaced_together(tmp_path):
    folder = tmp_path / "out"
    for text in ("old", "new"):
        with replacing_files(folder, last="index") as unfinished:
            for name in ("index", "x"):
                (unfinished / name).write_text(text)
    assert names(folder) == ["index", "x"]
    assert {(folder / name).read_text() for name in names(folder)} == {"new"}
    with pytest.raises(KeyboardInterrupt), replacing_files(folder, last="index") as unfinished:
        (unfinished / "x").write_text("half")
        raise KeyboardInterrupt
    assert names(folder) == ["index", "x"] and (folder / "x").read_text() == "new"


def test_files_in_subfolders_are_replaced_too(tmp_path):
    for text in ("old", "new"):
        with replacing_files(tmp_path / "out", last="index") as unfinished:
            (unfinished / "a" / "b").mkdir(parents=True)
            (unfinished / "a" / "b" / "index").write_text(text)
            (unfinished / "index").write_text(text)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert found == {"out", "out/index", "out/a", "out/a/b", "out/a/b/index"}
    assert (tmp_path / "out" / "a" / "b" / "index").read_text() == "new"


def test_the_last_file_is_replaced_last(tmp_path, monkeypatch):
    replaced = []
    replace = os.replace
    monkeypatch.setattr(
        os, "replace", lambda old, new: (replaced.append(os.path.basename(new)), replace(old, new))
    )
    with replacing_files(tmp_path / "out", last="a") as unfinished:
        for name in ("b", "a", "c"):
            (unfinished / name).touch()
    assert replaced == ["b", "c", "a"]


def test_a_failed_new_folder_leaves_no_files(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing_files(tmp_path / "a", last="x"):
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_names_are_cut_between_signs():
    assert shortened("aä", 3) == "aä" and shortened("aä", 2) == "a" and shortened("", 0) == ""


def test_one_process_at_a_time_has_a_lock(tmp_path):
    refused = pytest.raises(UserError, match=r"in use by another process \(me\): .* another fold")
    again = locked(tmp_path, "folder", lambda folder: " (me)")
    with locked(tmp_path, "folder"), refused, again:
        raise AssertionError
    with locked(tmp_path, "folder"):
        pass
    (tmp_path / "other" / "lock").mkdir(parents=True)
    blocked = pytest.raises(UserError, match="other/lock cannot be written or locked")
    with blocked, locked(tmp_path / "other", "folder"):
        raise AssertionError
