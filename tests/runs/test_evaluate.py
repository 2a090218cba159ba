"""Evaluation of files of detections, and the pages about it."""

import contextlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ssd_jax.cli import evaluate as evaluate_command
from ssd_jax.config.schema import DataConfig, as_config
from ssd_jax.data.cut import Cut, write_cut
from ssd_jax.errors import UserError
from ssd_jax.runs.evaluate import EvaluationOptions, compare_files, evaluate_file
from ssd_jax.runs.workdir import record_run
from tests import tiny
from tests.helpers.browser import new_page
from tests.helpers.commands import run_command, run_in_process
from tests.helpers.pictures import VocFolder, write_coco, write_ten
from tests.helpers.reference_results import CARRIED, carried_json, shared

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>
<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>
</bndbox></object>"""


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The reference result as a folder of VOC, files of detections in VOC's form, and AP."""
    folder = tmp_path_factory.mktemp("reference")
    expected = carried_json("voc_ap")
    voc, detections = VocFolder(folder / "voc"), folder / "detections"
    detections.mkdir()
    lines = {name: [] for name in expected["classes"]}
    for image in expected["images"]:
        size = (image["width"], image["height"])
        Image.new("RGB", size).save(voc.root / "JPEGImages" / f"{image['id']}.jpg")
        objects = "".join(
            OBJECT.format(
                name=expected["classes"][o["label"]],
                difficult=int(o["difficult"]),
                box=o["bbox"],
            )
            for o in image["ground_truth"]
        )
        text = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}"
        voc.annotation(image["id"]).write_text(f"<annotation>{text}</annotation>")
        for found in image["detections"]:
            numbers = " ".join(map(str, (found["score"], *found["bbox"])))
            lines[expected["classes"][found["label"]]].append(f"{image['id']} {numbers}")
    for name, of_class in lines.items():
        (detections / f"comp4_det_test_{name}.txt").write_text("\n".join(of_class))
    return voc.split("test", *(i["id"] for i in expected["images"])), detections, expected


@pytest.mark.slow
def test_the_script_gives_the_reference_exactly(reference, tmp_path):
    source, detections, expected = reference
    output = tmp_path / "results.json"
    printed = run_command(
        "evaluate",
        f"--detections={detections}",
        f"--source={source}",
        "--iou_threshold=0.75",
        f"--output={output}",
    ).stdout
    results = json.loads(output.read_text())
    assert results["num_images"] == 60 and results["metric"] == "voc07"
    for numbers, rule in ((results, "voc07_11point"), (results["voc"], "area")):
        of_rule = expected["expected"][rule]["0.75"]
        assert numbers["mAP"] == pytest.approx(of_rule["mAP"], abs=1e-9)
        for name in expected["classes"]:
            assert numbers["AP_per_class"][name] == pytest.approx(of_rule[name], abs=1e-9)
            assert f"{of_rule[name]:.4f}" in printed
    assert 0 < results["coco"]["AP50"] < 1


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "name one of --workdir, --weights, --detections and --compare"),
        (
            ["--detections=x.json"],
            "name the data with --source, --config, or the --workdir of a run",
        ),
    ],
)
@pytest.mark.slow
def test_missing_inputs_are_reported_in_one_line(arguments, complaint):
    done = run_command("evaluate", *arguments, expect=1)
    assert done.stderr.startswith(f"error: {complaint}") and done.stderr.count("\n") == 1


def test_a_comparison_needs_two(reference):
    source, detections, _ = reference
    with pytest.raises(UserError, match="names 1, but must name 2 to 10 of them"):
        compare_files(DataConfig(eval=source), [detections])


@contextlib.contextmanager
def opened(file, **viewport):
    """A page in headless Chromium, with its errors and its requests to other hosts."""
    with new_page(**viewport) as page:
        complaints = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url))
        page.goto(file.as_uri())
        yield page, complaints


def assert_complete(page, complaints, file):
    """Checks that only the file itself was fetched, and that every image is shown."""
    assert {url for url in complaints if not url.startswith("data:")} == {file.as_uri()}
    decoded = "Promise.all([...document.images].map(i => i.decode().then(() => 1, () => i.alt)))"
    assert set(page.evaluate(decoded)) == {1}
    missing = "[...document.images].filter(i => !i.alt).length"
    assert page.evaluate(missing) == 0
    # Wide tables scroll by themselves; the page does not.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.fixture(scope="module")
def blood_cells():
    """Images, and the detections of a detector that was trained on other images."""
    return f"voc_xml:{shared('data/BCCD')}:test", CARRIED / "bccd"


