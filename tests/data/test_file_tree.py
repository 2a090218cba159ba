"""Images are found by their names in annotations."""

from pathlib import Path

import pytest

from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.problems import Problem


def tree(root: Path, *files: str) -> FileTree:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return FileTree(root)


def found(tree: FileTree, name: str) -> str:
    """The path from the root, or the kind of the problem."""
    image = tree.image(name)
    return image.kind if isinstance(image, Problem) else image.relative_to(tree.root).as_posix()


def test_all_files_except_hidden_ones_are_listed(tmp_path):
    listed = tree(tmp_path, "b.jpg", "a/c.txt", ".hidden/d.jpg", "__MACOSX/e.jpg", "._b.jpg")
    assert listed.files == ("b.jpg", "a/c.txt") and listed.images == ["b.jpg"]
    assert listed.with_suffix(".txt") == ["a/c.txt"]


def test_a_work_directory_is_no_part_of_the_data(tmp_path):
    run = [f"runs/mine/{name}" for name in ("config.json", "classes.json", "format.json")]
    listed = tree(tmp_path, "a.jpg", *run, "runs/mine/pictures/b.png", "runs/c.jpg")
    assert listed.files == ("a.jpg", "runs/c.jpg")


def test_a_cyclic_link_is_followed_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    assert tree(tmp_path, "a/b.jpg").files == ("a/b.jpg",)


def test_a_link_to_itself_is_listed_as_a_file(tmp_path):
    (tmp_path / "link").symlink_to("link")
    assert tree(tmp_path, "a/b.jpg").files == ("link", "a/b.jpg")


@pytest.mark.parametrize(
    "name, image",
    [
        ("images/a.jpg", "images/a.jpg"),
        ("images\\a.jpg", "images/a.jpg"),
        ("./images//a.jpg", "images/a.jpg"),
        ("images/x/../a.jpg", "images/a.jpg"),
        ("data/images/a.jpg", "images/a.jpg"),  # the root is named itself
        ("a.jpg", "images/a.jpg"),  # the only one of this name
        ("IMAGES/A.JPG", "images/a.jpg"),
        ("my%20cat.jpg", "images/my cat.jpg"),
        ("100%.jpg", "images/100%.jpg"),
        ("vid1/f.jpg", "vid1/f.jpg"),
        ("images/vid2/f.jpg", "vid2/f.jpg"),
        ("https://example.org/train/my%20cat.jpg?size=3", "images/my cat.jpg"),
        ("f.jpg", "ambiguous"),
        ("other/f.jpg", "image missing"),
        ("other/a.jpg", "image missing"),
        ("b.jpg", "image missing"),
        ("../a.jpg", "file name"),
        ("images/../../a.jpg", "file name"),
        ("..\\a.jpg", "file name"),
        ("/etc/a.jpg", "file name"),
        ("C:\\images\\a.jpg", "file name"),
        ("C:a.jpg", "image missing"),
    ],
)
def test_names_of_images(tmp_path, name, image):
    files = ("images/a.jpg", "images/my cat.jpg", "images/100%.jpg", "vid1/f.jpg", "vid2/f.jpg")
    assert found(tree(tmp_path, *files), name) == image


def test_an_image_of_another_split_is_not_used(tmp_path):
    listed = tree(tmp_path / "train", "1.jpg")
    assert found(listed, "data/train/1.jpg") == "1.jpg" and found(listed, "images/1.jpg") == "1.jpg"
    assert found(listed, "val/1.jpg") == "image missing"
    both = tree(tmp_path / "set", "train/images/1.jpg", "val/2.jpg")
    assert found(both, "val/1.jpg") == "image missing"
    assert found(both, "train/images/1.jpg") == found(both, "1.jpg") == "train/images/1.jpg"


def test_an_absolute_path_inside_the_folder(tmp_path):
    listed = tree(tmp_path, "images/a.jpg")
    assert found(listed, str(tmp_path / "images/a.jpg")) == "images/a.jpg"
    assert found(listed, str(tmp_path / "images/../../a.jpg")) == "file name"


def test_capitals_decide_between_two_files(tmp_path):
    listed = tree(tmp_path, "A.jpg", "a.jpg")
    assert found(listed, "a.jpg") == "a.jpg" and found(listed, "A.jpg") == "A.jpg"


def test_images_by_stem(tmp_path):
    listed = tree(tmp_path, "a.jpg", "a.png", "vid1/a.jpg", "b.v2.JPG", "c.txt")
    assert listed.image_of_stem("vid1/a") == tmp_path / "vid1/a.jpg"
    assert listed.image_of_stem("vid1\\a") == tmp_path / "vid1/a.jpg"
    assert listed.image_of_stem("b.v2") == tmp_path / "b.v2.JPG"
    assert listed.image_of_stem("a", "a.png") == tmp_path / "a.png"
    assert listed.image_of_stem("a", "C:\\x\\a.png") == tmp_path / "a.png"
    for stem, name, kind in (("a", "", "ambiguous"), ("a", "b.png", "ambiguous")):
        problem = listed.image_of_stem(stem, name)
        assert isinstance(problem, Problem) and problem.kind == kind
        assert "a.jpg and a.png" in problem.message
    missing = listed.image_of_stem("c")
    assert isinstance(missing, Problem) and missing.kind == "image missing"


def test_a_split_above_the_root_is_not_the_image_s_own(tmp_path):
    root = tmp_path / "train" / "set"
    assert found(tree(root, "val/images/1.jpg"), "train/images/1.jpg") == "image missing"
    for own in ("train", "train/images"):
        one = tree(tmp_path / "x" / own, "a/1.jpg")
        assert found(one, "train/a/1.jpg") == found(one, "x/train/a/1.jpg") == "a/1.jpg"


def test_a_colon_in_a_name_is_no_drive(tmp_path):
    files = tree(tmp_path, "images/a:b.jpg")
    assert found(files, "a:b.jpg") == found(files, "images\\a:b.jpg") == "images/a:b.jpg"
    assert found(files, "C:/images/b.jpg") == "file name"
