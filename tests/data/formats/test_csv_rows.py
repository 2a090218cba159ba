import logging

import numpy as np
import pytest

from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.formats.csv_rows import find_csv
from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import explicit_sources, open_dataset, open_part
from ssd_jax.errors import UserError
from tests.helpers.pictures import write_picture

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
ROWS = "a.jpg,60,40,dog,6,4,30,20\na.jpg,60,40,cat,0,0,60,40\nb.jpg,60,40,cat,30,20,60,40\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        write_picture(tmp_path / "images" / name)
    return tmp_path


def read(folder, text, encoding="utf-8"):
    """The objects of each image in a file with this text: names and boxes in pixels."""
    (folder / "rows.csv").write_text(text, encoding=encoding)
    part = open_part(f"csv:{folder / 'rows.csv'}:{folder / 'images'}", Problems())
    annotations = [part.annotation(index) for index in range(len(part))]
    return {each.image_id: (each.names, each.boxes.tolist()) for each in annotations}


EXPECTED = {
    "a": (("dog", "cat"), [[6, 4, 30, 20], [0, 0, 60, 40]]),
    "b": (("cat",), [[30, 20, 60, 40]]),
}


def test_rows_become_images_with_their_objects(folder):
    assert read(folder, HEADER + ROWS) == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", " , "])
def test_separators_and_encodings(folder, separator, encoding):
    assert read(folder, (HEADER + ROWS).replace(",", separator), encoding) == EXPECTED


@pytest.mark.parametrize(
    "header",
    [
        "Filename,Width,Height,Class,XMin,YMin,XMax,YMax\r\n",
        '"image","image_width","image_height","label","x_min","y_min","x_max","y_max"\n',
        "image_path,img_width,img_height,class_name,x1,y1,x2,y2\n",
        "sep=,\n" + HEADER,
    ],
)
def test_other_names_of_columns(folder, header):
    assert read(folder, header + ROWS) == EXPECTED


def test_columns_in_any_order_without_size_and_with_others(folder):
    text = "class,xmax,xmin,score,ymax,ymin,filename\ndog,30,6,0.5,20,4,a.jpg\n"
    assert read(folder, text) == {"a": (("dog",), [[6, 4, 30, 20]])}


def test_names_with_commas_and_blanks_are_quoted(folder):
    write_picture(folder / "images" / "my, own (1).jpg")
    text = HEADER + '"my, own (1).jpg",60,40,"big, red dog",6,4,30,20\n'
    assert read(folder, text) == {"my, own (1)": (("big, red dog",), [[6, 4, 30, 20]])}


def test_decimal_commas_are_read_if_semicolons_separate(folder):
    text = "filename;class;xmin;ymin;xmax;ymax\na.jpg;dog;6,5;4;30,25;20\n"
    assert read(folder, text) == {"a": (("dog",), [[6.5, 4, 30.25, 20]])}


def test_a_row_without_box_and_class_is_an_image_without_objects(folder, caplog):
    assert read(folder, HEADER + ROWS[:26] + "b.jpg,60,40,,,,,\n")["b"] == ((), [])


