"""From the pixels of a picture to the numbers that the network reads."""

import jax
import jax.numpy as jnp
import numpy as np

# The mean RGB of ImageNet as Caffe's VGG16 uses it; also what pads a picture.
MEAN_RGB = np.array([123.0, 117.0, 104.0], np.float32)


def normalise(pixels: jax.Array) -> jax.Array:
    """`[..., 3]` RGB in [0, 255], any number type, to float32 around zero (not scaled)."""
    return pixels.astype(jnp.float32) - MEAN_RGB
