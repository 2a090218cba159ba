import contextlib
import gzip
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ssd_jax.config.schema import as_config
from ssd_jax.data.evaluation_batches import evaluation_batches
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.formats.crc32c import crc32c, masked_crc32c
from ssd_jax.data.formats.tf_example import parse_example
from ssd_jax.data.formats.tfrecord import find_tfrecord, parse_label_map
from ssd_jax.data.problems import Problems
from ssd_jax.data.protobuf import MalformedMessageError
from ssd_jax.data.records import Object
from ssd_jax.data.sources import open_dataset, open_part
from ssd_jax.data.training_batches import training_batches
from ssd_jax.diagnostics.check_data import check_data
from ssd_jax.errors import UserError
from tests import tiny
from tests.helpers.pictures import write_picture
from tools.formats.picture import Picture
from tools.formats.tfrecord import example, features_of, framed

NAMES = ("cat", "dog")
CONFIG = as_config(tiny.get_config()).replace({"data.on_error": "skip"})


def picture(folder, name="a.jpg", size=(40, 60), objects=None):
    write_picture(folder / "pictures" / name, size[1], size[0], seed=len(name))
    if objects is None:
        objects = (
            Object("dog", (6, 4, 30, 20), difficult=True),
            Object("cat", (0, 0, 60, 40), crowd=True),
        )
    return Picture(name, (folder / "pictures" / name).read_bytes(), size, tuple(objects))


@pytest.fixture
def pictures(tmp_path):
    return [
        picture(tmp_path),
        picture(tmp_path, "my b.png", (50, 80), [Object("cat", (8, 5, 40, 25))]),
        picture(tmp_path, "empty.jpg", objects=[]),
    ]


def features(*pictures):
    return [features_of(each, NAMES) for each in pictures]


def write(path, *all_features):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(framed(example(each)) for each in all_features))
    return path


def read(path, problems=None):
    part = open_part(f"tfrecord:{path}", problems or Problems())
    return [part.annotation(index) for index in range(len(part))]


def test_checksums_equal_those_of_tensorflow(tmp_path):
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the standard
    random = np.random.default_rng(0)
    for length in (0, 1, 7, 127, 128, 129, 1000, 4096, 100_001):
        content = random.integers(0, 256, length, np.uint8).tobytes()
        with tf.io.TFRecordWriter(str(tmp_path / "one")) as writer:
            writer.write(content)
        written = (tmp_path / "one").read_bytes()
        assert struct.unpack("<I", written[-4:]) == (masked_crc32c(content),)
        assert written == framed(content)


def test_examples_are_parsed_as_tensorflow_writes_them():
    features = tf.train.Features(
        feature={
            "texts": tf.train.Feature(
                bytes_list=tf.train.BytesList(value=[b"one", b"", b"tw\xc3"])
            ),
            "floats": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5, -2, 1e30])),
            "integers": tf.train.Feature(int64_list=tf.train.Int64List(value=[0, -1, 2**62, 300])),
            "empty": tf.train.Feature(int64_list=tf.train.Int64List(value=[])),
            "nothing": tf.train.Feature(),
        }
    )
    content = tf.train.Example(features=features).SerializeToString()
    parsed = parse_example(content)
    assert [content[slice(*span)] for span in parsed["texts"].spans] == [b"one", b"", b"tw\xc3"]
    np.testing.assert_allclose(parsed["floats"].floats, [0.5, -2, 1e30], rtol=1e-6)
    assert parsed["integers"].integers == [0, -1, 2**62, 300]
    assert parsed["empty"] == parsed["nothing"] == ([], [], [])


def test_values_that_are_not_packed_are_read():
    # Feature { float_list { value: 0.5 } } and { int64_list { value: 5 value: 6 } }, tag by tag.
    floats = b"\x12\x05\x0d" + struct.pack("<f", 0.5)
    integers = b"\x1a\x04\x08\x05\x08\x06"
    entries = b"".join(
        b"\x0a" + bytes([len(entry)]) + entry
        for entry in (
            b"\x0a\x01f\x12" + bytes([len(floats)]) + floats,
            b"\x0a\x01i\x12" + bytes([len(integers)]) + integers,
        )
    )
    parsed = parse_example(b"\x0a" + bytes([len(entries)]) + entries)
    assert (parsed["f"].floats, parsed["i"].integers) == ([0.5], [5, 6])