def test_images_without_a_row_are_left_out_and_reported(folder, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    with caplog.at_level(logging.INFO):
        assert set(read(folder, HEADER + ROWS[:26])) == {"a"}
    assert "left out 1 image without a row: b.jpg" in caplog.text


def test_retinanet_rows_have_no_header(folder):
    text = "images/a.jpg,6,4,30,20,dog\nimages\\b.jpg,,,,,\n"
    assert read(folder, text) == {"a": (("dog",), [[6, 4, 30, 20]]), "b": ((), [])}


def test_rows_of_width_and_height_without_a_header_are_refused(folder):
    with pytest.raises(UserError, match=r"line 2.*ends before it begins.*needs a header"):
        read(folder, "a.jpg,6,4,30,20,dog\nb.jpg,30,20,10,15,dog\n")


def test_fractions_need_a_header_that_states_them(folder):
    text = "filename,class,{0},{1},{2},{3}\na.jpg,dog,0.1,0.1,0.5,0.5\n"
    source = f"csv:{folder / 'rows.csv'}:{folder / 'images'}"
    named = text.format("xmin_norm", "ymin_norm", "xmax_norm", "ymax_norm")
    (folder / "rows.csv").write_text(named)
    np.testing.assert_allclose(open_dataset(source)[0].boxes, [[0.1, 0.1, 0.5, 0.5]])
    (folder / "rows.csv").write_text(text.format("xmin", "ymin", "xmax", "ymax"))
    with pytest.raises(UserError, match="fractions"):
        open_dataset(source)


def test_the_suffix_may_be_missing_and_the_folder_another(folder):
    text = "image_id,label,xmin,ymin,xmax,ymax\na,dog,6,4,30,20\nC:\\mine\\b.jpg,cat,0,0,9,9\n"
    with pytest.raises(UserError, match="outside"):
        read(folder, text)
    assert set(read(folder, text.replace("C:\\mine\\", "mine\\"))) == {"a", "b"}


@pytest.mark.parametrize(
    "row, message",
    [
        ("a.jpg,60,40,dog,6,4,30", "line 4 is not a row of 8 columns"),
        ("a.jpg,60,40,dog,6,4,30,20,7", "line 4 is not a row of 8 columns"),
        ('a.jpg,60,40,"dog,6,4,30,20', "line 4 is not a row of 8 columns"),
        (",60,40,dog,6,4,30,20", "line 4 is not a row of 8 columns with a file name"),
        ("a.jpg,60,40,dog,6,4,30,", "the box is"),
        ("a.jpg,60,40,dog,nan,4,30,20", "the box is"),
        ("a.jpg,60,40,dog,1_0,4,30,20", "the box is"),
        ("a.jpg,60,40,dog,6,4,1e300,20", "the box is"),
        ("a.jpg,60,40,dog,,,,", "the box is"),
        ("a.jpg,60,40,,6,4,30,20", "has no class"),
        ("a.jpg,60,x,dog,6,4,30,20", "which are not pixels"),
        ("a.jpg,61,40,dog,6,4,30,20", "but an earlier row differs"),
        ("c.jpg,60,40,dog,6,4,30,20", "'c.jpg' is not in"),
        ("../a.jpg,60,40,dog,6,4,30,20", "outside"),
    ],
)
def test_a_bad_row_is_reported_or_its_image_left_out(folder, row, message):
    text = HEADER + ROWS[:52] + row + "\nb.jpg,60,40,cat,30,20,60,40\n"
    with pytest.raises(UserError, match=message):
        read(folder, text)
    problems = Problems("skip", 1.0)
    part = open_part(f"csv:{folder / 'rows.csv'}:{folder / 'images'}", problems)
    assert [found.problems[0].message for found in problems.found if message in str(found)]
    assert "b" in [part.annotation(index).image_id for index in range(len(part))]


def test_corners_of_quadrilaterals_are_no_boxes(folder):
    with pytest.raises(UserError, match="needs a header"):
        read(folder, "filename,x1,y1,x2,y2,x3,y3,x4,y4,class\na.jpg,1,2,3,4,5,6,7,8,dog\n")


def test_a_file_that_is_not_utf_8_is_reported_and_left_out(folder, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    (folder / "rows.csv").write_text(HEADER + "a.jpg,60,40,Löwe,6,4,30,20\n", encoding="latin-1")
    assert find_csv(FileTree(folder)) == {}
    assert "rows.csv is not a text file in UTF-8" in caplog.text


def test_a_table_without_the_columns_is_rejected(folder):
    with pytest.raises(UserError, match="needs a header with the columns filename, class"):
        read(folder, "id,name\n1,dog\n")


def test_the_same_stem_twice_keeps_two_names(folder):
    write_picture(folder / "images" / "a.png")
    rows = "a.jpg,60,40,dog,6,4,30,20\na.png,60,40,cat,6,4,30,20\n"
    assert set(read(folder, HEADER + rows)) == {"a", "a.png"}


def test_a_folder_of_roboflow_has_the_splits_of_its_subfolders(tmp_path):
    for split in ("train", "valid", "test"):
        write_picture(tmp_path / "export" / split / "a.jpg")
        (tmp_path / "export" / split / "_annotations.csv").write_text(HEADER + ROWS[:26])
    splits = find_csv(FileTree(tmp_path))
    assert {split: len(sources) for split, sources in splits.items()} == {
        "train": 1,
        "valid": 1,
        "test": 1,
    }
    (source,) = explicit_sources(str(tmp_path), "train")
    assert source == f"csv:{tmp_path}/export/train/_annotations.csv:{tmp_path}/export/train"
    assert open_dataset(str(tmp_path), role="eval")[0].path == f"{tmp_path}/export/valid/a.jpg"


@pytest.mark.parametrize("images", ["images", "images/{split}", "data", "{split}"])
def test_a_folder_of_the_tutorials_is_found(tmp_path, images):
    """Files in `data`, and the images in a folder of all, or of each split."""
    for split, name in (("train", "a.jpg"), ("test", "b.jpg")):
        write_picture(tmp_path / images.format(split=split) / name)
        file = tmp_path / "data" / f"{split}_labels.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(HEADER + ROWS[:26].replace("a.jpg", name))
    (tmp_path / "data" / "raccoon_labels.csv").write_text(HEADER + ROWS[:26])
    training, test = (open_dataset(str(tmp_path), role=role) for role in ("train", "eval"))
    assert (training[0].image_id.rpartition("/")[2], len(training)) == ("a", 1)
    assert (test[0].image_id.rpartition("/")[2], len(test)) == ("b", 1)
    assert set(find_csv(FileTree(tmp_path))) == {"train", "test"}


def test_the_same_name_in_two_splits_is_found_in_its_own(tmp_path):
    for split, width in (("train", 60), ("test", 80)):
        write_picture(tmp_path / "images" / split / "a.jpg", width, 40)
        rows = HEADER + f"a.jpg,{width},40,dog,6,4,30,20\n"
        (tmp_path / "images" / f"{split}_labels.csv").write_text(rows)
    assert open_dataset(str(tmp_path), role="train")[0].size == (40, 60)
    assert open_dataset(str(tmp_path), role="eval")[0].size == (40, 80)


def test_other_files_are_not_claimed(tmp_path):
    write_picture(tmp_path / "a.jpg")
    (tmp_path / "classes.csv").write_text("dog,0\ncat,1\n")
    (tmp_path / "boxes.csv").write_text(
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\na,x,/m/0,1,0,1,0,1\n"
    )
    (tmp_path / "results.csv").write_text("epoch,loss\n1,2\n")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\xfd\x00")
    assert find_csv(FileTree(tmp_path)) == {}
