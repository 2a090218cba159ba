import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.config.schema import DetectionConfig, as_config
from ssd_jax.detection.postprocess import Detections
from ssd_jax.distributed import devices
from ssd_jax.models.network import Network, build_network
from ssd_jax.models.prediction import make_predict_step
from ssd_jax.runs.evaluator import Stopwatch, run_detector, with_objects
from ssd_jax.training.augmentation import image_keys
from ssd_jax.training.detection_loss import detection_loss, make_evaluation_step
from tests import tiny

BOXES = np.array([[48, 240, 195, 371], [8, 12, 352, 498], [1, 1, 500, 375]])


def make_batch(size, real):
    """Two images with the same objects, of which the second may be padding."""
    height, width = size
    return {
        "image": np.zeros((2, 8, 8, 3), np.uint8),
        "boxes": np.stack([BOXES / [width, height, width, height]] * 2).astype(np.float32),
        "labels": np.array([[1, 2, 0]] * 2, np.int32),
        "difficult": np.array([[False, True, False]] * 2),
        "crowd": np.array([[True, False, False]] * 2),
        "area": np.array([[123.5, np.nan, 0.0]] * 2),
        "image_id": np.array([b"a", b"b"], object),
        "file": np.array([b"folder/a.jpg", b""], object),
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
        results = run_detector(find, None, [make_batch(size, True)], 1, Stopwatch()).results
        for result in results:
            np.testing.assert_array_equal(result.true_boxes, BOXES[:2])
            np.testing.assert_array_equal(result.true_labels, [1, 2])
            np.testing.assert_array_equal(result.difficult, [False, True])
            np.testing.assert_array_equal(result.crowd, [True, False])
            # As given, or that of the box.
            np.testing.assert_array_equal(result.area, [123.5, (352 - 8) * (498 - 12)])
            height, width = size
            np.testing.assert_allclose(result.boxes, [[0, 0.2 * height, width / 2, height]], 1e-6)
            assert result.scores.tolist() == [np.float32(0.9)] and result.labels.tolist() == [2]


def test_padding_is_no_image():
    batches = [make_batch((40, 60), True), make_batch((40, 60), False)]
    batches[1]["image_id"] = np.array([b"0", b""], object)
    stopwatch = Stopwatch()
    results, pictures, loss = run_detector(find, None, batches, 2, stopwatch, num_pictures=9)
    assert loss is None
    # In the order of their names, whatever that of the data.
    assert [result.image_id for result in results] == ["0", "a", "b"]
    assert {key: image.name for key, image in pictures.items()} == {
        "a": "a.jpg",
        "b": "b",
        "0": "a.jpg",
    }
    assert set(stopwatch.seconds) == {"first batch", "input", "network"}
    stopwatch.seconds = {"first batch": 6.0, "input": 1.0, "network": 3.0}
    assert stopwatch.describe(6) == (
        "6.0 s for the first batch, compilation included, 1.0 s waiting for images, "
        "3.0 s in the network; "
        "1.5 images/s after the first batch"
    )
    assert stopwatch.describe(0) == stopwatch.describe_speed(0) == ""


class LeftHalf(Network):
    """A network that finds bright columns, only in the left half of the image."""

    def __init__(self):
        pass

    def default_boxes(self):
        return jnp.array([[(i + 0.5) / 4, 0.5, 0.25, 1.0] for i in range(4)])

    def normalise(self, images):
        return images / 255.0

    def apply(self, parameters, batch_stats, images, train):
        brightness = images.mean(axis=(1, 3)) * jnp.array([1, 1, 0, 0])
        logits = jnp.stack([jnp.zeros_like(brightness), 20 * brightness - 10], axis=-1)
        return (jnp.zeros((*brightness.shape, 4)), logits), batch_stats


def test_detections_of_mirrored_images_are_mirrored_back():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[0, :, 3] = images[1, :, 1] = 255  # beyond what the network sees, and within
    found = {}
    for flip in (False, True):
        settings = DetectionConfig(score_threshold=0.5, boxes_per_class=10, detections_per_image=5)
        predict = make_predict_step(LeftHalf(), settings, flip)
        detections = jax.device_get(jax.jit(predict)(({}, {}), images))
        found[flip] = [boxes[labels > 0] for boxes, _, labels in zip(*detections, strict=True)]
    assert len(found[False][0]) == 0
    np.testing.assert_allclose(found[True][0], [[0.75, 0, 1, 1]], atol=1e-6)
    for flip in (False, True):
        np.testing.assert_allclose(found[flip][1], [[0.25, 0, 0.5, 1]], atol=1e-6)


def test_the_loss_equals_that_of_training_on_unchanged_images():
    config = as_config(tiny.get_config()).replace(
        {"augment.color": False, "augment.flip": False, "freeze_batch_norm": True}
    )
    network = build_network(config.model, num_classes=2)
    parameters, batch_stats = network.init(0)
    rng = np.random.default_rng(0)
    batch = make_batch((40, 60), True)
    batch["image"] = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    batch["boxes"] = np.array([[0.1, 0.1, 0.6, 0.7], [0.4, 0.3, 0.9, 0.8], [0, 0, 1, 1]] * 2)
    batch["boxes"] = batch["boxes"].reshape(2, 3, 4).astype(np.float32)
    batch["labels"] = np.array([[1, 2, 0], [2, 2, 1]], np.int32)
    batch["crowd"] = np.array([[False, False, False], [False, False, True]])
    batch["window"] = np.array([[0, 0, 1, 1]] * 2, np.float32)

    sums, _ = jax.jit(functools.partial(detection_loss, network, config))(
        parameters,
        batch_stats,
        {key: batch[key] for key in ("image", "window", "boxes")}
        | {"labels": np.where(batch["crowd"], 0, batch["labels"])},
        image_keys(0, jnp.int32(1), jnp.arange(2)),
    )
    expected = float(sums.total(config.loss) / sums.num_positives)
    step = devices.pmap_predict(make_evaluation_step(network, config))
    variables = devices.replicate((parameters, batch_stats))
    padding = {key: np.zeros_like(value) for key, value in batch.items()} | {
        "image_id": np.full(2, b"", object),
        "file": np.full(2, b"", object),
    }
    inputs = functools.partial(with_objects, 5)
    # What pads the last batch does not count.
    found = run_detector(step, variables, [batch, padding], 2, Stopwatch(), inputs=inputs)
    assert len(found.results) == 2
    assert found.loss == pytest.approx(expected, rel=1e-5)


def test_the_loss_uses_the_largest_objects():
    batch = make_batch((40, 60), True)
    boxes = np.array([[0, 0, 0.1, 0.1], [0, 0, 1, 1], [0, 0, 0.5, 0.5], [0, 0, 0.9, 0.9]])
    batch["boxes"] = np.stack([boxes, boxes]).astype(np.float32)
    batch["labels"] = np.array([[1, 2, 3, 4], [1, 0, 0, 0]], np.int32)
    batch["crowd"] = np.array([[False, True, False, False], [False] * 4])
    inputs = with_objects(2, batch)
    assert inputs["labels"].tolist() == [[4, 3], [1, 0]]
    np.testing.assert_allclose(inputs["boxes"][0], boxes[[3, 2]])
    np.testing.assert_allclose(inputs["boxes"][1], [boxes[0], [0, 0, 0, 0]])
    assert with_objects(6, batch)["labels"].tolist() == [[4, 3, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