def test_any_byte_changed_is_found(pictures, tmp_path):
    """The checksum detects changes also if the record can still be parsed."""
    path = write(tmp_path / "train.record", *features(pictures[0]))
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for place in [*range(14), *random.integers(14, len(whole), 60).tolist()]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"train\.record"):
            read(path)


def test_any_bytes_are_parsed_or_refused():
    random = np.random.default_rng(0)
    content = example({"image/object/bbox/xmin": [0.5], "texts": [b"dog"], "integers": [7]})
    for _ in range(2000):
        changed = bytearray(content)
        for _ in range(random.integers(1, 4)):
            changed[random.integers(len(changed))] = random.integers(256)
        with contextlib.suppress(MalformedMessageError):
            parse_example(bytes(changed[: random.integers(len(changed) + 1)]))


def test_records_become_annotations(pictures, tmp_path):
    path = write(tmp_path / "train.record", *features(*pictures))
    first, second, empty = read(path)
    assert (first.image_id, first.size, first.names) == ("a", (40, 60), ("dog", "cat"))
    np.testing.assert_allclose(first.boxes, [[0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1]], rtol=1e-6)
    assert (first.difficult.tolist(), first.crowd.tolist()) == ([True, False], [False, True])
    assert first.encoded == pictures[0].encoded and first.path == ""
    assert (second.image_id, second.file) == ("my b", f"{path}: my b.png")
    assert (len(empty.boxes), empty.encoded) == (0, pictures[2].encoded)


def test_training_and_evaluation_read_the_images_inside(pictures, tmp_path):
    path = write(tmp_path / "train.record", *features(*pictures))
    dataset = open_dataset(f"tfrecord:{path}")
    (batch,) = evaluation_batches(dataset, image_size=32, batch_size=3)
    assert [each.decode() for each in batch["image_id"]] == ["a", "my b", "empty"]
    assert batch["size"].tolist() == [[40, 60], [50, 80], [40, 60]]
    assert batch["mask"].all()
    files = open_dataset(as_csv(tmp_path, pictures))
    (expected,) = evaluation_batches(files, image_size=32, batch_size=3)
    np.testing.assert_array_equal(batch["image"], expected["image"])
    np.testing.assert_allclose(batch["boxes"], expected["boxes"], atol=1e-6)
    trained, other = (next(training_batches(CONFIG, each, 3)) for each in (dataset, files))
    np.testing.assert_array_equal(trained["image"], other["image"])
    np.testing.assert_array_equal(trained["labels"], other["labels"])


def as_csv(folder, pictures):
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax,iscrowd"]
    for each in pictures:
        size = f"{each.name},{each.size[1]},{each.size[0]}"
        rows += [
            f"{size},{o.name},{','.join(map(str, o.box))},{int(o.crowd)}" for o in each.objects
        ]
        rows += [] if each.objects else [f"{size},,,,,,"]
    (folder / "rows.csv").write_text("\n".join(rows))
    return f"csv:{folder / 'rows.csv'}:{folder / 'pictures'}"


def test_a_damaged_image_is_reported_by_name(pictures, tmp_path):
    damaged = features_of(pictures[1], NAMES) | {"image/encoded": [b"no image"]}
    cut = features_of(pictures[0], NAMES) | {"image/encoded": [pictures[0].encoded[:-200]]}
    path = write(tmp_path / "train.record", damaged)
    with pytest.raises(UserError, match=r"train\.record: my b\.png: the image cannot be read"):
        open_dataset(f"tfrecord:{path}")
    path = write(path, cut, *features(*pictures[1:]))
    with pytest.raises(UserError, match=r"^a: the image cannot be read"):
        next(evaluation_batches(open_dataset(f"tfrecord:{path}"), image_size=32, batch_size=3))
    with pytest.raises(UserError, match=r"^a: the image cannot be read"):
        next(training_batches(CONFIG, open_dataset(f"tfrecord:{path}"), 3))
    problems = Problems("skip", 1.0)
    dataset = open_dataset(f"tfrecord:{path}", problems=problems)
    batch = next(training_batches(CONFIG, dataset, 3))
    assert batch["mask"].sum() == 2
    assert [(found.file, found.image_id) for found in problems.found] == [("a", "a")]


