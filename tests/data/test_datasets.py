"""Records by index: of folders in columns, and of TFDS in shards."""

import dataclasses
import itertools
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ssd_jax.data import columns
from ssd_jax.data.columns import Strings
from ssd_jax.data.formats import shapes_builder
from ssd_jax.data.formats.shards import record_offsets
from ssd_jax.data.formats.tfds_records import TfdsRecords
from ssd_jax.data.sources import open_dataset
from ssd_jax.data.training_order import training_order
from ssd_jax.errors import UserError
from ssd_jax.storage.files import real_paths
from tests.helpers.pictures import VocFolder, write_coco


def test_strings_in_one_string():
    strings = Strings.of(["one", "", "zwölf", "\udcff"])  # the last one is no UTF-8 on disk
    assert list(strings) == ["one", "", "zwölf", "\udcff"] and len(strings) == 4
    assert list(strings.chosen(np.array([True, False, True, False]))) == ["one", "zwölf"]
    assert list(strings[1:3]) == ["", "zwölf"]


def test_some_strings_are_packed_without_the_bytes_of_the_others(monkeypatch):
    strings = Strings.of(["one", "", "zwölf", "\udcff", "two"])
    assert strings.packed() is strings
    for at_once in (1, 2, 100):
        monkeypatch.setattr(columns, "STRINGS_AT_ONCE", at_once)
        for some in (
            strings[1:4],
            strings[::2],
            strings[:0],
            Strings.repeated(["a", "bc"], [2, 1]),
        ):
            packed = some.packed()
            assert list(packed) == list(some) and packed.content == b"".join(map(os.fsencode, some))
            assert packed.packed() is packed
    assert strings[1:4].packed().ends.tolist() == [0, 6, 7]


def test_ends_of_strings_after_a_letter():
    strings = Strings.of(["/a/b.jpg", "c.jpg", "d/", "", "/"])
    assert list(strings.after_last(b"/")) == ["b.jpg", "c.jpg", "", "", ""]
    assert list(strings[1:2].after_last(b"/")) == ["c.jpg"]
    assert list(Strings.repeated(["/x/y", "z"], [2, 1]).after_last(b"/")) == ["y", "y", "z"]


def test_paths_of_one_file_are_one_real_path(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "a" / name).touch()
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "a/3.jpg").symlink_to(tmp_path / "b/1.jpg")
    monkeypatch.chdir(tmp_path / "a")
    real = os.path.realpath(tmp_path / "a")
    same = ["1.jpg", f"{tmp_path}/b/1.jpg", "3.jpg", "../b/3.jpg"]
    assert list(real_paths([*same, "2.jpg", "../no/4.jpg", "/5.jpg"])) == [
        *[f"{real}/1.jpg"] * 4,
        f"{real}/2.jpg",
        f"{os.path.dirname(real)}/no/4.jpg",
        "/5.jpg",
    ]


@pytest.fixture
def dataset(tmp_path):
    """Four images of a folder, and two of COCO."""
    voc = VocFolder(tmp_path / "voc")
    voc.add("none", [])
    voc.add("two", [("dog", 6, 4, 30, 20), ("cat", 30, 20, 90, 40)], size=(60, 40))
    voc.add("flat", [("dog", 6, 4, 6, 20), ("cat", 6, 4, 30, 20)])
    voc.add("hard", [("cat", 6, 4, 30, 20)], extra="<difficult>1</difficult>", size_tag=False)
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 60, "height": 40 + i} for i in (1, 2)
        ],
        "categories": [{"id": 8, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"image_id": 2, "category_id": 8, "bbox": [0, 0, 30, 21], "area": 3.5, "iscrowd": 1}
        ],
    }
    folder = voc.split("all", "none", "two", "flat", "hard")
    return open_dataset(f"{folder},{write_coco(tmp_path / 'coco', content)}")


def test_records_have_cleaned_boxes_labels_and_sizes(dataset):
    assert dataset.class_names == ("dog", "cat") and dataset.category_ids == (5, 8)
    assert [record.image_id for record in dataset] == ["none", "two", "flat", "hard", "1", "2"]
    assert dataset[0].boxes.shape == (0, 4) and dataset[-1].image_id == "2"
    two = dataset[1]
    np.testing.assert_allclose(two.boxes, [[0.1, 0.1, 0.5, 0.5], [0.5, 0.5, 1, 1]], rtol=1e-6)
    assert two.boxes.dtype == np.float32 and two.labels.dtype == np.int32
    assert two.labels.tolist() == [1, 2] and two.size == (40, 60)
    assert two.path.endswith("two.jpg") and two.image == two.path and np.isnan(two.area).all()
    assert dataset[2].labels.tolist() == [2] and dataset[2].boxes.shape == (1, 4)
    assert dataset[3].difficult.tolist() == [True] and dataset[3].size == (40, 60)
    last = dataset[5]
    assert last.size == (42, 60) and last.area.tolist() == [3.5] and last.crowd.tolist() == [True]
    for index in (6, -7):
        with pytest.raises(IndexError, match=f"record {index} of 6"):
            dataset[index]


