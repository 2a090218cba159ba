import codecs
import json
import re

import numpy as np
import pytest

from ssd_jax.errors import UserError
from ssd_jax.evaluation.detection_files import read_detections
from ssd_jax.evaluation.submission import write_detections
from tests.helpers.results import result
from tools.metric_speed import random_results

NAMES, IDS = ("bus", "mini_bus", "cell phone"), (1, 7, 90)


def without_detections(results):
    return [
        r._replace(boxes=np.zeros((0, 4)), scores=np.zeros(0), labels=np.zeros(0, int))
        for r in results
    ]


@pytest.mark.parametrize("file", ["", "detections.json"])
def test_written_detections_are_read_back_unchanged(tmp_path, file):
    results = random_results(8, 3, 12)
    results[0] = results[0]._replace(image_id="000012")  # a name of VOC, not the number 12
    write_detections(results, NAMES, IDS, tmp_path)
    read = read_detections(tmp_path / file, without_detections(results), NAMES, IDS)
    for ours, again in zip(results, read, strict=True):
        assert again.image_id == ours.image_id
        np.testing.assert_allclose(again.boxes, ours.boxes, rtol=0, atol=1e-3)
        np.testing.assert_allclose(again.scores, ours.scores, rtol=1e-8)
        np.testing.assert_array_equal(again.labels, ours.labels)


def test_the_forms_equal_those_of_the_servers(tmp_path):
    found = [(2, 0.25, (10, 20, 40, 60)), (1, 0.125, (1.5, 2, 3, 4))]
    images = [result(found=found, image_id="139"), result(image_id="2008_000001")]
    write_detections(images, NAMES, IDS, tmp_path)
    assert (tmp_path / "comp4_det_test_mini_bus.txt").read_text() == (
        "139 0.25 10.000 20.000 40.000 60.000\n"
    )
    assert (tmp_path / "comp4_det_test_cell phone.txt").read_text() == ""
    assert json.loads((tmp_path / "detections.json").read_text()) == [
        {"image_id": 139, "category_id": 7, "bbox": [10, 20, 30, 40], "score": 0.25},
        {"image_id": 139, "category_id": 1, "bbox": [1.5, 2, 1.5, 2], "score": 0.125},
    ]


def test_a_class_name_may_be_the_end_of_another(tmp_path):
    (tmp_path / "results_mini_bus.txt").write_text("a 0.5 1 1 9 9\n\n")
    (tmp_path / "results_bus.txt").write_text("a 0.7 2 2 9 9\n")
    (read,) = read_detections(tmp_path, [result(image_id="a")], NAMES, IDS)
    assert read.labels.tolist() == [1, 2] and read.boxes[:, 0].tolist() == [2, 1]


ENTRY = {"image_id": "a", "category_id": 7, "bbox": [1, 1, 5, 5], "score": 0.5}

# As `ssd-jax predict` writes it, where images have numbers, and categories names.
IMAGE = {"id": 1, "file_name": "v/a.jpg"}
LISTED = {
    "images": [IMAGE, {"id": 2, "file_name": "u/a.jpg"}],
    "annotations": [ENTRY | {"image_id": 1}, ENTRY | {"image_id": 2, "category_id": 8}],
    "categories": [{"id": 8, "name": "bus"}, {"id": 7, "name": "cell phone"}],
}
PATHS = {"a": "/data/v/a.jpg", "other": "/data/u/a.jpg"}


