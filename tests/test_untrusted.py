"""Reading any file gives a result or a `UserError`, in bounded time."""

import io
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from ssd_jax.data.problems import Problems
from ssd_jax.data.records import Object
from ssd_jax.data.sources import explicit_sources, open_dataset
from ssd_jax.errors import UserError
from ssd_jax.evaluation.detection_files import read_detections
from ssd_jax.evaluation.submission import write_detections
from ssd_jax.images.opening import open_image, size_in_file, upright_file, upright_size
from ssd_jax.inference.outputs import OutputFolder
from ssd_jax.interop.caffe_model import NetParameter
from ssd_jax.interop.weight_files import read_weights
from tests.helpers.results import result
from tools.formats.noise import picture
from tools.formats.writers import writers
from tools.torch_files import save_legacy, save_zip, state_dict

LONGEST = 5.0  # seconds

quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def result_or_user_error(function, *arguments):
    """The result of a function, or the message of its error."""
    start = time.perf_counter()
    try:
        return function(*arguments)
    except UserError as error:
        assert str(error)
        return error
    finally:
        assert time.perf_counter() - start < LONGEST


@st.composite
def changed(draw, valid: bytes):
    """A valid file with some pieces removed, doubled or replaced."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 40)))
        content[start:end] = draw(
            st.one_of(st.just(b""), st.binary(max_size=8), st.just(bytes(content[start:end]) * 2))
        )
    return bytes(content[: draw(st.integers(len(content) // 2, len(content)))])


def bytes_like(*valid: bytes):
    return st.one_of(st.binary(max_size=200), *map(changed, valid))


@st.composite
def one_byte(draw, valid: bytes):
    """A valid file with one byte changed, taken out or put in."""
    place = draw(st.integers(0, max(len(valid) - 1, 0)))
    end = place + draw(st.integers(0, 1))
    return valid[:place] + draw(st.binary(max_size=1)) + valid[end:]


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from([10**400, "../a.jpg", "/etc/passwd", "\0", "\ud800"]),
    ),
    lambda values: st.one_of(
        st.lists(values, max_size=4),
        st.dictionaries(st.sampled_from(["id", "name", "bbox", "x"]), values, max_size=3),
    ),
    max_leaves=6,
)


@st.composite
def with_another_value(draw, valid):
    """A JSON file in which some value, anywhere, is another."""
    content = json.loads(json.dumps(valid))
    parent, key, value = [content], 0, content
    while isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        parent = value
        key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        value = parent[key]
    if parent == [content]:
        return json.dumps(draw(VALUES)).encode()
    parent[key] = draw(VALUES)
    return json.dumps(content).encode()


def read_both_ways(source, file, content):
    """Reads with stopping and with skipping; if the first stops, the second lists it or stops."""
    file.write_bytes(content)
    stopped = result_or_user_error(open_dataset, source)
    problems = Problems("skip", 1.0)
    skipped = result_or_user_error(open_dataset, source, (), problems)
    if isinstance(stopped, UserError):
        assert "\n" not in str(stopped) and len(str(stopped)) < 2000
        assert problems.found or isinstance(skipped, UserError)
    else:
        assert not problems.found and not isinstance(skipped, UserError)
        check_records(stopped)


def check_records(dataset):
    """Checks that every record can be used for training, and that its image exists."""
    for index in range(len(dataset)):
        record = dataset[index]
        assert record.size == (40, 60)
        assert np.all((record.boxes >= 0) & (record.boxes <= 1))
        assert np.all(record.boxes[:, 2:] > record.boxes[:, :2])
        assert np.all((record.labels >= 1) & (record.labels <= len(dataset.class_names)))


class Written:
    """Two images with objects in a format, and the files that describe them."""

    def __init__(self, name, folder):
        objects = (Object("dog", (6, 4, 30, 20), difficult=True), Object("a cat", (0, 0, 60, 40)))
        pictures = [picture("one.jpg", (40, 60), *objects)]
        pictures.append(picture("two.png", (40, 60), *objects[:1], seed=1))
        writers()[name](pictures, folder)
        suffixes = (".jpg", ".png")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self.folder = folder
        self.files = {path: path.read_bytes() for path in files if path.suffix not in suffixes}
        self.sources = ",".join(explicit_sources(str(folder)))
        check_records(open_dataset(self.sources))

    def restore(self):
        for path, content in self.files.items():
            path.write_bytes(content)


@pytest.mark.parametrize("name", writers())
def test_annotations(name, tmp_path):
    """Annotations are read by source and by folder, with any of their files damaged."""
    written = Written(name, tmp_path / "set")

    @settings(quick, max_examples=30)
    @given(st.data())
    def check(data):
        written.restore()
        file = data.draw(st.sampled_from(sorted(written.files)))
        valid = written.files[file]
        contents = [one_byte(valid), bytes_like(valid)]
        if file.suffix == ".json":
            contents.append(with_another_value(json.loads(valid)))
        content = data.draw(st.one_of(contents))
        read_both_ways(data.draw(st.sampled_from([written.sources, str(tmp_path)])), file, content)

    check()


@pytest.mark.parametrize("name", [name for name in writers() if name not in ("tfrecord",)])
@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"9" * 10_000, b"{" * 9_000, b"a: &a [*a, *a]"]
)
def test_annotations_that_are_deep_or_long(name, content, tmp_path):
    written = Written(name, tmp_path / "set")
    for file in written.files:
        written.restore()
        read_both_ways(written.sources, file, content)


DETECTIONS = [{"image_id": 1, "category_id": 3, "bbox": [6, 4, 30, 20], "score": 0.5}] * 2


@settings(quick, max_examples=200)
@given(
    content=st.one_of(with_another_value(DETECTIONS), bytes_like(json.dumps(DETECTIONS).encode()))
)
@example(content=b"[" * 100_000)
def test_detections_in_the_form_of_coco(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "detections.json"
    file.write_bytes(content)
    result_or_user_error(read_detections, file, [result(image_id="1")], ["dog"], [3])


@quick
@given(content=bytes_like(b"1 0.5 6 4 30 20\n" * 3))
def test_detections_in_the_form_of_voc(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "detections"
    folder.mkdir(exist_ok=True)
    (folder / "x_dog.txt").write_bytes(content)
    result_or_user_error(read_detections, folder, [result(image_id="1")], ["dog"], [3])


def image_file(image_format: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, image_format)
    return file.getvalue()


@settings(quick, max_examples=200)
@given(content=bytes_like(*map(image_file, ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"))))
def test_pictures(content):
    opened = result_or_user_error(open_image, content, "a.jpg")
    assert "a.jpg" in str(opened) if isinstance(opened, UserError) else opened.mode == "RGB"
    for function in (size_in_file, upright_size):
        result_or_user_error(function, content, "a.jpg")
    upright = upright_file(content)
    if isinstance(opened, UserError) and upright:
        assert upright == content  # a damaged JPEG or PNG, which shows when it is decoded


def weight_files() -> dict[str, bytes]:
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}
    npz = io.BytesIO()
    np.savez(npz, **tensors)
    net = NetParameter()
    layer = net.layer.add(name="conv")
    blob = layer.blobs.add(data=[1, 2, 3, 4])
    blob.shape.dim.extend([2, 2])
    return {
        ".npz": npz.getvalue(),
        ".safetensors": safetensors.numpy.save(tensors),
        ".caffemodel": net.SerializeToString(),
    }


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".caffemodel", "zip.pth", "old.pth"])
def test_weights(tmp_path, suffix):
    file = tmp_path / f"weights{suffix}"
    valid = weight_files().get(suffix)
    if valid is None:
        save = save_zip if suffix == "zip.pth" else save_legacy
        save(file, state_dict({"a": np.arange(6, dtype=np.float32).reshape(2, 3)}))
        valid = file.read_bytes()

    @settings(quick, max_examples=150)
    @given(content=bytes_like(valid))
    def check(content):
        file.write_bytes(content)
        read = result_or_user_error(read_weights, str(file))
        if isinstance(read, UserError):
            assert str(file) in str(read)
        else:
            assert all(isinstance(value, np.ndarray) for value in read.values())

    check()


# ---- nothing is written outside the output folder


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..\\evil", "a\0b", "x" * 300])
def test_a_class_name_with_path_signs_is_rejected(tmp_path, name):
    folder = tmp_path / "submission"
    with pytest.raises(UserError, match="cannot be part of a file's name: rename it"):
        write_detections([result(image_id="1")], [name], [1], folder)
    assert not folder.exists() and not list(tmp_path.iterdir())


@pytest.mark.parametrize("image_id", [" a", "a\nb 1.0 0 0 1 1", ""])
def test_an_image_whose_name_is_not_one_line_is_rejected(tmp_path, image_id):
    with pytest.raises(UserError, match="cannot be written in a line of VOC's form"):
        write_detections([result(image_id=image_id)], ["dog"], [1], tmp_path / "submission")


def test_image_ids_that_look_like_paths_are_safe(tmp_path):
    names = ["../../evil", "/etc/passwd", "1" * 5000]
    write_detections([result(image_id=name) for name in names], ["dog"], [1], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "comp4_det_test_dog.txt",
        "detections.json",
    ]


def test_crops_stay_in_their_folder_for_any_class_name(tmp_path):
    output = OutputFolder(tmp_path / "out", crops=True, files=[])
    names = ["../../../evil", "/etc/passwd", "a\0b", "ä" * 400]
    found = SimpleNamespace(boxes=np.array([[0, 0, 5, 5]] * len(names)), names=names)
    output._write_crops(Image.new("RGB", (9, 9)), found, "folder/a.png")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == len(names)
    assert all(path.parent == tmp_path / "out/crops/folder/a.png" for path in written)
