import numpy as np
import pytest

from configs import (
    ssd300_resnet50_coco,
    ssdlite300_mobilenetv2_coco,
    ssdlite320_mobilenetv3_coco,
)
from configs.ablations import table2
from ssd_jax.config.schema import as_config
from ssd_jax.data.class_lists import KNOWN
from ssd_jax.errors import UserError
from ssd_jax.interop.export import state_dict
from ssd_jax.interop.formats import read_format
from ssd_jax.interop.pytorch_layouts import (
    caffe_layout,
    mmdetection_layout,
    ssd_pytorch_layout,
    torchvision_mobilenet_v2_layout,
    torchvision_mobilenet_v3_layout,
    torchvision_resnet50_layout,
)
from ssd_jax.interop.renaming import to_pytorch
from ssd_jax.interop.trained import Trained
from ssd_jax.interop.transfer import flatten
from ssd_jax.models.network import build_network
from tests import tiny
from tests.helpers.random_variables import random_variables
from tests.interop import test_caffe_model
from tools import torch_files

NAMES = ("ant", "bee", "cow")


def tiny_network(backbone="vgg16"):
    config = tiny.get_config()
    config.model.update(batch_norm=False, backbone=backbone)
    return build_network(as_config(config).model, num_classes=len(NAMES))


NETWORK = tiny_network()
BOXES = NETWORK.tiling.boxes_per_cell


def assert_whole(foreign, variables):
    assert not foreign.missing and not foreign.left_over
    wanted = flatten(variables)
    assert foreign.arrays.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(foreign.arrays[name], array, err_msg=name)


def test_ssd_pytorch_from_a_pickle(tmp_path):
    variables = random_variables(NETWORK)
    tensors = to_pytorch(variables, ssd_pytorch_layout(2), BOXES)
    torch_files.save_legacy(tmp_path / "ssd.pth", torch_files.state_dict(tensors))
    foreign = read_format("ssd.pytorch", str(tmp_path / "ssd.pth"), NETWORK, NAMES)
    assert foreign.class_names == NAMES
    assert_whole(foreign, variables)


def test_the_backbone_that_ssd_pytorch_starts_from(tmp_path):
    variables = random_variables(NETWORK)
    tensors = to_pytorch(variables, ssd_pytorch_layout(2), BOXES)
    backbone = {
        name.removeprefix("vgg."): tensor
        for name, tensor in tensors.items()
        if name.startswith("vgg.")
    }
    torch_files.save_zip(tmp_path / "vgg.pth", torch_files.state_dict(backbone))
    foreign = read_format("ssd.pytorch", str(tmp_path / "vgg.pth"), NETWORK)
    assert foreign.class_names == () and not foreign.missing and not foreign.left_over
    assert {name.split("/")[1] for name in foreign.arrays} >= {"conv1_1", "conv5_3", "fc6", "fc7"}
    np.testing.assert_array_equal(
        foreign.arrays["backbone/fc7/conv/kernel"],
        variables[0]["backbone"]["fc7"]["conv"]["kernel"],
    )


def mmdetection_tensors(variables):
    return to_pytorch(variables, mmdetection_layout(2), BOXES)


def test_mmdetection_has_the_background_last(tmp_path):
    network = tiny_network("vgg16_mmdetection")
    variables = random_variables(network)
    tensors = mmdetection_tensors(variables)
    bias = np.arange(16.0, dtype=np.float32)
    tensors["bbox_head.cls_convs.0.0.bias"] = bias
    np.savez(tmp_path / "ssd.npz", **tensors)
    foreign = read_format("mmdetection", str(tmp_path / "ssd.npz"), network, NAMES)
    np.testing.assert_array_equal(
        foreign.arrays["heads/logits/0/bias"].reshape(4, 4), np.roll(bias.reshape(4, 4), 1, axis=1)
    )


def test_mmdetection_before_2_14(tmp_path):
    variables = random_variables(NETWORK)
    old = {}
    for name, tensor in mmdetection_tensors(variables).items():
        if name.startswith("neck.extra_layers."):
            block, layer, _, leaf = name.removeprefix("neck.extra_layers.").split(".")
            name = f"backbone.extra.{2 * int(block) + int(layer)}.{leaf}"
        elif name.startswith("bbox_head."):
            room, convs, index, _, leaf = name.split(".")
            name = f"{room}.{convs}.{index}.{leaf}"
        elif name == "neck.l2_norm.weight":
            name = "backbone.l2_norm.weight"
        old[name] = tensor
    assert "backbone.extra.3.bias" in old and "bbox_head.reg_convs.1.weight" in old
    wrapped = {"meta": {"version": "2.3"}, "state_dict": torch_files.state_dict(old)}
    torch_files.save_zip(tmp_path / "ssd.pth", wrapped)
    foreign = read_format("mmdetection", str(tmp_path / "ssd.pth"), NETWORK, NAMES)
    assert_whole(foreign, variables)


def test_caffe_reads_blue_first_and_has_numbers_for_names(tmp_path):
    variables = random_variables(NETWORK)
    tensors = to_pytorch(variables, caffe_layout(2), BOXES)
    layers = {}
    for name, tensor in tensors.items():
        layer, place = name.rsplit(".", 1)
        layers.setdefault(layer, {})[place] = tensor
    layers["conv4_3_norm"]["0"] = layers["conv4_3_norm"]["0"].reshape(1, 1, 1, -1)
    blobs = {layer: [parts[place] for place in sorted(parts)] for layer, parts in layers.items()}
    assert {"conv1_1", "conv6_1", "conv7_2", "fc7_mbox_conf", "conv4_3_norm_mbox_loc"} <= set(blobs)
    test_caffe_model.save(tmp_path / "ssd.caffemodel", blobs)
    foreign = read_format("caffe", str(tmp_path / "ssd.caffemodel"), NETWORK, NAMES)
    assert_whole(foreign, variables)
    first = blobs["conv1_1"][0]
    np.testing.assert_array_equal(
        foreign.arrays["backbone/conv1_1/conv/kernel"][..., 0, :], first[:, 2].transpose(1, 2, 0)
    )


