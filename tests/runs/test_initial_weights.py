import numpy as np
import pytest
from flax import nnx

from configs import ssdlite300_mobilenetv2_coco
from ssd_jax.config.schema import as_config
from ssd_jax.data.evaluation_batches import evaluation_batches
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from ssd_jax.interop.formats import read_format
from ssd_jax.interop.pytorch_layouts import torchvision_vgg16_layout
from ssd_jax.interop.renaming import to_pytorch
from ssd_jax.interop.transfer import Classes, flatten, transfer
from ssd_jax.models.network import build_network
from ssd_jax.runs.initial_weights import (
    has_folded_norms,
    initial_weights,
    with_measured_norms,
)
from ssd_jax.runs.train import train
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


def test_a_backbone_of_torchvision_is_imported(tmp_path):
    network = tiny_network()
    parameters, _ = random_variables(network)
    tensors = to_pytorch(({"backbone": parameters["backbone"]}, {}), torchvision_vgg16_layout(), ())
    theirs = {name: tensor for name, tensor in tensors.items() if name.startswith("features.")}
    np.savez(tmp_path / "vgg16.npz", **theirs, surplus=np.zeros(1))
    result = initial_weights(f"torchvision:{tmp_path / 'vgg16.npz'}", network, 0, CLASSES)
    for name, _, status in result.statuses:
        is_theirs = name.startswith("backbone/conv") and "norm" not in name
        assert status == ("copied" if is_theirs else "new: not in the weights")
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


def test_the_form_of_init_is_checked_before_the_data(tmp_path):
    config = as_config(tiny.get_config()).replace({"init": "yolo.pt", "data.train": "voc_xml:none"})
    with pytest.raises(UserError, match=r"^config\.init is 'yolo\.pt', but must be"):
        train(config, tmp_path)


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
def test_weights_without_any_fitting_array_are_rejected(tmp_path):
    np.savez(tmp_path / "other.npz", other=np.zeros(1))
    with pytest.raises(UserError, match="none of its arrays fits the network"):
        initial_weights(f"torchvision:{tmp_path / 'other.npz'}", tiny_network(), 0, CLASSES)


def test_without_init_all_parameters_are_new():
    result = initial_weights("", tiny_network(), 0, CLASSES)
    assert result.num_filled == 0 and not result.unused


def folded(network, scale=1.0):
    """Weights of a backbone whose batch norm was folded into its convolutions."""
    parameters, batch_stats = network.init(1)
    given = flatten(({"backbone": parameters["backbone"]}, {"backbone": batch_stats["backbone"]}))
    constants = {"scale": scale, "mean": 0.0, "var": 1.0, "bias": 0.5}
    return {
        name: np.full_like(array, constants[name.rpartition("/")[2]])
        if name.rpartition("/")[2] in constants
        else array
        for name, array in given.items()
    }


def test_folded_batch_norm_gets_the_statistics_of_training_images():
    network = build_network(as_config(tiny.get_config()).model, len(CLASSES))
    given, boxes = folded(network), network.tiling.boxes_per_cell
    weights = transfer(network.init(0), given, Classes(CLASSES), boxes)
    assert has_folded_norms(weights)
    whole = transfer(network.init(0), folded(network, scale=1.1), Classes(CLASSES), boxes)
    assert not has_folded_norms(whole)
    assert not has_folded_norms(transfer(network.init(0), {}, Classes(CLASSES), boxes))

    train = open_dataset("shapes:train[:3]")
    measured = with_measured_norms(weights, network, train)
    images = next(evaluation_batches(train, image_size=64, batch_size=3))["image"]
    maps = {
        (name, train): network_maps(network, variables.variables, images, train)
        for name, variables in (("folded", weights), ("measured", measured))
        for train in (False, True)
    }
    for before, after, trained in zip(
        maps["folded", False], maps["measured", False], maps["measured", True], strict=True
    ):
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(trained, before, rtol=1e-2, atol=1e-3)
    # Without it the first step changes what the backbone gives.
    assert not np.allclose(maps["folded", True][0], maps["folded", False][0], rtol=0.1, atol=0.1)
    new = flatten(weights.variables)["extras/narrow/0/norm/scale"]
    np.testing.assert_array_equal(flatten(measured.variables)["extras/narrow/0/norm/scale"], new)


def network_maps(network, variables, images, train):
    """The feature maps of the backbone."""
    module = nnx.merge(nnx.graphdef(network._abstract_module), *variables)
    return [np.asarray(fine) for fine in module.backbone(network.normalise(images), train)]
