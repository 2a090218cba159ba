import json

import numpy as np
import pytest
from PIL import Image

from ssd_jax.config.schema import LossConfig, as_config
from ssd_jax.detection.box_clusters import cluster
from ssd_jax.detection.default_boxes import Tiling
from ssd_jax.detection.fit import Fit, measure
from ssd_jax.diagnostics.fit_boxes import FitResult, fit_boxes
from ssd_jax.diagnostics.fit_plot import plot
from ssd_jax.diagnostics.fit_report import by_side, format_fit, format_result, to_json, verdict
from ssd_jax.errors import UserError
from tests import tiny
from tests.helpers.pictures import VocFolder, write_coco

# One cell a quarter of the image, with a box that fills it, and one that fills the image.
TILING = Tiling(100, (2, 1), (50, 100), (((50, 50),), ((100, 100),)))


def test_a_fit_by_hand():
    images = [
        np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.3]], np.float32),
        np.zeros((0, 4), np.float32),
        np.array([[0.0, 0.0, 0.1, 0.1]], np.float32),
    ]
    fit = measure(images, TILING)
    np.testing.assert_allclose(fit.sides, [50, np.sqrt(50 * 30), 10], rtol=1e-5)
    np.testing.assert_allclose(fit.best_iou, [1, 0.6, 0.04], atol=1e-6)
    # Alone in its image, the last one is given its best box, for all that they overlap little.
    np.testing.assert_array_equal(fit.matched, [1, 1, 1])
    np.testing.assert_allclose(fit.recall(), 2 / 3)
    small, middle, everything = by_side(fit)
    assert (small["from"], small["to"], small["objects"], small["recall"]) == (8, 16, 1, 0)
    assert (middle["from"], middle["to"], middle["objects"], middle["recall"]) == (32, 64, 2, 1)
    np.testing.assert_allclose(middle["mean_best_iou"], 0.8, rtol=1e-5)
    assert everything["objects"] == 3 and everything["boxes_per_object"] == 1


def test_the_matching_of_the_config_counts():
    # The first object is the box of its cell; the second reaches an IoU of 0.6 with that of its.
    images = [np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.3]], np.float32)]
    strict = measure(images, TILING, LossConfig(match_iou_threshold=0.7))
    np.testing.assert_allclose(strict.recall(), 0.5)
    assert by_side(strict)[-1]["recall"] == 0.5
    text = format_fit(strict)
    assert "recall at IoU 0.7" in text and "1 objects have no default box of IoU 0.7" in text
    # Boxes half as large again as a cell reach beyond the image; the other one lies within it.
    larger = Tiling(100, (2, 1), (50, 100), (((75, 75),), ((100, 100),)))
    np.testing.assert_allclose(
        measure(images, larger).best_iou, [0.25 / 0.5625, 0.15 / 0.5625], atol=1e-6
    )
    inside = measure(images, larger, LossConfig(boundary_boxes=False))
    np.testing.assert_allclose(inside.best_iou, [0.25, 0.15], atol=1e-6)


def test_crowds_of_objects_share_boxes():
    images = [np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 1, 1]], np.float32)]
    np.testing.assert_array_equal(measure(images, TILING).matched, [1, 1, 1])
    doubled = Tiling(100, (2, 1), (50, 100), (((50, 50), (45, 45)), ((100, 100),)))
    np.testing.assert_array_equal(measure(images, doubled).matched, [2, 2, 1])


def test_clusters_are_at_the_shapes():
    random = np.random.default_rng(0)
    wide, tall, large = (
        np.exp(random.normal(np.log(shape), 0.05, (50, 2)))
        for shape in ((40, 15), (15, 40), (90, 90))
    )
    tiling = Tiling(128, (16, 2), (8, 64), (((8, 8), (9, 9)), ((64, 64),)))
    fine, coarse = cluster(np.concatenate([wide, tall, large]), tiling, steps_per_side=1.0)
    np.testing.assert_allclose(sorted(fine), [(15, 40), (40, 15)], rtol=0.05)
    np.testing.assert_allclose(coarse, [(90, 90)], rtol=0.05)


