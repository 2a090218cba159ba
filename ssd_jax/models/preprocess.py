"""Converts the pixels of an image to the input of a network."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Shaped

from ssd_jax.detection.boxes import ArrayLike


class InputRange(NamedTuple):
    """Mean and deviation by which RGB pixels in [0, 255] are normalised."""

    mean: Float32[np.ndarray, "3"]
    deviation: Float32[np.ndarray, "3"]


# VGG16 in Caffe: the mean alone.
CAFFE = InputRange(np.array([123.0, 117.0, 104.0], np.float32), np.ones(3, np.float32))
# VGG16 in MMDetection: the mean of ImageNet alone.
MMDETECTION = InputRange(np.array([123.675, 116.28, 103.53], np.float32), np.ones(3, np.float32))
# ResNet in Keras: its own mean alone.
KERAS = InputRange(np.array([123.68, 116.779, 103.939], np.float32), np.ones(3, np.float32))
# ResNet and later networks in PyTorch: mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225.
IMAGENET = InputRange(
    np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)
)
# MobileNet in TensorFlow: from -1 to 1.
TENSORFLOW = InputRange(np.full(3, 127.5, np.float32), np.full(3, 127.5, np.float32))

# The colour of the canvas outside the image, for every network.
MEAN_RGB = CAFFE.mean


def normalise(
    pixels: Shaped[ArrayLike, "*shape 3"], input_range: InputRange
) -> Float32[Array, "*shape 3"]:
    """Converts RGB in [0, 255], of any numeric type, to numbers around zero."""
    return (jnp.asarray(pixels, jnp.float32) - input_range.mean) / input_range.deviation
