import pytest

from ssd_jax.config.files import load_config
from tools.roofline import convolutions


def test_all_convolutions_of_ssd300_are_counted():
    operations = [each[2] for each in convolutions(load_config("ssd300_voc"))]
    assert len(operations) == 15 + 8 + 6  # VGG16, the extra layers, the heads of each map
    assert sum(operations) / 1e9 == pytest.approx(62.7, abs=0.1)
