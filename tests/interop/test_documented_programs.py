"""The programs of the pages about exported files run where this package is not installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs"
# Where each program looks for the folder that was exported.
FOLDERS = {
    "onnx": "deploy",
    "tflite": "deploy",
    "saved_model": "deploy/1",
    "stablehlo": "deploy",
}
BLOCKED = 'raise ImportError("documented programs do without ssd_jax")\n'


def run_without_the_package(folder, *arguments):
    """Runs Python in a folder, where the first `ssd_jax` on the path is one that fails."""
    blocker = folder / "blocker"
    blocker.mkdir(exist_ok=True)
    (blocker / "ssd_jax.py").write_text(BLOCKED)
    environment = os.environ | {"PYTHONPATH": str(blocker), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_package_cannot_be_imported_there(tmp_path):
    done = run_without_the_package(tmp_path, "-c", "import ssd_jax")
    assert done.returncode == 1 and "programs do without ssd_jax" in done.stderr


@pytest.mark.parametrize("kind", FOLDERS)
def test_it_detects_what_the_detector_does(
    kind, exported_detector, exported_images, exported_trained, tmp_path
):
    (program,) = re.findall(
        r"```python\n(# detect\.py.*?)```", (DOCS / f"{kind}.md").read_text(), re.DOTALL
    )
    assert "ssd_jax" not in program and program.count("score > 0.3") == 1
    (tmp_path / "detect.py").write_text(program.replace("score > 0.3", "score > 0.01"))
    place = tmp_path / FOLDERS[kind]
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(exported_detector(kind))
    (image, *_), (wanted, *_) = exported_images
    Image.fromarray(image).save(tmp_path / "image.png")
    done = run_without_the_package(tmp_path, "detect.py", "image.png")
    assert done.returncode == 0, done.stderr
    lines = [
        f"{exported_trained.class_names[label - 1]} {score:.2f} {box.round().astype(int).tolist()}"
        for box, score, label in zip(wanted.boxes, wanted.scores, wanted.labels, strict=True)
    ]
    assert len(lines) > 10 and sorted(done.stdout.splitlines()) == sorted(lines)
