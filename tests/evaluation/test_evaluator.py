import jax.numpy as jnp
import numpy as np

from ssd_jax.detection.postprocess import Detections
from ssd_jax.evaluation.evaluator import run_detector

BOXES = np.array([[48, 240, 195, 371], [8, 12, 352, 498], [1, 1, 500, 375]])


def make_batch(size, real):
    """Two images with the same objects, of which the second may be padding."""
    height, width = size
    return {
        "image": np.zeros((2, 8, 8, 3), np.uint8),
        "boxes": np.stack([BOXES / [width, height, width, height]] * 2).astype(np.float32),
        "labels": np.array([[1, 2, 0]] * 2, np.int32),
        "difficult": np.array([[False, True, False]] * 2),
        "image_id": np.array([b"a", b"b"], object),
        "size": np.array([size] * 2, np.int32),
        "dropped": np.zeros(2, np.int32),
        "mask": np.array([True, real]),
    }


def find(variables, images):
    """Finds in every image one object, which reaches out of it."""
    shape = images.shape[:2]
    return Detections(
        boxes=jnp.broadcast_to(jnp.array([[-0.1, 0.2, 0.5, 1.3], [0, 0, 0, 0]]), (*shape, 2, 4)),
        scores=jnp.broadcast_to(jnp.array([0.9, 0.0]), (*shape, 2)),
        labels=jnp.broadcast_to(jnp.array([2, 0]), (*shape, 2)),
    )


def test_results_are_in_the_pixels_of_the_annotation():
    # Fractions in float32 are not exact, but the pixels are.
    for size in ((375, 500), (333, 500), (500, 375), (487, 501)):
        results, _ = run_detector(find, None, [make_batch(size, True)], 1)
        for result in results:
            np.testing.assert_array_equal(result.true_boxes, BOXES[:2])
            np.testing.assert_array_equal(result.true_labels, [1, 2])
            np.testing.assert_array_equal(result.difficult, [False, True])
            height, width = size
            np.testing.assert_allclose(result.boxes, [[0, 0.2 * height, width / 2, height]], 1e-6)
            assert result.scores.tolist() == [np.float32(0.9)] and result.labels.tolist() == [2]


def test_padding_is_no_image():
    batches = [make_batch((40, 60), True), make_batch((40, 60), False)]
    results, pictures = run_detector(find, None, batches, 2, num_pictures=9)
    assert [result.image_id for result in results] == ["a", "b", "a"]
    assert len(pictures) == 3
