"""Everything except training batches and sets of TFDS works without TensorFlow."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.pictures import VocFolder, write_coco

PROGRAM = """
import sys

for name in ("tensorflow", "tensorflow_datasets"):
    sys.modules[name] = None  # to import it is an error

from ssd_jax.config.schema import Config
from ssd_jax.data.evaluation_batches import evaluation_batches, read_images, read_objects
from ssd_jax.data.formats.shapes import write_images
from ssd_jax.data.sources import open_dataset
from ssd_jax.diagnostics import show_data  # its training batches alone need TensorFlow
from ssd_jax.diagnostics.check_data import check_data
from ssd_jax.diagnostics.fit_boxes import fit_boxes

voc, coco = sys.argv[1:]
dataset = open_dataset(f"{voc},{coco}")
(batch,) = evaluation_batches(dataset, image_size=32, batch_size=4)
assert batch["mask"].tolist() == [True, True, True, False]
assert [record.image_id for record, _ in read_objects(dataset)] == ["one", "two", "7"]
assert read_images(dataset, ["two"])["two"].pixels.shape == (40, 60, 3)
assert check_data(f"{voc},{coco}").num_images == 3
assert fit_boxes(Config().replace({"model.width": 0.1}), voc).num_images == 2
try:
    open_dataset("shapes:test")
except ImportError:
    print("done")
"""


@pytest.mark.slow
def test_folders_are_read_evaluated_and_checked(tmp_path):
    voc = VocFolder(tmp_path / "voc")
    for name in ("one", "two"):
        voc.add(name, [("dog", 6, 4, 30, 20)])
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 60, "height": 40}],
        "categories": [{"id": 3, "name": "dog"}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [6, 4, 30, 20]}],
    }
    sources = [voc.split("all", "one", "two"), write_coco(tmp_path / "coco", content)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *sources],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "done\n", done.stderr