@pytest.mark.parametrize(
    "name, text, complaint",
    [
        ("x_bus.txt", "a 0.5 1 1 9", "line 1 is 'a 0.5 1 1 9', but must be: image_id score xmin"),
        ("x_bus.txt", "a 0.5 1 1 9 9\na x 1 1 9 9", "line 2 is"),
        ("x_bus.txt", "b 0.5 1 1 9 9", "the image 'b' is not in the evaluation data"),
        ("x_bus.txt", "a nan 1 1 9 9", "not a finite number"),
        ("x_bus.txt", "a 0.5 9 1 1 9", "ends before it begins"),
        (
            "x_train.txt",
            "a 0.5 1 1 9 9",
            "1 detection, all of classes that the evaluation data",
        ),
        ("x_Mini-Bus.txt", "a 0.5 1 1 9 9", "the class 'Mini-Bus' is not among bus, mini_bus, ce"),
        ("x_readme.txt", "Made on Monday.", "line 1 is 'Made on Monday.', but must be: image_id"),
        ("x_bus.txt", "a b 0.5 1 1 9 9", "the image 'a b' is not in the evaluation data"),
        ("x.json", "[", "is not JSON"),
        ("x.json", {"annotations": []}, "must hold a list"),
        ("x.json", LISTED | {"images": [{"id": 1}]}, "image 1 needs id and file_name"),
        ("x.json", LISTED | {"images": 2 * [IMAGE]}, "image 2: 'v/a.jpg' has the id or the file"),
        ("x.json", LISTED | {"images": [IMAGE | {"file_name": "a.jpg"}]}, "may be any of /data/"),
        ("x.json", LISTED | {"images": [IMAGE | {"file_name": "w/a.jpg"}]}, "file 'w/a.jpg' is no"),
        ("x.json", LISTED | {"images": [IMAGE | {"id": 3}]}, "image_id '1' is not among its imag"),
        ("x.json", LISTED | {"categories": [{"id": "2"}]}, "category 1 needs id and name"),
        ("x.json", [3], "entry 1 needs image_id"),
        ("x.json", [ENTRY | {"category_id": 2}], "have, category_id 2 (1): its classes (and categ"),
        ("x.json", [ENTRY, ENTRY | {"category_id": "2"}], "entry 2: category_id is '2', but must"),
        ("x.json", [ENTRY | {"category_id": [7]}], "must be one of 1, 7, 90"),
        ("x.json", [ENTRY | {"bbox": [1, 2, 3]}], "needs image_id, category_id, score, and bbox"),
        ("x.json", [{"image_id": "a"}], "KeyError: 'category_id'"),
        ("x.json", [ENTRY | {"image_id": 4}], "the image '4' is not in the evaluation data"),
    ],
)
def test_invalid_detection_files_are_rejected(tmp_path, name, text, complaint):
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    place = path if name.endswith("json") else tmp_path
    with pytest.raises(UserError, match=re.escape(str(tmp_path))) as error:
        images = [result(image_id="a"), result(image_id="other")]
        read_detections(place, images, NAMES, IDS, paths=PATHS)
    assert complaint in str(error.value)


def test_missing_detection_files_are_reported(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_detections(tmp_path / "no.json", [result()], NAMES, IDS)
    with pytest.raises(UserError, match=r"has no files like comp4_det_test_CLASS\.txt"):
        read_detections(tmp_path, [result()], NAMES, IDS)
    (tmp_path / "x_bus.txt").touch()
    with pytest.raises(UserError, match="two images of the evaluation data have the same name"):
        read_detections(tmp_path, [result(), result()], NAMES, IDS)
    with pytest.raises(UserError, match="'a/b' cannot be part of a file's name"):
        write_detections([], ["a/b"], [1], tmp_path)


def test_detections_on_images_that_were_left_out_are_dropped(tmp_path):
    line = "{} 0.5 1 2 3 4\n"
    (tmp_path / f"x_{NAMES[0]}.txt").write_text(line.format("a") + line.format("torn"))
    images = [result(image_id="a")]
    (image,) = read_detections(tmp_path, images, NAMES, IDS, {"torn"})
    assert len(image.boxes) == 1
    others = [result(image_id=name) for name in "bc"]
    with pytest.raises(UserError, match=r"line 2: the image 'torn' is not in the evaluation data"):
        read_detections(tmp_path, images + others, NAMES, IDS)


def test_a_file_may_cover_more_images_than_the_data(tmp_path, caplog):
    # As `predict` writes it for a folder of which a run held out two images.
    images = [result(image_id=name) for name in ("1", "4")]
    paths = {name: f"/data/all/{name}.jpg" for name in ("1", "4")}
    numbers = range(1, 6)
    content = {
        "images": [{"id": n, "file_name": f"all/{n}.jpg"} for n in numbers],
        "annotations": [ENTRY | {"image_id": n, "score": n / 10} for n in numbers],
        "categories": [{"id": 7, "name": "bus"}],
    }
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(content))
    read = read_detections(path, images, NAMES, IDS, paths=paths)
    assert [each.scores.tolist() for each in read] == [[0.1], [0.4]]
    (message,) = caplog.messages
    assert message.endswith(
        "left out 3 images that the evaluation data does not have, the first is 'all/2.jpg'"
    )
    # The same in the forms that list no images.
    path.write_text(json.dumps(content["annotations"]))
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc" / "x_bus.txt").write_text("".join(f"{n} 0.5 1 2 3 4\n" for n in numbers))
    for place in (path, tmp_path / "voc"):
        read = read_detections(place, images, NAMES, IDS)
        assert [len(each.scores) for each in read] == [1, 1]
        assert "left out 3 images" in caplog.messages[-1]


@pytest.mark.parametrize("known", [["8"], ["1", "7", "8"]])
def test_detections_of_other_data_are_refused(tmp_path, known):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([ENTRY | {"image_id": n} for n in (1, 2)]))
    with pytest.raises(UserError, match="is not in the evaluation data, which has"):
        read_detections(path, [result(image_id=name) for name in known], NAMES, IDS)


