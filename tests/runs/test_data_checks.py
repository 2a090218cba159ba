import itertools
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.data.choice import RunData
from ssd_jax.data.content import count_content, nothing_to_learn, num_shared
from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import open_dataset
from ssd_jax.detection.fit import default_box_recall, measure
from ssd_jax.errors import UserError
from ssd_jax.models.network import build_network
from ssd_jax.runs import data_checks
from ssd_jax.runs.data_checks import check_images, check_training_files, record_data
from ssd_jax.runs.data_table import format_data
from ssd_jax.runs.evaluate import evaluate
from ssd_jax.runs.train import train
from tests import tiny
from tests.data.test_cut import encoded, pattern
from tests.helpers.pictures import VocFolder
from tests.helpers.reference_results import shared
from tests.helpers.tilings import SSD300_VOC


@pytest.fixture
def voc(tmp_path):
    """Six images of 160 × 120: with objects of 80 × 60 and 16 × 12, the last with none."""
    voc = VocFolder(tmp_path / "voc")
    for seed, name in enumerate("abcdef"):
        objects = [("dog", 40, 30, 120, 90), ("Löwe", 0, 0, 16, 12)] if name != "f" else []
        voc.add(name, objects, size=(160, 120))
        image = voc.root / "JPEGImages" / f"{name}.jpg"
        image.write_bytes(encoded(pattern(seed), "JPEG", quality=90))
    return voc


@pytest.fixture
def config():
    return as_config(tiny.get_config()).replace({"eval_every": 0, "steps": 2})


def truncate(voc: VocFolder, name: str) -> None:
    """Truncates an image to its header and some rows."""
    path = voc.root / "JPEGImages" / f"{name}.jpg"
    path.write_bytes(path.read_bytes()[:1500])


def test_content_is_counted(voc):
    content = count_content(open_dataset(voc.split("all", *"abcdef")))
    assert content.class_names == ("Löwe", "dog")
    assert (content.num_images, content.num_counted, content.num_background) == (6, 6, 1)
    assert content.num_objects.tolist() == [5, 5]
    assert content.sizes.tolist() == [[120, 160]] * 6
    np.testing.assert_allclose(content.boxes[:2], [[0.25] * 2 + [0.75] * 2, [0, 0, 0.1, 0.1]])


def test_only_the_first_records_of_tfds_are_counted():
    dataset = open_dataset("shapes:test[:9]")
    content = count_content(dataset, most=4)
    assert (content.num_images, content.num_counted) == (9, 4)
    records = [dataset[index] for index in range(4)]
    assert content.num_objects.sum() == sum(len(record.labels) for record in records)
    assert len(content.sizes) == 4


def test_nothing_to_learn_is_reported_with_numbers(voc):
    folder = shared("cases/all_iscrowd/coco")
    crowds = open_dataset(f"coco_json:{folder}/ann.json:{folder}/images")
    assert "1 image with 1 box around crowds" in nothing_to_learn(count_content(crowds))
    spec = voc.split("all", *"abcdef")
    others = count_content(open_dataset(spec, ("boat",)))
    assert "6 images with 10 objects of other classes than boat" in nothing_to_learn(others)
    blank = count_content(open_dataset(voc.split("none", "f"), ("dog",)))
    assert "1 image with no object" in nothing_to_learn(blank)
    assert nothing_to_learn(count_content(open_dataset(spec))) == ""


def test_the_table_of_the_data(voc, config):
    train_data = count_content(open_dataset(voc.split("all", *"abcdef")))
    evaluation = count_content(open_dataset(voc.split("some", "a", "f"), ("Löwe", "dog")))
    network = build_network(config.model, 2)
    origins = ("mine (voc_xml, split all)", f"{config.data.train}, split some")
    lines = format_data(config, train_data, evaluation, origins, network.tiling)
    rows = [line.split() for line in lines.splitlines()]
    assert ["images", "6", "2"] in rows and ["without", "objects", "1", "1"] in rows
    assert ["objects", "10", "2"] in rows
    assert ["Löwe", "5", "1"] in rows and ["dog", "5", "1"] in rows
    # Of an input of 64 pixels the boxes take 32 × 32 and 6.4 × 6.4.
    assert ["object", "size,", "10", "%", "6.4", "9.0"] in rows
    assert ["90", "%", "32.0", "29.4"] in rows
    assert ["image", "size,", "smallest", "160", "×", "120", "160", "×", "120"] in rows
    assert "2 steps of 4 images: 1.3 passes over the training data" in lines
    assert "evaluation data: split some" in lines.splitlines()
    assert max(map(len, lines.splitlines())) <= 80