def test_a_wrong_size_names_the_image(pictures, tmp_path):
    path = write(tmp_path / "x.record", features_of(pictures[0], NAMES) | {"image/width": [61]})
    with pytest.raises(UserError, match=r"x\.record: a\.jpg: states 61 × 40, but the image has 60"):
        open_dataset(f"tfrecord:{path}")


def test_a_record_that_ends_early_or_is_compressed_is_refused(pictures, tmp_path):
    path = write(tmp_path / "train.tfrecord", *features(*pictures))
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    with pytest.raises(UserError, match="ends inside a record"):
        read(path)
    for name, compressed in (("GZIP", gzip.compress(content)), ("ZLIB", zlib.compress(content))):
        path.write_bytes(compressed)
        with pytest.raises(UserError, match=f"compressed with {name}.*without compression"):
            open_dataset(str(tmp_path))
    path.write_bytes(b"no record at all")
    with pytest.raises(UserError, match="not a TFRecord file"):
        open_dataset(str(tmp_path))


def test_a_damaged_record_is_left_out_and_the_next_one_read(pictures, tmp_path):
    parts = [framed(example(each)) for each in features(*pictures)]
    parts[0] = parts[0][:500] + bytes([parts[0][500] ^ 1]) + parts[0][501:]
    (tmp_path / "train.record").write_bytes(b"".join(parts))
    problems = Problems("skip", 1.0)
    assert [each.image_id for each in read(tmp_path / "train.record", problems)] == [
        "my b",
        "empty",
    ]
    assert "record 0 is damaged" in problems.found[0].problems[0].message


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image/object/bbox/xmin": [0.5]}, "1, 2, 2, 2 of xmin"),
        ({"image/object/bbox/xmin": [float("nan"), 0.5]}, "not four numbers"),
        (
            {"image/object/class/text": [b"dog"], "image/object/class/label": [1]},
            "2 boxes, but 1 class text and 1 label",
        ),
        ({"image/encoded": [], "image/filename": [b"none.jpg"]}, "needs one image/encoded"),
        ({"image/object/bbox/xmax": [30.0, 60.0]}, "pixels"),
    ],
)
def test_problems_of_a_record_are_reported(pictures, tmp_path, changes, message):
    path = write(tmp_path / "train.record", features_of(pictures[0], NAMES) | changes)
    with pytest.raises(UserError, match=message):
        open_dataset(f"tfrecord:{path}")


def test_images_next_to_the_file_and_repeated_names(pictures, tmp_path):
    without = features_of(pictures[0], NAMES) | {"image/encoded": []}
    twice = features_of(pictures[1], NAMES) | {"image/filename": [b"a.jpg"]}
    path = write(tmp_path / "train.record", without, twice)
    beside, inside = read(path)
    assert Path(beside.path) == tmp_path / "pictures" / "a.jpg"
    assert (beside.image_id, inside.image_id) == ("a", "train.record#1")


LABEL_MAP = """
# classes
item {
  name: "/m/01"  # a label
  id: 1
  display_name: "big {cat}"
}
item { id: 2, name: 'dog' }
item: {id:3 name:"bird's"}
"""


def test_label_maps(tmp_path):
    names = parse_label_map(LABEL_MAP, tmp_path)
    assert names == {1: "big {cat}", 2: "dog", 3: "bird's"}
    with pytest.raises(UserError, match="gives the id 1 to 'a' and 'b'"):
        parse_label_map("item { id: 1 name: 'a' } item { id: 1 name: 'b' }", tmp_path)
    with pytest.raises(UserError, match="no id or no name"):
        parse_label_map("item { id: 1 }", tmp_path)


