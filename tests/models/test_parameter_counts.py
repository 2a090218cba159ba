"""Networks have the number of parameters of the reference, or of the sum of their layers."""

import jax
import pytest

from configs import (
    ssd300_coco,
    ssd300_resnet50_coco,
    ssd300_voc,
    ssd512_coco,
    ssd512_voc,
    ssdlite300_mobilenetv2_coco,
    ssdlite320_mobilenetv2_coco,
    ssdlite320_mobilenetv3_coco,
)
from ssd_jax.config.schema import as_config
from ssd_jax.models.network import build_network
from tests.helpers.all_configs import ALL_CONFIGS


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "config, num_classes, num_parameters, num_statistics",
    [
        (ssd300_voc, 20, 26_285_486, 0),
        (ssd300_coco, 80, 34_305_206, 0),
        (ssd512_voc, 20, 27_188_676, 0),
        (ssd512_coco, 80, 36_038_196, 0),
        (ssd300_resnet50_coco, 80, 22_894_902, 35_968),
        (ssdlite300_mobilenetv2_coco, 80, 4_445_876, 50_368),
        (ssdlite320_mobilenetv3_coco, 90, 3_440_060, 32_944),
    ],
)
def test_networks_have_as_many_parameters_as_the_reference(
    config, num_classes, num_parameters, num_statistics
):
    network = build_network(as_config(config.get_config()).model, num_classes)
    parameters, batch_stats = network.variable_shapes()
    assert count(parameters) == num_parameters
    assert count(batch_stats) == num_statistics


# What is known of the layers, summed by hand: weights and biases of convolutions, two numbers a
# channel of batch norm.
def convolution(inputs, outputs, kernel=3):
    return kernel * kernel * inputs * outputs + outputs


def normalised(inputs, outputs, kernel):
    return kernel * kernel * inputs * outputs + 2 * outputs


def separable_head(inputs, outputs):
    return normalised(1, inputs, 3) + convolution(inputs, outputs, 1)


def heads(channels, boxes_per_cell, classes, head=convolution):
    return sum(
        head(inputs, boxes * outputs)
        for inputs, boxes in zip(channels, boxes_per_cell, strict=True)
        for outputs in (4, classes + 1)
    )


VGG_CONVOLUTIONS = sum(
    convolution(*channels)
    for channels in [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256)]
    + [(256, 256)] * 2
    + [(256, 512)]
    + [(512, 512)] * 5
)
VGG_ATROUS = VGG_CONVOLUTIONS + convolution(512, 1024) + convolution(1024, 1024, 1) + 512


def vgg_ssd(boxes_per_cell, extras=(), classes=20, backbone=VGG_ATROUS, channels=(512, 1024)):
    """Extra maps are (1×1 channels, 3×3 channels, kernel)."""
    total = backbone
    for narrow, outputs, kernel in extras:
        total += convolution(channels[-1], narrow, 1) + convolution(narrow, outputs, kernel)
        channels += (outputs,)
    return total + heads(channels, boxes_per_cell, classes)


EXTRAS_300 = ((256, 512, 3), (128, 256, 3), (128, 256, 3), (128, 256, 3))
EXTRAS_512 = (*EXTRAS_300, (128, 256, 4))
PAPER_300, PAPER_512 = (4, 6, 6, 6, 4, 4), (4, 6, 6, 6, 6, 4, 4)


@pytest.mark.parametrize(
    "name", [name for name in ALL_CONFIGS if "ablations" in name and "_inside" not in name]
)
def test_the_parameters_of_the_ablations_are_counted(name):
    table, row = name.removeprefix("ablations/").split(":")
    wanted = {
        "table2:squares": vgg_ssd((2,) * 6, EXTRAS_300),
        "table2:no_thirds": vgg_ssd((4,) * 6, EXTRAS_300),
        "table2:no_atrous": vgg_ssd(
            PAPER_300,
            EXTRAS_300[:3],
            backbone=VGG_CONVOLUTIONS
            + 512
            + convolution(512, 4096, 7)
            + convolution(4096, 4096, 1),
            channels=(512, 512, 4096),
        ),
        "table3:five": vgg_ssd((4, 6, 6, 6, 8), EXTRAS_300[:3]),
        "table3:four": vgg_ssd((4, 6, 6, 16), EXTRAS_300[:2]),
        "table3:three": vgg_ssd((4, 8, 12), EXTRAS_300[:1]),
        "table3:two": vgg_ssd((4, 9)),
        "table3:one": vgg_ssd((0, 24)),
        "table6:ssd512": vgg_ssd(PAPER_512, EXTRAS_512),
        "table6:ssd512_expansion": vgg_ssd(PAPER_512, EXTRAS_512),
    }.get(f"{table}:{row}", vgg_ssd(PAPER_300, EXTRAS_300))
    network = build_network(ALL_CONFIGS[name].model, num_classes=20)
    assert count(network.variable_shapes()[0]) == wanted