@pytest.mark.parametrize(("size", "times"), [((16, 9), "4"), ((17, 9), ""), ((3, 6), "11")])
def test_images_that_are_much_enlarged_are_named(size, times, voc, config):
    voc.add("g", [("dog", 1, 1, 3, 4)], size=size)
    data = count_content(open_dataset(voc.split("small", "g")))
    told = format_data(config, data, None, ("", ""), build_network(config.model, 2).tiling)
    assert (f"images are enlarged {times} times: use larger ones" in told) == bool(times)


def test_classes_of_only_one_side_are_reported(voc, config):
    names = ("Löwe", "dog")
    voc.add("g", [("dog", 40, 30, 120, 90)])
    one = count_content(open_dataset(voc.split("one", "g"), names))
    both = count_content(open_dataset(voc.split("both", "a"), names))
    tiling = build_network(config.model, 2).tiling
    assert "in training data but not in evaluation data: Löwe" in format_data(
        config, both, one, ("", ""), tiling
    )
    assert "in evaluation data but not in training data: Löwe" in format_data(
        config, one, both, ("", ""), tiling
    )


def test_the_most_frequent_classes_are_listed(voc, config):
    many = [(f"class{i:02}", 10, 10, 50, 50) for i in range(30) for _ in range(1 + (i == 7))]
    voc.add("many", many, size=(160, 120))
    content = count_content(open_dataset(voc.split("many", "many")))
    lines = format_data(config, content, None, ("", ""), build_network(config.model, 30).tiling)
    listed = [line.split() for line in lines.splitlines() if "class" in line]
    assert listed[0] == ["class07", "2"] and listed[1] == ["class00", "1"]
    assert len(listed) == 21 and listed[-1] == ["and", "10", "more", "classes", "10"]


def test_images_of_both_sides_are_counted(voc):
    first, second = (open_dataset(voc.split(*names)) for names in (("x", *"abc"), ("y", *"bcde")))
    assert num_shared(first, second) == 2
    assert num_shared(open_dataset("shapes:test[:2]"), second) == 0
    first, second = (open_dataset(f"shapes:test[{part}]") for part in (":9", "7:20"))
    assert num_shared(first, second) == 2
    (mask,) = [np.arange(9) < 8]
    assert num_shared(first.chosen([mask]), second) == 1
    assert num_shared(first, open_dataset("shapes:train[:20]")) == 0


@pytest.mark.parametrize("boundary_boxes", [True, False])
def test_default_box_recall_equals_that_of_fit_boxes(boundary_boxes, config):
    corners = np.random.default_rng(0).random((300, 2, 2), np.float32)
    objects = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    settings = config.loss.model_copy(update={"boundary_boxes": boundary_boxes})
    recall = default_box_recall(objects, SSD300_VOC, settings)
    assert recall == measure([objects], SSD300_VOC, settings).recall()
    assert 0.3 < recall < 0.9