@pytest.mark.parametrize("process_count", [1, 2, 3, 7])
def test_every_record_belongs_to_one_process(dataset, process_count):
    shares = [list(dataset.share(index, process_count)) for index in range(process_count)]
    assert sorted(itertools.chain(*shares)) == list(range(6))
    assert shares[0][:2] == [0, process_count] if process_count < 4 else shares[0][0] == 0


def test_an_epoch_of_several_parts_has_every_record_once(dataset):
    order = list(training_order(dataset, seed=1).take(12).as_numpy_iterator())
    assert sorted(order[:6]) == sorted(order[6:]) == list(range(6)) and order[:6] != order[6:]
    again = training_order(dataset, seed=1, first_position=8).take(4)
    assert list(again.as_numpy_iterator()) == order[8:]


# ---- TFDS


@pytest.fixture(scope="module")
def make_set(tmp_path_factory):
    """Prepares a small set of shapes in a file format of TFDS."""

    def make(file_format):
        class Shapes(shapes_builder.Shapes, skip_registration=True):
            def _generate_examples(self, split):
                return itertools.islice(super()._generate_examples(split), 13)

        folder = tmp_path_factory.mktemp(file_format)
        builder = Shapes(data_dir=folder, file_format=file_format)
        config = tfds.download.DownloadConfig(num_shards=3)
        builder.download_and_prepare(download_config=config)
        return builder

    return make


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
@pytest.mark.parametrize("split", ["train", "test[3:11]", "train[:5]+test"])
def test_records_of_tfds_are_those_that_tfds_reads(make_set, file_format, split):
    builder = make_set(file_format)
    records = TfdsRecords(builder, split, "shapes")
    decoders = {"image": tfds.decode.SkipDecoding()}
    if file_format == "array_record":
        source = builder.as_data_source(split=split, decoders=decoders)
        examples = [source[i] for i in range(len(source))]
    else:
        one_by_one = tfds.ReadConfig(interleave_cycle_length=1)
        source = builder.as_dataset(split=split, decoders=decoders, read_config=one_by_one)
        examples = list(source.as_numpy_iterator())
    assert len(records) == len(examples) == {"train": 13, "test[3:11]": 8}.get(split, 18)
    for i in reversed(range(len(records))):  # in any order
        record, example = records[i], examples[i]
        assert record.encoded == example["image"] and record.path == ""
        assert f"{record.image_id}.jpg" == example["image/filename"].decode()
        np.testing.assert_array_equal(record.boxes[:, [1, 0, 3, 2]], example["objects"]["bbox"])
        np.testing.assert_array_equal(record.labels, np.array(example["objects"]["label"]) + 1)
    annotation = records.annotation(2)
    assert annotation.names == tuple(records.names[i] for i in examples[2]["objects"]["label"])


def test_shares_of_tfds_are_even_ranges(make_set):
    records = TfdsRecords(make_set("tfrecord"), "train", "shapes")
    assert [records.share(i, 3) for i in range(3)] == [range(5), range(5, 9), range(9, 13)]


def test_a_damaged_shard_is_named(make_set):
    builder = make_set("tfrecord")
    instruction = builder.info.splits["test"].file_instructions[0]
    offsets = list(record_offsets(instruction.filename))
    with open(instruction.filename, "r+b") as file:
        file.seek(offsets[0] + 20)
        file.write(b"damage")
    records = TfdsRecords(builder, "test", "tfds:shapes:test")
    with pytest.raises(UserError, match=r"tfds:shapes:test: record 0 cannot be read.*corrupt"):
        records[0]
    assert records[1].labels.size
    with open(instruction.filename, "r+b") as file:
        file.truncate(offsets[-1])
    with pytest.raises(UserError, match=f"has {len(offsets) - 1} records, but the set states"):
        TfdsRecords(builder, "test", "tfds:shapes:test")[1]


def test_a_record_is_frozen(dataset):
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset[0].image_id = "another"
