"""`check-data` reports all problems of a data set, with their fixes."""

import collections
import json
import shutil

import pytest
from PIL import Image

from ssd_jax.diagnostics.check_data import check_data
from ssd_jax.diagnostics.check_report import format_report
from ssd_jax.diagnostics.findings import NOTES, all_fixes
from ssd_jax.errors import UserError
from tests.helpers.commands import run_command
from tests.helpers.pictures import VocFolder, write_coco, write_picture

DOG = ("dog", 6, 4, 30, 20)


def kinds(report):
    return collections.Counter(finding.kind for finding in report.findings)


@pytest.fixture
def dirty(tmp_path):
    """A folder with one image for each possible problem, named after the problem."""
    voc = VocFolder(tmp_path / "voc")
    images = voc.root / "JPEGImages"

    def add(image_id, objects=(DOG,), size=(60, 40), **options):
        voc.add(image_id, objects, size=size, **options)
        # All different, though their annotations are alike.
        write_picture(images / f"{image_id}.jpg", *size, seed=sum(image_id.encode()))

    add("good")
    add("unreadable")
    path = images / "unreadable.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    add("named_wrongly")
    with Image.open(images / "named_wrongly.jpg") as image:
        image.save(images / "named_wrongly.jpg", "PNG")
    add("other_size")
    write_picture(images / "other_size.jpg", 50, 50)
    add("turned")
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(images / "turned.jpg") as image:
        image.save(images / "turned.jpg", exif=exif)
    add("flat", [("dog", 6, 4, 6, 20), ("dog", 61, 4, 80, 20)])
    add("outside", [("dog", 6, 4, 80, 20)])
    add("not_a_number", [("dog", "nan", 4, 30, 20)])
    add("twice", [DOG, DOG])
    add("capital", [("Dog", 6, 4, 30, 20)])
    add("empty", [])
    add("copy")
    shutil.copy(images / "good.jpg", images / "copy.jpg")
    add("crowded", [("dog", 1, 1, 2 + i / 2, 20) for i in range(65)])
    add("torn")
    voc.annotation("torn").write_text("<annotation>")
    names = sorted(path.stem for path in images.iterdir())
    return voc.split("all", *names, "good", "nowhere")


EXPECTED = {
    "image unreadable": ["unreadable.jpg"],
    "extension": ["named_wrongly.jpg"],
    "size differs": ["other_size.xml"],
    "turned": ["turned.xml"],
    "box without area": ["flat.xml", "flat.xml"],
    "box outside": ["outside.xml"],
    "box": ["not_a_number.xml"],
    "box twice": ["twice.xml"],
    "class spelling": [":all"],
    "no objects": ["empty.xml"],
    "same content": ["good.jpg"],
    "many objects": ["crowded.xml"],
    "annotation unreadable": ["torn.xml"],
    "listed twice": ["all.txt"],
    "image missing": ["all.txt"],
    "tiny box": ["crowded.xml"] * 6,  # 1, 1.5, … 3.5 pixels wide
    "few objects": [":all"],
}


def test_all_problems_are_reported(dirty, tmp_path):
    output = tmp_path / "problems.jsonl"
    report = check_data(dirty, (), str(output))
    found = collections.defaultdict(list)
    for finding in report.findings:
        found[finding.kind].append(finding.file)
    assert set(found) == set(EXPECTED)
    for kind, endings in EXPECTED.items():
        assert len(found[kind]) == len(endings), kind
        assert all(map(str.endswith, found[kind], endings)), kind
    assert {finding.kind for finding in report.problems()} == set(EXPECTED) - set(NOTES)
    assert report.num_images == 16 and report.num_left_out == 4
    assert report.objects["Dog"] == report.images["Dog"] == 1
    assert report.images["dog"] == 10 and report.objects["dog"] == 7 + 2 + 2 + 65
    lines = [json.loads(line) for line in output.open()]
    assert [line["kind"] for line in lines] == [finding.kind for finding in report.findings]

    text = format_report(report, str(output))
    for kind in EXPECTED:
        assert f"\n{kind} ({len(EXPECTED[kind])}): {all_fixes()[kind]}\n" in text
    for part in (
        "16 images, 77 objects; 4 images left out of the objects and classes",
        "50 × 50",
        "60 × 40",
        "40 × 60",
        "'Dog' (1 object)",
        "65 objects",
        "61, 4, 80, 20",
    ):
        assert part in text


def test_the_limit_of_many_objects_can_be_set(dirty):
    assert kinds(check_data(dirty))["many objects"] == 1  # 65, more than the config's default
    report = check_data(dirty, max_objects=65)
    assert kinds(report)["many objects"] == 0
    (finding,) = [f for f in check_data(dirty, max_objects=10).findings if f.kind == "many objects"]
    assert finding.message == "has 65 objects, more than data.max_objects=10"


def test_unknown_classes_are_reported_with_the_nearest(dirty):
    report = check_data(dirty, ("dog", "cat"))
    (finding,) = [finding for finding in report.findings if finding.kind == "class unknown"]
    assert finding.file.endswith("capital.xml") and "nearest is 'dog'" in finding.message


def test_sound_data_has_no_problems(tmp_path):
    image = {"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}
    annotation = {"image_id": 1, "category_id": 5, "bbox": [0.1, 0.2, 59.9, 39.8]}
    content = {"images": [image], "categories": [{"id": 5, "name": "dog"}]}
    report = check_data(write_coco(tmp_path, content | {"annotations": [annotation]}))
    assert kinds(report) == {"few objects": 1} and "no problems" in format_report(report)
    assert kinds(check_data("shapes:test[:3]")) == {"few objects": 1}


def test_a_source_that_cannot_be_opened_is_reported_with_the_others(dirty, tmp_path):
    report = check_data(f"{dirty},voc_xml:{tmp_path}/nowhere:all,{dirty}")
    assert kinds(report)["source"] == 1 and kinds(report)["image unreadable"] == 2
    assert kinds(report)["same name"] == 12
    (tmp_path / "animals").mkdir()
    text = format_report(check_data(f"{tmp_path}/animal"))
    what, near = f"the folder or file {tmp_path}/animal", f"{tmp_path}/animals"
    assert text == f"error: {what} does not exist: did you mean {near}?"
    with pytest.raises(UserError, match="/no/such/file cannot be written: the folder /no/such"):
        check_data(dirty, (), "/no/such/file")


@pytest.mark.slow
def test_the_exit_status_reports_the_result(dirty, tmp_path):
    output = tmp_path / "problems.jsonl"
    done = run_command("check-data", f"--source={dirty}", f"--output={output}", expect=1)
    assert "box without area (2): " in done.stdout and output.is_file()
    run_command("check-data", "--source=shapes:test[:2]", expect=0)