def test_a_truncated_evaluation_image_ends_the_run_before_the_first_step(voc, config, tmp_path):
    truncate(voc, "e")
    specs = {"data.train": voc.split("one", "a", "b"), "data.eval": voc.split("two", *"cdef")}
    with pytest.raises(UserError, match=r"e\.jpg: the image cannot be read"):
        train(config.replace(specs), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_truncated_training_image_ends_the_run_before_the_first_step(voc, config, tmp_path):
    truncate(voc, "b")
    specs = {"data.train": voc.split("one", *"abc"), "data.eval": voc.split("two", *"def")}
    with pytest.raises(UserError, match=r"b\.jpg: the image cannot be read.*truncated"):
        train(config.replace(specs), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_truncated_training_images_are_listed_within_a_time_limit(voc, tmp_path, caplog):
    truncate(voc, "b")
    problems = Problems("skip", 0.9, tmp_path / "data_errors.jsonl")
    caplog.set_level("INFO", "ssd_jax")
    dataset = open_dataset(voc.split("all", *"abcf"), (), problems)
    check_training_files(dataset, seconds=0)
    assert "looked for truncated files for 0 s: 0 of 4 training images" in caplog.text
    assert not problems.found
    check_training_files(dataset)
    assert [found.image_id for found in problems.found] == ["b"]
    assert (tmp_path / "data_errors.jsonl").is_file() and caplog.text.count("looked for") == 1


def test_no_training_image_is_decoded_after_the_time(voc, monkeypatch, caplog):
    """The clock advances by a second at each reading; large images take long to decode."""
    for name in "abcdef":
        pattern(0).save(voc.root / "JPEGImages" / f"{name}.jpg", "BMP")
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(data_checks, "time", clock)
    caplog.set_level("INFO", "ssd_jax")
    check_training_files(open_dataset(voc.split("all", *"abcdef")), seconds=3)
    assert "looked for truncated files for 3 s: 2 of 6 training images" in caplog.text


def test_a_truncated_evaluation_image_is_skipped_and_listed(voc, tmp_path, caplog):
    truncate(voc, "e")
    problems = Problems("skip", 0.5, tmp_path / "data_errors.jsonl")
    dataset = open_dataset(voc.split("two", *"cdef"), (), problems)
    check_images(dataset)
    (line,) = (tmp_path / "data_errors.jsonl").read_text().splitlines()
    assert json.loads(line)["image_id"] == "e"
    assert "left out: " in caplog.text


def test_data_without_objects_ends_the_run_before_the_first_step(voc, config, tmp_path):
    all_images, blank = voc.split("all", *"abcde"), voc.split("blank", "f")
    specs = {"data.train": all_images, "data.eval": blank}
    with pytest.raises(UserError, match="has 1 image, but no object of the classes Löwe, dog"):
        train(config.replace(specs), tmp_path / "run")
    folder = shared("cases/all_iscrowd/coco")
    crowds = {"data.train": f"coco_json:{folder}/ann.json:{folder}/images", "eval_every": -1}
    with pytest.raises(UserError, match=r"nothing to learn in 1 image with 1 box around crowds"):
        train(config.replace(crowds), tmp_path / "run")
    truncate(voc, "a")
    truncated = {"data.train": voc.split("others", *"bcde"), "data.eval": voc.split("one", "a")}
    with pytest.raises(UserError, match=r"a\.jpg: the image cannot be read"):
        train(config.replace(truncated), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_keeps_its_evaluation_images(voc, config, tmp_path, caplog):
    caplog.set_level("INFO", "ssd_jax")
    folder, run = tmp_path / "flat", tmp_path / "run"
    folder.mkdir()
    for name in "abcde":
        shutil.copy(voc.root / "JPEGImages" / f"{name}.jpg", folder)
        shutil.copy(voc.annotation(name), folder)
    config = config.replace({"data.train": str(folder), "data.split": 0.6})
    assert {"train/loss", "eval/mAP"} <= set(train(config, run).metrics[2])
    assert "without objects" in caplog.text and "2 evaluation images decoded" in caplog.text
    assert "only 4 objects to evaluate on: the mAP is uncertain by about" in caplog.text
    (part,) = json.loads((run / "split.json").read_text())
    assert len(part["images"]) == 2

    # An image more changes nothing in this, and is trained on.
    shutil.copy(voc.root / "JPEGImages" / "f.jpg", folder)
    shutil.copy(voc.annotation("f"), folder)
    caplog.clear()
    train(config.replace({"steps": 3}), run, change_config=True)
    assert "data: 4 training images, 2 evaluation images" in caplog.text
    assert "decoded" not in caplog.text
    assert json.loads((run / "split.json").read_text()) == [part]
    assert evaluate(config, run)["num_images"] == 2

    # With other data to evaluate on these images are trained on, and so not evaluated on again.
    more = config.replace({"data.eval": voc.split("one", "a"), "steps": 4})
    train(more, run, change_config=True)
    with pytest.raises(UserError, match="has trained on all of its images"):
        train(config.replace({"steps": 5}), run, change_config=True)
    with pytest.raises(UserError, match="trained on all images"):
        evaluate(config, run)


@pytest.mark.slow
def test_a_run_trained_on_all_images_cannot_be_evaluated_on_them(voc, config, tmp_path):
    folder = shutil.copytree(voc.root / "JPEGImages", tmp_path / "flat")
    for name in "abcdef":
        shutil.copy(voc.annotation(name), folder)
    config = config.replace({"data.train": str(folder), "eval_every": -1, "steps": 1})
    train(config, tmp_path / "run")
    for named in (
        config,
        config.replace({"eval_every": 0}),
        config.replace({"data.eval": str(folder)}),
    ):
        with pytest.raises(
            UserError, match=r"trained on all images .*name other images with --source"
        ):
            evaluate(named, tmp_path / "run")
    more = config.replace({"eval_every": 0, "steps": 2})
    with pytest.raises(UserError, match=r"has trained on all of its images.* config\.data\.eval"):
        train(more, tmp_path / "run", change_config=True)


def test_damaged_digests_are_reported_and_written_again(voc, tmp_path, caplog):
    data = RunData(open_dataset(str(voc.split("all", *"abc"))), None, "voc", "none")
    record_data(tmp_path, data)
    whole = (tmp_path / "data.json").read_text()
    (tmp_path / "data.json").write_text(whole[:-9])
    record_data(tmp_path, data)
    assert "data.json is not JSON" in caplog.text and "it is written again" in caplog.text
    assert (tmp_path / "data.json").read_text() == whole