def test_a_feature_map_with_too_few_objects_keeps_its_boxes():
    tiling = Tiling(128, (16, 2, 1), (8, 64, 128), (((8, 8), (9, 9)), (), ((100.04, 100),)))
    objects = np.array([[20.0, 20.0], [21.0, 30.0], [40.0, 80.0]])
    fine, none, coarse = cluster(objects, tiling, steps_per_side=1.0)
    assert len(fine) == 2 and fine != tiling.shapes[0]
    assert none == () and coarse == ((100.0, 100.0),)


@pytest.fixture
def config(tmp_path):
    """Objects of 30 × 10 pixels of 64, which no box of the config overlaps by half."""
    random = np.random.default_rng(0)
    voc = VocFolder(tmp_path / "voc")
    names = [f"picture{i}" for i in range(12)]
    for name in names:
        x, y = random.integers(1, 20, 2)
        width, height = random.integers(28, 33), random.integers(9, 12)
        voc.add(name, [("dog", x, y, x + width, y + height)], size=(64, 64))
    config = tiny.get_config()
    config.data.train = voc.split("all", *names)
    return config


def test_better_boxes_are_found_and_shown(config, tmp_path):
    result = fit_boxes(config)
    assert result.num_images == 12 and len(result.objects) == 12
    proposed = result.proposed_tiling
    assert proposed.boxes_per_cell == result.tiling.boxes_per_cell
    assert result.proposed.recall() > 0.9 > 0.5 > result.current.recall()
    printed = format_result(result)
    assert "12 objects in 12 images, 340 default boxes at 64 pixels" in printed

    # The line it prints is one that a config takes, and nothing better is found then.
    line = printed[printed.index("config.model.shapes") : printed.index("\n\nThe proposed")]
    exec(line, {"config": config})
    again = fit_boxes(config)
    assert again.tiling == proposed
    assert again.current.recall() == result.proposed.recall()

    assert "\n\nThe proposed boxes reach 92% of the objects instead of 8%: set them" in printed
    assert format_result(again).endswith("already fit this data: keep them.")

    plot(result, str(tmp_path / "boxes.png"))
    assert Image.open(tmp_path / "boxes.png").width > 1000
    content = json.loads(to_json(result))
    assert content["num_objects"] == 12
    assert content["current"]["by_side"][-1]["recall"] == result.current.recall()
    assert len(content["proposed"]["shapes"]) == 4


def test_the_verdict_follows_the_gain_in_recall():
    def fit(recall):
        found = np.repeat([0.6, 0.4], [round(1000 * recall), round(1000 * (1 - recall))])
        return Fit(np.full(1000, 30.0), found, np.ones(1000), 0.5)

    def told(before, after):
        return verdict(FitResult(1, np.ones((1000, 2)), TILING, fit(before), TILING, fit(after)))

    assert "keep them" in told(0.99, 0.999)
    assert "reach 90% of the objects instead of 70%: train with both" in told(0.7, 0.9)
    assert "reach 90% of the objects instead of 30%: set them in the config" in told(0.3, 0.9)


def test_classes_and_matching_equal_those_of_the_config(config):
    strict = as_config(config).replace({"loss.match_iou_threshold": 0.9})
    fit = fit_boxes(strict).current
    assert fit.iou_threshold == 0.9 and fit.recall() == 0
    with pytest.raises(UserError, match="no image has an object"):
        fit_boxes(strict.replace({"data.classes": "cat, bird"}))
    several = strict.replace({"data.classes": "cat, dog"})
    assert fit_boxes(several).num_images == 12


def test_the_requested_number_of_images_is_read(config):
    assert fit_boxes(config, num_images=5).num_images == 5


def test_mistakes_are_named(config, tmp_path):
    with pytest.raises(UserError, match="images is 0, but must be 1 or more"):
        fit_boxes(config, num_images=0)
    empty = {"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}]}
    spec = write_coco(tmp_path, empty | {"categories": [{"id": 1, "name": "a"}], "annotations": []})
    with pytest.raises(UserError, match="no image has an object"):
        fit_boxes(config, spec)
    with pytest.raises(UserError, match="cannot be written"):
        plot(fit_boxes(config), str(tmp_path / "no" / "such.png"))
