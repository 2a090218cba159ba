"""The package as it is installed: dependencies, extras, and the public names."""

import ast
import importlib.metadata
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ssd_jax
from ssd_jax.errors import EXTRAS, UserError, check_installed
from ssd_jax.interop.trained import save_folder
from tests.helpers.commands import ROOT
from tests.helpers.random_detector import random_trained
from tools.release_check import expected_files, files_of_wheel

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Where the name of a distribution is not that of its package.
DISTRIBUTIONS = {
    "absl": "absl-py",
    "ai_edge_litert": "ai-edge-litert",
    "google": "protobuf",
    "ml_collections": "ml-collections",
    "ml_dtypes": "ml-dtypes",
    "mlflow": "mlflow-skinny",
    "orbax": "orbax-checkpoint",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "tensorflow_datasets": "tensorflow-datasets",
}


def names(requirements):
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}


def extra(name):
    """The distributions of an extra, with those of the extras that it names."""
    found = set()
    for requirement in PROJECT["optional-dependencies"][name]:
        inner = re.match(r"ssd_jax\[(.*)\]", requirement)
        found |= set().union(*map(extra, inner[1].split(","))) if inner else names([requirement])
    return found


def imported(folder="ssd_jax"):
    """Third-party packages that the code imports."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"ssd_jax", "configs"}


def test_every_import_is_declared_where_it_is_needed():
    core = names(PROJECT["dependencies"])
    for package in imported():
        distribution = DISTRIBUTIONS.get(package, package)
        if package in EXTRAS:
            assert distribution in extra(EXTRAS[package][2]) - core
        else:
            assert distribution in core


def test_nothing_else_is_declared():
    used = {DISTRIBUTIONS.get(package, package) for package in imported()}
    assert names(PROJECT["dependencies"]) <= used | {"flatbuffers"}
    # TensorFlow by its name on most machines; what TFDS needs; what shows curves.
    others = {"tensorflow-cpu", "importlib_resources", "tensorboard"}
    others |= {"python-multipart"}  # what Starlette reads forms with
    others |= {"alembic"}  # what MLflow keeps its database with
    extras = set(PROJECT["optional-dependencies"]) - {"dev"}
    assert set().union(*map(extra, extras)) <= used | others


def test_releases_of_jax_have_no_upper_limit():
    ranges = [each for each in PROJECT["dependencies"] if re.match(r"jax|flax", each)]
    assert len(ranges) == 3 and not any("<" in each for each in ranges)


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_the_files_of_requirements_name_extras_alone(file):
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    (extras,) = re.findall(r"^--editable \.\[(.*)\]$", "\n".join(lines), flags=re.MULTILINE)
    assert len(lines) == 1 and set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def locked():
    """The release of each distribution in the lock file."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_the_lock_file_has_a_release_of_each_package_within_its_range():
    versions = locked()
    extras = PROJECT["optional-dependencies"].values()
    for text in itertools.chain(PROJECT["dependencies"], *extras):
        requirement = Requirement(text)
        on_linux = {"platform_machine": "x86_64", "sys_platform": "linux"}
        if requirement.name != PROJECT["name"] and (
            not requirement.marker or requirement.marker.evaluate(on_linux)
        ):
            version = versions[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), text


def test_the_wheel_contains_the_package_and_its_configs(tmp_path):
    wheel = Path(next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path))))
    files = files_of_wheel(wheel)
    assert files == expected_files()
    assert files >= {
        "ssd_jax/py.typed",
        "ssd_jax/configs/quickstart.py",
        "ssd_jax/evaluation/pages/report.html.jinja",
        "ssd_jax/inference/page/static/index.html",
    }
    assert wheel.name == f"ssd_jax-{ssd_jax.__version__}-py3-none-any.whl"


def test_the_changelog_begins_with_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (\S+)$", text, flags=re.MULTILINE)[0] == ssd_jax.__version__


def test_commit_hooks_equal_the_checks_of_ci():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = {hook["entry"] for hook in local["hooks"]}
    last = (ROOT / ".ci" / "run").read_text().rpartition("section ")[2].splitlines()[1:]
    assert {line.removesuffix(" .") for line in last} == hooks
    assert {hook.split()[0] for hook in hooks} <= names(PROJECT["optional-dependencies"]["dev"])


def test_the_citation_names_this_project_without_a_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["title"].startswith(PROJECT["name"])
    assert citation["license"] == PROJECT["license"]
    assert "version" not in citation


def test_public_names_are_there():
    assert set(ssd_jax.__all__) <= set(dir(ssd_jax))
    for name in ssd_jax.__all__:
        assert getattr(ssd_jax, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'detectt'"):
        _ = ssd_jax.detectt
    assert re.fullmatch(r"\d+\.\d+\.\d+", ssd_jax.__version__)


def brought_by_the_core():
    """The distributions that `pip install` of the core installs."""
    # The project too is installed, as an editable package.
    found, waiting = {canonicalize_name(PROJECT["name"])}, list(PROJECT["dependencies"])
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += importlib.metadata.requires(name) or []
    return found


def packages_of_others():
    """Installed packages that the core does not install."""
    core = brought_by_the_core()
    return [
        package
        for package, distributions in importlib.metadata.packages_distributions().items()
        if not core & set(map(canonicalize_name, distributions))
    ]


WITHOUT_OTHERS = """
import sys
folder, output, *others = sys.argv[1:]
for name in others:
    sys.modules[name] = None
import jax
import numpy as np
import ssd_jax
from ssd_jax.interop.export import export
from ssd_jax.interop.trained import load_folder
from ssd_jax.runs import import_weights, trained

detections = ssd_jax.Detector.from_pretrained(folder)(np.zeros((50, 40, 3), np.uint8))
print(len(detections.boxes) == len(detections.scores))
for kind in ("safetensors", "stablehlo"):
    export(kind, load_folder(folder), output)
ssd_jax.load_config("ssd300_voc"), ssd_jax.build_network, ssd_jax.multibox_loss
try:
    ssd_jax.train
except ssd_jax.errors.UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_detecting_and_exporting_need_no_extra(tmp_path):
    others = packages_of_others()
    assert {"tensorflow", "pycocotools", "matplotlib", "jinja2", "defusedxml"} <= set(others)
    save_folder(random_trained(), tmp_path / "detector")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_OTHERS, tmp_path / "detector", tmp_path / "output", *others],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.splitlines() == [
        "True",
        "training needs TensorFlow: pip install -e '.[train]' in the folder of ssd_jax",
    ], done.stderr
    assert {path.name for path in (tmp_path / "output").iterdir()} >= {
        "model.safetensors",
        "detector.stablehlo",
    }


def test_a_missing_extra_is_named_with_its_command(monkeypatch):
    check_installed("tensorflow")
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[evaluate\]'"):
        check_installed("pycocotools")