@pytest.mark.parametrize("image_id", ["IMG (1)", "a  b 7", "vid1/a b", "Löwe 1\u2028x\x0b"])
def test_names_of_images_may_hold_blanks(tmp_path, image_id):
    image = result(found=[(1, 0.5, (1, 2, 3, 4))], image_id=image_id)
    if "\u2028" not in image_id:
        write_detections([image], NAMES, IDS, tmp_path)
    else:  # ends a line for some readers, so that we do not write it, but read it
        (tmp_path / "x_bus.txt").write_text(f"{image_id.strip()}y 0.5 1 2 3 4\n", encoding="utf-8")
        image = image._replace(image_id=f"{image_id.strip()}y")
    (read,) = read_detections(tmp_path, without_detections([image]), NAMES, IDS)
    assert read.boxes.tolist() == [[1, 2, 3, 4]] and read.scores.tolist() == [0.5]


@pytest.mark.parametrize("image_id", ["", " a", "a\nb"])
def test_names_with_line_ends_are_rejected(tmp_path, image_id):
    with pytest.raises(UserError, match="cannot be written in a line of VOC's form"):
        write_detections([result(image_id=image_id)], NAMES, IDS, tmp_path)


@pytest.mark.parametrize("start", [codecs.BOM_UTF8, b""])
def test_files_may_have_a_byte_order_mark_and_names_a_suffix(tmp_path, start):
    (tmp_path / "x_bus.txt").write_bytes(start + b"a.jpg 0.5 1 2 3 4\r\nb.png 0.25 1 2 3 4\r\n")
    path = tmp_path / "x.json"
    path.write_bytes(start + json.dumps([ENTRY | {"image_id": "a.JPG"}]).encode())
    # A name that the data has with its suffix is that one.
    images = [result(image_id=name) for name in ("a", "b", "b.png")]
    read = read_detections(tmp_path, images, NAMES, IDS)
    assert [each.scores.tolist() for each in read] == [[0.5], [], [0.25]]
    read = read_detections(path, images, NAMES, IDS)
    assert [each.scores.tolist() for each in read] == [[0.5], [], []]


def test_detections_of_other_classes_are_left_out_and_counted(tmp_path, caplog):
    line = "a 0.5 1 2 3 4\n"
    (tmp_path / "comp4_det_test_bus.txt").write_text(line)
    (tmp_path / "comp4_det_test_car.txt").write_text(2 * line)
    # Though it ends like a class.
    (tmp_path / "comp4_det_val_school_bus.txt").write_text(3 * line)
    (read,) = read_detections(tmp_path, [result(image_id="a")], NAMES, IDS)
    assert read.labels.tolist() == [1]
    message = "left out 5 detections of classes that the evaluation data does not have: "
    assert message + "school_bus (3), car (2)" in caplog.text

    path = tmp_path / "x.json"
    path.write_text(json.dumps([ENTRY, ENTRY | {"category_id": 3}, ENTRY | {"category_id": 90}]))
    (read,) = read_detections(path, [result(image_id="a")], NAMES, IDS)
    assert read.labels.tolist() == [2, 3] and "have: category_id 3 (1)" in caplog.text


def test_files_of_classes_are_renamed_as_the_data_is(tmp_path, caplog):
    for name in ("bus", "coach", "car"):
        (tmp_path / f"comp4_det_test_{name}.txt").write_text("a 0.5 1 2 3 4\n")
    class_map = {"coach": "bus", "car": ""}
    (read,) = read_detections(tmp_path, [result(image_id="a")], NAMES, IDS, class_map=class_map)
    assert read.labels.tolist() == [1, 1] and "does not have: car (1)" in caplog.text


def test_images_that_are_listed_are_found_by_their_files(tmp_path, caplog):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(LISTED))
    images = [result(image_id=name) for name in ("a", "other", "c")]
    paths = PATHS | {"c": "/data/v/c.jpg"}
    read = read_detections(path, images, NAMES, IDS, paths=paths)
    assert [each.labels.tolist() for each in read] == [[3], [1], []]
    assert "1 of the 3 images of the evaluation data are not among those that it lists" in (
        caplog.text
    )
    # One that is listed was looked at, though nothing was found in it.
    caplog.clear()
    path.write_text(json.dumps(LISTED | {"annotations": []}))
    read_detections(path, images[:2], NAMES, IDS, paths=paths)
    assert not caplog.text


def test_images_without_detections_are_counted_in_a_warning(tmp_path, caplog):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([ENTRY]))
    read_detections(path, [result(image_id="a")], NAMES, IDS)
    assert not caplog.text
    read_detections(path, [result(image_id=name) for name in "abc"], NAMES, IDS)
    assert "2 of the 3 images of the evaluation data have no detection in it, the first is 'b'" in (
        caplog.text
    )
