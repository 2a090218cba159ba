"""Data sets are written as shards and read from them."""

import io
import logging
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from ssd_jax.config.schema import Config, DataConfig
from ssd_jax.data.choice import choose_sources
from ssd_jax.data.convert import convert_data, training_source
from ssd_jax.data.formats.tf_example import parse_example, read_records
from ssd_jax.data.image_bytes import span_reader
from ssd_jax.data.sources import open_dataset, resolve
from ssd_jax.data.training_batches import training_batches
from ssd_jax.data.writers import shards
from ssd_jax.data.writers.tf_example import example, write_record
from ssd_jax.diagnostics.check_data import check_data
from ssd_jax.errors import UserError
from ssd_jax.storage.locks import locked
from tests.helpers.pictures import files_of, write_coco, write_picture

NUM_IMAGES = 9
OBJECT_KEYS = ("boxes", "labels", "difficult", "crowd", "area")


def write_source(folder):
    """A folder with nine images for training, one of them turned, and two for validation."""
    images = [
        {"id": 10 + i, "file_name": f"vid{i % 2}/ä {i}.jpg", "width": 60 + i, "height": 40}
        for i in range(NUM_IMAGES)
    ]
    objects = [
        {"image_id": 10 + i, "category_id": 3 + 14 * (j % 2), "bbox": [6.25 + j, 4.123, 30, 20.5]}
        for i in range(NUM_IMAGES - 1)
        for j in range(1 + i % 3)
    ]
    objects[0] |= {"iscrowd": 1}
    objects[1] |= {"ignore": 1, "area": 123.456789}
    names = [{"id": 3, "name": "big dog"}, {"id": 17, "name": "Löwe & <cat>"}]
    content = {"images": images, "annotations": objects, "categories": names}
    write_coco(folder / "train", content)
    exif = Image.Exif()
    exif[274] = 3
    file = folder / "train/images/vid1/ä 1.jpg"
    Image.open(file).save(file, exif=exif)
    write_coco(folder / "val", content | {"images": images[:2], "annotations": objects[:3]})
    return str(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    """Shards of about two images each."""
    folder = tmp_path_factory.mktemp("written") / "my-set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", 2_000)
        convert_data(source, "shards", folder)
    return folder


@pytest.fixture
def copy(written, tmp_path):
    return shutil.copytree(written, tmp_path / "copy")


def assert_same(dataset, others):
    assert len(dataset) == len(others) > 0
    for one, other in zip(dataset, others, strict=True):
        assert (one.image_id, one.size) == (other.image_id, other.size)
        for key in OBJECT_KEYS:
            np.testing.assert_array_equal(getattr(one, key), getattr(other, key), strict=True)
        with open(one.path, "rb") as file:
            assert file.read() == other.encoded


@pytest.mark.parametrize("role, split", [("train", "train"), ("eval", "val"), ("all", "train+val")])
def test_the_records_equal_those_of_the_folder(source, written, role, split):
    expected = open_dataset(source, role=role)
    for spec in (str(written), f"tfds:{written}", f"tfds:{written}:{split}"):
        read = open_dataset(spec, role=role)
        assert_same(expected, read)
        assert read.class_names == ("big dog", "Löwe & <cat>")
        assert read.category_ids == expected.category_ids == (3, 17)
    (named,) = resolve(f"tfds:{written}", role)
    assert named.split == split and len(named.sources) == 1 + (role == "all")


