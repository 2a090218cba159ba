"""ImageNet weights from keras.applications (paper section 3 starts from VGG16's).

Keras is imported by the function that needs it, because it imports TensorFlow.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ssd_jax.errors import UserError
from ssd_jax.interop.keras_files import check_keras_file
from ssd_jax.interop.transfer import Arrays
from ssd_jax.models import mobilenet_v2, resnet, vgg
from ssd_jax.models.layers import NORM
from ssd_jax.storage.copies import local_copy

# Our epsilon. For weights trained with another one, the variances are adjusted.
BATCH_NORM_EPSILON = NORM.epsilon


class Application(NamedTuple):
    """A network of keras.applications that fits one of our backbones."""

    name: str
    weights_file: str
    batch_norm_epsilon: float = BATCH_NORM_EPSILON


_VGG16 = Application("VGG16", "vgg16_weights_tf_dim_ordering_tf_kernels.h5")
_MOBILENET_V2 = Application(
    "MobileNetV2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5", 1e-3
)
APPLICATIONS = {
    "vgg16": _VGG16,
    "vgg16_mmdetection": _VGG16,
    "vgg16_whole": _VGG16,
    "resnet50_keras": Application(
        "ResNet50", "resnet50_weights_tf_dim_ordering_tf_kernels.h5", 1.001e-5
    ),
    "mobilenet_v2_tensorflow": _MOBILENET_V2,
    "mobilenet_v2_tensorflow_stride_8": _MOBILENET_V2,
}


def load_application(backbone: str, weights: str, network_bytes: int = 0) -> Any:
    """Loads the network of Keras.

    Args:
      backbone: one of `APPLICATIONS`.
      weights: "imagenet", or the path of a weights file of Keras.
      network_bytes: the size of the network's arrays; see `max_tensor_bytes`.

    Raises:
      UserError: the weights cannot be loaded.
    """
    path = local_copy(weights)
    import keras

    application = APPLICATIONS[backbone]
    try:
        if weights != "imagenet":
            check_keras_file(path, network_bytes)
        return getattr(keras.applications, application.name)(weights=str(path))
    except UserError:
        raise
    except Exception as error:  # Keras passes on any error of its download or file reader
        raise UserError(
            f"Keras cannot load the weights {weights!r} of {application.name} ({error}). Without "
            f"a network, put {application.weights_file} of keras.applications into "
            "~/.keras/models, or name its path: --config.init=keras:PATH. To start from scratch: "
            "--config.init="
        ) from error


def arrays_from_keras(model: Any, backbone: str) -> Arrays:
    """Converts the weights of a Keras network to the arrays of a backbone.

    Args:
      model: the network of Keras.
      backbone: our backbone, one of `APPLICATIONS`.
    """
    if backbone == "resnet50_keras":
        names = _resnet50_names()
    elif APPLICATIONS[backbone] is _MOBILENET_V2:
        names = _mobilenet_v2_names()
    else:
        return _vgg16_arrays(model, atrous=backbone != "vgg16_whole")
    epsilon = APPLICATIONS[backbone].batch_norm_epsilon
    arrays = {}
    for ours, convolution, norm in names:
        kernel, *bias = model.get_layer(convolution).get_weights()
        scale, shift, mean, variance = model.get_layer(norm).get_weights()
        if kernel.shape[3] == 1:
            kernel = kernel.swapaxes(2, 3)  # of a depthwise convolution
        if backbone == "resnet50_keras" and kernel.shape[2] == 3:
            kernel = kernel[:, :, ::-1]  # it reads BGR
        # Batch norm subtracts the bias of the convolution before it.
        arrays |= {
            f"backbone/{ours}/conv/kernel": kernel,
            f"backbone/{ours}/norm/scale": scale,
            f"backbone/{ours}/norm/bias": shift,
            f"backbone/{ours}/norm/mean": mean - (bias[0] if bias else 0),
            f"backbone/{ours}/norm/var": variance + np.float32(epsilon - BATCH_NORM_EPSILON),
        }
    return arrays


def _vgg16_arrays(model: Any, atrous: bool) -> Arrays:
    """The arrays of VGG16; `atrous` subsamples fc6 and fc7 for our `VGG16(atrous=True)`."""
    arrays = {}

    def put(layer, kernel, bias):
        arrays[f"backbone/{layer}/conv/kernel"] = kernel
        arrays[f"backbone/{layer}/conv/bias"] = bias

    for stage, channels in enumerate(vgg.STAGES, start=1):
        for index in range(1, len(channels) + 1):
            kernel, bias = model.get_layer(f"block{stage}_conv{index}").get_weights()
            if (stage, index) == (1, 1):
                kernel = kernel[:, :, ::-1]  # Keras' VGG16 reads BGR
            put(f"conv{stage}_{index}", kernel, bias)

    # "Atrous": keeps every third of 7×7 inputs and every fourth of 4096 channels.
    pixels, channels = (slice(None, None, step if atrous else 1) for step in (3, 4))
    kernel, bias = model.get_layer("fc1").get_weights()
    kernel = kernel.reshape(7, 7, 512, 4096)
    put("fc6", kernel[pixels, pixels, :, channels], bias[channels])
    kernel, bias = model.get_layer("fc2").get_weights()
    put("fc7", kernel[None, None, channels, channels], bias[channels])
    return arrays


def _resnet50_names() -> Iterator[tuple[str, str, str]]:
    """The names of our modules, of Keras' convolutions, and of their batch norms."""
    yield "conv1", "conv1_conv", "conv1_bn"
    number = 0
    for stage, (_, num_blocks, _) in enumerate(resnet.STAGES, start=2):
        for index in range(num_blocks):
            theirs = f"conv{stage}_block{index + 1}"
            parts = [("narrow", 1), ("conv", 2), ("widen", 3)]
            if index == 0:
                parts.append(("shortcut", 0))
            for part, place in parts:
                yield f"blocks/{number}/{part}", f"{theirs}_{place}_conv", f"{theirs}_{place}_bn"
            number += 1


def _mobilenet_v2_names() -> Iterator[tuple[str, str, str]]:
    """The names of our modules, of Keras' convolutions, and of their batch norms."""
    yield "first", "Conv1", "bn_Conv1"
    parts = {"widen": "expand", "depthwise": "depthwise", "narrow": "project"}
    for number in range(sum(num_blocks for _, _, num_blocks, _ in mobilenet_v2.STAGES)):
        prefix = f"block_{number}" if number else "expanded_conv"
        for ours, theirs in parts.items():
            if number or ours != "widen":  # the first block has no widening convolution
                layer = f"{prefix}_{theirs}"
                yield f"blocks/{number}/{ours}", layer, f"{layer}_BN"
    yield "last", "Conv_1", "Conv_1_bn"