def test_names_come_from_texts_then_from_the_label_map_then_are_numbers(
    pictures, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    numbers = [each | {"image/object/class/text": []} for each in features(*pictures)]
    path = write(tmp_path / "train" / "objects.tfrecord", *numbers)
    assert open_dataset(f"tfrecord:{path}").class_names == ("1", "2")
    assert "numbers, like 1, are the names of classes" in caplog.text
    (path.parent / "objects_label_map.pbtxt").write_text(
        "item { id: 5 name: 'bird' } item { id: 2 name: 'hound' } item { id: 1 name: 'tabby' }"
    )
    dataset = open_dataset(f"tfrecord:{path}")
    assert (dataset.class_names, dataset.category_ids) == (("hound", "tabby"), (2, 1))
    write(path, *features(*pictures))
    assert open_dataset(f"tfrecord:{path}").class_names == ("cat", "dog")


def test_shards_and_splits_are_found(pictures, tmp_path):
    for number, each in enumerate(features(*pictures)):
        write(tmp_path / "sets" / f"coco_train.record-{number:05}-of-00003", each)
    write(tmp_path / "sets" / "coco_val.record-00000-of-00001", *features(pictures[0]))
    splits = find_tfrecord(FileTree(tmp_path))
    pattern = tmp_path / "sets" / "coco_train.record-?????-of-00003"
    assert splits["train"] == [f"tfrecord:{pattern}"]
    assert len(open_dataset(str(tmp_path), role="train")) == 3
    assert len(open_dataset(str(tmp_path), role="eval")) == 1
    alone = tmp_path / "sets" / "coco_train.record-00001-of-00003"
    assert [record.image_id for record in open_dataset(str(alone))] == ["my b"]
    (tmp_path / "sets" / "coco_train.record-00001-of-00003").unlink()
    with pytest.raises(UserError, match="only 2 of 3 files exist"):
        open_dataset(str(tmp_path), role="train")


def test_an_export_of_roboflow_has_the_splits_of_its_folders(pictures, tmp_path):
    for split in ("train", "valid", "test"):
        write(tmp_path / split / "test-tubes.tfrecord", *features(*pictures))
    assert set(find_tfrecord(FileTree(tmp_path))) == {"train", "valid", "test"}


def test_other_records_are_not_claimed(pictures, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    write(tmp_path / "imagenet" / "train.tfrecord", {"image/encoded": [b"x"], "image/class": [1]})
    write(tmp_path / "voc" / "voc-train.tfrecord-00000-of-00001", *features(pictures[0]))
    (tmp_path / "voc" / "features.json").write_text("{}")
    assert find_tfrecord(FileTree(tmp_path)) == {}
    assert "read it as tfds:NAME:SPLIT" in caplog.text
    with pytest.raises(UserError, match="read it as tfds:NAME:SPLIT"):
        open_dataset(f"tfrecord:{tmp_path / 'voc'}")


def test_check_data_names_the_images_inside(pictures, tmp_path):
    cut = features_of(pictures[0], NAMES) | {"image/encoded": [pictures[0].encoded[:-200]]}
    again = features_of(pictures[1], NAMES) | {"image/filename": [b"copy.png"]}
    path = write(tmp_path / "train.record", cut, *features(pictures[1]), again)
    report = check_data(f"tfrecord:{path}")
    found = {finding.kind: finding for finding in report.problems()}
    assert set(found) >= {"image unreadable", "same content"}
    assert found["image unreadable"].file == f"{path}: a.jpg"
    assert found["same content"].file == f"{path}: copy.png"
    assert "my b.png" in found["same content"].message


def test_two_versions_of_records_are_refused(tmp_path, pictures):
    for name in ("train.record", "train_old.record"):
        write(tmp_path / "set" / name, *features(pictures[0]))
    with pytest.raises(UserError, match=r"described twice, by .*train\.record: a\.jpg and by"):
        open_dataset(str(tmp_path / "set"), role="train")
