import itertools

import numpy as np
import pytest
from PIL import Image

from ssd_jax.data.pipeline import (
    eval_batches,
    num_eval_batches,
    read_objects,
    read_pictures,
    train_batches,
)
from ssd_jax.data.sources import open_source
from tests.helpers.pictures import VocFolder, write_coco

OPTIONS = dict(
    image_size=48,
    batch_size=4,
    max_objects=3,
    expand_probability=0.5,
    expand_max_ratio=4.0,
    crop=True,
    seed=5,
)
PLAIN = OPTIONS | dict(expand_probability=0.0, crop=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    voc = VocFolder(tmp_path_factory.mktemp("voc"))
    voc.add("empty", [])
    voc.add("crowded", [("dog", 1 + i, 1, 11 + 2 * i, 12) for i in range(5)])
    for i in range(8):
        voc.add(f"picture{i}", [("dog", 6, 4, 30, 20), ("cat", 12, 8, 54, 36)], size=(60, 40 + i))
    return open_source(voc.split("all", "empty", "crowded", *[f"picture{i}" for i in range(8)]))


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key], err_msg=key)


def test_the_form_of_a_batch(source):
    (batch,) = take(train_batches(source, **OPTIONS), 1)
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


def test_augmented_boxes_lie_in_the_window(source):
    for batch in take(train_batches(source, **OPTIONS), 20):
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
    (batch,) = take(train_batches(open_source(voc.split("all", "hard")), **PLAIN), 1)
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
    (batch,) = take(train_batches(open_source(spec), **PLAIN), 1)
    np.testing.assert_array_equal(batch["labels"], [[1, 0, 0]] * 4)
    (batch,) = eval_batches(open_source(spec), image_size=32, batch_size=1)
    np.testing.assert_array_equal(batch["crowd"], [[False, True]])
    np.testing.assert_array_equal(batch["area"], [[123.25, np.nan]])


def test_without_augmentation_boxes_are_those_of_the_file(source):
    for batch in take(train_batches(source, **PLAIN), 3):
        for i in np.flatnonzero(np.char.startswith(batch["image_id"].astype(str), "picture")):
            height = batch["size"][i][0]
            expected = [
                [0.1, 4 / height, 0.5, 20 / height],
                [0.2, 8 / height, 0.9, 36 / height],
            ]
            np.testing.assert_allclose(batch["boxes"][i][:2], expected, atol=1e-5)
            np.testing.assert_array_equal(batch["labels"][i], [2, 1, 0])
            np.testing.assert_array_equal(batch["window"][i], [0, 0, 1, 1])


def test_of_too_many_objects_the_largest_stay_and_the_rest_is_counted(source):
    batches = take(train_batches(source, **PLAIN), 5)
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
    one = take(train_batches(source, **OPTIONS), 6)
    assert_same(one, take(train_batches(source, **OPTIONS), 6))
    other = take(train_batches(source, **(OPTIONS | {"seed": 6})), 6)
    assert any((a["image"] != b["image"]).any() for a, b in zip(one, other, strict=True))


def test_a_resumed_run_gets_the_batches_it_missed(source):
    unbroken = take(train_batches(source, **OPTIONS), 9)
    assert_same(unbroken[7:], take(train_batches(source, **OPTIONS, first_step=7), 2))


def test_the_batch_of_step_137_is_the_same_after_resuming(source):
    options = OPTIONS | {"image_size": 8}
    unbroken = next(itertools.islice(train_batches(source, **options), 137, None))
    assert_same([unbroken], take(train_batches(source, **options, first_step=137), 1))


@pytest.mark.parametrize("process_count", [1, 2])
def test_processes_together_see_every_picture_once_an_epoch(source, process_count):
    # 10 pictures; each process has 5 or 10 of them, a batch of 5 is half or all of its share.
    options = PLAIN | {"batch_size": 5, "image_size": 8}
    steps = 2 // process_count
    orders = set()
    seen = [
        train_batches(source, **options, process_index=index, process_count=process_count)
        for index in range(process_count)
    ]
    for _epoch in range(3):
        ids = [
            image_id for batches in seen for b in take(batches, steps) for image_id in b["image_id"]
        ]
        assert len(ids) == len(set(ids)) == 10
        orders.add(tuple(ids))
    assert len(orders) == 3


def test_processes_augment_in_ways_of_their_own(source):
    windows = [
        take(train_batches(source, **OPTIONS, process_index=index, process_count=2), 2)
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
    uncached = take(train_batches(open_source(spec), **OPTIONS), 6)
    batches = train_batches(open_source(spec), **OPTIONS, cache=True)
    first = take(batches, 1)
    for file in (voc.root / "JPEGImages").iterdir():
        file.unlink()
    assert_same(uncached, first + take(batches, 5))  # four epochs


def test_evaluation_sees_every_picture_once(source):
    for process_count in (1, 2, 3):
        seen = []
        lengths = set()
        for index in range(process_count):
            batches = list(
                eval_batches(
                    source,
                    image_size=32,
                    batch_size=4,
                    process_index=index,
                    process_count=process_count,
                )
            )
            lengths.add(len(batches))
            for batch in batches:
                assert batch["image"].shape == (4, 32, 32, 3)
                seen += list(batch["image_id"][batch["mask"]])
        assert lengths == {num_eval_batches(source, 4, process_count)}
        assert len(seen) == len(set(seen)) == 10


def test_evaluation_keeps_all_objects(source):
    batches = list(eval_batches(source, image_size=32, batch_size=4))
    (crowded,) = [
        batch["labels"][i]
        for batch in batches
        for i in np.flatnonzero(batch["image_id"] == b"crowded")
    ]
    assert (crowded > 0).sum() == 5


def test_objects_can_be_read_without_pictures_and_pictures_by_name(source):
    records = {record["image_id"].decode(): record for record in read_objects(source)}
    batches = list(eval_batches(source, image_size=32, batch_size=4))
    seen = 0
    for batch in batches:
        for i in np.flatnonzero(batch["mask"]):
            record = records[batch["image_id"][i].decode()]
            np.testing.assert_array_equal(record["size"], batch["size"][i])
            real = batch["labels"][i] > 0
            np.testing.assert_array_equal(record["boxes"], batch["boxes"][i][real])
            seen += 1
    assert seen == len(records) == 10
    names = sorted(records)[2:4]
    pictures = read_pictures(source, names)
    assert sorted(pictures) == names
    for name, picture in pictures.items():
        assert picture.dtype == np.uint8
        assert picture.shape == (*records[name]["size"], 3)


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
    two = open_source(voc.split("all", "as_it_is", "turned"))
    batches = take(eval_batches(two, image_size=48, batch_size=2), 1)
    for batch in batches + take(train_batches(two, **PLAIN | {"batch_size": 2}), 2):
        assert batch["size"].tolist() == [[40, 60]] * 2
        # Training resizes in one of several ways.
        first, second = batch["image"].astype(int)
        assert np.abs(first - second).mean() < 3 and first.std() > 30
        np.testing.assert_array_equal(batch["boxes"][0], batch["boxes"][1])
