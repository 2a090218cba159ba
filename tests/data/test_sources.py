import logging

import numpy as np
import pytest

from ssd_jax.data import class_lists
from ssd_jax.data.class_lists import category_ids_of
from ssd_jax.data.sources import open_dataset
from ssd_jax.data.training_order import training_order
from ssd_jax.errors import UserError
from tests.helpers.pictures import VocFolder, write_coco
from tests.helpers.reference_results import shared

COCO = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 60, "height": 40},
        {"id": 9, "file_name": "b.jpg", "width": 50, "height": 50},
    ],
    "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [6, 4, 30, 20], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 60, 40], "iscrowd": 1},
    ],
}


@pytest.fixture
def voc(tmp_path):
    return VocFolder(tmp_path / "voc")


def take(indices, count):
    return list(indices.take(count).as_numpy_iterator())


def records(source, **share):
    return [source[index] for index in source.share(**share)]


def test_voc_xml_reads_boxes_as_fractions(voc):
    voc.add("one", [("dog", 6, 4, 30, 20), ("cat", 1, 1, 60, 40)])
    source = open_dataset(voc.split("train", "one"))
    assert source.class_names == ("cat", "dog")
    (record,) = records(source)
    np.testing.assert_allclose(
        record.boxes, [[0.1, 0.1, 0.5, 0.5], [1 / 60, 1 / 40, 1, 1]], rtol=1e-6
    )
    np.testing.assert_array_equal(record.labels, [2, 1])
    assert record.image_id == "one"


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".png"])
def test_voc_xml_takes_the_suffixes_of_pictures(voc, suffix):
    voc.add("one", [("dog", 6, 4, 30, 20)], suffix=suffix)
    (record,) = records(open_dataset(voc.split("train", "one")))
    assert record.path.endswith(f"one{suffix}")


def test_voc_xml_does_without_optional_tags(voc):
    voc.add("plain", [("dog", 6, 4, 30, 20)], size_tag=False)
    voc.add("difficult", [("dog", 6, 4, 30, 20)], extra="<difficult>1</difficult>")
    plain, difficult = records(open_dataset(voc.split("train", "plain", "difficult")))
    np.testing.assert_allclose(plain.boxes, [[0.1, 0.1, 0.5, 0.5]], rtol=1e-6)
    assert not plain.difficult.any() and difficult.difficult.all()


def test_images_without_objects_are_kept(voc):
    voc.add("empty", [])
    voc.add("one", [("dog", 6, 4, 30, 20)])
    source = open_dataset(voc.split("train", "empty", "one"))
    assert len(source) == 2
    assert records(source)[0].boxes.shape == (0, 4)


def test_bad_boxes_are_fixed_and_reported_once(voc, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    voc.add("flat", [("dog", 6, 4, 6, 20), ("dog", 6, 4, 30, 20), ("dog", 30, 4, 6, 20)])
    voc.add("wide", [("dog", -6, 4, 90, 20)])
    with caplog.at_level(logging.WARNING):
        flat, wide = records(open_dataset(voc.split("train", "flat", "wide")))
    assert len(flat.boxes) == 1
    np.testing.assert_allclose(wide.boxes, [[0, 0.1, 1, 0.5]], rtol=1e-6)
    messages = [message.getMessage() for message in caplog.records]
    assert len(messages) == 2
    assert "dropped 2 boxes without area: flat.jpg (2)" in messages[0]
    assert "clipped 1 box at the edge of the image: wide.jpg" in messages[1]


def test_classes_can_be_given(voc):
    voc.add("one", [("dog", 6, 4, 30, 20)])
    source = open_dataset(voc.split("train", "one"), ("bird", "dog"))
    assert source.class_names == ("bird", "dog")
    assert records(source)[0].labels == [2]


def test_an_unknown_class_is_named(voc):
    voc.add("one", [("dgo", 6, 4, 30, 20)])
    with pytest.raises(UserError, match=r"one\.xml.*one\.jpg.*'dgo'.*dog, cat"):
        open_dataset(voc.split("train", "one"), ("dog", "cat"))


def test_a_missing_picture_is_named(voc):
    voc.add("one", [("dog", 6, 4, 30, 20)])
    with pytest.raises(UserError, match=r"lists 'two', but .*JPEGImages has no"):
        open_dataset(voc.split("train", "one", "two"))


def test_a_missing_annotation_is_named(voc):
    voc.add("one", [])
    voc.annotation("one").unlink()
    with pytest.raises(UserError, match=r"Annotations/one\.xml: does not exist"):
        open_dataset(voc.split("train", "one"))


def test_a_missing_split_is_reported_with_the_existing_ones(voc):
    voc.add("one", [])
    spec = voc.split("train", "one").replace(":train", ":val")
    with pytest.raises(UserError, match=r"val\.txt does not exist; there are train"):
        open_dataset(spec)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("<annotation><object>", "cannot be read as XML"),
        ("<annotation><object><name>dog</name></object></annotation>", "no <bndbox><xmin>"),
        ("<annotation><object></object></annotation>", "no <name>"),
        (
            '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a><object>&e;</object></a>',
            "cannot be read as XML",
        ),
    ],
)
def test_a_broken_annotation_is_named(voc, text, complaint):
    voc.add("one", [])
    voc.annotation("one").write_text(text)
    with pytest.raises(UserError, match=f"one.xml.*{complaint}"):
        open_dataset(voc.split("train", "one"))


