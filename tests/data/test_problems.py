"""A damaged annotation stops with a message that names it, or is left out and listed."""

import json

import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.data.choice import open_training_data
from ssd_jax.data.problems import FIXES, Problem, Problems
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError, shown
from tests import tiny
from tests.helpers.pictures import VocFolder, write_coco

BROKEN = [Problem("image unreadable", "it is torn")]
BOX = "<object><name>dog</name><bndbox>{}</bndbox></object>"
CORNERS = "<xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>9</ymax>"
SIZE = "<annotation><size><width>{}</width><height>40</height></size></annotation>"

# By what the message names.
BAD_XML = {
    "no element found": "",
    "not well-formed": "\x01\x02garbage",
    "no element found: line 1, column 20": "<annotation><object>",
    "EntitiesForbidden": '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;'
    "</annotation>",
    "EntitiesForbidden(name='lol'": '<!DOCTYPE a [<!ENTITY lol "ha"><!ENTITY more "&lol;&lol;">]>'
    "<annotation>&more;</annotation>",
    "unknown encoding": '<?xml version="1.0" encoding="no-such"?><annotation/>',
    "codec can't decode": b'<?xml version="1.0" encoding="gb2312"?><annotation>\xff</annotation>',
    "begins with <html>": "<html/>",
    "no <name>": f"<annotation><object><bndbox>{CORNERS.format(9)}</bndbox></object></annotation>",
    "no <bndbox><xmax>": f"<annotation>{BOX.format(CORNERS.format(''))}</annotation>",
    "<bndbox><xmax> is 'nan'": f"<annotation>{BOX.format(CORNERS.format('nan'))}</annotation>",
    "<bndbox><xmax> is '1e99'": f"<annotation>{BOX.format(CORNERS.format('1e99'))}</annotation>",
    "<bndbox><xmax> is 'inf'": f"<annotation>{BOX.format(CORNERS.format('inf'))}</annotation>",
    "<bndbox><xmax> is 'x'": f"<annotation>{BOX.format(CORNERS.format('x'))}</annotation>",
    "<size><width> is 'wide'": SIZE.format("wide"),
}


@pytest.fixture
def voc(tmp_path):
    voc = VocFolder(tmp_path / "voc")
    for image_id in ("good", "bad"):
        voc.add(image_id, [("dog", 6, 4, 30, 20)])
    return voc


def skip(tmp_path, fraction=0.5, **options):
    return Problems("skip", fraction, tmp_path / "run" / "data_errors.jsonl", **options)


def listed(tmp_path):
    return [json.loads(line) for line in (tmp_path / "run/data_errors.jsonl").open()]


def ids(source):
    return [record.image_id for record in source]


def assert_stops_or_skips(tmp_path, spec, complaint, file, image_id, class_names=()):
    """Checks that one damaged image of two stops with a message, or is left out."""
    with pytest.raises(UserError) as error:
        open_dataset(spec, class_names)
    assert complaint in str(error.value) and file in str(error.value)
    assert any(fix in str(error.value) for fix in FIXES.values())
    source = open_dataset(spec, class_names, skip(tmp_path))
    assert len(ids(source)) == len(source) == 1
    assert len(str(error.value)) < 1000
    (line,) = listed(tmp_path)
    assert line["file"].endswith(file) and line["image_id"] == image_id
    assert complaint in line["problems"][0]


@pytest.mark.parametrize("complaint", BAD_XML)
def test_bad_xml(voc, tmp_path, complaint):
    text = BAD_XML[complaint]
    voc.annotation("bad").write_bytes(text if isinstance(text, bytes) else text.encode())
    spec = voc.split("all", "good", "bad")
    assert_stops_or_skips(tmp_path, spec, complaint, "bad.xml", "bad")


def test_xml_that_is_not_text(voc, tmp_path):
    voc.annotation("bad").write_bytes(b"<annotation>\xff\xfe\xfd</annotation>")
    spec = voc.split("all", "good", "bad")
    assert_stops_or_skips(tmp_path, spec, "cannot be read as XML", "bad.xml", "bad")


def test_an_annotation_of_many_megabytes_is_not_read(voc, tmp_path):
    with voc.annotation("bad").open("wb") as file:
        file.truncate(16 * 2**20 + 1)
    spec = voc.split("all", "good", "bad")
    complaint = "16,777,217 bytes, more than the 16,777,216"
    assert_stops_or_skips(tmp_path, spec, complaint, "bad.xml", "bad")


