"""Results as arrays, and back."""

import numpy as np
import pytest

from ssd_jax.evaluation.results import ImageResult, pack_results, unpack_results


def make_result(name: str, objects: int, detections: int) -> ImageResult:
    random = np.random.default_rng(objects + 10 * detections)
    return ImageResult(
        image_id=name,
        size=(300 + objects, 400),
        true_boxes=random.random((objects, 4)),
        true_labels=random.integers(1, 5, objects).astype(np.int32),
        difficult=random.random(objects) < 0.5,
        crowd=random.random(objects) < 0.5,
        area=random.random(objects),
        boxes=random.random((detections, 4)),
        scores=random.random(detections).astype(np.float32),
        labels=random.integers(1, 5, detections).astype(np.int32),
    )


@pytest.mark.parametrize("counts", [[], [(0, 0)], [(2, 3), (0, 0), (1, 0), (0, 4)]])
def test_results_are_packed_and_unpacked_alike(counts):
    results = [make_result(f"ä\udc80\n{i}", *each) for i, each in enumerate(counts)]
    packed = pack_results(results)
    assert all(array.dtype != object for array in packed.values())
    unpacked = unpack_results(packed)
    assert len(unpacked) == len(results)
    for got, expected in zip(unpacked, results, strict=True):
        assert (got.image_id, got.size) == (expected.image_id, expected.size)
        for name in ImageResult._fields[2:]:
            mine, theirs = getattr(got, name), getattr(expected, name)
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype and mine.shape == theirs.shape, name
