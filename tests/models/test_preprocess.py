import jax.numpy as jnp
import numpy as np

from ssd_jax.models.preprocess import CAFFE, IMAGENET, normalise


def test_the_mean_is_subtracted_and_nothing_scaled():
    # Caffe: mean_value 104, 117, 123 of blue, green and red.
    pixels = jnp.array([[0, 0, 0], [255, 255, 255], [123, 117, 104]], jnp.uint8)
    np.testing.assert_array_equal(
        normalise(pixels, CAFFE), [[-123, -117, -104], [132, 138, 151], [0, 0, 0]]
    )


def test_imagenet_is_scaled_too():
    # PyTorch: pixels / 255, less 0.485, 0.456, 0.406, over 0.229, 0.224, 0.225.
    pixels = jnp.array([[0, 255, 51]], jnp.uint8)
    expected = [[-0.485 / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]]
    np.testing.assert_allclose(normalise(pixels, IMAGENET), expected, rtol=1e-5)