def test_missing_files(voc, tmp_path):
    spec = voc.split("all", "good", "bad")
    (voc.root / "JPEGImages/bad.jpg").unlink()
    assert_stops_or_skips(tmp_path, spec, "lists 'bad'", "all.txt", "bad")
    (tmp_path / "run/data_errors.jsonl").unlink()
    voc.add("bad", [])
    voc.annotation("bad").unlink()
    assert_stops_or_skips(tmp_path, spec, "does not exist", "bad.xml", "bad")


def test_an_unreadable_image_without_stated_size_stops_or_is_left_out(voc, tmp_path):
    voc.annotation("bad").write_text(SIZE.format(0))
    (voc.root / "JPEGImages/bad.jpg").write_bytes(b"no picture")
    spec = voc.split("all", "good", "bad")
    assert_stops_or_skips(tmp_path, spec, "the image cannot be read", "bad.jpg", "bad")


def test_an_image_listed_twice_is_used_once(voc, tmp_path):
    spec = voc.split("all", "good", "good")
    assert_stops_or_skips(tmp_path, spec, "lists 'good' twice", "all.txt", "good")


def test_a_name_outside_the_folder(voc, tmp_path):
    spec = voc.split("all", "good", "../Annotations/good")
    complaint = "lists '../Annotations/good'"
    assert_stops_or_skips(tmp_path, spec, complaint, "all.txt", "../Annotations/good")


def test_an_unknown_class(voc, tmp_path):
    voc.add("bad", [("dgo", 6, 4, 30, 20)])
    spec = voc.split("all", "good", "bad")
    assert_stops_or_skips(tmp_path, spec, "'dgo'", "bad.xml", "bad", ("cat", "dog"))


def test_a_split_that_is_not_text(voc):
    spec = voc.split("all", "good")
    (voc.root / "ImageSets/Main/all.txt").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(UserError, match=r"all\.txt is not a text file"):
        open_dataset(spec, (), Problems("skip", 1.0))


# ---- COCO


def entry(**change):
    return {"image_id": 2, "category_id": 1, "bbox": [1, 1, 9, 9]} | change


def write(folder, *entries, **second_image):
    """Two images; the second has these annotations, and other fields."""
    images = [
        {"id": number, "file_name": f"{number}.jpg", "width": 60, "height": 40} for number in (1, 2)
    ]
    content = {"categories": [{"id": 1, "name": "dog"}], "annotations": [entry(image_id=1)]}
    spec = write_coco(folder, content | {"images": images})
    images[1] |= second_image
    content |= {"images": images, "annotations": [entry(image_id=1), *entries]}
    (folder / "instances.json").write_text(json.dumps(content))
    return spec


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"category_id": 5}, "unknown category 5"),
        ({"category_id": "one"}, "unknown category 'one'"),
        ({"category_id": [1]}, "unknown category [1]"),
        ({"category_id": True}, "unknown category True"),
        ({"bbox": [1, 2, 3]}, "a bbox is [1, 2, 3]"),
        ({"bbox": None}, "a bbox is None"),
        ({"bbox": {"x": 1}}, "a bbox is {'x': 1}"),
        ({"bbox": [1, 2, "x", 4]}, "a bbox is [1, 2, 'x', 4]"),
        ({"bbox": [], "segmentation": [[1, 2, 3]]}, "a bbox is []"),
        ({"bbox": [1, 2, float("nan"), 4]}, "a bbox is [1, 2, nan, 4]"),
        ({"bbox": [1, 2, float("inf"), 4]}, "a bbox is [1, 2, inf, 4]"),
        ({"bbox": [1, 2, 10**400, 4]}, "a bbox is"),
        ({"area": "large"}, "area is 'large'"),
        ({"iscrowd": []}, "iscrowd is []"),
    ],
)
def test_a_bad_object_of_coco(tmp_path, change, complaint):
    spec = write(tmp_path, entry(**change))
    assert_stops_or_skips(tmp_path, spec, complaint, "instances.json", "2")
    assert "image 2" in listed(tmp_path)[0]["problems"][0]


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"file_name": "../1.jpg"}, "'../1.jpg' is outside"),
        ({"file_name": "a/../../1.jpg"}, "is outside"),
        ({"file_name": "/etc/passwd"}, "'/etc/passwd' is outside"),
        ({"file_name": "C:\\1.jpg"}, "is outside"),
        ({"file_name": "..\\1.jpg"}, "is outside"),
        ({"file_name": None}, "no file_name"),
        ({"file_name": "a\0b"}, "no file_name"),
        ({"file_name": "\ud800"}, "no file_name"),
        ({"file_name": "x" * 5000}, "is not in"),
        ({"file_name": "3.jpg"}, "'3.jpg' is not in"),
        ({"width": -60}, "width and height (-60, 40)"),
        ({"width": "wide"}, "width and height ('wide', 40)"),
        ({"height": float("nan")}, "width and height (60, nan)"),
    ],
)
def test_a_bad_image_of_coco(tmp_path, change, complaint):
    spec = write(tmp_path, **change)
    assert_stops_or_skips(tmp_path, spec, complaint, "instances.json", "2")


