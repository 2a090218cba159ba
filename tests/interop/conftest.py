"""One detector, exported once to each format that a test needs."""

import functools

import numpy as np
import pytest


@pytest.fixture(scope="session")
def exported_trained():
    """The detector that is exported, in float32 as its files are."""
    from ssd_jax.config.schema import as_config
    from tests import tiny
    from tests.interop.test_onnx import random_trained

    return random_trained(as_config(tiny.get_config()).model)


@pytest.fixture(scope="session")
def exported_detector(exported_trained, tmp_path_factory):
    """The folder of a format, by its name; formats with a field for a licence have one."""
    from ssd_jax.interop.export import LICENSED, Choices, export

    @functools.cache
    def folder(kind):
        made = tmp_path_factory.mktemp(kind)
        choices = Choices(license_name="mit" if kind in LICENSED else "")
        export(kind, exported_trained, str(made), choices)
        return made

    return folder


@pytest.fixture(scope="session")
def exported_images(exported_trained):
    """`[3, size, size, 3]` images of noise, and the detections of the detector."""
    from ssd_jax import Detector
    from ssd_jax.inference.jax_engine import JaxEngine

    size = exported_trained.network.tiling.image_size
    images = np.random.default_rng(3).integers(0, 256, (3, size, size, 3)).astype(np.uint8)
    return images, Detector(JaxEngine(exported_trained))(list(images))
