"""The detector in Python."""

import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from PIL import Image

from ssd_jax import Detections, Detector
from ssd_jax.data.evaluation_batches import evaluation_batches
from ssd_jax.data.sources import open_dataset
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.models.prediction import make_predict_step
from ssd_jax.runs.evaluator import Stopwatch, run_detector
from tests.helpers.pictures import VocFolder
from tests.helpers.random_detector import CATEGORY_IDS, NAMES, random_trained


def picture(width=80, height=50, seed=0):
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (5, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height)))


PICTURES = [picture(80 + 7 * i, 50 + 11 * i, seed=i) for i in range(5)]


def assert_same(found, wanted):
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    np.testing.assert_array_equal(found.boxes, wanted.boxes)


def test_a_detector_accepts_all_kinds_of_images(detector, tmp_path):
    pixels = PICTURES[0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = detector(pixels)
    assert len(wanted) > 20 and (np.diff(wanted.scores) <= 0).all()
    assert 64 < wanted.boxes[:, 2].max() <= 80 and wanted.boxes[:, 3].max() <= 50
    for other in (str(tmp_path / "a.png"), tmp_path / "a.png", Image.fromarray(pixels)):
        assert_same(detector(other), wanted)
    assert wanted.names == tuple(NAMES[label - 1] for label in wanted.labels)
    # Turned by a flag, as cameras do.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "turned.png", exif=exif)
    turned = detector(tmp_path / "turned.png")
    assert_same(turned, wanted)
    assert turned.size == (50, 80)
    np.testing.assert_array_equal(detector(Image.open(tmp_path / "turned.png")).boxes, wanted.boxes)
    assert detector([]) == []
    first, second = detector([pixels, PICTURES[1]], score_threshold=0.3)
    assert 0 < len(first) < len(wanted) and (first.scores >= 0.3).all()
    np.testing.assert_allclose(first.scores, wanted.scores[: len(first)], rtol=1e-4)
    assert second.size == (61, 87)


@pytest.mark.parametrize(
    "given, complaint",
    [
        (np.zeros((4, 4, 3)), r"an array of float64 and shape \(4, 4, 3\), but must be uint8"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\), but must be"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\), but must be"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\), but must be"),
        (None, "of the type NoneType, but must be a path"),
        ("/no/such.jpg", "/no/such.jpg cannot be read"),
        (Image.new("F", (2, 2)), "fractions of unknown range"),
        (".", r"\. is a folder, but must be an image: pass a list of its files"),
    ],
)
def test_other_inputs_are_rejected(detector, given, complaint):
    with pytest.raises(UserError, match=complaint):
        detector(given)


@pytest.mark.parametrize("threshold", [50, -0.1, "0.5", float("nan"), None])
def test_a_threshold_is_a_number_from_0_to_1(detector, threshold):
    with pytest.raises(UserError, match=r"^score_threshold is .*, but must be a number between"):
        detector(PICTURES[0], score_threshold=threshold)


def test_a_path_instead_of_weights_is_rejected():
    with pytest.raises(UserError, match=r"Detector\('runs/mine'\) .*use Detector.from_workdir"):
        Detector("runs/mine")


def detections(**changes):
    fields = {
        "boxes": np.array([[10.0, 20.0, 40.0, 60.0], [0.0, 0.0, 5.0, 5.0004]]),
        "scores": np.array([0.75, 0.25], np.float32),
        "labels": np.array([5, 2], np.int32),
        "class_names": NAMES,
        "category_ids": CATEGORY_IDS,
        "image": np.zeros((70, 50, 3), np.uint8),
        "size": (50, 70),
    }
    return Detections(**(fields | changes))


def test_detections_in_cocos_form():
    large, small = [10.0, 20.0, 30.0, 40.0], [0.0, 0.0, 5.0, 5.0]
    both = {"image_id": 17, "iscrowd": 0}
    assert detections().to_coco(17, 4) == [
        {"id": 4, "category_id": 90, "bbox": large, "area": 1200.0, "score": 0.75} | both,
        {"id": 5, "category_id": 3, "bbox": small, "area": 25.002, "score": 0.25} | both,
    ]


