import numpy as np
import pytest

from configs import ssdlite300_mobilenetv2_coco
from ssd_jax.config.schema import as_config
from ssd_jax.errors import UserError
from ssd_jax.interop.pytorch_layouts import torchvision_mobilenet_v2_layout
from ssd_jax.interop.renaming import rename
from ssd_jax.models.network import build_network
from ssd_jax.runs.initial_weights import initial_weights
from tests import tiny
from tests.helpers.reference_results import shared

CLASSES = ("a", "b", "c")


def lite_network(backbone="mobilenet_v2_tensorflow"):
    config = ssdlite300_mobilenetv2_coco.get_config()
    config.model.backbone = backbone
    return build_network(as_config(config).model, len(CLASSES))


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory):
    """A MobileNetV2 with torchvision's names and random values."""
    network = lite_network()
    their_names = rename(
        {},
        torchvision_mobilenet_v2_layout(),
        network.variable_shapes(),
        network.tiling.boxes_per_cell,
    ).their_names
    random = np.random.default_rng(0)
    tensors = {}
    parameters, batch_stats = network.variable_shapes()
    for path, name in their_names.items():
        if path.startswith("backbone/"):
            leaf = batch_stats if path.endswith(("mean", "var")) else parameters
            for key in path.split("/"):
                leaf = leaf[int(key) if key.isdigit() else key]
            shape = leaf.shape
            if len(shape) == 4:
                shape = (shape[3], shape[2], shape[0], shape[1])
            tensors[name] = random.standard_normal(shape).astype(np.float32)
    file = tmp_path_factory.mktemp("weights") / "mobilenet.npz"
    np.savez(file, **tensors, surplus=np.zeros(1))
    return file, tensors


@pytest.mark.slow
def test_a_backbone_of_torchvision_is_taken_over(torchvision_file):
    file, tensors = torchvision_file
    result = initial_weights(f"torchvision:{file}", lite_network(), 0, CLASSES)
    told = {name: fate for name, _, fate in result.fates}
    for name, fate in told.items():
        wanted = "taken over" if name.startswith("backbone/") else "new: not in the weights"
        assert fate == wanted
    first = result.variables[0]["backbone"]["first"]["conv"]["kernel"]
    np.testing.assert_array_equal(first, tensors["features.0.0.weight"].transpose(2, 3, 1, 0))
    mean = result.variables[1]["backbone"]["blocks"][3]["depthwise"]["norm"]["mean"]
    np.testing.assert_array_equal(mean, tensors["features.4.conv.1.1.running_mean"])
    assert result.unused == ["surplus"]


@pytest.mark.slow
def test_the_real_mobilenet_is_read_completely():
    file = shared("data") / "weights" / "mobilenet_v2_imagenet_torchvision_layout.npz"
    result = initial_weights(f"torchvision:{file}", lite_network(), 0, CLASSES)
    assert not result.unused
    assert all(
        fate == "taken over" for name, _, fate in result.fates if name.startswith("backbone/")
    )


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
        initial_weights(f"torchvision:{tmp_path / 'other.npz'}", lite_network(), 0, CLASSES)


def test_from_scratch_everything_is_new():
    network = build_network(as_config(tiny.get_config()).model, len(CLASSES))
    result = initial_weights("", network, 0, CLASSES)
    assert result.num_filled == 0 and not result.unused