def test_tfds_reads_the_same(source, written):
    builder = tfds.builder_from_directory(written)
    assert builder.info.features["objects"]["label"].names == ["big dog", "Löwe & <cat>"]
    assert len(builder.info.splits["train"].shard_lengths) > 2
    decoders = {"image": tfds.decode.SkipDecoding()}
    examples = tfds.as_numpy(builder.as_dataset(split="train", decoders=decoders))
    for record, read in zip(open_dataset(source, role="train"), examples, strict=True):
        objects = read["objects"]
        assert read["image/id"].decode() == record.image_id
        assert read["image/filename"].decode() == record.name
        np.testing.assert_array_equal(objects["bbox"][:, [1, 0, 3, 2]], record.boxes)
        np.testing.assert_array_equal(objects["label"] + 1, record.labels)
        np.testing.assert_array_equal(objects["is_difficult"], record.difficult)
        np.testing.assert_array_equal(objects["is_crowd"], record.crowd)
        np.testing.assert_array_equal(objects["area"], record.area.astype(np.float32))
        with open(record.path, "rb") as file:
            assert file.read() == read["image"]
    assert next(iter(tfds.as_numpy(builder.as_dataset(split="val"))))["image"].shape == (40, 60, 3)


def test_shards_without_index_are_read_as_a_set_of_tfds(source, copy):
    shutil.rmtree(copy / "index")
    read = open_dataset(f"tfds:{copy}:train")
    for record, other in zip(open_dataset(source, role="train"), read, strict=True):
        assert record.image_id == other.image_id
        np.testing.assert_array_equal(record.boxes, other.boxes)
        np.testing.assert_array_equal(record.labels, other.labels)
    with pytest.raises(UserError, match="there is no split 'test', but"):
        open_dataset(f"tfds:{copy}:test")


@pytest.mark.parametrize("split", ["train[:50%]", "train[2:-1]", "train[1shard:]"])
def test_slices_equal_those_of_tfds(written, split):
    ids = [record.image_id for record in open_dataset(f"tfds:{written}:{split}")]
    examples = tfds.as_numpy(tfds.builder_from_directory(written).as_dataset(split=split))
    assert ids == [each["image/id"].decode() for each in examples] and 0 < len(ids) < NUM_IMAGES


def test_classes_are_chosen_and_misspelt_ones_refused(written):
    (dog,) = {record.labels.max() for record in open_dataset(f"tfds:{written}:val", ("big dog",))}
    assert dog == 1
    with pytest.raises(UserError, match="the nearest is 'big dogs'"):
        open_dataset(f"tfds:{written}:val", ("big dogs",))


def test_the_evaluation_data_is_the_other_split(written):
    for spec in (str(written), f"tfds:{written}", f"tfds:{written}:train"):
        assert choose_sources(DataConfig(train=spec)).evaluation == [f"tfds:{written}:val"]
    both = choose_sources(DataConfig(train=f"tfds:{written}:train+val"))
    assert both.train == [f"tfds:{written}:train", f"tfds:{written}:val"]
    assert both.evaluation is None


def test_training_batches_equal_those_of_the_folder_also_after_a_stop(source, written):
    config = Config().replace({"model.image_size": 16, "data.max_objects": 4})

    def batches(spec, first_step, count):
        dataset = open_dataset(spec, role="train")
        made = training_batches(config, dataset, 4, first_step=first_step, process_count=2)
        return [{key: next_batch[key] for key in next_batch if key != "file"}
                for next_batch in (next(made) for _ in range(count))]  # fmt: skip

    expected = batches(source, 0, 3)
    both = zip(expected, [*batches(str(written), 0, 1), *batches(str(written), 1, 2)], strict=True)
    for one, other in both:
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_check_data_finds_the_same(source, written):
    kinds = [
        sorted((each.kind, each.image_id) for each in check_data(spec).findings)
        for spec in (source, str(written))
    ]
    assert kinds[0] == kinds[1]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 2_000)
    monkeypatch.setattr(shards, "num_cores", lambda: 1)


