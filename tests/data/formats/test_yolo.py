import logging

import numpy as np
import pytest

from ssd_jax.data.problems import Problems
from ssd_jax.data.records import Object
from ssd_jax.data.sources import explicit_sources, open_dataset
from ssd_jax.errors import UserError
from tests.data.formats.files import write_files
from tests.helpers.pictures import write_picture
from tools.formats import yolo
from tools.formats.picture import Picture

# Of an image of 200 × 100: x from 20 to 80, y from 10 to 60.
LINE = "0 0.25 0.35 0.3 0.5\n"
BOX = [0.1, 0.1, 0.4, 0.6]


def boxes(source, **arguments):
    """The boxes of every image by its id."""
    dataset = open_dataset(source, **arguments)
    return {dataset[i].image_id: dataset[i].boxes.tolist() for i in range(len(dataset))}


def check_cat(source, image_id="a", **arguments):
    dataset = open_dataset(source, **arguments)
    (record,) = [dataset[i] for i in range(len(dataset)) if dataset[i].image_id == image_id]
    np.testing.assert_allclose(record.boxes, [BOX], atol=1e-6)
    assert dataset.class_names[record.labels[0] - 1] == "cat"


ROBOFLOW = (
    "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 1\nnames: ['cat']\n"
)
LAYOUTS = {
    "ultralytics": {
        "data.yaml": "path: ../datasets/x\ntrain: images/train\nval: images/val\nnames: {0: cat}\n",
        "images/train/a.jpg": None,
        "labels/train/a.txt": LINE,
    },
    "roboflow": {
        "data.yaml": ROBOFLOW,
        "README.roboflow.txt": "exported\n",
        "train/images/a.jpg": None,
        "train/labels/a.txt": LINE,
    },
    "a folder in a folder": {
        "unpacked/data.yaml": ROBOFLOW,
        "unpacked/train/images/a.jpg": None,
        "unpacked/train/labels/a.txt": LINE,
    },
    "another machine's path": {
        "dataset.yml": "path: /content/datasets/x\ntrain: images\nval: images\nnames: [cat]\n",
        "images/a.jpg": None,
        "labels/a.txt": LINE,
    },
    "windows": {
        "data.yaml": "train: C:\\data\\x\\train\\images\nval: \nnames: [cat]\n",
        "train/images/a.jpg": None,
        "train/labels/a.txt": LINE,
    },
    "lists": {
        "data.yaml": "train: [train.txt]\nnames: [cat]\n",
        "train.txt": "./images/a.jpg\n",
        "images/a.jpg": None,
        "images/of_no_split.jpg": None,
        "labels/a.txt": LINE,
    },
    "cvat": {
        "data.yaml": "names:\n  0: cat\npath: .\ntrain: train.txt\n",
        "train.txt": "data/images/train/a.jpg\n",
        "images/train/a.jpg": None,
        "labels/train/a.txt": LINE,
    },
    "darknet": {
        "obj.data": "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = b/\n",
        "obj.names": "cat\n",
        "train.txt": "data/obj_train_data/a.jpg\n",
        "obj_train_data/a.jpg": None,
        "obj_train_data/a.txt": LINE,
    },
    "capitals": {"Images/a.jpg": None, "Labels/a.txt": LINE, "classes.txt": "cat\n"},
    "roboflow without dots": {
        "data.yaml": ROBOFLOW.replace("../", ""),
        "train/images/a.jpg": None,
        "train/labels/a.txt": LINE,
    },
    "a folder of the file": {
        "config/data.yaml": "path: ../set\ntrain: images\nnames: [cat]\n",
        "set/images/a.jpg": None,
        "set/labels/a.txt": LINE,
    },
    "label studio": {
        "classes.txt": "cat\n",
        "notes.json": "{}",
        "images/a.jpg": None,
        "labels/a.txt": LINE,
    },
    "labelimg": {"classes.txt": "cat\n", "a.jpg": None, "a.txt": LINE},
    "roboflow's darknet": {
        "train/_darknet.labels": "cat\n",
        "train/a.jpg": None,
        "train/a.txt": LINE,
    },
    "folders": {
        "classes.txt": "cat\n",
        "images/train/a.jpg": None,
        "labels/train/a.txt": LINE,
    },
    "a mark, tabs and Windows' lines": {
        "data.yaml": b"\xef\xbb\xbftrain:\timages\r\nnames:\r\n\t- cat\r\n",
        "images/a.jpg": None,
        "labels/a.txt": LINE.replace("\n", "\r\n"),
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_by_the_bare_folder(tmp_path, layout):
    source = write_files(tmp_path / "data set, v2: x", LAYOUTS[layout])
    ids = boxes(source, role="train")
    check_cat(source, next(iter(ids)), role="train")
    assert len(ids) == 1 and next(iter(ids)).rpartition("/")[2] == "a"
    (explicit,) = explicit_sources(source, "train")
    check_cat(explicit, next(iter(ids)))


def test_splits_keep_their_names_and_missing_declared_splits_are_left_out(tmp_path):
    files = dict(LAYOUTS["roboflow"])
    files |= {"valid/images/b.jpg": None, "valid/labels/b.txt": LINE}
    folder = write_files(tmp_path, files)
    assert explicit_sources(folder, "train") == [f"yolo:{tmp_path}/data.yaml:train"]
    assert explicit_sources(folder, "eval") == [f"yolo:{tmp_path}/data.yaml:val"]
    assert list(boxes(f"{folder}:val")) == ["b"]
    with pytest.raises(UserError, match="no split 'test'; its splits: train, val"):
        explicit_sources(f"{folder}:test")
    with pytest.raises(UserError, match=r"test is \.\./test/images, but no such folder"):
        open_dataset(f"yolo:{folder}/data.yaml:test")


@pytest.mark.parametrize("with_file", [True, False])
def test_a_split_may_have_images_without_objects_alone(tmp_path, with_file):
    files = {"images/train/a.jpg": None, "labels/train/a.txt": LINE, "images/val/b.jpg": None}
    files |= {"labels/val/b.txt": ""}
    if with_file:
        files["data.yaml"] = "train: images/train\nval: images/val\nnames: [cat]\n"
    folder = write_files(tmp_path, files)
    assert boxes(folder, role="eval", class_names=("cat",)) == {"b": []}


@pytest.mark.parametrize("written", ["path: {}\ntrain: images", "train: {}/x.txt"])
def test_absolute_paths(tmp_path, written):
    files = {"images/a.jpg": None, "labels/a.txt": LINE, "x.txt": f"{tmp_path}/images/a.jpg\n"}
    write_files(tmp_path, files)
    text = f"{written.format(tmp_path)}\nnames: [cat]\n"
    check_cat(write_files(tmp_path / "other", {"data.yaml": text}))


def test_subfolders_are_kept(tmp_path):
    folder = write_files(
        tmp_path,
        {
            "data.yaml": "train: [images/one, images/two]\nnames: [cat]\n",
            "images/one/x/a.jpg": None,
            "labels/one/x/a.txt": LINE,
            "images/two/a.jpg": None,
            "labels/two/a.txt": "",
        },
    )
    read = boxes(folder)
    assert list(read) == ["one/x/a", "two/a"] and read["two/a"] == []


def test_the_last_folder_called_images_is_that_of_labels(tmp_path):
    root = tmp_path / "images" / "set"
    write_files(
        root, {"classes.txt": "cat", "images/train/a.jpg": None, "labels/train/a.txt": LINE}
    )
    check_cat(str(root))


@pytest.mark.parametrize(
    "line, box",
    [
        ("0 0.25 0.35 0.3 0.5", BOX),
        ("0.0 2.5e-1 .35 0.3 0.5", BOX),
        ("0 0.1 0.1 0.4 0.1 0.4 0.6", BOX),  # a triangle
        ("0 0.2 0.6 0.1 0.3 0.3 0.1 0.4 0.4", BOX),  # Ultralytics' oriented boxes
        ("0 0.25 0.25 0.6 0.3", [0, 0.1, 0.55, 0.4]),  # reaches outside
    ],
)
def test_lines(tmp_path, line, box):
    folder = write_files(tmp_path, {"classes.txt": "cat", "a.jpg": None, "a.txt": line})
    np.testing.assert_allclose(boxes(folder)["a"], [box], atol=1e-6)


def test_keypoints_are_no_polygon(tmp_path):
    points = " 0.9 0.9 2 0.95 0.95 1"
    files = {"a.jpg": None, "a.txt": LINE.strip() + points, "classes.txt": "cat"}
    folder = write_files(tmp_path, files)
    with pytest.raises(UserError, match=r"a\.txt: line 1 may be a box with keypoints"):
        open_dataset(folder)
    write_files(tmp_path, {"data.yaml": "train: .\nkpt_shape: [2, 3]\nnc: 1\nnames: [cat]\n"})
    np.testing.assert_allclose(boxes(folder)["a"], [BOX], atol=1e-6)


@pytest.mark.parametrize(
    "line, message",
    [
        ("0 0.25 0.35 0.3 0.5 0.9", "line 2 has 6 numbers.* a confidence"),
        ("0 0.25 0.35 0.3", "line 2 has 4 numbers"),
        ("0 0.1 0.1 0.4 0.6 0.3 0.3 0.2", "line 2 has 8 numbers"),
        (
            "1 0.25 0.35 0.3 0.5",
            r"line 2 has the class 1, but \S+/classes.txt lists 1 class, 0 \(cat\): fix the "
            "number, or name all classes where they are listed: names in data.yaml",
        ),
        ("-1 0.25 0.35 0.3 0.5", "line 2 has the class -1, which is not an index"),
        ("0.5 0.25 0.35 0.3 0.5", "line 2 has the class 0.5"),
        ("cat 0.25 0.35 0.3 0.5", r"line 2 has the class 'cat', but needs its number, 0: .*\.txt"),
        ("dog 0.25 0.35 0.3 0.5", r"the class 'dog', but needs its number: names .*classes\.txt"),
        ("cat 0.25 x 0.3 0.5", "line 2 has 'cat', which is not a number"),
        ("0 nan 0.35 0.3 0.5", "line 2 has 'nan'"),
        ("0 0.25 inf 0.3 0.5", "line 2 has 'inf'"),
        ("0 0.25 1_0 0.3 0.5", "line 2 has '1_0'"),
        ("0 50 35 60 50", "line 2 has the box '50 35 60 50', .* probably they are pixels; divide"),
    ],
)
def test_wrong_lines_are_named_or_skipped(tmp_path, line, message):
    files = {"classes.txt": "cat", "a.jpg": None, "a.txt": LINE + line}
    folder = write_files(tmp_path, files | {"b.jpg": None, "b.txt": LINE})
    with pytest.raises(UserError, match=rf"a\.txt: .*{message}"):
        open_dataset(folder)
    problems = Problems("skip", 0.5)
    assert list(boxes(folder, problems=problems)) == ["b"]
    assert len(problems.found) == 1 and problems.num_images == 2


@pytest.mark.parametrize(
    "names, expected",
    [
        ("[cat, 'Löwe: 1', \"猫\"]", ["cat", "Löwe: 1", "猫"]),
        ("{0: no, 2: 1.0, 1: yes}", ["no", "yes", "1.0"]),  # not False, True and 1
        ("\n- on\n- off\n- 007", ["on", "off", "007"]),
    ],
)
def test_names_are_texts_in_the_order_of_their_indices(tmp_path, names, expected):
    lines = "".join(LINE.replace("0", str(i), 1) for i in range(3))
    files = {"data.yaml": f"train: images\nnames: {names}\n", "images/a.jpg": None}
    dataset = open_dataset(write_files(tmp_path, files | {"labels/a.txt": lines}))
    assert list(dataset.class_names) == expected and dataset.category_ids == (1, 2, 3)


@pytest.mark.parametrize(
    "content, message",
    [
        ("train: images\nnc: 2\nnames: [cat]\n", "declares 2 classes, but names 1"),
        ("train: images\nnames: [cat, cat]\n", "has the class 'cat' twice"),
        ("train: images\nnames: [cat, []]\n", "which is not a class"),
        ("train: images\nnames: {a: cat}\n", "which is not a class"),
        ("train: images\nnames: x.names\n", "names x.names as its file of classes"),
        ("train: nowhere\nnames: [cat]\n", "train is nowhere, but no such folder"),
        ("train: images\nnames: [cat\n", "data.yaml is not valid YAML: line 2: expected ',' or"),
        ("names: [cat\ntrain: images\n", "data.yaml is not valid YAML: line 1: expected ',' or"),
        ("train: images\nname: [cat]\n", r"has no names, .* \(did you mean names, not name\?\)"),
        (
            "train: images\nnames: []\n",
            r"lists no classes: list them, like names: \[cat",
        ),
        ("train: images\n", r"has no names, the list of classes: add names: \[cat, dog\]"),
        ("", "has no names, the list of classes"),
    ],
)
def test_wrong_data_yaml_is_refused(tmp_path, content, message):
    write_files(tmp_path, {"data.yaml": content, "images/a.jpg": None, "labels/a.txt": LINE})
    with pytest.raises(UserError, match=message):
        open_dataset(str(tmp_path / "data.yaml"))


@pytest.mark.parametrize("content", ["names: [cat\ntrain: images\n", "train: images\n", ""])
def test_wrong_data_yaml_is_refused_in_its_folder(tmp_path, content):
    files = {"data.yaml": content, "images/a.jpg": None, "labels/a.txt": LINE}
    with pytest.raises(UserError, match=r"data\.yaml (is not valid YAML|has no names)"):
        open_dataset(write_files(tmp_path, files))


def test_yaml_files_of_others_are_ignored(tmp_path):
    others = {"compose.yaml": "services: {a: [\n", "recipe.yml": "train: 3\n", "empty.yaml": ""}
    files = others | {"classes.txt": "cat", "images/a.jpg": None, "labels/a.txt": LINE}
    check_cat(write_files(tmp_path, files))


def test_a_path_that_may_be_two_folders_is_refused(tmp_path):
    write_files(tmp_path, {"train/images/b.jpg": None})
    folder = write_files(tmp_path / "set", LAYOUTS["roboflow"])
    with pytest.raises(UserError, match=r"\.\./train/images may be .*write the right one"):
        open_dataset(folder, role="train")


def test_without_names_classes_are_called_by_their_index(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    folder = write_files(tmp_path, {"a.jpg": None, "a.txt": LINE + "12 0.5 0.5 0.1 0.1"})
    assert open_dataset(folder).class_names == ("0", "12")
    assert "no file names the classes" in caplog.text


def test_lists_of_classes_that_differ_are_refused(tmp_path):
    files = {"train/classes.txt": "cat\ndog", "val/classes.txt": "dog\ncat"}
    files |= {"train/a.jpg": None, "train/a.txt": LINE}
    with pytest.raises(UserError, match="list different classes"):
        open_dataset(write_files(tmp_path, files))


def test_class_files_above_the_folder_of_images_are_reported(tmp_path, caplog):
    files = {"images/a.jpg": None, "labels/a.txt": LINE, "data.yaml": "names: [cat]\n"}
    folder = write_files(tmp_path, files)
    with caplog.at_level(logging.WARNING, "ssd_jax"):
        assert open_dataset(f"{folder}/images").class_names == ("0",)
    above = f"{folder}/data.yaml names classes, so name its folder as the data: {folder}"
    assert above in caplog.text and open_dataset(folder).class_names == ("cat",)


def test_images_without_labels_and_labels_without_images_are_reported(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    files = {"classes.txt": "cat", "images/a.jpg": None, "labels/a.txt": LINE}
    files |= {"images/b.jpg": None, "images/c.jpg": None, "labels/c.txt": " \n"}
    read = boxes(write_files(tmp_path, files | {"labels/gone.txt": LINE}))
    assert read["b"] == read["c"] == []
    assert (
        "1 image of 3 without a label file, used as images without objects: "
        f"{tmp_path}/images/b.jpg" in caplog.text
    )
    assert "left out 1 label file without an image: gone.txt" in caplog.text


def test_a_split_without_any_label_is_refused(tmp_path):
    files = {"data.yaml": "train: images\nnames: [cat]\n", "images/a.jpg": None}
    with pytest.raises(UserError, match=r"none of 1 image has .* needs .*labels/a\.txt"):
        open_dataset(f"yolo:{write_files(tmp_path, files)}:train")


def test_two_images_of_one_label_file_are_refused(tmp_path):
    files = {"classes.txt": "cat", "a.jpg": None, "a.png": None, "a.txt": LINE}
    with pytest.raises(UserError, match=r"a\.txt: is the label file of a\.jpg and of a\.png"):
        open_dataset(write_files(tmp_path, files))


def test_lists_name_missing_and_repeated_images(tmp_path):
    folder = write_files(
        tmp_path, LAYOUTS["lists"] | {"train.txt": "images/a.jpg\ngone.jpg\nimages/a.jpg"}
    )
    problems = Problems("skip", 1.0)
    assert list(boxes(folder, problems=problems)) == ["a"]
    kinds = [found.problems[0].kind for found in problems.found]
    assert kinds == ["image missing", "listed twice"] and problems.num_images == 3


@pytest.mark.parametrize(
    "text", ["a 1\n", "000001\n000002\n", "exported by a tool\n", "1 2\n", "7 8 9\n"]
)
def test_texts_of_other_kinds_are_no_labels(tmp_path, text):
    files = {"a.jpg": None, "a.txt": text, "ImageSets/Main/train.txt": "a\n"}
    with pytest.raises(UserError, match="no annotations of a known format"):
        explicit_sources(write_files(tmp_path, files))


def test_written_and_read_back(tmp_path):
    write_picture(tmp_path / "a.jpg", 200, 100)
    encoded = (tmp_path / "a.jpg").read_bytes()
    pictures = [
        Picture("a.jpg", encoded, (100, 200), (Object("cat", (20, 10, 80, 60)),)),
        Picture("b.jpg", encoded, (100, 200), ()),
    ]
    yolo.write(pictures, tmp_path / "set")
    assert (tmp_path / "set/labels/train/a.txt").read_text() == (
        "0 0.250000 0.350000 0.300000 0.500000"
    )
    check_cat(str(tmp_path / "set"), role="train")


def test_lists_of_splits_without_a_data_yaml_are_used(tmp_path):
    files = {f"images/{name}.jpg": None for name in "abc"} | {"classes.txt": "cat\n"}
    files |= {f"labels/{name}.txt": LINE for name in "abc"}
    folder = write_files(
        tmp_path, files | {"train.txt": "images/a.jpg\n./images/c.jpg", "val.txt": "b.jpg"}
    )
    assert list(boxes(folder, role="train")) == ["a", "c"]
    assert list(boxes(folder, role="eval")) == ["b"]


def test_darknet_starts_from_the_folder_above_its_file(tmp_path):
    files = {f"data/obj/{name}.jpg": None for name in "ab"} | {"data/obj.names": "cat\n"}
    files |= {f"data/obj/{name}.txt": LINE for name in "ab"}
    files |= {"data/train.txt": "data/obj/a.jpg\n", "data/test.txt": "data/obj/b.jpg\n"}
    declared = "classes= 1\ntrain = data/train.txt\nvalid = data/test.txt\nnames = data/obj.names\n"
    folder = write_files(tmp_path, files | {"data/obj.data": declared})
    assert list(boxes(folder, role="train")) == ["a"]
    assert list(boxes(folder, role="eval")) == ["b"]


@pytest.mark.parametrize("inner", ["", "/train"])
def test_a_data_yaml_without_existing_splits_is_rejected(tmp_path, inner):
    files = {f"images{inner}/a.jpg": None, f"labels{inner}/a.txt": LINE}
    folder = write_files(tmp_path, files | {"data.yaml": "train: x/y\nval: x/z\nnames: [cat]\n"})
    for source in (folder, f"{folder}:train"):
        with pytest.raises(
            UserError, match=r"data\.yaml: train is x/y, but no such .*/x/y\): corr"
        ):
            explicit_sources(source, "train")


@pytest.mark.parametrize("content", [None, "", "/gone/b.jpg\n"])
def test_a_data_yaml_whose_folder_or_list_has_no_images_is_refused(tmp_path, content):
    files = {"images/a.jpg": None, "labels/a.txt": LINE, "data.yaml": "train: x\nnames: [cat]\n"}
    folder = write_files(tmp_path, files)
    if content is None:
        (tmp_path / "x").mkdir()
    else:
        (tmp_path / "x").write_text(content)
    with pytest.raises(UserError, match=r"data\.yaml: train has no images: correct the paths"):
        explicit_sources(folder, "train")


def test_a_data_yaml_with_a_missing_split_is_reported(tmp_path, caplog):
    files = {"images/a.jpg": None, "labels/a.txt": LINE}
    declared = {"data.yaml": "train: images\nval: x/z\nnames: [cat]\n"}
    with caplog.at_level(logging.WARNING, "ssd_jax"):
        check_cat(write_files(tmp_path, files | declared))
    assert "data.yaml: left out splits whose folders or files do not exist: val: x/z" in caplog.text


def test_labels_in_another_form_are_reported_by_line_with_a_data_yaml(tmp_path):
    declared = "train: images\nval: images\nnames: [cat]\n"
    files = {"images/a.jpg": None, "labels/a.txt": "cat 0.25 0.35 0.3 0.5\n", "data.yaml": declared}
    with pytest.raises(UserError, match="line 1 has the class 'cat', but needs its number, 0"):
        boxes(write_files(tmp_path, files), role="train")
