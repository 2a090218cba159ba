import pytest

from configs import ssd300_resnet50_coco
from ssd_jax.errors import UserError
from ssd_jax.experiment import _initial_variables
from ssd_jax.models.network import build_network


def test_weights_for_another_backbone_are_refused():
    config = ssd300_resnet50_coco.get_config()
    config.init = "keras:imagenet"
    with pytest.raises(UserError, match="are for the backbone vgg16, not for resnet50"):
        _initial_variables(config, build_network(config.model, num_classes=3))