def test_a_stopped_conversion_continues(source, written, tmp_path, small, monkeypatch, caplog):
    count = 0

    def stopping(*arguments):
        nonlocal count
        count += 1
        if count == 6:
            raise KeyboardInterrupt
        return write_record(*arguments)

    output = tmp_path / "my-set"
    monkeypatch.setattr(shards, "write_record", stopping)
    with pytest.raises(KeyboardInterrupt):
        convert_data(source, "shards", output)
    unfinished = tmp_path / "my-set.tmp"
    assert not output.exists()
    whole = {path: path.stat().st_mtime_ns for path in unfinished.glob("my_set-*")}
    assert 0 < len(whole) < len(list(written.glob("my_set-*")))
    (unfinished / "unfinished/.half.tmp").mkdir()  # as a process leaves it that is killed outright
    (unfinished / ".half.tmp").write_bytes(b"half")
    # One of those that count has lost its columns: it is written again.
    *kept, again = sorted(whole)
    shutil.rmtree(unfinished / "unfinished" / again.name)
    again.write_bytes(b"half")

    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    caplog.set_level("INFO", logger="ssd_jax")
    converted = convert_data(source, "shards", output)
    assert dict(converted.images) == {"train": NUM_IMAGES, "val": 2}
    assert "continues an interrupted conversion: has" in caplog.text and not unfinished.exists()
    assert files_of(output) == files_of(written)
    for path in kept:
        assert (output / path.name).stat().st_mtime_ns == whole[path]


KILLED = """
import os, signal, sys
from ssd_jax.data.convert import convert_data
from ssd_jax.data.writers import shards
write_record, count = shards.write_record, iter(range(9))

def killed(file, content):
    if next(count) == 5:
        file.write(content[:99])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return write_record(file, content)

shards.SHARD_BYTES, shards.num_cores, shards.write_record = 2_000, lambda: 1, killed
convert_data(sys.argv[1], "shards", sys.argv[2])
"""


def test_a_killed_conversion_continues(source, written, tmp_path, small):
    output = tmp_path / "my-set"
    killed = subprocess.run([sys.executable, "-c", KILLED, source, str(output)], check=False)
    assert killed.returncode == -signal.SIGKILL and not output.exists()
    assert list((tmp_path / "my-set.tmp").glob("my_set-train*"))
    convert_data(source, "shards", output)
    assert files_of(output) == files_of(written) and not (tmp_path / "my-set.tmp").exists()


def test_only_a_conversion_of_the_same_data_continues(source, tmp_path, small):
    data = tmp_path / "data"
    shutil.copytree(source, data)
    file = data / "train/images/vid0/ä 8.jpg"
    content, output = file.read_bytes(), tmp_path / "out"
    dataset = open_dataset(str(data / "train"))
    file.unlink()
    with pytest.raises(UserError, match=r"ä 8\.jpg cannot be read: .*the same command continues"):
        shards.write_shards({"train": dataset}, output)
    file.write_bytes(content)
    with pytest.raises(UserError, match="is from an interrupted conversion of other data"):
        convert_data(str(data / "val"), "shards", output)
    with locked(tmp_path / "out.tmp/unfinished", "x"), pytest.raises(UserError, match="in use"):
        shards.write_shards({"train": dataset}, output)
    shards.write_shards({"train": dataset}, output)
    assert_same(dataset, open_dataset(str(output)))
    (tmp_path / "other.tmp").mkdir()
    (tmp_path / "other.tmp/mine").write_text("")
    with pytest.raises(UserError, match="but not from such a conversion: remove it"):
        convert_data(str(data), "shards", tmp_path / "other")


def cut_off(folder):
    path = sorted(folder.glob("my_set-train*"))[1]
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder):
    path = folder / "index/train/boxes.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def lie(folder):
    """Writes an index with correct digests, and classes that do not exist."""
    table = shards.load_table(folder / "index/train")
    columns = table.columns | {"classes": table.columns["classes"] + 1}
    shutil.rmtree(folder / "index/train")
    (folder / "index/train").mkdir()
    shards.save_table(shards.Table(columns, table.details), folder / "index/train")


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (cut_off, r"00001-of-0000\d has [\d,]+ bytes, but had [\d,]+ when it was written"),
        (lambda folder: sorted(folder.glob("my_set-train*"))[0].unlink(), "00000-of.*be read"),
        (flip, "index/train is damaged, or from another version"),
        (lie, "index/train is damaged, or from another version"),
        (lambda folder: (folder / "dataset_info.json").write_text("{}"), "it names no splits"),
        (lambda folder: None, "there is no split 'trian', but train, val"),
    ],
)
def test_damaged_sets_are_rejected(copy, damage, complaint):
    damage(copy)
    split = "trian" if "trian" in complaint else "train"
    with pytest.raises(UserError, match=complaint):
        open_dataset(f"tfds:{copy}:{split}")


