import numpy as np
import pytest

from configs import ssdlite300_mobilenetv2_coco
from ssd_jax.config.schema import as_config
from ssd_jax.errors import UserError
from ssd_jax.interop.formats import read_format
from ssd_jax.interop.pytorch_layouts import torchvision_vgg16_layout
from ssd_jax.interop.renaming import to_pytorch
from ssd_jax.interop.transfer import flatten
from ssd_jax.models.network import build_network
from ssd_jax.runs.initial_weights import initial_weights
from tests import tiny
from tests.helpers.random_variables import random_variables
from tests.helpers.reference_results import shared

CLASSES = ("a", "b", "c")


def tiny_network():
    config = tiny.get_config()
    config.model.batch_norm = False
    return build_network(as_config(config).model, len(CLASSES))


def lite_network(backbone="mobilenet_v2_tensorflow"):
    config = ssdlite300_mobilenetv2_coco.get_config()
    config.model.backbone = backbone
    return build_network(as_config(config).model, len(CLASSES))


def test_a_backbone_of_torchvision_is_taken_over(tmp_path):
    network = tiny_network()
    parameters, _ = random_variables(network)
    tensors = to_pytorch(({"backbone": parameters["backbone"]}, {}), torchvision_vgg16_layout(), ())
    theirs = {name: tensor for name, tensor in tensors.items() if name.startswith("features.")}
    np.savez(tmp_path / "vgg16.npz", **theirs, surplus=np.zeros(1))
    result = initial_weights(f"torchvision:{tmp_path / 'vgg16.npz'}", network, 0, CLASSES)
    for name, _, fate in result.fates:
        is_theirs = name.startswith("backbone/conv") and "norm" not in name
        assert fate == ("taken over" if is_theirs else "new: not in the weights")
    first = result.variables[0]["backbone"]["conv1_1"]["conv"]["kernel"]
    np.testing.assert_array_equal(first, tensors["features.0.weight"].transpose(2, 3, 1, 0))
    assert result.num_filled == 26 and result.unused == ["surplus"]


@pytest.mark.slow
def test_the_real_mobilenet_is_read_completely():
    file = shared("data") / "weights" / "mobilenet_v2_imagenet_torchvision_layout.npz"
    network = lite_network()
    foreign = read_format("torchvision", str(file), network)
    assert not foreign.left_over
    wanted = {name: array.shape for name, array in flatten(network.variable_shapes()).items()}
    assert {name: array.shape for name, array in foreign.arrays.items()} == {
        name: shape for name, shape in wanted.items() if name.startswith("backbone/")
    }


@pytest.mark.parametrize(
    "init, complaint",
    [
        ("magic", r"is 'magic', but must be \"\" \(from scratch\), \"run:WORKDIR\""),
        ("torchvision:", "is 'torchvision:', but must be"),
        ("torchvision:/no/such.npz", "/no/such.npz cannot be read"),
        ("run:/no/such", "/no/such is not the work directory of a run"),
        ("keras:imagenet", "weights of keras are for the backbone vgg16, .*, not for mobilenet_v2"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_named(init, complaint):
    with pytest.raises(UserError, match=complaint):
        initial_weights(init, lite_network("mobilenet_v2"), 0, CLASSES)


@pytest.mark.slow
def test_files_that_are_not_archives_are_refused(tmp_path):
    for name, content in (("text.npz", b"hello"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} cannot be read"):
            initial_weights(f"torchvision:{tmp_path / name}", lite_network(), 0, CLASSES)
    np.save(tmp_path / "one.npz.npy", np.zeros(3))
    (tmp_path / "one.npz.npy").rename(tmp_path / "one.npz")
    with pytest.raises(UserError, match=r"one\.npz cannot be read"):
        initial_weights(f"torchvision:{tmp_path / 'one.npz'}", lite_network(), 0, CLASSES)


@pytest.mark.slow
def test_nothing_that_fits_is_an_error(tmp_path):
    np.savez(tmp_path / "other.npz", other=np.zeros(1))
    with pytest.raises(UserError, match="none of its arrays fits the network"):
        initial_weights(f"torchvision:{tmp_path / 'other.npz'}", tiny_network(), 0, CLASSES)


def test_from_scratch_everything_is_new():
    result = initial_weights("", tiny_network(), 0, CLASSES)
    assert result.num_filled == 0 and not result.unused