def test_a_box_that_is_not_a_number_is_reported(voc):
    voc.add("one", [("dog", "abc", 4, 6, 20)])
    with pytest.raises(UserError, match="'abc', which is not a number"):
        open_dataset(voc.split("train", "one"))


def test_coco_json(tmp_path):
    source = open_dataset(write_coco(tmp_path, COCO))
    assert source.class_names == ("cat", "dog") and source.category_ids == (1, 3)
    first, second = records(source)
    np.testing.assert_allclose(first.boxes, [[0.1, 0.1, 0.6, 0.6], [0, 0, 1, 1]], rtol=1e-6)
    np.testing.assert_array_equal(first.labels, [2, 1])
    np.testing.assert_array_equal(first.crowd, [False, True])
    assert second.image_id == "9" and second.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"categories": None}, "not in COCO's format.*'categories'"),
        ({"annotations": [{"image_id": 5, "category_id": 1}]}, "unknown image 5"),
        ({"annotations": [{"image_id": 7, "category_id": 2}]}, "unknown category 2"),
        ({"annotations": [{"image_id": 7, "category_id": 1}]}, "image 7: a bbox is None"),
    ],
)
def test_broken_coco_json_is_explained(tmp_path, change, complaint):
    with pytest.raises(UserError, match=complaint):
        open_dataset(write_coco(tmp_path, COCO | change))


def test_coco_json_with_a_missing_picture(tmp_path):
    spec = write_coco(tmp_path, COCO)
    (tmp_path / "images" / "b.jpg").unlink()
    with pytest.raises(UserError, match=r"'b\.jpg' is not in .*images"):
        open_dataset(spec)


def test_several_sources_form_one_data_set(voc):
    voc.add("one", [("dog", 6, 4, 30, 20)])
    voc.add("two", [("cat", 6, 4, 30, 20)])
    source = open_dataset(f"{voc.split('a', 'one')},{voc.split('b', 'two')}")
    assert source.class_names == ("cat", "dog")
    assert [record.image_id for record in records(source)] == ["one", "two"]


def test_sources_of_different_classes_need_a_list(voc, tmp_path):
    voc.add("one", [("dog", 6, 4, 30, 20)])
    coco = write_coco(tmp_path / "coco", COCO)
    other = write_coco(
        tmp_path / "other", COCO | {"categories": [{"id": 3, "name": "a"}, {"id": 1, "name": "b"}]}
    )
    assert len(open_dataset(f"{coco},{voc.split('train', 'one')}")) == 3
    with pytest.raises(UserError, match=r"different classes.*config\.data\.classes"):
        open_dataset(f"{coco},{other}")
    assert len(open_dataset(f"{coco},{other}", ("a", "b", "cat", "dog"))) == 4


