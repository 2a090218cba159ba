"""Images for calibration are those of the data set, evenly picked."""

import numpy as np
import pytest

from ssd_jax.data.evaluation_batches import evaluation_batches
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from ssd_jax.interop import calibration
from ssd_jax.interop.calibration import calibration_images
from tests.helpers.pictures import write_ten


def test_all_images_of_a_small_set_come_once_as_evaluation_reads_them(tmp_path):
    source = write_ten(tmp_path)
    batches = list(calibration_images(source, 32))
    assert [batch.shape for batch in batches] == [(8, 32, 32, 3), (2, 32, 32, 3)]
    whole = next(evaluation_batches(open_dataset(source), image_size=32, batch_size=10))
    np.testing.assert_array_equal(np.concatenate(batches), whole["image"])


def test_images_of_a_large_set_are_spread_over_all_of_its_parts(tmp_path, monkeypatch):
    source = ",".join(write_ten(tmp_path / name) for name in ("a", "b"))
    monkeypatch.setattr(calibration, "MOST_IMAGES", 6)
    (images,) = calibration_images(source, 32)
    whole = next(evaluation_batches(open_dataset(source), image_size=32, batch_size=20))
    # Every 20/6-th image, rounded down.
    np.testing.assert_array_equal(images, whole["image"][[0, 3, 6, 10, 13, 16]])


def test_a_missing_set_is_reported_at_once(tmp_path):
    with pytest.raises(UserError, match="nothing"):
        calibration_images(str(tmp_path / "nothing"), 32)
