"""Images that cannot be read after training has begun."""

import dataclasses
import io
import json
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ssd_jax.config.schema import DataConfig
from ssd_jax.data import rendering
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.evaluation_batches import evaluation_batches, read_images, read_objects
from ssd_jax.data.problems import Problems
from ssd_jax.data.reading import upright
from ssd_jax.data.sources import open_dataset
from ssd_jax.data.training_batches import training_batches
from ssd_jax.errors import UserError
from ssd_jax.images.opening import MAX_PIXELS, open_image
from ssd_jax.runs.evaluate import evaluate_file
from tests.data.test_training_batches import BATCH, CONFIG, PLAIN, assert_same, take
from tests.helpers.pictures import VocFolder

NAMES = [f"picture{i}" for i in range(8)]
# By the picture that has it.
DAMAGE = {
    "picture1": "missing",
    "picture2": "empty",
    "picture3": "garbage",
    "picture4": "header",
    "picture5": "body",  # the header is whole
    "picture6": "png",
    "picture7": "gif",
}


@pytest.fixture
def voc(tmp_path):
    voc = VocFolder(tmp_path / "voc")
    for i, name in enumerate(NAMES):
        voc.add(name, [("dog", 6, 4, 30, 20), ("cat", 12, 8, 54, 36)], size=(60, 40 + i))
    return voc


def damage(voc, name):
    """Damages an image in a way that depends on its name; returns its file."""
    path = voc.root / f"JPEGImages/{name}.jpg"
    content, kind = path.read_bytes(), DAMAGE[name]
    if kind in ("png", "gif"):
        with Image.open(path) as image:
            image.save(path, kind)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind == "missing":
        path.unlink()
    else:
        damaged = {"empty": b"", "garbage": b"no picture", "header": content[:30]}
        path.write_bytes(damaged.get(kind, content[:-200]))
    return path


def skipping(voc, tmp_path, fraction=0.9):
    problems = Problems("skip", fraction, tmp_path / "data_errors.jsonl")
    return open_dataset(voc.split("all", *NAMES), (), problems)


def listed(tmp_path):
    return [json.loads(line) for line in (tmp_path / "data_errors.jsonl").open()]


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.slow
def test_a_blank_replaces_a_damaged_image_in_training(voc, tmp_path, cache):
    sound = take(training_batches(PLAIN, open_dataset(voc.split("all", *NAMES)), BATCH), 4)
    source = skipping(voc, tmp_path)
    paths = [str(damage(voc, name)) for name in DAMAGE]
    config = PLAIN.replace({"data.cache": cache})
    batches = take(training_batches(config, source, BATCH), 4)  # two epochs
    for batch, other in zip(batches, sound, strict=True):
        np.testing.assert_array_equal(batch["image_id"], other["image_id"])
        broken = batch["image_id"] != b"picture0"
        np.testing.assert_array_equal(batch["broken"], broken)
        for key in set(batch) - {"broken"}:
            np.testing.assert_array_equal(batch[key][~broken], other[key][~broken], err_msg=key)
        for key in ("image", "window", "boxes", "labels", "difficult", "size", "dropped", "mask"):
            assert not batch[key][broken].any(), key
        assert {file.decode() for file in batch["file"][broken]} <= set(paths)
    assert_same(batches[3:], take(training_batches(PLAIN, source, BATCH, first_step=3), 1))
    lines = listed(tmp_path)
    assert sorted(line["file"] for line in lines) == paths
    assert sorted(line["image_id"] for line in lines) == list(DAMAGE)
    assert all("the image cannot be read" in line["problems"][0] for line in lines)


@pytest.mark.parametrize("name", ["picture1", "picture4", "picture5", "picture7"])
def test_a_damaged_training_image_is_named(voc, name):
    source = open_dataset(voc.split("all", *NAMES))
    path = damage(voc, name)
    with pytest.raises(UserError) as error:
        take(training_batches(PLAIN, source, BATCH), 2)
    assert str(path) in str(error.value) and "the image cannot be read" in str(error.value)
    assert "replace the file" in str(error.value)


