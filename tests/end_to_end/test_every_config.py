"""Networks at the real size of their input; `every_config.py` does the same for all configs."""

import json

import numpy as np
import pytest

from tests.helpers.reference_results import COLLECTION
from tools.every_config import train_and_evaluate

pytestmark = pytest.mark.slow

COCO = COLLECTION / "data" / "coco_tiny"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two real images if they exist, otherwise drawn ones."""
    if not COCO.is_dir():
        return "shapes:test[:2]"
    content = json.loads((COCO / "annotations" / "instances_val2017.json").read_text())
    images = content["images"][:2]
    chosen = {image["id"] for image in images}
    content["images"] = images
    content["annotations"] = [
        annotation for annotation in content["annotations"] if annotation["image_id"] in chosen
    ]
    file = tmp_path_factory.mktemp("coco") / "two.json"
    file.write_text(json.dumps(content))
    return f"coco_json:{file}:{COCO}/val2017"


@pytest.mark.parametrize("name", ["ssd300_coco"])
def test_a_step_and_an_evaluation_at_full_size(name, source):
    result = train_and_evaluate(name, source, source, 1)
    assert np.isfinite(result["train/loss"]) and result["train/loss"] > 0
    assert 0 <= result["eval/mAP"] <= 1
