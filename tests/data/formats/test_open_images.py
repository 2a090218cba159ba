import logging

import numpy as np
import pytest

from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import explicit_sources, open_dataset, open_part
from ssd_jax.errors import UserError
from tests.helpers.pictures import write_picture

HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)
ROWS = (
    "0001,xclick,/m/01,1,0.1,0.5,0.2,0.6,0,0,0,0,0\n"
    "0001,xclick,/m/02,1,0.000000,1.0,0.0,1.0,0,0,1,0,0\n"
    "7777,xclick,/m/03,1,0.1,0.5,0.2,0.6,0,0,0,0,0\n"
    "0002,xclick,/m/02,1,0.25,0.75,0.5,1.0,1,1,-1,-1,-1\n"
)


@pytest.fixture
def folder(tmp_path):
    write_picture(tmp_path / "train_0" / "0001.jpg")
    write_picture(tmp_path / "train_1" / "0002.jpg")
    write_picture(tmp_path / "train_1" / "0003.jpg")
    (tmp_path / "train-annotations-bbox.csv").write_text(HEADER + ROWS)
    (tmp_path / "oidv7-class-descriptions-boxable.csv").write_text(
        'LabelName,DisplayName\n/m/01,Dog\n/m/02,"Cat, of any size"\n/m/03,Bird\n'
    )
    return tmp_path


def source(folder):
    return f"open_images:{folder / 'train-annotations-bbox.csv'}:{folder}"


def test_boxes_names_and_groups(folder):
    dataset = open_dataset(source(folder))
    assert dataset.class_names == ("Cat, of any size", "Dog")
    first, second = dataset
    np.testing.assert_allclose(first.boxes, [[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]])
    assert (first.labels.tolist(), first.crowd.tolist()) == ([2, 1], [False, True])
    np.testing.assert_allclose(second.boxes, [[0.25, 0.5, 0.75, 1]])
    assert (second.image_id, second.crowd.tolist()) == ("0002", [False])


def test_rows_without_image_and_images_without_row_are_reported(folder, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    with caplog.at_level(logging.INFO):
        assert len(open_dataset(source(folder))) == 2
    assert "left out 1 row of images that are not in the folder; 2 images" in caplog.text
    assert "left out 1 image without a row: " in caplog.text


def test_a_file_without_existing_images_is_rejected(folder):
    (folder / "train-annotations-bbox.csv").write_text(HEADER + ROWS.replace("000", "abc"))
    with pytest.raises(UserError, match=r"but none with an id of the 4 rows.*IMAGEID\.jpg"):
        open_dataset(source(folder))


def test_labels_without_descriptions_are_kept_and_reported(folder, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    (folder / "oidv7-class-descriptions-boxable.csv").unlink()
    assert open_dataset(source(folder)).class_names == ("/m/01", "/m/02")
    assert "the classes keep their labels, like /m/01" in caplog.text


def test_two_labels_of_one_name_are_two_classes(folder):
    (folder / "oidv7-class-descriptions-boxable.csv").write_text("/m/01,Bat\n/m/02,Bat\n")
    assert open_dataset(source(folder)).class_names == ("Bat (/m/01)", "Bat (/m/02)")


def test_the_name_of_a_folder_suffices(folder):
    assert explicit_sources(str(folder), "train") == [source(folder)]


def test_the_layout_of_fiftyone(tmp_path):
    for split, name in (("train", "0001"), ("validation", "0002")):
        write_picture(tmp_path / split / "data" / f"{name}.jpg")
        for place, text in (
            ("labels/detections.csv", HEADER + ROWS),
            ("metadata/classes.csv", "/m/01,Dog\n/m/02,Cat\n"),
        ):
            (tmp_path / split / place).parent.mkdir(exist_ok=True)
            (tmp_path / split / place).write_text(text)
    training, validation = (open_dataset(str(tmp_path), role=role) for role in ("train", "eval"))
    assert [record.image_id for record in training] == ["0001"]
    assert [record.image_id for record in validation] == ["0002"]
    assert training.class_names == ("Cat", "Dog")


def test_the_layout_of_cvat(tmp_path):
    write_picture(tmp_path / "images" / "train" / "0001.jpg")
    write_picture(tmp_path / "images" / "test" / "0001.jpg", 50, 50)
    (tmp_path / "annotations").mkdir()
    for split in ("train", "test"):
        file = tmp_path / "annotations" / f"{split}-annotations-bbox.csv"
        file.write_text(HEADER + ROWS.splitlines()[0].replace("/m/01", "dog"))
    assert open_dataset(str(tmp_path), role="train")[0].size == (40, 60)
    assert open_dataset(str(tmp_path), role="eval")[0].size == (50, 50)


@pytest.mark.parametrize(
    "row, message",
    [
        ("0001,xclick,/m/01,1,0.1", "line 2 is not a row of 13 columns"),
        ("0001,xclick,/m/01,1,0.1,x,0.2,0.6,0,0,0,0,0", "the box is"),
        ("0001,xclick,,1,0.1,0.5,0.2,0.6,0,0,0,0,0", "has no LabelName"),
    ],
)
def test_a_bad_row_is_reported_or_its_image_left_out(folder, row, message):
    (folder / "train-annotations-bbox.csv").write_text(
        HEADER + row + "\n" + ROWS.splitlines()[-1] + "\n"
    )
    with pytest.raises(UserError, match=message):
        open_dataset(source(folder))
    problems = Problems("skip", 1.0)
    part = open_part(source(folder), problems)
    assert [part.annotation(index).image_id for index in range(len(part))] == ["0002"]
    assert len(problems.found) == 1


def test_pixels_are_refused(folder):
    rows = "0001,xclick,/m/01,1,10,50,2,6,0,0,0,0,0\n"
    (folder / "train-annotations-bbox.csv").write_text(HEADER + rows)
    with pytest.raises(UserError, match="pixels"):
        open_dataset(source(folder))


def test_an_image_that_is_there_twice_is_ambiguous(folder):
    write_picture(folder / "copies" / "0001.jpg")
    with pytest.raises(UserError, match="0001 may be"):
        open_dataset(source(folder))