def test_intact_images_give_the_same_batches_with_and_without_skipping(voc, tmp_path):
    stopping = open_dataset(voc.split("all", *NAMES))
    options = {"process_index": 1, "process_count": 2, "first_step": 3}
    skipped = take(training_batches(CONFIG, skipping(voc, tmp_path), BATCH, **options), 4)
    assert_same(skipped, take(training_batches(CONFIG, stopping, BATCH, **options), 4))
    assert not (tmp_path / "data_errors.jsonl").exists()


def test_too_many_damaged_pictures_stop_the_training(voc, tmp_path):
    source = skipping(voc, tmp_path, fraction=0.0)
    damage(voc, "picture5")
    with pytest.raises(UserError, match=r"1 of 8 images.*data_errors\.jsonl"):
        take(training_batches(PLAIN, source, BATCH), 2)


def test_a_damaged_picture_of_tfds_is_named():
    source = open_dataset("shapes:test[:4]")
    (part,) = source.parts

    class Damaged:
        share, shuffle_buffer = staticmethod(part.share), part.shuffle_buffer

        def __getitem__(self, index):
            return dataclasses.replace(part[index], encoded=b"no picture")

        def __len__(self):
            return len(part)

        def reader(self, remember):
            read = part.reader(remember)
            return lambda index: read(index) | {"image": b"no picture"}

    damaged = Dataset([Damaged()], source.class_names, source.category_ids, source.problems)
    for batches in (
        training_batches(PLAIN, damaged, BATCH),
        evaluation_batches(damaged, image_size=8, batch_size=2),
    ):
        with pytest.raises(UserError, match=r"^test_\d+: the image cannot be read"):
            take(batches, 1)


# ---- evaluation


@pytest.mark.parametrize("name", DAMAGE)
def test_evaluation_names_a_damaged_picture(voc, name):
    source = open_dataset(voc.split("all", *NAMES))
    path = damage(voc, name)
    with pytest.raises(UserError) as error:
        list(evaluation_batches(source, image_size=32, batch_size=3))
    assert str(path) in str(error.value) and "replace the file" in str(error.value)


def test_evaluation_leaves_out_damaged_pictures(voc, tmp_path):
    source = skipping(voc, tmp_path)
    paths = [str(damage(voc, name)) for name in DAMAGE]
    for _ in range(2):
        batches = list(evaluation_batches(source, image_size=32, batch_size=3))
        assert [len(batch["mask"]) for batch in batches] == [3, 3, 3]
        seen = [image_id for batch in batches for image_id in batch["image_id"][batch["mask"]]]
        assert seen == [b"picture0"]
    assert [line["file"] for line in listed(tmp_path)] == paths


def test_objects_and_pictures_of_damaged_files(voc, tmp_path):
    source, tolerant = open_dataset(voc.split("all", *NAMES)), skipping(voc, tmp_path)
    path = damage(voc, "picture1")
    for read in (lambda s: list(read_objects(s)), lambda s: read_images(s, NAMES)):
        with pytest.raises(UserError, match=f"{path}: the image cannot be read"):
            read(source)
        assert len(read(tolerant)) == 7


# ---- training decodes what evaluation decodes


def save(voc, mode, **options):
    """Replaces an image by another, in one of the forms that TensorFlow reads differently."""
    path = voc.root / "JPEGImages/picture5.jpg"
    random = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    random[:5, :5] = 77  # which some make transparent
    Image.fromarray(random).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize(
    "mode, options",
    [
        ("RGB", {"format": "PNG"}),
        ("L", {"format": "PNG"}),
        ("RGBA", {"format": "PNG"}),
        ("LA", {"format": "PNG"}),
        ("P", {"format": "PNG"}),
        ("1", {"format": "PNG"}),
        ("L", {"format": "PNG", "transparency": 77}),
        ("RGB", {"format": "PNG", "transparency": (77, 77, 77)}),
        ("I;16", {"format": "PNG"}),
        ("P", {"format": "GIF"}),
        ("RGB", {"format": "BMP"}),
        ("RGB", {"format": "TIFF"}),
        ("RGBA", {"format": "WEBP", "lossless": True}),
        ("L", {"format": "PPM"}),
        ("L", {"format": "JPEG"}),
        ("CMYK", {"format": "JPEG"}),
    ],
)
def test_training_shows_the_pixels_of_evaluation(voc, mode, options):
    if mode == "I;16":
        deep = np.random.default_rng(0).integers(0, 2**16, (40, 60), dtype=np.uint16)
        path = voc.root / "JPEGImages/picture5.jpg"
        Image.fromarray(deep).save(path, **options)
    else:
        path = save(voc, mode, **options)
    file = tf.data.Dataset.from_tensors(path.read_bytes())
    encoded, size = file.map(upright).get_single_element()
    expected = np.asarray(open_image(path)).astype(int)
    np.testing.assert_array_equal(size, expected.shape[:2])
    # Two libraries decode JPEG, with roundings of their own.
    tolerance = 3 if options["format"] == "JPEG" else 0
    decoded = rendering.decode_whole(encoded).numpy().astype(int)
    np.testing.assert_allclose(decoded, expected, rtol=0, atol=tolerance)


