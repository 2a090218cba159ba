from pathlib import Path

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


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two parts of odd sizes: process 0 takes one more of each."""
    written = [write_ten(tmp_path_factory.mktemp("voc")) for _ in range(2)]
    folders = [Path(spec.split(":")[1]) for spec in written]
    for folder in folders:
        lines = (folder / "ImageSets/Main/all.txt").read_text().splitlines()[:3]
        (folder / "ImageSets/Main/three.txt").write_text("\n".join(lines))
    return open_dataset(",".join(f"voc_xml:{folder}:three" for folder in folders))


def indices_of_a_share(dataset, batch_size, index, count):
    batches = evaluation_batches(
        dataset, image_size=32, batch_size=batch_size, process_index=index, process_count=count
    )
    for batch in batches:
        assert batch["image"].shape == (batch_size, 32, 32, 3)
        yield batch["image_id"][batch["mask"]].tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 4])
@pytest.mark.parametrize("process_count", [1, 2, 3])
@pytest.mark.parametrize("name", ["source", "parts"])
def test_evaluation_uses_every_image_once(name, process_count, batch_size, request):
    dataset = request.getfixturevalue(name)
    shares = [
        list(indices_of_a_share(dataset, batch_size, index, process_count))
        for index in range(process_count)
    ]
    number = num_evaluation_batches(dataset, batch_size, process_count)
    assert {len(share) for share in shares} == {number}
    seen = [image_id for share in shares for batch in share for image_id in batch]
    expected = [dataset[index].image_id.encode() for index in range(len(dataset))]
    assert sorted(seen) == sorted(expected)


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
        assert image.pixels.dtype == np.uint8
        assert image.pixels.shape == (*records[name][1], 3)
        assert image.name == f"{name}.jpg"
