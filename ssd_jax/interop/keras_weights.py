"""VGG16's ImageNet weights from keras.applications, as SSD starts from them (paper section 3).

Keras is imported by the function that needs it: it brings TensorFlow with it.
"""

from typing import Any

from ssd_jax.errors import UserError
from ssd_jax.interop.transfer import Arrays
from ssd_jax.models.vgg import STAGES

WEIGHTS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"


def load_vgg16(weights: str) -> Any:
    """Keras' own VGG16.

    Args:
      weights: "imagenet", or the path of a weights file that Keras wrote.

    Raises:
      UserError: the weights cannot be had.
    """
    import keras

    try:
        return keras.applications.VGG16(weights=weights)
    except Exception as error:  # Keras passes on whatever its download or file reader met
        raise UserError(
            f"config.init is 'keras:{weights}', but Keras cannot load it ({error}). Without a "
            f"network, put {WEIGHTS_FILE} of keras.applications into ~/.keras/models, or name its "
            "path: --config.init=keras:PATH. To start from scratch: --config.init="
        ) from error


def vgg16_arrays(model: Any, atrous: bool = True) -> Arrays:
    """The arrays of a backbone.

    Args:
      model: Keras' VGG16.
      atrous: whether fc6 and fc7 are subsampled, as for our `VGG16(atrous=True)`.
    """
    arrays = {}

    def put(layer, kernel, bias):
        arrays[f"backbone/{layer}/conv/kernel"] = kernel
        arrays[f"backbone/{layer}/conv/bias"] = bias

    for stage, channels in enumerate(STAGES, start=1):
        for index in range(1, len(channels) + 1):
            kernel, bias = model.get_layer(f"block{stage}_conv{index}").get_weights()
            if (stage, index) == (1, 1):
                kernel = kernel[:, :, ::-1]  # Keras' VGG16 reads BGR
            put(f"conv{stage}_{index}", kernel, bias)

    # "Atrous": every third of 7×7 inputs and every fourth of 4096 channels stay.
    pixels, channels = (slice(None, None, step if atrous else 1) for step in (3, 4))
    kernel, bias = model.get_layer("fc1").get_weights()
    kernel = kernel.reshape(7, 7, 512, 4096)
    put("fc6", kernel[pixels, pixels, :, channels], bias[channels])
    kernel, bias = model.get_layer("fc2").get_weights()
    put("fc7", kernel[None, None, channels, channels], bias[channels])
    return arrays