@pytest.mark.parametrize(
    "config, layout",
    [
        (ssd300_resnet50_coco, torchvision_resnet50_layout()),
        (ssdlite300_mobilenetv2_coco, torchvision_mobilenet_v2_layout()),
        (ssdlite320_mobilenetv3_coco, torchvision_mobilenet_v3_layout()),
    ],
)
def test_backbones_of_torchvision(config, layout, tmp_path):
    config = config.get_config()
    config.model.width = 0.1
    network = build_network(as_config(config).model, num_classes=1)
    parameters, statistics = random_variables(network)
    backbone = ({"backbone": parameters["backbone"]}, {"backbone": statistics["backbone"]})
    tensors = to_pytorch(backbone, layout, ())
    np.savez(tmp_path / "backbone.npz", **tensors, surplus=np.zeros(1))
    foreign = read_format("torchvision", str(tmp_path / "backbone.npz"), network)
    assert foreign.left_over == ["surplus"] and foreign.class_names == ()
    assert_whole(foreign._replace(left_over=[]), backbone)


def test_ssdlite_of_torchvision_is_exported_and_imported(tmp_path):
    config = as_config(ssdlite320_mobilenetv3_coco.get_config())
    network = build_network(config.model, num_classes=len(KNOWN[90]))
    trained = Trained(network, random_variables(network), KNOWN[90], (), config)
    tensors = state_dict(trained, "torchvision")
    np.savez(tmp_path / "ssdlite.npz", **tensors)
    foreign = read_format("torchvision", str(tmp_path / "ssdlite.npz"), network)
    assert foreign.class_names == KNOWN[90]
    assert_whole(foreign, trained.variables)
    linear = config.model.model_copy(update={"linear_extras": True})
    other = trained._replace(network=build_network(linear, num_classes=1))
    with pytest.raises(UserError, match="and SSDLite with MobileNetV3"):
        state_dict(other, "torchvision")


def test_the_backbone_that_torchvision_starts_from(tmp_path):
    variables = random_variables(NETWORK)
    tensors = to_pytorch(variables, ssd_pytorch_layout(2), BOXES)
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    backbone = {
        f"features.{place}.{leaf}": tensors[f"vgg.{place}.{leaf}"]
        for place in places
        for leaf in ("weight", "bias")
    }
    classifier = {"classifier.0.weight": np.zeros(1, np.float32)}
    torch_files.save_zip(tmp_path / "vgg16.pth", torch_files.state_dict(backbone | classifier))
    foreign = read_format("torchvision", str(tmp_path / "vgg16.pth"), NETWORK)
    assert not foreign.missing and not foreign.left_over and len(foreign.arrays) == 26
    for name, array in foreign.arrays.items():
        np.testing.assert_array_equal(array, flatten(variables)[name])


def test_missing_and_surplus_tensors_are_listed(tmp_path):
    tensors = to_pytorch(random_variables(NETWORK), ssd_pytorch_layout(2), BOXES)
    del tensors["vgg.0.bias"], tensors["loc.2.weight"]
    np.savez(tmp_path / "ssd.npz", **tensors, more=np.zeros(1))
    foreign = read_format("ssd.pytorch", str(tmp_path / "ssd.npz"), NETWORK, NAMES)
    assert foreign.missing == ["vgg.0.bias", "loc.2.weight"]
    assert foreign.left_over == ["more"]


@pytest.mark.parametrize(
    "kind, backbone, complaint",
    [
        ("ssd.pytorch", "vgg16_whole", "weights of ssd.pytorch are for the backbone vgg16"),
        ("caffe", "vgg16_whole", "weights of caffe are for the backbone vgg16"),
        ("nvidia", "vgg16", "weights of nvidia are for the backbone resnet50, not for vgg16"),
        ("uvipen", "vgg16", "weights of uvipen are for the backbone resnet50, mobilenet_v2"),
        ("keras", "resnet50", "weights of keras are for the backbone vgg16.* not for resnet50"),
    ],
)
def test_another_backbone_is_refused(kind, backbone, complaint, tmp_path):
    np.savez(tmp_path / "weights.npz", a=np.zeros(1))
    network = NETWORK
    if backbone == "resnet50":
        network = build_network(as_config(ssd300_resnet50_coco.get_config()).model, 1)
    elif backbone == "vgg16_whole":
        network = build_network(as_config(table2.get_config("no_atrous")).model, 1)
    with pytest.raises(UserError, match=complaint):
        read_format(kind, str(tmp_path / "weights.npz"), network)


def test_unknown_numbers_of_classes_need_names(tmp_path):
    np.savez(
        tmp_path / "ssd.npz", **to_pytorch(random_variables(NETWORK), ssd_pytorch_layout(2), BOXES)
    )
    for names in ((), ("ant", "bee")):
        with pytest.raises(
            UserError, match=r"has 3 classes, but . names.*with the names in --classes"
        ):
            read_format("ssd.pytorch", str(tmp_path / "ssd.npz"), NETWORK, names)


@pytest.mark.parametrize(
    "name", ["none.npz", "text.npz", "text.safetensors", "text.h5", "text.pth"]
)
def test_files_that_cannot_be_read_give_one_line(name, tmp_path):
    if not name.startswith("none"):
        (tmp_path / name).write_text("hello")
    with pytest.raises(UserError, match=name) as error:
        read_format("ssd.pytorch", str(tmp_path / name), NETWORK)
    assert "\n" not in str(error.value)