@pytest.mark.parametrize("image_id", [None, [2], {"a": 1}, 2.5, True, "\ud800"])
def test_an_image_of_coco_without_an_id(tmp_path, image_id):
    spec = write(tmp_path, id=image_id)
    complaint = "images[1] has no id"
    assert_stops_or_skips(tmp_path, spec, complaint, "instances.json", "images[1]")


@pytest.mark.parametrize("image_id", [1, "1"])
def test_an_id_of_coco_that_two_images_have(tmp_path, image_id):
    spec = write(tmp_path, id=image_id)
    complaint = "images[1] has the id 1 again"  # of both: COCO means numbers
    assert_stops_or_skips(tmp_path, spec, complaint, "instances.json", "images[1]")


@pytest.mark.parametrize(
    "stray, complaint",
    [
        (entry(image_id=3), "annotations[1] names the unknown image 3"),
        (entry(image_id="two"), "annotations[1] names the unknown image 'two'"),
        ([1, 2], "annotations[1] has no image_id"),
    ],
)
def test_an_annotation_of_no_image(tmp_path, stray, complaint):
    spec = write(tmp_path, stray)
    with pytest.raises(UserError) as error:
        open_dataset(spec)
    assert complaint in str(error.value) and "instances.json" in str(error.value)
    assert len(open_dataset(spec, (), skip(tmp_path))) == 2
    assert complaint in listed(tmp_path)[0]["problems"][0]


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"images": ' + "9" * 5000 + "}", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        ("[]", "no list 'images'"),
        ('{"images": {}}', "no list 'images'"),
        ('{"images": [], "annotations": [], "categories": [1]}', "categories[0] is 1"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": "x", "name": "a"}]}',
            "categories[0] is {'id': 'x'",
        ),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
    ],
)
def test_a_file_that_is_not_of_coco_always_stops(tmp_path, text, complaint):
    spec = write(tmp_path)
    file = tmp_path / "instances.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        open_dataset(spec, (), Problems("skip", 1.0))
    assert complaint in str(error.value) and str(file) in str(error.value)


# ---- the list


def test_too_many_stop_with_count_fraction_and_list(voc, tmp_path):
    voc.annotation("bad").write_text("")
    spec = voc.split("all", "good", "bad")
    with pytest.raises(UserError) as error:
        open_dataset(spec, (), skip(tmp_path, 0.0))
    for part in (
        "1 of 2 images",
        "50.0%",
        "the 0 that",
        "data_errors.jsonl",
        f"check-data --source={spec} ",
        "max_error_fraction=0.5",
        "bad.x",
    ):
        assert part in str(error.value)
    assert len(listed(tmp_path)) == 1


def test_data_with_only_damaged_images_is_rejected(voc, tmp_path):
    voc.annotation("bad").write_text("")
    with pytest.raises(UserError, match="all of 1 image are damaged"):
        open_dataset(voc.split("all", "bad"), (), skip(tmp_path, 0.9))
    assert len(listed(tmp_path)) == 1
    with pytest.raises(UserError, match="all of 1 image are damaged"):
        open_dataset(voc.split("all", "bad"), ("dog",), skip(tmp_path, 1.0))


