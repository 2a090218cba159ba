"""Videos in and out: every frame, in order, at its time."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssd_jax.errors import UserError
from ssd_jax.images.drawing import BoxDrawing
from ssd_jax.inference import frames, video
from ssd_jax.inference.video import detect_in_video, live_name, num_frames

av = pytest.importorskip("av")


def frame_pixels(index, height=64, width=96):
    """The number of the frame in binary, as eight blocks side by side, black or white."""
    bits = [index >> bit & 1 for bit in range(8)]
    row = np.repeat(np.array(bits, np.uint8) * 255, width // 8)
    return np.tile(row[None, :, None], (height, 1, 3))


def number(pixels):
    height, width, _ = pixels.shape
    blocks = pixels[height // 2, width // 16 :: width // 8, 0][:8] > 127
    return sum(1 << bit for bit, block in enumerate(blocks) if block)


def write_video(path, count, rate=25, size=(64, 96), times=None, rotation=0, codec="libx264"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p" if size[0] % 2 == 0 else "yuv444p"
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(frame_pixels(index, *size), format="rgb24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def read_video(path):
    """Numbers and times of the frames, and the rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [
            (number(frame.to_ndarray(format="rgb24")), float(frame.time))
            for frame in container.decode(stream)
        ]
        return [n for n, _ in frames], [time for _, time in frames], stream.average_rate


def nothing(detections):
    return detections.select(np.zeros(len(detections), bool))


def detect(detector, source, output, batch_size=2, select=nothing):
    return list(detect_in_video(detector, source, output, batch_size, select))


def test_ten_seconds_come_out_frame_by_frame(detector, tmp_path):
    source = write_video(tmp_path / "in.mp4", 250)
    assert num_frames(source) == 250
    found = detect(detector, source, tmp_path / "out.mp4")
    assert [index for index, _ in found] == list(range(250))
    numbers, times, rate = read_video(tmp_path / "out.mp4")
    assert numbers == list(range(250))
    np.testing.assert_allclose(times, np.arange(250) / 25, atol=1e-3)
    assert rate == 25
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (96, 64)


def test_each_frame_has_its_own_detections_and_boxes(detector, tmp_path):
    source = write_video(tmp_path / "in.mkv", 11, codec="ffv1")  # without loss

    def best(detections):
        return detections.select(np.arange(len(detections)) == 0)

    found = detect(detector, source, tmp_path / "out.mp4", select=best)
    assert [index for index, _ in found] == list(range(11))
    with av.open(source) as container:
        given = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    prepared = ((None, detector.prepare(pixels)) for pixels in given)
    wanted = [best(detections) for _, detections in detector.stream(prepared, 2)]
    with av.open(str(tmp_path / "out.mp4")) as container:
        written = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for (_, ours), right, pixels in zip(found, wanted, written, strict=True):
        assert ours.boxes.tolist() == right.boxes.tolist() and len(ours) == 1
        image = Image.fromarray(right.image)
        drawn_on = (right.boxes, right.labels, right.class_names, right.scores)
        BoxDrawing(image.size, *drawn_on).draw(image)
        drawn = np.asarray(image).astype(int)
        assert np.abs(pixels - drawn).mean() < 12  # what compression leaves
        assert np.abs(pixels - np.asarray(right.image).astype(int)).mean() > 14


def test_frames_keep_their_times(detector, tmp_path):
    times = [0, 1, 5, 6, 20, 21]
    source = write_video(tmp_path / "in.mp4", 6, times=times)
    detect(detector, source, tmp_path / "out.mp4")
    numbers, written, _ = read_video(tmp_path / "out.mp4")
    assert numbers == list(range(6))
    np.testing.assert_allclose(written, np.array(times) / 25, atol=1e-3)


def test_other_rates_and_odd_sides(detector, tmp_path):
    source = write_video(tmp_path / "in.mkv", 9, rate=Fraction(30000, 1001), size=(63, 97))
    found = detect(detector, source, tmp_path / "out.mp4")
    assert found[0][1].size == (63, 97)
    numbers, _, rate = read_video(tmp_path / "out.mp4")
    assert numbers == list(range(9)) and abs(rate - 29.97) < 0.05


