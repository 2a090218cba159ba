import dataclasses
import re

import jax
import numpy as np
import pytest
import safetensors.numpy

from configs import (
    ssd300_resnet50_coco,
    ssd300_voc,
    ssdlite300_mobilenetv2_coco,
    ssdlite320_mobilenetv3_coco,
)
from ssd_jax.config.schema import as_config
from ssd_jax.data import class_lists
from ssd_jax.detection.boxes import cxcywh_to_xyxy
from ssd_jax.interop.formats import read_format
from ssd_jax.interop.pytorch_layouts import (
    caffe_layout,
    mmdetection_layout,
    nvidia_layout,
    ssd_pytorch_layout,
    torchvision_layout,
    torchvision_mobilenet_v2_layout,
    torchvision_resnet50_layout,
    torchvision_ssdlite_layout,
    uvipen_ssdlite_layout,
)
from ssd_jax.interop.renaming import rename, to_pytorch
from ssd_jax.interop.transfer import Classes, flatten, transfer
from ssd_jax.models.network import build_network
from tests import tiny
from tests.helpers.random_variables import random_variables
from tests.helpers.reference_results import carried_json, references


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
    ("name", "kind", "layout", "config", "num_classes"),
    [
        ("ssd_pytorch_ssd300_voc", "ssd.pytorch", ssd_pytorch_layout(), ssd300_voc, 20),
        ("torchvision_ssd300_vgg16_coco", "torchvision", torchvision_layout(), ssd300_voc, 90),
        ("uvipen_ssd300_resnet50_coco", "nvidia", nvidia_layout(), ssd300_resnet50_coco, 80),
        (
            "uvipen_ssdlite_mobilenetv2_coco",
            "uvipen",
            uvipen_ssdlite_layout(),
            ssdlite300_mobilenetv2_coco,
            80,
        ),
        (
            "torchvision_ssdlite320_mobilenet_v3_coco",
            "torchvision",
            torchvision_ssdlite_layout(),
            ssdlite320_mobilenetv3_coco,
            90,
        ),
    ],
)
@pytest.mark.slow
def test_forward_pass_equals_the_reference(name, kind, layout, config, num_classes, tmp_path):
    recipe = carried_json(f"forward_{name}")
    seed = recipe["seed"]
    tensors = {
        tensor["name"]: draw(
            tensor["init"], tensor["shape"], np.random.default_rng([seed, tensor["index"]])
        ).astype(np.float32)
        for tensor in recipe["tensors"]
    }
    safetensors.numpy.save_file(tensors, tmp_path / "weights.safetensors")
    network = build_network(as_config(config.get_config()).model, num_classes)
    tiling = network.tiling
    # The number of classes is the file's, whatever the network's is.
    other = dataclasses.replace(network, num_classes=1)
    foreign = read_format(kind, str(tmp_path / "weights.safetensors"), other)
    assert foreign.class_names == class_lists.KNOWN[num_classes]
    assert not foreign.missing and not foreign.left_over
    result = transfer(
        random_variables(network),
        foreign.arrays,
        Classes(foreign.class_names, foreign.class_names),
        tiling.boxes_per_cell,
    )
    assert result.num_filled == len(result.statuses)

    size = tiling.image_size
    image = np.random.default_rng([seed, 999999]).standard_normal((1, size, size, 3))
    outputs, _ = jax.jit(network.apply, static_argnums=3)(
        *result.variables, image.astype(np.float32), False
    )
    for reference in references(f"forward_{name}"):
        rows = reference.get("rows", np.arange(tiling.num_boxes))
        if layout.values_first:
            rows = by_cell(rows, tiling)
        for ours, theirs in zip(outputs, (reference["offsets"], reference["logits"]), strict=True):
            ours = ours[:, rows]
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() < 1e-4 * theirs.std()
        if "xyxy_pixels" in reference:
            boxes = np.asarray(cxcywh_to_xyxy(network.default_boxes()[rows])) * size
            np.testing.assert_allclose(boxes, reference["xyxy_pixels"], atol=1e-4)

    # And back: every tensor bit for bit, but for those that say nothing to batch norm.
    back = to_pytorch(result.variables, layout, tiling.boxes_per_cell)
    for tensor_name in set(back) & set(tensors):
        if "running_mean" not in tensor_name:
            np.testing.assert_array_equal(back[tensor_name], tensors[tensor_name])
    assert set(back) <= set(tensors)
    absent = {name for name in set(tensors) - set(back) if not name.startswith(layout.unread)}
    assert all(name.endswith((".bias", "num_batches_tracked")) for name in absent)


def tiny_network(**options):
    config = tiny.get_config()
    config.model.update(batch_norm=False, **options)
    return build_network(as_config(config).model, num_classes=3)


@pytest.mark.parametrize(
    "layout",
    [ssd_pytorch_layout(2), mmdetection_layout(2), caffe_layout(2)],
    ids=["ssd.pytorch", "mmdetection", "caffe"],
)
def test_export_and_import_are_exact(layout):
    network = tiny_network()
    boxes = network.tiling.boxes_per_cell
    variables = random_variables(network)
    tensors = to_pytorch(variables, layout, boxes)
    renamed = rename(tensors, layout, network.variable_shapes(), boxes)
    assert not renamed.left_over and set(renamed.their_names.values()) == set(tensors)
    jax.tree.map(np.testing.assert_array_equal, renamed.arrays, flatten(variables))


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
def test_separate_backbones_of_torchvision_have_the_layout_of_whole_networks(
    config, layout, whole_layout, prefix
):
    # The whole networks wrap torchvision's backbones, so that names differ in their beginning.
    network = build_network(as_config(config.get_config()).model, num_classes=20)
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
    network = build_network(as_config(ssd300_resnet50_coco.get_config()).model, num_classes=20)
    tensors = {"layer4.0.conv1.weight": 0, "fc.bias": 0, "bn1.num_batches_tracked": 0, "more": 0}
    renamed = rename(
        tensors,
        torchvision_resnet50_layout(),
        network.variable_shapes(),
        network.tiling.boxes_per_cell,
    )
    assert renamed.left_over == ["more"] and not renamed.arrays
