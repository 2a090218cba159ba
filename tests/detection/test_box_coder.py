import jax.numpy as jnp
import numpy as np

from ssd_jax.detection.box_coder import decode, encode
from ssd_jax.detection.boxes import cxcywh_to_xyxy


def test_encode_by_hand():
    default = jnp.array([[0.5, 0.5, 0.2, 0.4]])
    box = cxcywh_to_xyxy(jnp.array([[0.52, 0.46, 0.4, 0.2]]))
    expected = [0.02 / 0.2 / 0.1, -0.04 / 0.4 / 0.1, np.log(2) / 0.2, np.log(0.5) / 0.2]
    np.testing.assert_allclose(encode(box, default), [expected], rtol=1e-5)


def test_decode_is_the_inverse():
    random = np.random.default_rng(0)
    default = random.uniform(0.05, 0.9, (500, 4)).astype(np.float32)
    corners = random.uniform(0, 0.5, (500, 2))
    boxes = np.concatenate([corners, corners + random.uniform(0.01, 0.5, (500, 2))], axis=1)
    np.testing.assert_allclose(decode(encode(boxes, default), default), boxes, atol=1e-5)


def test_an_empty_box_encodes_to_finite_numbers():
    assert np.isfinite(encode(jnp.zeros((1, 4)), jnp.array([[0.5, 0.5, 0.1, 0.1]]))).all()