def test_an_undivided_set_is_converted_and_trained_on(tmp_path):
    write_picture(tmp_path / "data/a.jpg")
    (tmp_path / "data/labels.csv").write_text(
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,60,40,dog,6,4,30,20\n"
    )
    converted = convert_data(str(tmp_path / "data"), "shards", tmp_path / "out")
    source = training_source(converted, tmp_path / "out")
    (record,) = open_dataset(source, role="train")
    np.testing.assert_allclose(record.boxes, [[0.1, 0.1, 0.5, 0.5]], rtol=1e-6)
    assert choose_sources(DataConfig(train=source)).evaluation is None  # it is cut


def test_records_of_tfds_are_written(tmp_path):
    convert_data("shapes:test[:3]", "shards", tmp_path / "out")
    for record, other in zip(
        open_dataset("shapes:test[:3]"), open_dataset(str(tmp_path / "out")), strict=True
    ):
        np.testing.assert_array_equal(record.boxes, other.boxes)
        assert record.encoded == other.encoded
        assert other.size == Image.open(io.BytesIO(other.encoded)).size[::-1]


def test_examples_equal_those_of_tensorflow(tmp_path):
    features = {
        "none": np.zeros(0, np.float32),
        "numbers": np.array([0, 127, 128, 2**40]),
        "floats": np.array([0.5, np.nan, -3]),
        "bytes": bytes(range(256)) * 3,
    }
    content = example(features)
    assert content.endswith(features["bytes"])
    message = tf.train.Example.FromString(content)
    assert list(message.features.feature["numbers"].int64_list.value) == [0, 127, 128, 2**40]
    assert message.features.feature["none"].HasField("float_list")
    floats = message.features.feature["floats"].float_list.value
    np.testing.assert_array_equal(floats, features["floats"])
    assert message.features.feature["bytes"].bytes_list.value[:] == [features["bytes"]]
    assert parse_example(content)["numbers"].integers == [0, 127, 128, 2**40]
    with (tmp_path / "a.tfrecord").open("wb") as file:
        ends = [write_record(file, each) for each in (content, b"", b"x")]
    read = list(read_records(tmp_path / "a.tfrecord"))
    assert [record.content for record in read] == [content, b"", b"x"]
    assert [record.offset + len(record.content) for record in read] == ends
    assert all(record.intact for record in read)
    of_tensorflow = tf.data.TFRecordDataset(str(tmp_path / "a.tfrecord")).as_numpy_iterator()
    assert list(of_tensorflow) == [content, b"", b"x"]


def test_parts_of_open_files_are_read(tmp_path):
    read, paths = span_reader(), [tmp_path / f"{i}" for i in range(200)]
    for i, path in enumerate(paths):
        path.write_bytes(b"%5d" % i)
    assert [int(read(str(path), (1, 4))) for path in paths + paths[:3]] == [*range(200), 0, 1, 2]
    with pytest.raises(UserError, match="ends inside an image"):
        read(str(paths[7]), (1, 5))
    with pytest.raises(UserError, match="cannot be read: it is a folder"):
        read(str(tmp_path), (1, 5))


def test_the_image_of_a_record_can_be_opened(written):
    record = open_dataset(f"tfds:{written}:val")[1]
    assert Image.open(io.BytesIO(record.encoded)).size == (61, 40) and record.name == "11"