def test_detections_can_be_selected():
    chosen = detections().select(np.array([False, True]))
    assert chosen.names == ("cross",) and chosen.scores.tolist() == [0.25] and len(chosen) == 1
    assert chosen.boxes.tolist() == [[0.0, 0.0, 5.0, 5.0004]]


def test_detections_draw_themselves(tmp_path):
    Image.new("RGB", (50, 70)).save(tmp_path / "black.png")
    for given in (np.zeros((70, 50, 3), np.uint8), tmp_path / "black.png"):
        drawn = np.asarray(detections(image=given).draw())
        assert drawn.shape == (480, 343, 3)  # enlarged
        scale = 480 / 70
        bottom, right, inside = (
            drawn[round(scale * y), round(scale * x)] for y, x in ((60, 30), (50, 40), (50, 30))
        )
        assert bottom.any() and right.any() and not inside.any()


def test_detections_for_supervision(monkeypatch):
    supervision = pytest.importorskip("supervision")
    converted = detections().to_supervision()
    assert isinstance(converted, supervision.Detections)
    assert converted.xyxy[0].tolist() == [10.0, 20.0, 40.0, 60.0]
    assert converted.class_id.tolist() == [4, 1]
    assert converted["class_name"].tolist() == ["triangle", "cross"]
    np.testing.assert_array_equal(converted.confidence, [0.75, 0.25])
    nothing = detections().select(np.array([False, False])).to_supervision()
    assert len(nothing) == 0


def test_without_supervision_the_install_command_is_shown(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[supervision\]'"):
        detections().to_supervision()


def test_compilation_depends_on_the_number_of_images_only(detector):
    compiled = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        threes = [PICTURES[:3], PICTURES[1:4], PICTURES[2:], PICTURES[:3]]
        with ThreadPoolExecutor(4) as pool:  # at once, so that they could all compile
            list(pool.map(detector, threes))
        assert len(compiled) == 1
        detector([PICTURES[4]] * 3)
        assert len(compiled) == 1
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_threads_do_not_disturb_each_other(detector):
    wanted = [detector(given) for given in PICTURES]
    with ThreadPoolExecutor(8) as pool:
        for found, right in zip(pool.map(detector, PICTURES * 8), wanted * 8, strict=True):
            assert_same(found, right)
            assert found.size == right.size


def test_a_stream_is_padded_and_in_order(detector):
    prepared = (
        (name, detector.prepare(given)) for name, given in zip("abcde", PICTURES, strict=True)
    )
    streamed = list(detector.stream(prepared, batch_size=2))
    assert [name for name, _ in streamed] == list("abcde")
    pairs = detector(PICTURES[:2]) + detector(PICTURES[2:4]) + detector([PICTURES[4]] * 2)[:1]
    for (_, found), wanted in zip(streamed, pairs, strict=True):
        assert_same(found, wanted)
        assert found.size == wanted.size


def test_detections_equal_those_of_evaluation(detector, tmp_path):
    voc = VocFolder(tmp_path / "voc")
    names = [f"picture{i}" for i in range(4)]
    for i, name in enumerate(names):
        voc.add(name, [("star", 6, 4, 30, 20)], size=(60 + 40 * i, 40 + 25 * i), size_tag=False)
    exif = Image.Exif()
    exif[0x0112] = 8
    image = Image.open(tmp_path / "voc" / "JPEGImages" / "picture3.jpg")
    image.save(tmp_path / "voc" / "JPEGImages" / "picture3.jpg", exif=exif)

    trained = random_trained()
    source = open_dataset(voc.split("all", *names), NAMES)
    predict = make_predict_step(trained.network, trained.config.detection)
    results = run_detector(
        devices.pmap_predict(predict),
        devices.replicate(trained.variables),
        evaluation_batches(source, image_size=64, batch_size=2),
        2,
        Stopwatch(),
    ).results
    files = [tmp_path / "voc" / "JPEGImages" / f"{name}.jpg" for name in names]
    found = detector(files[:2]) + detector(files[2:])
    for ours, evaluated in zip(found, results, strict=True):
        assert len(ours) > 20
        assert_same(ours, evaluated)
        assert ours.size == evaluated.size
    assert found[3].size == (180, 115)