def test_every_picture_is_listed_once_over_all_starts(voc, tmp_path):
    voc.annotation("bad").write_text("")
    spec = voc.split("all", "good", "bad")
    open_dataset(spec, (), skip(tmp_path, is_main_process=False))
    assert not (tmp_path / "run").exists()
    for _ in range(2):
        open_dataset(spec, (), skip(tmp_path))
    with (tmp_path / "run/data_errors.jsonl").open("a") as file:
        file.write('{"file": "half a li')
    voc.add("worse", [])
    voc.annotation("worse").write_text("")
    open_dataset(voc.split("all", "good", "bad", "worse", "good"), (), skip(tmp_path, 0.8))
    lines = (tmp_path / "run/data_errors.jsonl").read_text().splitlines()
    assert [json.loads(line)["image_id"] for line in lines[:1] + lines[2:]] == [
        "bad",
        "worse",
        "good",
    ]


def test_each_process_lists_the_problems_that_it_finds(tmp_path):
    problems = skip(tmp_path, 0.2, is_main_process=False)
    problems.num_images = 10
    problems.finish_reading()
    for name in ("a", "b", "a"):
        problems.add(f"{name}.jpg", name, BROKEN)
    assert [line["file"] for line in listed(tmp_path)] == ["a.jpg", "b.jpg"]
    with pytest.raises(UserError, match=r"3 of 10 images \(30\.0%\)"):
        problems.add("c.jpg", "c", BROKEN)


def test_all_problems_of_an_image_are_listed(voc, tmp_path):
    boxes = BOX.format(CORNERS.format("nan")) + BOX.format(CORNERS.format("x"))
    voc.annotation("bad").write_text(f"<annotation>{boxes}</annotation>")
    open_dataset(voc.split("all", "good", "bad"), (), skip(tmp_path))
    assert len(listed(tmp_path)[0]["problems"]) == 2


@pytest.mark.parametrize("arguments", [("go on", 0.1), ("skip", 1.1), ("skip", -0.1)])
def test_wrong_options_are_named(arguments):
    name = "on_error" if arguments[0] == "go on" else "max_error_fraction"
    with pytest.raises(UserError, match=f"config.data.{name} is"):
        Problems(*arguments)


def test_values_from_files_are_shown_short_and_in_one_line():
    assert shown("a\nb") == repr("a\nb")
    assert len(shown("x" * 10**6)) < 100 and len(shown([["x" * 1000] * 1000] * 1000)) < 5000


def test_a_config_selects_the_handling_and_the_work_directory_has_the_list(voc, tmp_path):
    voc.annotation("bad").write_text("")
    config = tiny.get_config()
    config.data.train = voc.split("all", "good", "bad")
    with pytest.raises(UserError, match=r"bad\.xml"):
        open_training_data(as_config(config), tmp_path / "run")
    config.data.update(on_error="skip", max_error_fraction=0.5)
    assert len(open_training_data(as_config(config), tmp_path / "run")) == 1
    assert len(listed(tmp_path)) == 1
    for field in ("on_error", "max_error_fraction"):  # as in runs of older versions
        del config.data[field]
    with pytest.raises(UserError, match=r"bad\.xml"):
        open_training_data(as_config(config), tmp_path / "run")


def test_the_damaged_images_found_before_the_limit_are_reported():
    problems = Problems("skip", 0.01)
    problems.num_images, problems.source = 30, "my data"
    problems.finish_reading()
    problems.add_unreadable("a.jpg", "a", "it is empty")  # 0.3 images, rounded up
    words = r"^2 of 30 images \(6\.7%\) are damaged so far, more than the 1 that .*=0.01 allows; .*"
    words += r"check-data --source='my data' counts .* --config.data.max_error_fraction=0.07$"
    with pytest.raises(UserError, match=words):
        problems.add_unreadable("b.jpg", "b", "it is empty")
    problems = Problems("skip", 0.07)  # the value of the message
    problems.num_images = 30
    problems.add_unreadable("a.jpg", "a", "it is empty")
    problems.add_unreadable("b.jpg", "b", "it is empty")
    problems.finish_reading()


@pytest.mark.parametrize(
    "fraction, total, most", [(0, 30, 0), (0.01, 100, 1), (0.01, 101, 2), (0.07, 100, 7)]
)
def test_the_share_of_damaged_images_is_rounded_up(fraction, total, most):
    problems = Problems("skip", fraction)
    problems.num_images = total
    problems.finish_reading()
    for index in range(most):
        problems.add_unreadable(f"{index}.jpg", str(index), "it is empty")
    with pytest.raises(UserError, match="are damaged so far"):
        problems.add_unreadable("last.jpg", "last", "it is empty")
