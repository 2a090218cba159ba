"""Small real-world inputs, each with its correct result."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.data.sources import open_dataset
from ssd_jax.data.training_batches import training_batches
from ssd_jax.diagnostics.check_data import check_data
from ssd_jax.errors import UserError
from ssd_jax.runs.train import train
from tests import tiny
from tests.helpers.read_boxes import read_boxes
from tests.helpers.reference_results import shared

THE_BOX = [20, 10, 80, 60]

# The folder of a case, what follows the format's name, and the image that is read.
SOURCES = {
    "spaces_other_picture": ("voc_xml:{}/voc:train", "IMG (1)"),
    "per_class_split": ("voc_xml:{}/voc:cat_train", "a"),
    "bom_json": ("coco_json:{0}/coco/ann.json:{0}/coco/images", "1"),
    "backslash_file_name": ("coco_json:{0}/coco/ann.json:{0}/coco", "1"),
    "cvat_subfolder": ("voc_xml:{}/voc:train", "vid1/a"),
    "same_stem": ("voc_xml:{}/voc:train", "a"),
    "comma_in_path": ("voc_xml:{}/voc,v2:train", "a"),
    "coco_without_size": ("coco_json:{0}/coco/ann.json:{0}/coco/images", "1"),
    "roboflow_bbox_strings": ("coco_json:{0}/coco/ann.json:{0}/coco/images", "1"),
    "roboflow_root_category": ("coco_json:{0}/coco/ann.json:{0}/coco/images", "1"),
    "png16_dark": ("voc_xml:{}/voc:train", "a"),
}


COCO = "coco_json:{0}/ann.json:{0}/images"


def folder_of(case):
    """The only folder in that of a case."""
    (folder,) = (path for path in shared(f"cases/{case}").iterdir() if path.is_dir())
    return folder


def source(case):
    return SOURCES[case][0].format(shared(f"cases/{case}"))


@pytest.mark.parametrize("case", SOURCES)
def test_the_cat_is_read_explicitly_and_from_the_folder(case):
    expected = {SOURCES[case][1]: [("cat", THE_BOX)]}
    assert read_boxes(source(case)) == expected
    assert read_boxes(str(folder_of(case)), role="train") == expected


def test_the_box_is_that_of_training_batches():
    """All cases are in one batch, because this is faster."""
    config = as_config(tiny.get_config()).replace(
        {"augment.expand_probability": 0.0, "augment.crop": False, "augment.flip": False}
    )
    dataset = open_dataset(",".join(map(source, SOURCES)), ("cat",))
    batch = next(training_batches(config, dataset, len(SOURCES)))
    assert sorted(map(bytes.decode, batch["image_id"])) == sorted(
        image_id for _, image_id in SOURCES.values()
    )
    for labels, boxes, image in zip(batch["labels"], batch["boxes"], batch["image"], strict=True):
        assert labels.tolist()[:2] == [1, 0]
        np.testing.assert_allclose(boxes[0], [0.1, 0.1, 0.4, 0.6], atol=1e-6)
        assert image.max() > 60  # none is black
    assert not batch["broken"].any()


@pytest.mark.parametrize("case", SOURCES)
def test_check_data_writes_the_same_record(case, tmp_path):
    report = check_data(source(case), records=str(tmp_path / "records.jsonl"))
    (line,) = (tmp_path / "records.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["image_id"] == SOURCES[case][1] and record["boxes"] == [THE_BOX]
    assert (record["width"], record["height"]) == (200, 100)
    assert record["names"] == ["cat"] and record["crowd"] == record["difficult"] == [False]
    assert shared(f"cases/{case}") in Path(record["file"]).parents
    assert not report.problems()


@pytest.mark.parametrize(
    "case, form, kind, meant",
    [
        ("category_id_twice", COCO, "source", "'cat' and 'dog' have the same id, 1"),
        ("all_iscrowd", COCO, "nothing to learn", "crowds"),
        ("normalised_boxes_voc", "voc_xml:{}:train", "unit", "probably they are fractions"),
    ],
)
def test_training_refuses_what_check_data_reports(case, form, kind, meant, tmp_path):
    folder = folder_of(case)
    for spec in (form.format(folder), str(folder)):
        (problem,) = check_data(spec).problems()
        assert problem.kind == kind
        config = as_config(tiny.get_config()).replace({"data.train": spec})
        with pytest.raises(UserError, match=meant):
            train(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_the_file_name_selects_one_of_two_images_of_one_stem():
    (record,) = open_dataset(source("same_stem"))
    assert record.path.endswith("a.jpg")


def test_a_list_of_one_class_is_reported(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    with caplog.at_level(logging.INFO):
        read_boxes(source("per_class_split"))
    assert "used 1 image marked 1 or 0, left out 1 marked -1" in caplog.text


def test_declared_classes_without_objects_are_left_out_unless_named():
    spec = source("roboflow_root_category")
    assert open_dataset(spec).class_names == ("cat",)
    assert open_dataset(spec, ("pets", "cat")).class_names == ("pets", "cat")


def test_two_names_of_one_id_are_both_reported():
    folder = folder_of("category_id_twice")
    for spec in (f"coco_json:{folder}/ann.json:{folder}/images", str(folder)):
        with pytest.raises(UserError, match="'cat' and 'dog' have the same id, 1"):
            open_dataset(spec)


def test_crowds_alone_are_read_but_nothing_is_left_to_train_on():
    folder = folder_of("all_iscrowd")
    (record,) = open_dataset(f"coco_json:{folder}/ann.json:{folder}/images")
    assert record.crowd.tolist() == [True]


def test_fractions_instead_of_pixels_are_rejected():
    folder = folder_of("normalised_boxes_voc")
    for spec in (f"voc_xml:{folder}:train", str(folder)):
        with pytest.raises(UserError, match="probably they are fractions of the image"):
            open_dataset(spec)


def test_some_of_the_classes():
    folder = folder_of("subset_of_classes")
    assert read_boxes(f"voc_xml:{folder}:train", "cat") == {"a": [("cat", THE_BOX)]}
    both = read_boxes(f"voc_xml:{folder}:train")["a"]
    assert [name for name, _ in both] == ["cat", "dog"]
    with pytest.raises(UserError, match="did you mean 'dog'"):
        open_dataset(f"voc_xml:{folder}:train", ("cat", "dgo"), role="train")
