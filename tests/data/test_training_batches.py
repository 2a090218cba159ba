import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ssd_jax.config.schema import as_config
from ssd_jax.data.convert import convert_data
from ssd_jax.data.evaluation_batches import evaluation_batches
from ssd_jax.data.sources import open_dataset
from ssd_jax.data.training_batches import training_batches
from tests import tiny
from tests.helpers.pictures import VocFolder, write_coco, write_ten

CONFIG = as_config(tiny.get_config()).replace(
    {
        "model.image_size": 48,
        "data.max_objects": 3,
        "augment.expand_probability": 0.5,
        "augment.expand_max_ratio": 4.0,
        "augment.crop": True,
        "seed": 5,
    }
)
PLAIN = CONFIG.replace({"augment.expand_probability": 0.0, "augment.crop": False})
BATCH = 4


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_dataset(write_ten(tmp_path_factory.mktemp("voc")))


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key], err_msg=key)


def test_the_form_of_a_batch(source):
    (batch,) = take(training_batches(CONFIG, source, BATCH), 1)
    forms = {key: (value.shape, value.dtype.kind) for key, value in batch.items()}
    assert forms == {
        "image": ((4, 48, 48, 3), "u"),
        "window": ((4, 4), "f"),
        "boxes": ((4, 3, 4), "f"),
        "labels": ((4, 3), "i"),
        "difficult": ((4, 3), "b"),
        "image_id": ((4,), "O"),
        "size": ((4, 2), "i"),
        "dropped": ((4,), "i"),
        "mask": ((4,), "b"),
        "broken": ((4,), "b"),
        "file": ((4,), "O"),
    }


def test_augmented_boxes_are_inside_the_window(source):
    for batch in take(training_batches(CONFIG, source, BATCH), 20):
        for i in range(4):
            boxes = batch["boxes"][i][batch["labels"][i] > 0]
            window = batch["window"][i]
            assert (boxes[:, 2:] > boxes[:, :2]).all()
            assert (boxes[:, :2] >= window[:2] - 1e-5).all()
            assert (boxes[:, 2:] <= window[2:] + 1e-5).all()
            assert not batch["boxes"][i][batch["labels"][i] == 0].any()


def test_training_uses_difficult_objects_but_no_crowds(tmp_path):
    objects = [("dog", 6, 4, 30, 20)]
    voc = VocFolder(tmp_path / "voc")
    voc.add("hard", objects, extra="<difficult>1</difficult>")
    (batch,) = take(training_batches(PLAIN, open_dataset(voc.split("all", "hard")), BATCH), 1)
    assert (batch["labels"][:, 0] == 1).all() and batch["difficult"][:, 0].all()

    annotation = {"image_id": 1, "category_id": 5, "bbox": [6, 4, 24, 16], "area": 123.25}
    crowd = {"image_id": 1, "category_id": 5, "bbox": [0, 0, 60, 40], "iscrowd": 1}
    spec = write_coco(
        tmp_path / "coco",
        {
            "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}],
            "categories": [{"id": 5, "name": "dog"}],
            "annotations": [annotation | {"id": 1}, crowd | {"id": 2}],
        },
    )
    (batch,) = take(training_batches(PLAIN, open_dataset(spec), BATCH), 1)
    np.testing.assert_array_equal(batch["labels"], [[1, 0, 0]] * 4)
    (batch,) = evaluation_batches(open_dataset(spec), image_size=32, batch_size=1)
    np.testing.assert_array_equal(batch["crowd"], [[False, True]])
    np.testing.assert_array_equal(batch["area"], [[123.25, np.nan]])


def test_without_augmentation_boxes_equal_those_of_the_file(source):
    for batch in take(training_batches(PLAIN, source, BATCH), 3):
        for i in np.flatnonzero(np.char.startswith(batch["image_id"].astype(str), "picture")):
            height = batch["size"][i][0]
            expected = [
                [0.1, 4 / height, 0.5, 20 / height],
                [0.2, 8 / height, 0.9, 36 / height],
            ]
            np.testing.assert_allclose(batch["boxes"][i][:2], expected, atol=1e-5)
            np.testing.assert_array_equal(batch["labels"][i], [2, 1, 0])
            np.testing.assert_array_equal(batch["window"][i], [0, 0, 1, 1])


def test_the_largest_objects_are_kept_and_the_others_counted(source):
    batches = take(training_batches(PLAIN, source, BATCH), 5)
    crowded = [
        (batch["boxes"][i], batch["dropped"][i])
        for batch in batches
        for i in np.flatnonzero(batch["image_id"] == b"crowded")
    ]
    for boxes, dropped in crowded:
        np.testing.assert_allclose(boxes[:, 2] * 60, [15, 17, 19], atol=1e-3)
        assert dropped == 2
    assert len(crowded) == 2  # two epochs
    assert sum(batch["dropped"].sum() for batch in batches) == 4


def test_the_same_seed_gives_the_same_batches(source):
    one = take(training_batches(CONFIG, source, BATCH), 6)
    assert_same(one, take(training_batches(CONFIG, source, BATCH), 6))
    other = take(training_batches(CONFIG.replace({"seed": 6}), source, BATCH), 6)
    assert any((a["image"] != b["image"]).any() for a, b in zip(one, other, strict=True))


