import jax.numpy as jnp
import numpy as np

from ssd_jax.models.preprocess import normalise


def test_the_mean_is_subtracted_and_nothing_scaled():
    # Caffe: mean_value 104, 117, 123 of blue, green and red.
    pixels = jnp.array([[0, 0, 0], [255, 255, 255], [123, 117, 104]], jnp.uint8)
    np.testing.assert_array_equal(
        normalise(pixels), [[-123, -117, -104], [132, 138, 151], [0, 0, 0]]
    )