def test_results_call_classes_by_the_ids_of_the_annotations(voc, tmp_path):
    voc.add("one", [("dog", 6, 4, 30, 20)])
    folder, coco = voc.split("train", "one"), write_coco(tmp_path / "coco", COCO)
    assert open_dataset(folder).category_ids == (1,)
    assert open_dataset(f"{folder},{coco}").category_ids == (1, 3)
    assert open_dataset(coco, ("dog", "cat")).category_ids == (3, 1)
    # A class that the file does not know has no id in it.
    assert open_dataset(coco, ("ant", "cat", "dog")).category_ids == (1, 2, 3)


def test_coco_of_tfds_has_the_ids_of_coco():
    names = tuple(f"class {i}" for i in range(80))
    ids = category_ids_of("coco", names)
    # Person, train, traffic light, fire hydrant, stop sign, …, toothbrush.
    assert [ids[f"class {i}"] for i in (0, 6, 9, 10, 11, 79)] == [1, 7, 10, 11, 13, 90]
    assert list(category_ids_of("other", names).values()) == list(range(1, 81))


@pytest.mark.parametrize(
    "spec, complaint",
    [
        ("", "a data source is empty: name a folder, or .*voc_xml:ROOT:SPLIT"),
        ("voc:x:y", "voc:x:y does not begin with a format: did you mean voc_xml:ROOT:SPLIT"),
        ("voc_xml:x", "voc_xml:x lacks arguments: write voc_xml:ROOT:SPLIT.*or the folder alone"),
        ("tfds:voc", "tfds:voc lacks arguments: write tfds:NAME:SPLIT, or the"),
        ("shapes", "shapes is a format and needs arguments: shapes:SPLIT"),
    ],
)
def test_an_invalid_spec_is_rejected(spec, complaint):
    with pytest.raises(UserError, match=complaint):
        open_dataset(spec)


def test_a_folder_that_does_not_exist_is_named():
    with pytest.raises(UserError, match="/no/such/folder does not exist"):
        open_dataset("voc_xml:/no/such/folder:train")


def test_shapes_has_train_and_test():
    assert len(open_dataset("shapes:train")) == 1500
    assert len(open_dataset("shapes:test")) == 300
    with pytest.raises(UserError, match="no split 'val', but"):
        open_dataset("shapes:val")


def test_tfds_without_such_a_set():
    with pytest.raises(UserError, match="tfds:no_such_set:train"):
        open_dataset("tfds:no_such_set:train")


def test_bccd_is_read_whole():
    source = open_dataset(f"voc_xml:{shared('data/BCCD')}:trainval")
    assert source.class_names == ("Platelets", "RBC", "WBC")
    assert len(source) == 292
    assert len(records(source, process_index=1, process_count=3)) == 97


def test_coco_tiny_is_read_whole():
    folder = shared("data/coco_tiny")
    (annotations,) = folder.glob("**/*val*.json")
    images = next(path.parent for path in folder.glob("**/*.jpg") if "val" in str(path.parent))
    source = open_dataset(f"coco_json:{annotations}:{images}")
    assert len(source.class_names) == 80 and source.category_ids == tuple(class_lists.COCO_IDS)
    assert source.class_names == tuple(class_lists.COCO)
    assert sum(len(record.labels) for record in records(source)) > 600


def test_every_epoch_has_every_picture_once_in_another_order(voc):
    ids = [f"picture{i}" for i in range(7)]
    for image_id in ids:
        voc.add(image_id, [("dog", 6, 4, 30, 20)])
    source = open_dataset(voc.split("train", *ids))
    order = [source[index].image_id for index in take(training_order(source, 1), 14)]
    assert sorted(order[:7]) == sorted(order[7:]) == ids
    assert order[:7] != order[7:]
    again = take(training_order(source, 1, first_position=9), 5)
    assert [source[index].image_id for index in again] == order[9:]


def test_processes_share_the_pictures(voc):
    ids = [f"picture{i}" for i in range(7)]
    for image_id in ids:
        voc.add(image_id, [("dog", 6, 4, 30, 20)])
    source = open_dataset(voc.split("train", *ids))
    seen = []
    for index, size in enumerate((4, 3)):
        share = training_order(source, 1, process_index=index, process_count=2)
        seen += [source[index].image_id for index in take(share, size)]
    assert sorted(seen) == ids
