import jax
import numpy as np
import pytest

from configs import ssd300_voc
from ssd_jax.errors import UserError
from ssd_jax.interop.pytorch_layouts import from_pytorch, ssd_pytorch_layout, torchvision_layout
from ssd_jax.models.network import build_network
from tests.reference_results import carried_json, references


def draw(init, shape, random):
    """A tensor of a reference network, by the recipe beside its outputs."""
    if init == "normal*sqrt(2/fan_in)":
        return random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    if init == "normal*0.05":
        return random.standard_normal(shape) * 0.05
    assert init == "20+normal"
    return random.standard_normal(shape) + 20


@pytest.mark.parametrize(
    ("name", "layout", "num_classes"),
    [
        ("forward_ssd_pytorch_ssd300_voc", ssd_pytorch_layout(), 20),
        ("forward_torchvision_ssd300_vgg16_coco", torchvision_layout(), 90),
    ],
)
def test_forward_pass_equals_the_reference(name, layout, num_classes):
    recipe = carried_json(name)
    seed = recipe["seed"]
    tensors = {
        tensor["name"]: draw(
            tensor["init"], tensor["shape"], np.random.default_rng([seed, tensor["index"]])
        ).astype(np.float32)
        for tensor in recipe["tensors"]
    }
    image = np.random.default_rng([seed, 999999]).standard_normal((1, 300, 300, 3))
    network = build_network(ssd300_voc.get_config().model, num_classes)
    template, _ = network.variable_shapes()
    parameters = from_pytorch(tensors, layout, template)
    (offsets, logits), _ = jax.jit(network.apply, static_argnums=3)(
        parameters, {}, image.astype(np.float32), False
    )
    for reference in references(name):
        rows = reference.get("rows", slice(None))
        for ours, theirs in ((offsets, reference["offsets"]), (logits, reference["logits"])):
            assert ours[:, rows].shape == theirs.shape
            assert np.abs(ours[:, rows] - theirs).max() < 1e-3 * theirs.std()


def test_tensors_that_do_not_fit_are_listed():
    network = build_network(ssd300_voc.get_config().model, num_classes=20)
    template, _ = network.variable_shapes()
    layout = ssd_pytorch_layout()
    with pytest.raises(UserError) as error:
        from_pytorch({"vgg.0.bias": np.zeros(3), "vgg.99.weight": np.zeros(1)}, layout, template)
    message = str(error.value)
    assert "missing: vgg.0.weight" in message
    assert "vgg.0.bias (3,) for (64,)" in message
    assert message.endswith("left over: vgg.99.weight")
