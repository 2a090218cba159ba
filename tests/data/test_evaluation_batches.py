import numpy as np
import pytest

from ssd_jax.data.evaluation_batches import (
    evaluation_batches,
    num_evaluation_batches,
    read_images,
    read_objects,
)
from ssd_jax.data.sources import open_dataset
from tests.helpers.pictures import write_ten


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_dataset(write_ten(tmp_path_factory.mktemp("voc")))


def test_evaluation_sees_every_picture_once(source):
    for process_count in (1, 2, 3):
        seen = []
        lengths = set()
        for index in range(process_count):
            batches = list(
                evaluation_batches(
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
        assert lengths == {num_evaluation_batches(source, 4, process_count)}
        assert len(seen) == len(set(seen)) == 10


def test_evaluation_keeps_all_objects(source):
    batches = list(evaluation_batches(source, image_size=32, batch_size=4))
    (crowded,) = [
        batch["labels"][i]
        for batch in batches
        for i in np.flatnonzero(batch["image_id"] == b"crowded")
    ]
    assert (crowded > 0).sum() == 5


def test_objects_can_be_read_without_pictures_and_pictures_by_name(source):
    records = {record.image_id: (record, size) for record, size in read_objects(source)}
    batches = list(evaluation_batches(source, image_size=32, batch_size=4))
    seen = 0
    for batch in batches:
        for i in np.flatnonzero(batch["mask"]):
            record, size = records[batch["image_id"][i].decode()]
            np.testing.assert_array_equal(size, batch["size"][i])
            real = batch["labels"][i] > 0
            np.testing.assert_array_equal(record.boxes, batch["boxes"][i][real])
            seen += 1
    assert seen == len(records) == 10
    names = sorted(records)[2:4]
    images = read_images(source, names)
    assert sorted(images) == names
    for name, image in images.items():
        assert image.dtype == np.uint8
        assert image.shape == (*records[name][1], 3)
