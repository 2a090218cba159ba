"""The format of a folder, and the splits for a role."""

import pytest

from ssd_jax.data.discovery import Found, find, sources_of
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from tests.helpers.pictures import write_picture


def found(path, *splits):
    return Found(path, "voc_xml", {split: [f"voc_xml:x:{split}"] for split in splits})


@pytest.mark.parametrize(
    "splits, train, evaluation",
    [
        (("train", "val", "test"), "train", "val"),
        (("test", "train", "valid"), "train", "valid"),
        (("trainval", "test", "train", "val"), "train", "val"),
        (("trainval", "test"), "trainval", "test"),
        (("instances_train2017", "instances_val2017"), "instances_train2017", "instances_val2017"),
        (("Training", "Dev"), "Training", "Dev"),
        (("all",), "all", "all"),
        (("default",), "default", "default"),
    ],
)
def test_roles_take_splits_by_their_names(tmp_path, splits, train, evaluation):
    assert sources_of(found(tmp_path, *splits), "", "train")[0] == train
    assert sources_of(found(tmp_path, *splits), "", "eval")[0] == evaluation


@pytest.mark.parametrize(
    "splits, role, complaint",
    [
        (("test",), "train", "has no split for training, only test"),
        (("train",), "eval", "has no split for evaluation, only train"),
        (("one", "two"), "train", "only one, two: to use one, name it with a colon, like .*:one$"),
    ],
)
def test_a_role_without_a_split_is_rejected_with_the_existing_splits(
    tmp_path, splits, role, complaint
):
    with pytest.raises(UserError, match=complaint):
        sources_of(found(tmp_path, *splits), "", role)


def test_a_split_by_name_and_all_splits(tmp_path):
    assert sources_of(found(tmp_path, "a", "b"), "b", "train") == ("b", ["voc_xml:x:b"])
    assert sources_of(found(tmp_path, "a", "b"), "", "all")[1] == ["voc_xml:x:a", "voc_xml:x:b"]
    with pytest.raises(UserError, match="no split 'c'; its splits: a, b"):
        sources_of(found(tmp_path, "a", "b"), "c", "train")


def test_a_folder_with_two_formats_is_rejected(tmp_path):
    finders = {
        "voc_xml": lambda tree: {"all": ["voc_xml:x:y"]},
        "yolo": lambda tree: {"all": ["yolo:x:y"]},
        "via": lambda tree: {},
    }
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(UserError, match=r"may be voc_xml or yolo: .* voc_xml:x:y or yolo:x:y"):
        find(tmp_path, finders)


def test_words_for_a_split_that_mean_the_same(tmp_path):
    assert sources_of(found(tmp_path, "train", "valid"), "val", "all")[0] == "valid"
    assert sources_of(found(tmp_path, "train", "val"), "validation", "all")[0] == "val"
    with pytest.raises(UserError, match="no split 'test'; its splits: train, val"):
        sources_of(found(tmp_path, "train", "val"), "test", "all")


def test_an_undivided_set_next_to_a_divided_one_is_rejected(tmp_path):
    splits = {"train": ["yolo:blood:train"], "val": ["yolo:blood:val"], "all": ["yolo:things:all"]}
    for role in ("train", "eval"):
        with pytest.raises(UserError, match=r"several data sets, .*all \(yolo:things:all\)"):
            sources_of(Found(tmp_path, "yolo", splits), "", role)
    # A list of all images beside those of the splits is no other set.
    splits["all"] = ["yolo:blood:all"]
    assert sources_of(Found(tmp_path, "yolo", splits), "", "train")[0] == "train"


@pytest.mark.parametrize(
    "name, complaint",
    [
        ("set.zip", "set.zip is an archive: unpack it"),
        ("a.jpg", "a.jpg is an image: name the folder"),
        ("a.xml", "a.xml is the annotation of one image: name its folder"),
    ],
)
def test_a_file_that_is_no_data_set(tmp_path, name, complaint):
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=complaint):
        find(tmp_path / name, {"voc_xml": lambda tree: {"all": [f"voc_xml:{tree.root}:x"]}})


@pytest.mark.parametrize(
    "file, hint",
    [
        ("set.zip", "set.zip is an archive, unpack it"),
        ("voc/5.0.0/dataset_info.json", "tfds:NAME:SPLIT"),
        ("readme.txt", "among 2 files, 1 of them images: docs/data.md"),
        ("b.jpg", "among 2 files, 2 of them images: annotate the images"),
    ],
)
def test_a_folder_without_annotations_gets_a_hint(tmp_path, file, hint):
    write_picture(tmp_path / "a.jpg")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("{}")
    with pytest.raises(UserError, match=hint):
        find(tmp_path, {"via": lambda tree: {}})


def test_label_files_that_are_all_empty_are_reported(tmp_path):
    for name in ("a", "b"):
        write_picture(tmp_path / "images" / f"{name}.jpg")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").touch()
    (tmp_path / "classes.txt").write_text("dog")
    with pytest.raises(UserError, match=r"2 files like labels/a\.txt are empty, so nothing is"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize(
    "file, whose",
    [
        ("train/_annotations.createml.json", "CreateML"),
        ("0a-asset.json", "VoTT"),
        ("ds0/ann/a.jpg.json", "Supervisely"),
        ("samples.json", "FiftyOne"),
        ("training/label_2/000000.txt", "KITTI"),
    ],
)
def test_unsupported_formats_are_named(tmp_path, file, whose):
    write_picture(tmp_path / "a.jpg", 200, 100)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("{}")
    with pytest.raises(UserError, match=f"{whose}.* format, which is not supported: export COCO"):
        open_dataset(str(tmp_path))


def test_split_folders_of_undivided_annotations_are_reported(tmp_path, caplog):
    for name in ("train/a.jpg", "val/b.jpg"):
        write_picture(tmp_path / "images" / name, 200, 100)
    shape = "<box label='cat' xtl='20' ytl='10' xbr='80' ybr='60'/>"
    images = (
        f"<image id='{i}' name='{name}' width='200' height='100'>{shape}</image>"
        for i, name in enumerate(("train/a.jpg", "val/b.jpg"))
    )
    content = f"<annotations><meta/>{''.join(images)}</annotations>"
    (tmp_path / "annotations.xml").write_text(content)
    with caplog.at_level("WARNING", "ssd_jax"):
        assert len(open_dataset(str(tmp_path), role="train")) == 2
    assert "of one set, though there are folders train and val of images" in caplog.text