@pytest.mark.parametrize(
    "name, classes, num_parameters",
    [
        ("ssd300_voc07", 20, 26_285_486),
        ("ssd300_voc0712_test12", 20, 26_285_486),
        ("ssd300_coco_to_voc", 20, 26_285_486),
        ("ssd512_coco_to_voc", 20, 27_188_676),
        ("ssd300_ilsvrc", 200, vgg_ssd(PAPER_300, EXTRAS_300, classes=200)),
        ("ssd300_coco_mmdetection", 80, 34_305_206),
        ("ssd512_coco_mmdetection", 80, 36_038_196),
    ],
)
def test_other_data_and_schedules_do_not_change_the_number_of_parameters(
    name, classes, num_parameters
):
    network = build_network(ALL_CONFIGS[name].model, classes)
    assert count(network.variable_shapes()[0]) == num_parameters


@pytest.mark.parametrize(
    "name, boxes_per_cell, channels_of",
    [
        # A quarter of the channels, and three sixteenths, as a multiple of 8.
        (
            "ssd_small",
            (4, 6, 6, 6, 4, 4),
            {64: 16, 128: 32, 256: 64, 512: 128, 1024: 256},
        ),
        ("quickstart", (4,) * 5, {64: 16, 128: 24, 256: 48, 512: 96, 1024: 192}),
    ],
)
def test_the_parameters_of_the_small_networks_are_counted(name, boxes_per_cell, channels_of):
    # Batch norm is everywhere but in the heads.
    vgg16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    widths = [channels_of[channels] for channels in vgg16]
    wanted = sum(
        normalised(inputs, outputs, 3)
        for inputs, outputs in zip((3, *widths), widths, strict=False)
    )
    last, wide = channels_of[512], channels_of[1024]
    wanted += normalised(last, wide, 3) + normalised(wide, wide, 1) + last
    channels = (last, wide)
    extras = ((256, 512), (128, 256), (128, 256), (128, 256))[: len(boxes_per_cell) - 2]
    for narrow, outputs in [(channels_of[a], channels_of[b]) for a, b in extras]:
        wanted += normalised(channels[-1], narrow, 1) + normalised(narrow, outputs, 3)
        channels += (outputs,)
    wanted += heads(channels, boxes_per_cell, 5)
    network = build_network(ALL_CONFIGS[name].model, num_classes=5)
    assert count(network.variable_shapes()[0]) == wanted


def test_the_parameters_of_ssdlite320_are_counted():
    network = build_network(
        as_config(ssdlite320_mobilenetv2_coco.get_config()).model, num_classes=80
    )
    backbone, channels = normalised(3, 32, 3), 32
    stages = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    for expansion, outputs, blocks in stages:
        for _ in range(blocks):
            wide = channels * expansion
            if expansion > 1:
                backbone += normalised(channels, wide, 1)
            backbone += normalised(1, wide, 3) + normalised(wide, outputs, 1)
            channels = outputs
    backbone += normalised(320, 1280, 1)
    extras = 0
    for inputs, narrow, outputs in [
        (1280, 256, 512),
        (512, 128, 256),
        (256, 128, 256),
        (256, 64, 128),
    ]:
        extras += normalised(inputs, narrow, 1)
        extras += normalised(1, narrow, 3) + normalised(narrow, outputs, 1)
    wanted = backbone + extras
    wanted += heads((96, 1280, 512, 256, 256, 128), (6,) * 6, 80, separable_head)
    assert count(network.variable_shapes()[0]) == wanted