def test_a_resumed_run_gets_the_batches_it_missed(source):
    unbroken = take(training_batches(CONFIG, source, BATCH), 9)
    assert_same(unbroken[7:], take(training_batches(CONFIG, source, BATCH, first_step=7), 2))


def test_the_batch_of_step_137_is_the_same_after_resuming(source):
    config = CONFIG.replace({"model.image_size": 8})
    unbroken = next(itertools.islice(training_batches(config, source, BATCH), 137, None))
    assert_same([unbroken], take(training_batches(config, source, BATCH, first_step=137), 1))


def test_plain_steps_show_whole_images(source):
    ends = {"steps": 6, "augment.plain_start": 0.2, "augment.plain_end": 0.3}
    config = CONFIG.replace({"model.image_size": 8} | ends)
    batches = take(training_batches(config, source, BATCH), 6)
    is_whole = [bool((batch["window"] == [0, 0, 1, 1]).all()) for batch in batches]
    assert is_whole == [True, False, False, False, True, True]
    assert_same(batches[3:], take(training_batches(config, source, BATCH, first_step=3), 3))


@pytest.mark.parametrize("process_count", [1, 2])
def test_processes_together_use_every_image_once_an_epoch(source, process_count):
    # 10 pictures; each process has 5 or 10 of them, a batch of 5 is half or all of its share.
    config = PLAIN.replace({"model.image_size": 8})
    steps = 2 // process_count
    orders = set()
    seen = [
        training_batches(config, source, 5, process_index=index, process_count=process_count)
        for index in range(process_count)
    ]
    for _epoch in range(3):
        ids = [
            image_id for batches in seen for b in take(batches, steps) for image_id in b["image_id"]
        ]
        assert len(ids) == len(set(ids)) == 10
        orders.add(tuple(ids))
    assert len(orders) == 3


def test_processes_augment_differently(source):
    windows = [
        take(training_batches(CONFIG, source, BATCH, process_index=index, process_count=2), 2)
        for index in range(2)
    ]
    drawn = {batch["window"].tobytes() for batches in windows for batch in batches}
    assert len(drawn) == 4


def test_cached_pictures_are_read_once(tmp_path):
    voc = VocFolder(tmp_path / "voc")
    names = [f"picture{i}" for i in range(6)]
    for name in names:
        voc.add(name, [("dog", 6, 4, 30, 20)])
    spec = voc.split("all", *names)
    uncached = take(training_batches(CONFIG, open_dataset(spec), BATCH), 6)
    batches = training_batches(CONFIG.replace({"data.cache": True}), open_dataset(spec), BATCH)
    first = take(batches, 3)  # two epochs: no image is being read any more
    for file in (voc.root / "JPEGImages").iterdir():
        file.unlink()
    assert_same(uncached, first + take(batches, 3))  # four epochs


ENDING = """
import sys
from ssd_jax.config.schema import Config
from ssd_jax.data.sources import open_dataset
from ssd_jax.data.training_batches import training_batches
batches = training_batches(Config(), open_dataset(sys.argv[1]), 8)
next(batches)
"""


@pytest.mark.slow
def test_a_program_ends_while_images_of_shards_are_read(tmp_path):
    convert_data(write_ten(tmp_path / "voc"), "shards", tmp_path / "shards")
    # Without an end of the batches, most runs waited forever.
    run = [sys.executable, "-c", ENDING, str(tmp_path / "shards")]
    subprocess.run(run, check=True, timeout=300)


def test_cached_pictures_of_shards_are_read_once(tmp_path):
    voc = VocFolder(tmp_path / "voc")
    names = [f"picture{i}" for i in range(6)]
    for name in names:
        voc.add(name, [("dog", 6, 4, 30, 20)])
    convert_data(voc.split("all", *names), "shards", tmp_path / "shards")
    dataset = open_dataset(str(tmp_path / "shards"))
    uncached = take(training_batches(CONFIG, dataset, BATCH), 6)
    batches = training_batches(CONFIG.replace({"data.cache": True}), dataset, BATCH)
    first = take(batches, 4)  # more than an epoch, and what is read ahead
    (shard,) = (tmp_path / "shards").glob("*.tfrecord*")
    os.truncate(shard, 0)
    assert_same(uncached, first + take(batches, 2))


def test_pictures_are_upright_in_training_and_evaluation(tmp_path):
    voc = VocFolder(tmp_path / "voc")
    voc.add("as_it_is", [("dog", 6, 4, 30, 20)], size=(60, 40))
    voc.add("turned", [("dog", 6, 4, 30, 20)], size=(60, 40))
    folder = tmp_path / "voc" / "JPEGImages"
    with Image.open(folder / "as_it_is.jpg") as image:
        image.save(folder / "as_it_is.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=exif)
    for name in ("as_it_is.jpg", "turned.jpg"):
        (folder / name).unlink()
    two = open_dataset(voc.split("all", "as_it_is", "turned"))
    batches = take(evaluation_batches(two, image_size=48, batch_size=2), 1)
    for batch in batches + take(training_batches(PLAIN, two, 2), 2):
        assert batch["size"].tolist() == [[40, 60]] * 2
        # Training resizes in one of several ways.
        first, second = batch["image"].astype(int)
        assert np.abs(first - second).mean() < 3 and first.std() > 30
        np.testing.assert_array_equal(batch["boxes"][0], batch["boxes"][1])
