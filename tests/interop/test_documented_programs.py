"""The programs on the pages about exported files run without this package."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.serving import serving

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


def documented(page, name):
    """A program of a page, which prints all but the worst detections."""
    text = (DOCS / f"{page}.md").read_text()
    (program,) = re.findall(rf"```python\n(# {re.escape(name)}.*?)```", text, re.DOTALL)
    assert "ssd_jax" not in program and program.count("score > 0.4") == 1
    return program.replace("score > 0.4", "score > 0.01")


@pytest.fixture
def image_and_lines(exported_images, exported_trained, tmp_path):
    """An image file, and the lines that each program must print, sorted."""
    (image, *_), (wanted, *_) = exported_images
    Image.fromarray(image).save(tmp_path / "image.png")
    lines = [
        f"{exported_trained.class_names[label - 1]} {score:.2f} {box.round().astype(int).tolist()}"
        for box, score, label in zip(wanted.boxes, wanted.scores, wanted.labels, strict=True)
    ]
    assert len(lines) > 10
    return "image.png", sorted(lines)


@pytest.mark.parametrize("kind", FOLDERS)
def test_documented_programs_give_the_detections_of_the_detector(
    kind, exported_detector, image_and_lines, tmp_path
):
    image, lines = image_and_lines
    (tmp_path / "detect.py").write_text(documented(kind, "detect.py"))
    place = tmp_path / FOLDERS[kind]
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(exported_detector(kind))
    done = run_without_the_package(tmp_path, "detect.py", image)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == lines


def test_the_program_for_tensorflow_serving(exported_detector, image_and_lines, tmp_path):
    image, lines = image_and_lines
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "1").symlink_to(exported_detector("saved_model"))
    program = documented("saved_model", "ask.py")
    assert "tensorflow" not in program and program.count("localhost:8501") == 1
    with serving(tmp_path / "deploy", "detector") as port:
        (tmp_path / "ask.py").write_text(program.replace(":8501", f":{port}"))
        done = run_without_the_package(tmp_path, "ask.py", image)
        assert done.returncode == 0, done.stderr
        # Not 0.0, which Serving refuses for whole numbers.
        (tmp_path / "ask.py").write_text(
            program.replace(":8501", f":{port}").replace("asarray(square)", "divide(square, 1)")
        )
        refused = run_without_the_package(tmp_path, "ask.py", image)
    assert sorted(done.stdout.splitlines()) == lines
    assert refused.returncode == 1 and "HTTP Error 400" in refused.stderr
