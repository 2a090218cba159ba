"""Prediction as a user runs it: folders of good and bad files, and the results."""

import contextlib
import fcntl
import functools
import http.server
import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from ssd_jax.errors import UserError
from ssd_jax.inference import predict as predict_module
from ssd_jax.inference.choice import LeftOut
from ssd_jax.inference.done import Done
from ssd_jax.inference.loading import load_detector
from ssd_jax.inference.outputs import only_run
from ssd_jax.inference.predict import predict
from ssd_jax.interop.trained import save_folder
from ssd_jax.storage.replacing import UNFINISHED
from tests.helpers.commands import ROOT, run_command
from tests.helpers.random_detector import CATEGORY_IDS, NAMES, random_trained
from tests.images.test_opening import png_header
from tests.inference.test_detector import picture


def run(detector, output, *arguments, **options):
    """The result of `predict`, and the JSON that it wrote."""
    options = {"score_threshold": 0.01, "batch_size": 2} | options
    counts = predict(detector, [str(argument) for argument in arguments], str(output), **options)
    return counts, json.loads((output / "detections.json").read_text())


def of_picture(results, name):
    """Size and annotations of a picture."""
    (image,) = [image for image in results["images"] if image["file_name"] == name]
    annotations = [
        {key: value for key, value in annotation.items() if key != "image_id"}
        for annotation in results["annotations"]
        if annotation["image_id"] == image["id"]
    ]
    return (image["width"], image["height"]), annotations


BAD = {
    "bomb.png": png_header(20_000, 20_000),
    "empty.jpg": b"",
    "text.jpg": b"this is no picture",
}