@pytest.mark.browser
def test_the_report_of_a_trained_detector(blood_cells, tmp_path):
    source, detections = blood_cells
    evaluate_file(DataConfig(eval=source), detections, EvaluationOptions(report=tmp_path))
    file = tmp_path / "index.html"
    with opened(file, viewport={"width": 1280, "height": 900}) as (page, complaints):
        assert_complete(page, complaints, file)
        assert page.locator("section").count() == 7
        assert page.locator("img").count() > 50
        text = page.inner_text("main")
        for shown in ("0.8309", "0.5070", "Background: nothing annotated there", "945"):
            assert shown in text, shown

        def column(number):
            cells = page.locator(f"#table-classes tbody td:nth-child({number})")
            return cells.all_inner_texts()

        assert column(1) == ["Platelets", "RBC", "WBC"]
        objects = page.get_by_role("button", name="objects").first
        objects.click()
        assert column(2) == ["805", "71", "69"] and column(1) == ["RBC", "WBC", "Platelets"]
        # The keyboard does the same.
        objects.focus()
        page.keyboard.press("Enter")
        assert column(2) == ["69", "71", "805"]
        head = page.locator("#table-classes th").nth(1)
        assert head.get_attribute("aria-sort") == "ascending"
        page.get_by_role("button", name="class").first.click()
        assert column(1) == ["Platelets", "RBC", "WBC"]
        page.set_viewport_size({"width": 390, "height": 844})
        assert_complete(page, complaints, file)


@pytest.mark.browser
def test_the_page_of_a_comparison(blood_cells, tmp_path, capsys):
    source, detections = blood_cells
    worse = tmp_path / "worse"
    shutil.copytree(detections, worse)
    cells = worse / "comp4_det_test_RBC.txt"
    cells.write_text("\n".join(cells.read_text().splitlines()[::3]))
    output = tmp_path / "comparison.json"
    options = EvaluationOptions(output=output, report=tmp_path)
    compare_files(DataConfig(eval=source), [detections, worse], options)
    comparison = json.loads(output.read_text())
    names = {row["name"]: row for row in comparison["classes"]}
    assert names["WBC"]["difference"] == [0] and names["RBC"]["high"][0] < -0.3
    printed = capsys.readouterr().out
    assert f"{names['RBC']['difference'][0]:+.3f}*" in printed
    file = tmp_path / "index.html"
    with opened(file, viewport={"width": 390, "height": 844}) as (page, complaints):
        assert_complete(page, complaints, file)
        assert page.locator("figure").count() == 12
        page.get_by_role("button", name="B − A").click()
        first = page.locator("tbody tr").first.inner_text().split()
        assert first[0] in ("Platelets", "WBC")


@pytest.mark.browser
def test_a_report_without_detections(reference, tmp_path):
    source, _, expected = reference
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / f"x_{expected['classes'][0]}.txt").touch()
    output = tmp_path / "results.json"
    with np.errstate(all="raise"):
        options = EvaluationOptions(output=output, report=tmp_path / "report")
        evaluate_file(DataConfig(eval=source), tmp_path / "none", options)
    assert json.loads(output.read_text())["mAP"] == 0
    page = (tmp_path / "report" / "index.html").read_text()
    assert (
        "nothing detected" in page
        and "There is no detection." in page
        and "nan" not in page.lower().split("base64")[0]
    )


def test_without_objects_there_is_no_map(tmp_path, capsys):
    voc = VocFolder(tmp_path / "voc")
    voc.add("a", [], size=(64, 48))
    source = voc.split("all", "a")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x_猫.txt").touch()
    output = tmp_path / "results.json"
    data = DataConfig(eval=source, classes="猫,Löwe")
    options = EvaluationOptions(output=output, report=tmp_path / "report")
    with np.errstate(all="raise"):
        evaluate_file(data, tmp_path / "none", options)
    written = json.loads(output.read_text())
    assert written["mAP"] is written["coco"]["mAP"] is written["AP_per_class"]["猫"] is None
    assert capsys.readouterr().out.splitlines()[4].split() == ["mAP", "0", "–", "–", "–"]
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "<dd>–</dd>" in page and "<td>猫</td><td>none</td>" in page
    compare_files(data, [tmp_path / "none"] * 2, options)
    assert json.loads(output.read_text())["mAP"]["AP"] == [None, None]


