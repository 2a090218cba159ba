"""The split that a file and its folders name."""

import pytest

from ssd_jax.data.image_folders import split_of


@pytest.mark.parametrize(
    "file, split",
    [
        ("train.json", "train"),
        ("annotations/instances_val2017.json", "instances_val2017"),
        ("train/annotations.json", "train"),
        ("train_images/labels.csv", "train_images"),
        ("val2017/", "val2017"),
        ("train/test-tubes.csv", "train"),
        ("test-tubes.csv", "test-tubes"),
        ("my-test-project/labels.csv", "all"),
        ("test/train.csv", "train"),
        ("labels.csv", "all"),
    ],
)
def test_the_nearest_name_without_other_words_is_the_split(file, split):
    assert split_of(file) == split