@pytest.fixture(scope="module")
def thirty(tmp_path_factory):
    """A folder of 30 files, six of them damaged; `upright.png` has several copies."""
    folder = tmp_path_factory.mktemp("thirty")
    same = picture()
    for i in range(14):
        Image.fromarray(picture(40 + 9 * i, 30 + 5 * i, i)).save(folder / f"plain{i:02d}.jpg")
    (folder / "deep").mkdir()
    Image.fromarray(picture(90, 70, 77)).save(folder / "deep" / "plain00.jpg")
    Image.fromarray(same).save(folder / "upright.png")
    Image.fromarray(same).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    for orientation, turns in ((3, 2), (6, 1), (8, -1)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = Image.fromarray(np.rot90(same, turns))
        turned.save(folder / f"rotated{orientation}.png", exif=exif)
    gray = same[..., 0]
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(folder / "deep16.png")
    Image.fromarray(np.dstack([same, np.full_like(gray, 255)])).save(folder / "alpha.webp")
    Image.new("RGB", (1, 1), (200, 30, 40)).save(folder / "one.png")
    for name, content in BAD.items():
        (folder / name).write_bytes(content)
    whole = (folder / "plain13.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "header.jpg").write_bytes(whole[:100])
    (folder / "truncated.png").write_bytes((folder / "upright.png").read_bytes()[:-400])
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 30
    return folder


FAILED = {*BAD, "truncated.jpg", "header.jpg", "truncated.png"}


@pytest.fixture(scope="module")
def done(detector, thirty, tmp_path_factory):
    output = tmp_path_factory.mktemp("done")
    return output, *run(detector, output, thirty)


def test_good_files_are_processed_and_bad_ones_reported(done):
    output, counts, results = done
    assert counts[:3] == (24, 0, 6)
    assert {error["file_name"] for error in results["errors"]} == FAILED
    assert all(error["file_name"] in error["error"] for error in results["errors"])
    assert [image["id"] for image in results["images"]] == list(range(1, 25))
    assert not FAILED & {image["file_name"] for image in results["images"]}
    assert results["categories"] == [
        {"id": number, "name": name} for number, name in zip(CATEGORY_IDS, NAMES, strict=True)
    ]
    assert set(results) == {"images", "annotations", "categories", "errors"}
    assert set(results["images"][0]) == {"id", "file_name", "width", "height"}
    written = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert len(written) == 25 and "annotated/deep/plain00.jpg" in written
    assert "annotated/plain00.jpg" in written and "annotated/alpha.webp.png" in written
    for path in (output / "annotated").rglob("*.*"):
        name = path.relative_to(output / "annotated").as_posix().replace(".webp.png", ".webp")
        with Image.open(path) as drawn:
            drawn.load()
            # Small images are enlarged, and some have a legend below.
            width, height = of_picture(results, name)[0]
            scale = 480 / max(width, height)
            assert drawn.width == round(scale * width) and drawn.height >= round(scale * height)


def assert_same(found, wanted):
    """Compares detections up to rounding, which depends on the position in the batch."""
    assert found[0] == wanted[0] and len(found[1]) == len(wanted[1])
    for ours, right in zip(found[1], wanted[1], strict=True):
        assert ours["category_id"] == right["category_id"]
        np.testing.assert_allclose(ours["bbox"], right["bbox"], atol=0.01)
        np.testing.assert_allclose(ours["score"], right["score"], atol=1e-5)


def test_boxes_equal_those_of_the_upright_picture(done):
    _, _, results = done
    wanted = of_picture(results, "upright.png")
    assert wanted[0] == (80, 50) and len(wanted[1]) > 20
    for name in ("rotated3.png", "rotated6.png", "rotated8.png"):
        assert_same(of_picture(results, name), wanted)
    assert of_picture(results, "alpha.webp")[0] == (80, 50)  # compressed with loss
    assert_same(of_picture(results, "deep16.png"), of_picture(results, "gray.png"))
    assert of_picture(results, "one.png")[0] == (1, 1)


def test_results_equal_those_of_the_detector(detector, thirty, done):
    _, _, results = done
    files = [thirty / image["file_name"] for image in results["images"]]
    prepared = ((None, detector.prepare(file)) for file in files)
    wanted = []
    for number, (_, detections) in enumerate(detector.stream(prepared, 2), 1):
        wanted += detections.to_coco(number, len(wanted) + 1)
    assert results["annotations"] == wanted


def test_cocos_own_tool_reads_them(done, capsys):
    output, _, results = done
    coco = COCO(output / "detections.json")
    assert len(coco.getAnnIds()) == len(results["annotations"]) > 100
    assert len(coco.getImgIds()) == 24 and coco.getCatIds() == list(CATEGORY_IDS)
    assert coco.getAnnIds(areaRng=(0, 32**2), iscrowd=False)


@pytest.mark.parametrize("limit, value", [("LARGE", 3000), ("KEPT_BYTES", 50_000)])
def test_images_that_are_opened_again_give_the_same(
    limit, value, detector, thirty, done, tmp_path, monkeypatch
):
    monkeypatch.setattr(predict_module, limit, value)
    _, results = run(detector, tmp_path / "out", thirty)
    assert results == done[2]
    for path in ("annotated/rotated6.png", "annotated/plain13.jpg"):
        assert (tmp_path / "out" / path).read_bytes() == (done[0] / path).read_bytes()


def test_classes_and_threshold_choose(detector, thirty, done, tmp_path):
    arguments = [thirty / "upright.png", thirty / "plain05.jpg"]
    (count, *_), all_of_them = run(detector, tmp_path / "all", *arguments)
    scores = sorted(annotation["score"] for annotation in all_of_them["annotations"])
    middle = scores[len(scores) // 2]
    options = {"score_threshold": middle, "classes": ["star", "cross"]}
    counts, chosen = run(detector, tmp_path / "chosen", *arguments, **options)
    assert count == 2 and 0 < len(chosen["annotations"]) < len(scores) / 2
    wanted = [
        annotation
        for annotation in all_of_them["annotations"]
        if annotation["category_id"] in (3, 8) and annotation["score"] >= middle
    ]
    assert chosen["annotations"] == [
        annotation | {"id": number} for number, annotation in enumerate(wanted, start=1)
    ]
    assert sum(counts.objects.values()) == len(wanted) and set(counts.objects) <= {"star", "cross"}
    # Of the wanted classes alone.
    below = [a["score"] for a in all_of_them["annotations"] if a["category_id"] in (3, 8)]
    best = max(score for score in below if score < middle)
    assert counts.best_left_out.score == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    "done, words",
    [
        (
            Done(20, 4, 0, 3, {"star": 9, "cross": 10, "circle": 1}, None, 0.01),
            "20 objects in 3 of 24 images and frames: 10 cross, 9 star, 1 circle",
        ),
        (Done(1, 0, 0, 1, {"star": 1}, None, 0.01), "1 object in 1 of 1 image: 1 star"),
        (
            Done(0, 7, 1, 0, {}, LeftOut(0.2391, "star", "clip.mp4"), 0.01),
            "no object reaches the threshold: the best score is 0.239 (star in clip.mp4); "
            "--score_threshold=0.23 shows it",
        ),
        (
            Done(2, 0, 0, 0, {}, None, 0.01),
            "no object: none has a score above 0.01, the limit of the detector (its "
            "config.detection.score_threshold)",
        ),
    ],
)
def test_detections_are_summarised_in_one_line(done, words):
    assert done.describe_found() == words


def test_crops_show_the_content_of_the_boxes(detector, thirty, tmp_path):
    _, results = run(detector, tmp_path, thirty / "rotated6.png", crops=True)
    crops = sorted((tmp_path / "crops" / "rotated6.png").iterdir())
    assert len(crops) == len(results["annotations"]) > 20
    upright = np.asarray(Image.open(thirty / "upright.png"))
    x, y, width, height = results["annotations"][0]["bbox"]
    wanted = upright[int(y) : -int(-(y + height) // 1), int(x) : -int(-(x + width) // 1)]
    np.testing.assert_array_equal(np.asarray(Image.open(crops[0])), wanted)
    name = {category["id"]: category["name"] for category in results["categories"]}
    assert crops[0].name == f"00_{name[results['annotations'][0]['category_id']]}.png"


def test_videos_and_images_are_processed_together(detector, thirty, tmp_path):
    pytest.importorskip("av")
    from tests.inference.test_video import read_video, write_video

    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "clip.avi", 9, codec="mpeg4")
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no video")
    Image.open(thirty / "plain00.jpg").save(tmp_path / "in" / "z.jpg")
    counts, results = run(detector, tmp_path / "out", tmp_path / "in", score_threshold=1.0)
    assert counts[:3] == (1, 9, 1)
    assert str(counts) == "1 image and 9 frames of videos done, 1 file failed"
    assert counts.objects == {} and counts.best_left_out.file_name in ("clip.avi", "z.jpg")
    assert [error["file_name"] for error in results["errors"]] == ["bad.mp4"]
    assert results["images"][0]["file_name"] == "z.jpg"
    assert results["images"][1:] == [
        {"id": 2 + i, "file_name": "clip.avi", "width": 96, "height": 64, "frame": i}
        for i in range(9)
    ]
    assert read_video(tmp_path / "out" / "annotated" / "clip.avi.mp4")[0] == list(range(9))


def test_a_video_can_come_from_a_url(detector, tmp_path):
    pytest.importorskip("av")
    from tests.inference.test_video import write_video

    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "clip.mkv", 5)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=tmp_path / "in")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        counts, results = run(
            detector, tmp_path, f"http://user:word@{host}/clip.mkv", f"http://{host}/none.mkv"
        )
        server.shutdown()
    assert counts[:3] == (0, 5, 1)
    assert str(counts) == "5 frames of videos done, 1 file failed"
    assert results["images"][4]["file_name"] == f"http_{host.replace(':', '_')}_clip.mkv"
    assert "word" not in (tmp_path / "detections.json").read_text()
    assert (tmp_path / "annotated" / f"{results['images'][0]['file_name']}.mp4").is_file()


@pytest.mark.parametrize(
    "arguments, options, complaint",
    [
        ([], {}, "name files, folders"),
        (["x"], {"score_threshold": 1.5}, "--score_threshold is 1.5, but must be"),
        (["x"], {"batch_size": 0}, "--batch_size is 0, but must be"),
        (["x"], {"classes": ["circle"] * 2}, "--classes names the class 'circle' twice"),
        (["x"], {"classes": ["dog"]}, "--classes names 'dog', but the detector has circle, cr"),
    ],
)
def test_mistakes_are_named(detector, tmp_path, arguments, options, complaint):
    with pytest.raises(UserError, match=complaint):
        predict(detector, arguments, str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()


def test_results_of_an_earlier_run_are_reported(detector, thirty, tmp_path, caplog):
    image = str(next(thirty.glob("plain*.jpg")))
    with caplog.at_level("WARNING", "ssd_jax"):
        predict(detector, [image], str(tmp_path))
        assert not caplog.text
        predict(detector, [image], str(tmp_path))
    assert f"{tmp_path} has the results of an earlier run: its detections.json" in caplog.text


def test_results_of_an_earlier_run_stay_if_no_file_can_be_read(detector, tmp_path, caplog):
    output = tmp_path / "out"
    output.mkdir()
    (output / "detections.json").write_text("earlier")
    (tmp_path / "damaged.jpg").write_bytes(b"damaged")
    done = predict(detector, [str(tmp_path / "damaged.jpg"), "missing.mp4"], str(output))
    assert (done.images, done.failed) == (0, 2)
    assert [path.name for path in output.iterdir() if path.name != "lock"] == ["detections.json"]
    assert (output / "detections.json").read_text() == "earlier"
    assert f"no file was read: {output} keeps its earlier detections.json" in caplog.text
    (output / "detections.json").unlink()
    predict(detector, ["missing.mp4"], str(output))
    assert len(json.loads((output / "detections.json").read_text())["errors"]) == 1


def test_a_folder_that_cannot_be_written_is_named(detector, thirty, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/out cannot be written"):
        predict(detector, [str(thirty)], str(tmp_path / "file" / "out"))


@pytest.mark.parametrize(
    "output, arguments, complaint",
    [
        ("in", ["in"], "is inside the input folder"),
        ("in/deep/out", ["in"], "is inside the input folder"),
        (".", ["in"], "is inside --output"),
        ("in", ["in/a.jpg"], "is inside --output"),
        ("to_in", ["in"], "is inside the input folder"),
        ("in", ["to_in"], "is inside the input folder"),
        ("out", ["in"], "annotated is a link to"),
        ("in", ["link.jpg"], "is inside --output"),
    ],
)
def test_results_are_never_among_the_inputs(
    detector, thirty, tmp_path, monkeypatch, output, arguments, complaint
):
    monkeypatch.chdir(tmp_path)
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes((thirty / "plain00.jpg").read_bytes())
    (tmp_path / "to_in").symlink_to("in")
    (tmp_path / "out" / "annotated").symlink_to("../in")
    (tmp_path / "link.jpg").symlink_to("in/a.jpg")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=complaint):
        predict(detector, arguments, output)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "in" / "a.jpg").read_bytes() == (thirty / "plain00.jpg").read_bytes()


def test_results_may_be_next_to_the_inputs(detector, thirty, tmp_path):
    (tmp_path / "image.jpg").write_bytes((thirty / "plain00.jpg").read_bytes())
    counts, _ = run(detector, tmp_path / "image.jpg.out", tmp_path / "image.jpg")
    assert counts[:3] == (1, 0, 0)


def test_an_output_in_use_is_refused(detector, thirty, tmp_path):
    refused = pytest.raises(UserError, match="out is in use by another process: wait until it ends")
    with only_run(tmp_path / "out"), refused:
        predict(detector, [str(thirty)], str(tmp_path / "out"))
    assert not any((tmp_path / "out").iterdir())


def test_a_lock_on_a_removed_file_does_not_count(tmp_path, monkeypatch):
    flock, runs = fcntl.flock, contextlib.ExitStack()
    ended = only_run(tmp_path)
    ended.__enter__()

    def late(descriptor, operation):
        """The second run has opened the file when the first ends, and a third begins."""
        monkeypatch.setattr(fcntl, "flock", flock)
        ended.__exit__(None, None, None)
        runs.enter_context(only_run(tmp_path))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with runs, pytest.raises(UserError, match="in use by another process"), only_run(tmp_path):
        pytest.fail("two runs hold the folder")
    with only_run(tmp_path):
        pass
    assert not any(tmp_path.iterdir())


def test_a_few_images_take_a_batch_of_a_power_of_two(detector, thirty, tmp_path, monkeypatch):
    stream, sizes = detector.stream, []

    def stream_noting_size(images, batch_size):
        sizes.append(batch_size)
        return stream(images, batch_size)

    monkeypatch.setattr(detector, "stream", stream_noting_size)
    files = sorted(thirty.glob("plain*.jpg"))
    for number, batch_size in ((1, 8), (2, 8), (3, 2)):
        counts, _ = run(detector, tmp_path, *files[:number], batch_size=batch_size)
        assert counts.images == number
    assert sizes == [1, 2, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_run_that_ends_early_leaves_a_partial_file(
    detector, thirty, tmp_path, monkeypatch, error
):
    _, before = run(detector, tmp_path, thirty / "plain00.jpg")
    stream = detector.stream

    def stream_three(images, batch_size):
        for number, each in enumerate(stream(images, batch_size)):
            if number == 3:
                raise error
            yield each

    monkeypatch.setattr(detector, "stream", stream_three)
    with pytest.raises(error):
        run(detector, tmp_path, thirty, batch_size=1)
    assert json.loads((tmp_path / "detections.json").read_text()) == before
    first, *lines = map(json.loads, (tmp_path / "detections.partial.jsonl").open())
    assert first["partial"] is True and len(first["categories"]) == len(NAMES)
    assert all("annotations" in line or "error" in line for line in lines)
    assert {path.name for path in tmp_path.iterdir()} == {
        "annotated",
        "detections.json",
        "detections.partial.jsonl",
    }
    assert not [path for path in tmp_path.rglob("*") if UNFINISHED in path.name]

    monkeypatch.setattr(detector, "stream", stream)
    run(detector, tmp_path, thirty / "plain00.jpg")
    assert not (tmp_path / "detections.partial.jsonl").exists()


def test_a_missing_file_is_reported_before_the_others(detector, tmp_path, caplog, capsys):
    Image.fromarray(picture()).save(tmp_path / "shapes.png")
    given = [str(tmp_path / name) for name in ("shapez.png", "shapes.png", "clip.mp4")]
    done = predict(detector, given, str(tmp_path / "out"))
    assert (done.images, done.failed) == (1, 2)
    assert caplog.messages == [
        f"error: {given[0]} does not exist: did you mean {given[1]}?",
        f"error: {given[2]} does not exist",
    ]
    capsys.readouterr()
    assert not predict(detector, given[:1], str(tmp_path / "out")).images
    assert "images:" not in capsys.readouterr().err  # no progress of nothing


def test_a_picture_that_vanishes_meanwhile_is_one_error(detector, thirty, tmp_path, monkeypatch):
    monkeypatch.setattr(predict_module, "LARGE", 0)  # every picture is opened again to be drawn
    file = tmp_path / "gone.jpg"
    file.write_bytes((thirty / "plain00.jpg").read_bytes())
    prepare = detector.prepare

    def prepare_and_remove(picture):
        if file.exists() and picture.size == Image.open(file).size:
            file.unlink()
        return prepare(picture)

    monkeypatch.setattr(detector, "prepare", prepare_and_remove)
    counts, results = run(detector, tmp_path / "out", file, thirty / "plain01.jpg")
    assert counts[:3] == (1, 0, 1) and "gone.jpg cannot be read" in results["errors"][0]["error"]


def test_one_detector_must_be_named():
    for workdir, weights in ((None, None), ("a", "b")):
        with pytest.raises(UserError, match="name either --workdir"):
            load_detector(workdir, weights, "best")
    with pytest.raises(UserError, match="--checkpoint needs --workdir"):
        load_detector(None, "b", 3)


WITHOUT_TENSORFLOW = """
import runpy, sys
sys.modules["tensorflow"] = None
runpy.run_module("ssd_jax", run_name="__main__")
"""


@pytest.mark.slow
def test_the_exit_status_reports_what_the_script_did(thirty, done, tmp_path):
    save_folder(random_trained(), tmp_path / "weights")
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_TENSORFLOW,
            "predict",
            f"--weights={tmp_path / 'weights'}",
            f"--output={tmp_path / 'out'}",
            "--score_threshold=0.01",
            "--batch_size=2",
            str(thirty),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert all(f"error: {thirty / name} cannot be read" in ended.stderr for name in FAILED)
    told, found = ended.stdout.splitlines()
    assert told == f"{tmp_path / 'out'}: 24 images done, 6 files failed"
    assert found == done[1].describe_found()
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert results["images"] == done[2]["images"]
    nothing = run_command("predict", "--weights=/no/such", "--output=x", "a.jpg", expect=2)
    assert nothing.stderr == ("error: /no/such does not exist\n")