def test_results_are_written_before_they_are_printed(reference, tmp_path, monkeypatch):
    source, detections, _ = reference

    def fail(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", fail)
    data, output = DataConfig(eval=source), tmp_path / "results.json"
    with pytest.raises(BrokenPipeError):
        evaluate_file(data, detections, EvaluationOptions(["voc"], output=output))
    assert json.loads(output.read_text())["mAP"] > 0
    with pytest.raises(BrokenPipeError):
        compare_files(data, [detections] * 2, EvaluationOptions(["voc"], output=output))
    assert json.loads(output.read_text())["mAP"]["difference"] == [0.0]


def test_detections_of_merged_classes_count_as_the_data_does(tmp_path, caplog):
    names = ["dog", "puppy", "car"]
    boxes = [[5, 5, 20, 20], [30, 10, 20, 20], [5, 25, 12, 12]]
    image = {"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}
    objects = [{"image_id": 1, "category_id": 11 + i, "bbox": box} for i, box in enumerate(boxes)]
    categories = [{"id": 11 + i, "name": name} for i, name in enumerate(names)]
    content = {"images": [image], "annotations": objects, "categories": categories}
    data = DataConfig(eval=write_coco(tmp_path, content), class_map="dog+puppy=dog,car=")
    (tmp_path / "found.json").write_text(json.dumps([each | {"score": 0.5} for each in objects]))
    summary = evaluate_file(data, tmp_path / "found.json", EvaluationOptions(["voc"]))
    assert summary["num_objects"] == {"dog": 2} and summary["mAP"] == 1
    assert "left out 1 detection of" in caplog.text and "category_id 13 (1)" in caplog.text


def test_a_file_and_a_folder_of_results_are_not_the_same(tmp_path):
    place = str(tmp_path / "results.json")
    for folder in ("report", "submission"):
        with pytest.raises(UserError, match="is named for two results"):
            EvaluationOptions(output=place, **{folder: place})
    (tmp_path / "results.json").touch()
    with pytest.raises(UserError, match=r"results\.json is a file, but must be a folder"):
        EvaluationOptions(report=place)
    EvaluationOptions(report=str(tmp_path / "new"), submission=str(tmp_path / "new"))


def test_detections_are_evaluated_with_the_data_and_classes_of_a_run(tmp_path, caplog):
    spec, workdir = write_ten(tmp_path / "data"), tmp_path / "run"
    config = as_config(tiny.get_config()).replace({"data.train": spec, "data.eval": ""})
    record_run(workdir, config, ["zebra", "dog"], [7, 3])
    write_cut(workdir, Cut((spec,), (("picture2", "picture5"),)))
    dog = {"category_id": 3, "bbox": [5, 3, 25, 17], "score": 0.5}
    found = tmp_path / "found.json"
    found.write_text(json.dumps([dog | {"image_id": name} for name in ("picture2", "picture5")]))
    output = tmp_path / "results.json"
    run_in_process(
        evaluate_command, f"--workdir={workdir}", f"--detections={found}", f"--output={output}"
    )
    summary = json.loads(output.read_text())
    assert summary["num_objects"] == {"zebra": 0, "dog": 2} and summary["voc"]["mAP"] == 1
    assert "no detection in it" not in caplog.text
    run_in_process(
        evaluate_command, f"--workdir={workdir}", f"--compare={found},{found}", f"--output={output}"
    )
    assert json.loads(output.read_text())["mAP"]["difference"] == [0.0]
    # All images are another thing to measure, which is told.
    summary = evaluate_file(DataConfig(eval=spec, classes="zebra,cat,dog"), found)
    assert summary["num_objects"]["dog"] > 10 and summary["voc"]["mAP"] < 0.3
    assert "8 of the 10 images of the evaluation data have no detection in it" in caplog.text


def test_results_of_predict_are_evaluated(tmp_path, caplog):
    spec = write_ten(tmp_path / "data")
    dog = {"image_id": 1, "category_id": 9, "bbox": [5, 3, 25, 17], "score": 0.5}
    found = {
        "images": [{"id": 1, "file_name": "JPEGImages/picture2.jpg"}],
        "annotations": [dog],
        "categories": [{"id": 9, "name": "dog"}],
        "errors": [],
    }
    (tmp_path / "found.json").write_text(json.dumps(found))
    (tmp_path / "data/ImageSets/Main/one.txt").write_text("picture2")
    summary = evaluate_file(DataConfig(eval=spec.replace(":all", ":one")), tmp_path / "found.json")
    assert summary["AP_per_class"] == {"cat": 0, "dog": 1} and not caplog.text