def test_turned_videos_come_out_upright(detector, tmp_path):
    source = write_video(tmp_path / "in.mp4", 3, rotation=90)
    found = detect(detector, source, tmp_path / "out.mp4")
    assert found[2][1].size == (96, 64)
    # A quarter counterclockwise brings the leftmost block, the lowest bit, to the bottom.
    np.testing.assert_allclose(
        np.asarray(found[1][1].image)[:, 32, 0], frame_pixels(1)[0, ::-1, 0], atol=30
    )
    with av.open(str(tmp_path / "out.mp4")) as container:
        (frame, *_) = container.decode(video=0)
        assert (frame.width, frame.height, frame.rotation) == (64, 96, 0)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_large_frames_are_decoded_like_small_ones(detector, tmp_path, monkeypatch, rotation):
    source = write_video(tmp_path / "in.mp4", 3, size=(64, 96), rotation=rotation)

    def best(detections):
        return detections.select(np.arange(len(detections)) < 3)

    def detect_to(name):
        found = detect(detector, source, tmp_path / name, select=best)
        with av.open(str(tmp_path / name)) as container:
            drawn = [each.to_ndarray(format="rgb24") for each in container.decode(video=0)]
        return [each for _, each in found], np.array(drawn).astype(int)

    wanted, wanted_drawn = detect_to("whole.mp4")
    monkeypatch.setattr(video, "LARGE", 0)
    monkeypatch.setattr(frames, "STRIP_PIXELS", 32 * 96)
    found, drawn = detect_to("strips.mp4")
    for ours, right in zip(found, wanted, strict=True):
        assert ours.size == right.size and ours.image == source
        np.testing.assert_allclose(ours.boxes, right.boxes, atol=1)
    # What compression leaves: large frames are compressed with less effort.
    assert drawn.shape == wanted_drawn.shape and np.abs(drawn - wanted_drawn).mean() < 8


def test_intact_frames_of_a_damaged_video_are_written(detector, tmp_path):
    source = tmp_path / "in.mp4"
    content = bytearray(Path(write_video(source, 60)).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    source.write_bytes(content)
    done = []
    with pytest.raises(UserError, match=r"in\.mp4 is damaged: \d+ of its packets cannot be read"):
        for index, _ in detect_in_video(detector, str(source), tmp_path / "out.mp4", 2, nothing):
            done.append(index)
    assert 30 < len(done) < 60 and done == list(range(len(done)))
    numbers = read_video(tmp_path / "out.mp4")[0]
    assert numbers[:20] == done[:20] and len(numbers) == len(done)


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b"", "in.mp4 cannot be read: "),
        (b"no video at all", "in.mp4 cannot be read: "),
        (None, "in.mp4 cannot be read: No such file"),
    ],
)
def test_bad_files_are_named(detector, tmp_path, content, complaint):
    source = tmp_path / "in.mp4"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        detect(detector, str(source), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_an_unknown_codec_is_reported(detector, tmp_path):
    file = Path(write_video(tmp_path / "clip.mp4", 3))
    file.write_bytes(file.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(UserError, match=r"clip\.mp4 cannot be read: the codec of its video"):
        detect(detector, str(file), tmp_path / "out.mp4")


def test_a_video_closed_early_has_all_frames_so_far(detector, tmp_path):
    source = write_video(tmp_path / "in.mp4", 60)
    frames = detect_in_video(detector, source, tmp_path / "out.mp4", 2, nothing)
    for _ in range(5):
        next(frames)
    frames.close()
    assert len(read_video(tmp_path / "out.mp4")[0]) == 5


@pytest.mark.parametrize("camera", ["camera:", "camera:front", "camera:77"])
def test_cameras_that_are_not_there(detector, tmp_path, camera):
    with pytest.raises(UserError, match=f"{camera} cannot be read"):
        detect(detector, camera, tmp_path / "out.mp4")


def test_names_of_streams_hide_passwords():
    assert live_name("rtsp://me:secret@host:554/a/b?c=1") == "rtsp_host_554_a_b_c_1"
    assert live_name("camera:0") == "camera_0"
