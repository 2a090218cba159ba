import numpy as np
import pytest

from ssd_jax.errors import UserError
from ssd_jax.interop.caffe_model import NetParameter, read_caffe_model


def save(path, blobs, old_shapes=False):
    """A file with a layer for each name, of arrays."""
    net = NetParameter(name="net")
    net.layer.add(name="data", type="Input")
    for name, arrays in blobs.items():
        layer = net.layer.add(name=name, type="Convolution")
        for array in arrays:
            blob = layer.blobs.add(data=np.ravel(array).tolist())
            if old_shapes:
                four = (*(1,) * (4 - array.ndim), *array.shape)
                blob.num, blob.channels, blob.height, blob.width = four
            else:
                blob.shape.dim.extend(array.shape)
    path.write_bytes(net.SerializeToString())


WEIGHT = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
BIAS = np.array([0.5, -0.25], np.float32)


def test_blobs_are_named_by_layer_and_place(tmp_path):
    save(tmp_path / "net.caffemodel", {"conv1_1": [WEIGHT, BIAS], "fc7": [WEIGHT]})
    tensors = read_caffe_model(tmp_path / "net.caffemodel")
    assert list(tensors) == ["conv1_1.0", "conv1_1.1", "fc7.0"]
    np.testing.assert_array_equal(tensors["conv1_1.0"], WEIGHT)
    np.testing.assert_array_equal(tensors["conv1_1.1"], BIAS)


def test_old_files_give_four_dimensions(tmp_path):
    save(tmp_path / "net.caffemodel", {"conv": [WEIGHT, BIAS]}, old_shapes=True)
    tensors = read_caffe_model(tmp_path / "net.caffemodel")
    np.testing.assert_array_equal(tensors["conv.0"], WEIGHT)
    np.testing.assert_array_equal(tensors["conv.1"], BIAS.reshape(1, 1, 1, 2))


def test_damaged_files_give_one_line(tmp_path):
    whole, file = tmp_path / "whole.caffemodel", tmp_path / "part.caffemodel"
    save(whole, {"conv1_1": [WEIGHT, BIAS]})
    content = whole.read_bytes()
    net = NetParameter()
    net.layer.add(name="conv").blobs.add(data=[1.0, 2.0]).shape.dim.extend([3])
    wrong_shape = net.SerializeToString()
    for damaged in (b"", b"hello", b"\x00" * 40, content[:-3], content[:60], wrong_shape):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"part\.caffemodel is not a \.caffemodel") as error:
            read_caffe_model(file)
        assert "\n" not in str(error.value)
