"""Builds the wheel and the sdist, installs each in a fresh environment, and runs the quick start.

    python -m tools.release_check --pythons=python3.11,python3.12,python3.13

The quick start has only a few steps, and runs outside the checkout. The newest releases of other
packages are installed, or with `--constraint=requirements.lock` those that CI tests. It takes some
minutes per Python version, and 3 GB in the folder for temporary files.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import ssd_jax

ROOT = Path(__file__).parents[1]
STEPS, IMAGES = 20, 3
# Variables that would add packages of a checkout or an environment of this machine.
NOT_OF_A_USER = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "JAX_COMPILATION_CACHE_DIR")
WRITE_IMAGES = "from ssd_jax.data.formats.shapes import write_images; write_images('images', {})"


def expected_files() -> set[str]:
    """The files that a wheel must contain, besides its metadata: the package and the configs."""
    found = set()
    for folder, inside in (("ssd_jax", "ssd_jax"), ("configs", "ssd_jax/configs")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(f"{inside}/{path.relative_to(ROOT / folder).as_posix()}")
    return found


def files_of_wheel(wheel: Path) -> set[str]:
    """The files in a wheel, without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def build(folder: Path) -> list[Path]:
    """Builds the sdist, and the wheel from it; returns both."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    if files_of_wheel(wheel) != expected_files():
        different = sorted(files_of_wheel(wheel) ^ expected_files())
        sys.exit(f"error: the wheel and the checkout differ in {', '.join(different)}")
    return [wheel, sdist]


def check(python: str, file: Path, folder: Path, constraint: str) -> None:
    """Installs a file for an interpreter, trains and detects.

    Args:
      python: the command of the interpreter.
      file: a wheel or an sdist.
      folder: an empty folder for the environment and all outputs.
      constraint: a file with the releases to install; "" for the newest.
    """
    environment, place = folder / "environment", folder / "elsewhere"
    place.mkdir()
    variables = {name: value for name, value in os.environ.items() if name not in NOT_OF_A_USER}
    variables |= {"TFDS_DATA_DIR": str(folder / "tensorflow_datasets"), "PIP_QUIET": "1"}

    def run(*command: object) -> str:
        done = subprocess.run(
            list(map(str, command)), cwd=place, env=variables, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{done.stdout}{done.stderr}error: {' '.join(map(str, command))} failed")
        return done.stdout.strip()

    subprocess.run([python, "-m", "venv", environment], check=True)
    inside = environment / "bin"
    limits = ["--constraint", Path(constraint).resolve()] if constraint else []
    run(inside / "pip", "install", f"{file}[train]", *limits)
    origin = Path(run(inside / "python", "-c", "import ssd_jax; print(ssd_jax.__file__)"))
    assert origin.is_relative_to(environment.resolve()), f"ssd_jax was imported from {origin}"
    assert run(inside / "ssd-jax", "--version") == f"ssd-jax {ssd_jax.__version__}"

    length = (f"--config.steps={STEPS}", f"--config.eval_every={STEPS}")
    run(inside / "ssd-jax", "train", "--config=quickstart", "--workdir=run", *length)
    assert '"eval/mAP"' in (place / "run" / "metrics.jsonl").read_text()
    run(inside / "python", "-c", WRITE_IMAGES.format(IMAGES))
    run(inside / "ssd-jax", "predict", "--workdir=run", "--output=detected", "images")
    assert len(list((place / "detected" / "annotated").glob("*.jpg"))) == IMAGES


def main() -> None:
    """Checks each file with each Python, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pythons", default=sys.executable, help="commands, joined by commas")
    parser.add_argument("--constraint", default="", help="a file like requirements.lock")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as dist:
        for file in build(Path(dist)):
            for python in arguments.pythons.split(","):
                started = time.monotonic()
                with tempfile.TemporaryDirectory() as folder:
                    check(python, file, Path(folder), arguments.constraint)
                seconds = time.monotonic() - started
                print(f"{file.name} with {python}: passed in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