def length_for_tensorflow(content: bytes) -> int:
    files = tf.data.Dataset.from_tensors(content)
    return len(files.map(upright).get_single_element()[0].numpy())


def test_a_png_of_too_many_large_texts_is_not_decoded():
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    whole = file.getvalue()

    def texts(count: int, size: int) -> bytes:
        content = b"zTXta\0\0" + zlib.compress(bytes(size), 0 if size < 10**6 else 9)
        piece = len(content[4:]).to_bytes(4, "big") + content
        return (piece + zlib.crc32(content).to_bytes(4, "big")) * count

    for place in (33, len(whole) - 12):  # before the pixels, and behind them
        large = whole[:place] + texts(700, 1_000_000) + whole[place:]
        assert length_for_tensorflow(large) == 0
        several = whole[:place] + texts(15, 40_000) + whole[place:]
        assert length_for_tensorflow(several) == len(several)
        # Small texts are left out.
        many = whole[:place] + texts(30, 40_000) + whole[place:]
        assert 0 < length_for_tensorflow(many) < 1000


def test_a_jpeg_of_too_many_scans_is_not_decoded_unless_it_is_small():
    def scans(side: int, count: int) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (side, side)).save(file, "JPEG", progressive=True)
        whole = file.getvalue()
        last = whole.rindex(b"\xff\xda")
        return whole[:-2] + whole[last:-2] * count + whole[-2:]

    small, large, few = scans(64, 1000), scans(3000, 1000), scans(3000, 5)
    assert length_for_tensorflow(small) == len(small) and length_for_tensorflow(few) == len(few)
    assert length_for_tensorflow(large) == 0
    # Behind the image they are no scans of it.
    assert length_for_tensorflow(few + b"\xff\xda" * 5000) == len(few) + 10_000


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded(voc, image_format):
    path = save(voc, "RGB", format=image_format)
    content = bytearray(path.read_bytes())
    if image_format == "PNG":
        content[16:24] = (20_000).to_bytes(4, "big") * 2
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    else:
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = (20_000).to_bytes(2, "big") * 2
    path.write_bytes(content)
    assert MAX_PIXELS < 20_000**2
    with pytest.raises(UserError, match=r"picture5\.jpg: .*more than 110,000,000"):
        open_dataset(voc.split("all", "picture5", "picture0"))
    problems = Problems("skip", 0.5)
    source = open_dataset(voc.split("all", "picture5", "picture0"), (), problems)
    (batch,) = take(training_batches(PLAIN, source, 2), 1)
    assert sorted(batch["broken"]) == [False, True]


def test_files_of_detections_are_evaluated_without_left_out_images(voc, tmp_path, capsys):
    spec = voc.split("all", *NAMES)
    path = damage(voc, "picture3")
    detections = tmp_path / "detections"
    detections.mkdir()
    lines = "".join(f"{name} 0.5 6 4 30 20\n" for name in NAMES)
    (detections / "x_dog.txt").write_text(lines)
    with pytest.raises(UserError, match=f"{path}: the image cannot be read"):
        evaluate_file(DataConfig(eval=spec), detections)
    evaluate_file(DataConfig(eval=spec, on_error="skip", max_error_fraction=0.2), detections)
    assert "7 images" in capsys.readouterr().out
