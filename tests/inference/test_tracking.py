"""Objects of a video keep their numbers from frame to frame."""

import json

import numpy as np
import pytest
from PIL import Image

from ssd_jax.errors import UserError
from ssd_jax.images.drawing import BoxDrawing
from ssd_jax.inference.detections import Detections
from ssd_jax.inference.predict import predict
from ssd_jax.inference.tracking import Tracker
from tests.inference.test_video import write_video

pytest.importorskip("trackers")


def detections(*found):
    """Detections from `(left, top, score, label)`, 20 pixels wide and high."""
    return Detections(
        boxes=np.array([(x, y, x + 20, y + 20) for x, y, *_ in found], float).reshape(-1, 4),
        scores=np.array([score for *_, score, _ in found]),
        labels=np.array([label for *_, label in found], int),
        class_names=("cat", "dog"),
        category_ids=(1, 2),
        image="frame",
        size=(100, 300),
    )


def test_numbers_follow_the_objects():
    tracker = Tracker(0.4)
    seen = []
    for index in range(8):
        right, left = (10 + 5 * index, 10, 0.9, 1), (200 - 5 * index, 50, 0.6, 2)
        # Another order from frame to frame, and one object that is lost for two frames.
        found = [right] if index in (4, 5) else [left, right] if index % 2 else [right, left]
        tracked = tracker(detections(*found), index / 25)
        assert tracked.boxes[:, 0].tolist() == [float(x) for x, *_ in found]
        seen.append(dict(zip(tracked.names, tracked.tracks.tolist(), strict=True)))
    assert seen[0] == {"cat": 0, "dog": 0}  # known from the second frame on
    assert seen[1]["cat"] != seen[1]["dog"] and min(seen[1].values()) > 0
    for later in seen[2:]:
        assert later == {name: seen[1][name] for name in later}


def test_low_scores_continue_a_track_but_begin_none():
    tracker = Tracker(0.4)
    for index, score in enumerate((0.9, 0.9, 0.15)):
        found = tracker(detections((50, 50, score, 1), (200, 20, 0.3, 2)), index / 25)
    assert found.tracks[0] > 0 and found.tracks[1] == 0
    found = tracker(detections((50, 50, 0.05, 1)), 3 / 25)  # too low for anything
    assert found.tracks.tolist() == [0]


def test_frames_without_objects():
    tracker = Tracker(0.4)
    assert tracker(detections(), 0.0).tracks.tolist() == []
    for seconds in (0.1, 0.2):
        found = tracker(detections((50, 50, 0.9, 1)), seconds)
    assert found.tracks[0] > 0
    # After more than a second it is another object.
    for index in range(40):
        tracker(detections(), 0.3 + index / 25)
    for seconds in (2.0, 2.1):
        later = tracker(detections((50, 50, 0.9, 1)), seconds)
    assert later.tracks[0] not in (0, found.tracks[0])


def test_results_have_the_numbers_and_are_chosen_with_them():
    tracked = detections((0, 0, 0.9, 1), (50, 0, 0.8, 2))
    assert "track_id" not in tracked.to_coco()[0]
    tracked = Tracker(0.4)(tracked, 0.0)
    tracked.tracks[:] = (0, 7)
    first, second = tracked.to_coco()
    assert "track_id" not in first and second["track_id"] == 7
    assert tracked.select(np.array([False, True])).tracks.tolist() == [7]


def test_numbers_are_drawn():
    box, name = np.array([[40.0, 40.0, 160.0, 160.0]]), (np.array([1]), ("cat",), np.array([0.9]))

    def drawn(tracks):
        image = Image.new("RGB", (300, 300))
        BoxDrawing(image.size, box, *name, tracks=tracks).draw(image)
        return np.asarray(image)

    plain = drawn(None)
    assert np.array_equal(drawn(np.array([0])), plain)
    assert not np.array_equal(drawn(np.array([3])), plain)


def test_a_video_with_numbers(detector, tmp_path):
    pytest.importorskip("av")
    source = write_video(tmp_path / "in.mp4", 6)
    options = {"score_threshold": 0.01, "batch_size": 4, "track": True}
    predict(detector, [source], str(tmp_path / "out"), **options)
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    frames = {image["id"]: image["frame"] for image in results["images"]}
    tracks = [
        (frames[each["image_id"]], each["track_id"])
        for each in results["annotations"]
        if "track_id" in each
    ]
    assert len(tracks) == len(set(tracks)) > 0  # no number twice in a frame
    assert 0 not in {frame for frame, _ in tracks}
    with pytest.raises(UserError, match="--track follows objects in videos"):
        predict(
            detector, [str(tmp_path / "out" / "detections.json")], str(tmp_path / "2"), track=True
        )
