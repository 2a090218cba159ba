import re

import jax
import numpy as np
import pytest

from configs import ssd300_resnet50_coco, ssd300_voc, ssdlite300_mobilenetv2_coco
from ssd_jax.errors import UserError
from ssd_jax.interop.pytorch_layouts import (
    from_pytorch,
    nvidia_layout,
    rename,
    ssd_pytorch_layout,
    torchvision_layout,
    torchvision_mobilenet_v2_layout,
    torchvision_resnet50_layout,
    uvipen_ssdlite_layout,
)
from ssd_jax.models.network import build_network
from tests.reference_results import carried_json, references


def draw(init, shape, random):
    """A tensor of a reference network, by the recipe beside its outputs."""
    if init.startswith("uniform"):
        return random.uniform(*map(float, re.findall(r"[\d.]+", init)), shape)
    normal = random.standard_normal(shape)
    if init == "20+normal":
        return 20 + normal
    if init == "normal*sqrt(2/fan_in)":
        return normal * np.sqrt(2 / np.prod(shape[1:]))
    return normal * float(init.removeprefix("normal*"))


def by_cell(rows, tiling):
    """Outputs whose boxes come kind by kind within a feature map, in our order: cell by cell."""
    places, first = [], 0
    for size, kinds in zip(tiling.feature_sizes, tiling.boxes_per_cell, strict=True):
        count = size * size * kinds
        places.append(first + np.arange(count).reshape(kinds, size * size).T.ravel())
        first += count
    ours = np.argsort(np.concatenate(places))  # their place to ours
    return ours[rows]


@pytest.mark.parametrize(
    ("name", "layout", "config", "num_classes"),
    [
        ("forward_ssd_pytorch_ssd300_voc", ssd_pytorch_layout(), ssd300_voc, 20),
        ("forward_torchvision_ssd300_vgg16_coco", torchvision_layout(), ssd300_voc, 90),
        ("forward_uvipen_ssd300_resnet50_coco", nvidia_layout(), ssd300_resnet50_coco, 80),
        (
            "forward_uvipen_ssdlite_mobilenetv2_coco",
            uvipen_ssdlite_layout(),
            ssdlite300_mobilenetv2_coco,
            80,
        ),
    ],
)
def test_forward_pass_equals_the_reference(name, layout, config, num_classes):
    recipe = carried_json(name)
    seed = recipe["seed"]
    tensors = {
        tensor["name"]: draw(
            tensor["init"], tensor["shape"], np.random.default_rng([seed, tensor["index"]])
        ).astype(np.float32)
        for tensor in recipe["tensors"]
    }
    image = np.random.default_rng([seed, 999999]).standard_normal((1, 300, 300, 3))
    network = build_network(config.get_config().model, num_classes)
    tiling = network.tiling
    variables = from_pytorch(tensors, layout, network.variable_shapes(), tiling.boxes_per_cell)
    outputs, _ = jax.jit(network.apply, static_argnums=3)(
        *variables, image.astype(np.float32), False
    )
    for reference in references(name):
        rows = reference.get("rows", np.arange(tiling.num_boxes))
        if layout.values_first:
            rows = by_cell(rows, tiling)
        for ours, theirs in zip(outputs, (reference["offsets"], reference["logits"]), strict=True):
            ours = ours[:, rows]
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() < 1e-3 * theirs.std()


def test_tensors_that_do_not_fit_are_listed():
    network = build_network(ssd300_voc.get_config().model, num_classes=20)
    tensors = {"vgg.0.bias": np.zeros(3), "vgg.99.weight": np.zeros(1)}
    with pytest.raises(UserError) as error:
        from_pytorch(
            tensors,
            ssd_pytorch_layout(),
            network.variable_shapes(),
            network.tiling.boxes_per_cell,
        )
    message = str(error.value)
    assert "missing: vgg.0.weight" in message
    assert "vgg.0.bias (3,) for backbone/conv1_1/conv/bias (64,)" in message
    assert message.endswith("left over: vgg.99.weight")


@pytest.mark.parametrize(
    "config, layout, whole_layout, prefix",
    [
        (
            ssd300_resnet50_coco,
            torchvision_resnet50_layout(),
            nvidia_layout(),
            {"0.": "conv1.", "1.": "bn1.", "4.": "layer1.", "5.": "layer2.", "6.": "layer3."},
        ),
        (
            ssdlite300_mobilenetv2_coco,
            torchvision_mobilenet_v2_layout(),
            uvipen_ssdlite_layout(),
            {"": "features."},
        ),
    ],
)
def test_backbones_of_torchvision_go_to_the_same_places(config, layout, whole_layout, prefix):
    # The whole networks wrap torchvision's backbones, so that names differ in their beginning.
    network = build_network(config.get_config().model, num_classes=20)
    variables, boxes = network.variable_shapes(), network.tiling.boxes_per_cell
    whole = rename({}, whole_layout, variables, boxes).their_names
    backbone = rename({}, layout, variables, boxes).their_names
    paths = [path for path in whole if path.startswith("backbone/")]
    assert len(paths) > 100
    for path in paths:
        inner = whole[path].removeprefix("feature_extractor.feature_extractor.")
        (new,) = {new + inner[len(old) :] for old, new in prefix.items() if inner.startswith(old)}
        assert backbone[path] == new


def test_classifiers_of_torchvision_are_left_unread():
    network = build_network(ssd300_resnet50_coco.get_config().model, num_classes=20)
    tensors = {"layer4.0.conv1.weight": 0, "fc.bias": 0, "bn1.num_batches_tracked": 0, "more": 0}
    renamed = rename(
        tensors,
        torchvision_resnet50_layout(),
        network.variable_shapes(),
        network.tiling.boxes_per_cell,
    )
    assert renamed.left_over == ["more"] and not renamed.arrays
