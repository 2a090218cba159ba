import os

import pytest

from ssd_jax.inference.inputs import find_files, is_video
from ssd_jax.inference.outputs import OutputNames


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("a/x.jpg", "b/x.JPG", "b/deep/y.png", "b/clip.mp4", "b/notes.txt", "out/z.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find(*arguments):
    files, empty, _ = find_files(arguments)
    return [file.name for file in files], empty


def test_a_folder_includes_images_and_videos_below_it(folder):
    assert find("b") == (["clip.mp4", "x.JPG", "deep/y.png"], [])
    assert find(".")[0] == [
        "a/x.jpg",
        "b/clip.mp4",
        "b/x.JPG",
        "b/deep/y.png",
        "out/z.jpg",
    ]


def test_names_start_after_the_common_folder_of_the_arguments(folder):
    assert find("a", "b/deep")[0] == ["a/x.jpg", "b/deep/y.png"]
    assert find("a/x.jpg", "b/x.JPG")[0] == ["a/x.jpg", "b/x.JPG"]
    assert find("a/x.jpg")[0] == ["x.jpg"]
    assert find(str(folder / "a"), "b/../b/x.JPG")[0] == ["a/x.jpg", "b/x.JPG"]
    assert find("b/deep/../../a/x.jpg")[0] == ["x.jpg"]


def test_patterns(folder):
    assert find("*/x.*")[0] == ["a/x.jpg", "b/x.JPG"]
    assert find("b/**/*.png")[0] == ["deep/y.png"]
    assert find("b/*.txt")[0] == ["notes.txt"]  # who names it means it
    os.rename("a/x.jpg", "a/[1].jpg")
    assert find("a/[1].jpg")[0] == ["[1].jpg"]


def test_each_file_is_yielded_once(folder):
    assert find("a", "a/x.jpg", str(folder / "a"), "a/*") == (["x.jpg"], [])


def test_inputs_without_files_are_returned(folder):
    (folder / "void").mkdir()
    assert find("void", "*.none", "a") == (["a/x.jpg"], ["void", "*.none"])
    assert find("void") == ([], ["void"])
    # A file that is not there is told by `predict`.
    assert find("a/none.jpg") == (["none.jpg"], [])


def test_videos_are_known_by_their_name():
    assert is_video("a/B.MP4") and is_video("x.webm") and not is_video("mp4.jpg")


def test_output_names_are_unique():
    given = ["a/x.jpg", "b/x.jpg", "x.webp", "x.webp.png", "X.webp.png", "x.gif", "none"]
    given += ["..png", "y.webp", "y.webp.png/z.jpg", "ä" * 125 + ".webp"]
    names = OutputNames(given)
    assert [names.choose(name, (".png", ".jpg")) for name in given] == [
        "a/x.jpg",
        "b/x.jpg",
        "x.webp.png",
        "x.webp_2.png",
        "X.webp_3.png",
        "x.gif.png",
        "none.png",
        "..png",
        "y.webp_2.png",
        "y.webp.png/z.jpg",
        "ä" * 125 + "..png",
    ]
