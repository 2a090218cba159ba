"""A StableHLO file gives the detector's detections, and has no path of this machine."""

from pathlib import Path

import jax.export
import numpy as np

import ssd_jax
from tests.helpers.same_detections import assert_same_detections


def test_detections_do_not_depend_on_the_number_of_images(exported_detector, exported_images):
    content = (exported_detector("stablehlo") / "detector.stablehlo").read_bytes()
    exported, (images, wanted) = jax.export.deserialize(bytearray(content)), exported_images
    for count in (1, len(images)):
        found = {name: np.asarray(array) for name, array in exported.call(images[:count]).items()}
        assert set(found) == {"boxes", "scores", "labels"} and len(found["boxes"]) == count
        for i, ours in enumerate(wanted[:count]):
            assert_same_detections({name: of_all[i] for name, of_all in found.items()}, ours)


def test_exported_source_files_have_no_local_folders(exported_detector):
    content = (exported_detector("stablehlo") / "detector.stablehlo").read_bytes()
    assert b"export.py" in content and str(Path(ssd_jax.__file__).parent).encode() not in content
