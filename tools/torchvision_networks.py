"""Our networks, built from classes of torchvision: the same layers, feature maps and boxes."""

import functools
from collections import OrderedDict
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models.detection import ssdlite
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.ops.misc import Conv2dNormActivation

NUM_CLASSES = 21  # including the background
# The layers of MobileNetV2 that the maps of stride 8 and 16 go into.
FINE_LAYERS = (7, 14)
# Output channels of the convolutions of each stage of VGG16; a pooling layer follows every stage.
VGG_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class FeatureMaps(nn.Module):
    """Stages whose outputs are the feature maps.

    Args:
      stages: one per feature map; each reads the map before it.
      out_channels: of each map.
      scale: the length to which each cell of the first map is normalised; 0 = no normalisation.
    """

    def __init__(
        self, stages: list[nn.Module], out_channels: list[int], scale: float = 0.0
    ) -> None:
        super().__init__()
        self.stages, self.out_channels = nn.ModuleList(stages), out_channels
        self.weight = nn.Parameter(torch.full((out_channels[0],), scale)) if scale else None

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = OrderedDict()
        for place, stage in enumerate(self.stages):
            x = stage(x)
            features[str(place)] = x
        if self.weight is not None:
            features["0"] = self.weight.view(1, -1, 1, 1) * nn.functional.normalize(features["0"])
        return features


def build_network(
    name: str, model: dict[str, Any], detection: dict[str, Any], num_classes: int = NUM_CLASSES
) -> SSD:
    """torchvision's detector with the same network as ours.

    Args:
      name: "ssd300", torchvision's own; "ssdlite320" on MobileNetV2; or "ssd_small", a narrow VGG16
        with batch norm.
      model: `config.model` of ours.
      detection: `config.detection` of ours.
      num_classes: including the background; not used for "ssd300".
    """
    thresholds = thresholds_of(detection)
    if name == "ssd300":
        return ssd300(**thresholds)
    size = model["image_size"]
    scales = [side / size for side in (*model["min_sizes"], model["max_sizes"][-1])]
    boxes = DefaultBoxGenerator(
        [list(ratios) for ratios in model["aspect_ratios"]],
        scales=scales,
        steps=list(model["strides"]),
        clip=model["clip"],
    )
    heads = {"ssdlite320": _separable_head, "ssd_small": SSDHead}
    backbones = {"ssdlite320": _mobilenet, "ssd_small": _narrow_vgg}
    backbone = backbones[name](model)
    head = heads[name](backbone.out_channels, boxes.num_anchors_per_location(), num_classes)
    return SSD(backbone, boxes, (size, size), num_classes, head=head, **thresholds)


def thresholds_of(detection: dict[str, Any]) -> dict[str, float]:
    """The fields of `config.detection` under the names of torchvision's detectors."""
    return {
        "score_thresh": detection["score_threshold"],
        "nms_thresh": detection["nms_iou_threshold"],
        "topk_candidates": detection["boxes_per_class"],
        "detections_per_img": detection["detections_per_image"],
    }


def ssd300(**thresholds: float) -> SSD:
    """torchvision's own SSD300."""
    return torchvision.models.detection.ssd300_vgg16(
        weights=None, weights_backbone=None, num_classes=NUM_CLASSES, **thresholds
    )


def _separable_head(*arguments: Any) -> nn.Module:
    return ssdlite.SSDLiteHead(*arguments, nn.BatchNorm2d)


def _mobilenet(model: dict[str, Any]) -> FeatureMaps:
    """MobileNetV2, split at its feature maps, and SSDLite's extra layers.

    A finer map is read after its expansion layer; with "mobilenet_v2_narrow", before it.
    """
    layers = torchvision.models.mobilenet_v2(weights=None).features
    stages, out_channels, begun, first = [], [], [], 0
    num_fine = len(model["feature_sizes"]) - len(model["extra_blocks"]) - 1
    for number in FINE_LAYERS[-num_fine:]:
        before, block = layers[first:number], layers[number].conv
        if model["backbone"] == "mobilenet_v2_narrow":
            stages.append(nn.Sequential(*begun, *before))
            out_channels.append(block[0][0].in_channels)
            begun, first = [], number
        else:
            stages.append(nn.Sequential(*begun, *before, block[0]))
            out_channels.append(block[0].out_channels)
            begun, first = [block[1:]], number + 1
    stages.append(nn.Sequential(*begun, *layers[first:]))
    out_channels.append(layers[-1].out_channels)
    for _, channels, *_ in model["extra_blocks"]:
        stages.append(ssdlite._extra_block(out_channels[-1], channels, nn.BatchNorm2d))
        out_channels.append(channels)
    return FeatureMaps(stages, out_channels)


def _narrow_vgg(model: dict[str, Any]) -> FeatureMaps:
    """VGG16 of SSD with batch norm and fewer channels."""

    def scaled(channels: int) -> int:
        return max(8, round(channels * model["width"] / 8) * 8)

    convolution = functools.partial(Conv2dNormActivation, activation_layer=nn.ReLU)
    fine, coarse, channels = [], [], 3
    for number, stage in enumerate(VGG_STAGES, start=1):
        layers = fine if number < 5 else coarse
        if number == 5:
            coarse.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        elif number > 1:
            fine.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        for full in stage:
            layers.append(convolution(channels, scaled(full), 3))
            channels = scaled(full)
    fc_channels = scaled(1024)
    coarse += [
        nn.MaxPool2d(3, 1, padding=1),
        convolution(channels, fc_channels, 3, dilation=6),
        convolution(fc_channels, fc_channels, 1),
    ]
    stages, out_channels = [nn.Sequential(*fine), nn.Sequential(*coarse)], [channels, fc_channels]
    for narrow, full, kernel, stride, padding in model["extra_blocks"]:
        first = convolution(out_channels[-1], scaled(narrow), 1)
        second = convolution(scaled(narrow), scaled(full), kernel, stride, padding)
        stages.append(nn.Sequential(first, second))
        out_channels.append(scaled(full))
    return FeatureMaps(stages, out_channels, scale=20.0 * (channels / 512) ** 0.5)
