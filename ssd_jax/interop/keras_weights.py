"""VGG16's ImageNet weights from keras.applications, as SSD starts from them (paper section 3).

Keras is imported by the functions that need it: it brings TensorFlow with it.
"""

from typing import Any

import numpy as np

from ssd_jax.errors import UserError
from ssd_jax.models.network import Variables
from ssd_jax.models.vgg import STAGES

WEIGHTS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"


def load_vgg16(parameters: Variables, weights: str) -> Variables:
    """Puts VGG16's weights into a new network's backbone; everything else stays new.

    Args:
      parameters: of an SSD with VGG16 at width 1 and without batch norm.
      weights: "imagenet", or the path of a weights file that Keras wrote.

    Raises:
      UserError: the weights cannot be had, or the network is another one.
    """
    import keras

    try:
        model = keras.applications.VGG16(weights=weights)
    except Exception as error:  # Keras passes on whatever its download or file reader met
        raise UserError(
            f"config.init is 'keras:{weights}', but Keras cannot load it ({error}). Without a "
            f"network, put {WEIGHTS_FILE} of keras.applications into ~/.keras/models, or name its "
            "path: --config.init=keras:PATH. To start from scratch: --config.init="
        ) from error
    return vgg16_from_keras(parameters, model)


def vgg16_from_keras(parameters: Variables, model: Any) -> Variables:
    """`load_vgg16` with a Keras model at hand."""
    backbone = {**parameters["backbone"]}
    for stage, channels in enumerate(STAGES, start=1):
        for index in range(1, len(channels) + 1):
            kernel, bias = model.get_layer(f"block{stage}_conv{index}").get_weights()
            if (stage, index) == (1, 1):
                kernel = kernel[:, :, ::-1]  # Keras' VGG16 reads BGR
            _replace(backbone, f"conv{stage}_{index}", kernel, bias)

    # "Atrous": every third of 7×7 inputs and every fourth of 4096 channels stay.
    kernel, bias = model.get_layer("fc1").get_weights()
    _replace(backbone, "fc6", kernel.reshape(7, 7, 512, 4096)[::3, ::3, :, ::4], bias[::4])
    kernel, bias = model.get_layer("fc2").get_weights()
    _replace(backbone, "fc7", kernel[None, None, ::4, ::4], bias[::4])
    return {**parameters, "backbone": backbone}


def _replace(backbone: Variables, layer: str, kernel: np.ndarray, bias: np.ndarray) -> None:
    old, new = backbone[layer]["conv"], {"kernel": kernel, "bias": bias}
    if {key: value.shape for key, value in old.items()} != {
        key: value.shape for key, value in new.items()
    }:
        raise UserError(
            f"VGG16's weights do not fit {layer} of this network: they need config.model.width "
            "1.0 and config.model.batch_norm False"
        )
    backbone[layer] = {"conv": new}
