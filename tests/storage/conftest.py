"""Object stores, and images in them, for the tests of this folder."""

import pytest

from tests.helpers.pictures import write_coco
from tests.helpers.stores import running_stores, upload


@pytest.fixture(scope="package")
def stores():
    """Both stores; see `running_stores`."""
    with running_stores() as environment:
        yield environment


@pytest.fixture(scope="package")
def pictures(stores, tmp_path_factory):
    """A folder with twelve images for training and four for validation, also in both stores.

    There they are in `gs://bucket/pictures` and `s3://bucket/pictures`.
    """
    folder = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 12), ("val", 4)):
        images = [
            {"id": i, "file_name": f"vid{i % 2}/ä {i}.jpg", "width": 60 + i, "height": 40}
            for i in range(count)
        ]
        objects = [
            {"image_id": i, "category_id": 1 + j, "bbox": [6.25 + j, 4.5, 30, 20], "iscrowd": 0}
            for i in range(count)
            for j in range(i % 3)
        ]
        names = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
        content = {"images": images, "annotations": objects, "categories": names}
        write_coco(folder / split, content)
    for scheme in ("gs", "s3"):
        upload(folder, f"{scheme}://bucket/pictures")
    return folder
