"""Who may import whom: one way only, from the data and the maths up to the scripts."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "ssd_jax").rglob("*.py"))

# What of our own each room may import, beside itself and the errors.
ALLOWED = {
    "errors": set(),
    "console": {"parallel"},
    "provenance": set(),
    "nonfinite": {"evaluation"},
    "spelling": set(),
    "config_check": {"evaluation", "models", "spelling"},
    "command_line": {"config_check", "console", "spelling"},
    "cluster": set(),
    "parallel": {"cluster"},
    "detection": set(),
    "models": {"detection", "parallel"},
    "pictures": set(),
    "data": {"class_lists", "pictures", "spelling"},
    "training": {"detection", "models", "parallel"},
    "evaluation": {"class_lists", "detection", "models", "parallel"},
    "interop": {"class_lists", "models"},
    "class_lists": set(),
    "workdir": set(),
    "benchmark": {
        "class_lists",
        "config_check",
        "data",
        "detection",
        "detector",
        "evaluation",
        "models",
        "parallel",
        "predict",
        "trained",
        "training",
    },
    "box_fit": {"config_check", "data", "detection", "models"},
    "inspection": {"config_check", "data", "evaluation", "pictures", "training"},
    "trained": {"interop", "models", "training", "workdir"},
    "initial_weights": {"interop", "models", "trained"},
    "detector": {"evaluation", "pictures", "trained"},
    "background": set(),
    "results_file": {"detector", "workdir"},
    "inputs": set(),
    "predict": {"background", "detector", "inputs", "pictures", "results_file", "video"},
    "video": {"background", "detector"},
    "serve": {"detector", "pictures"},
    "export": {"detection", "interop", "trained", "workdir"},
    "check_data": {"background", "data", "pictures"},
    "evaluate": {
        "class_lists",
        "config_check",
        "data",
        "evaluation",
        "models",
        "parallel",
        "trained",
    },
    "train": {
        "config_check",
        "data",
        "evaluate",
        "evaluation",
        "initial_weights",
        "interop",
        "models",
        "nonfinite",
        "parallel",
        "provenance",
        "training",
        "workdir",
    },
    "sweep": {"config_check", "models", "train", "training", "workdir"},
    "convert": {
        "class_lists",
        "config_check",
        "interop",
        "models",
        "parallel",
        "training",
        "workdir",
    },
}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """The dotted names that a file imports."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(ROOT / "ssd_jax").parts[0].removesuffix(".py")


def packages(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_one_way(path):
    if path == ROOT / "ssd_jax" / "__init__.py":
        return
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("ssd_jax.")}
    assert ours <= ALLOWED[room(path)] | {room(path), "errors"}
    assert not packages(imports(path)) & {"configs", "train", "evaluate"}


def files_importing(*names: str, top_level_only: bool = False) -> set[str]:
    return {
        str(path.relative_to(ROOT / "ssd_jax"))
        for path in PACKAGE
        if packages(imports(path, top_level_only)) & set(names)
    }


def test_heavy_packages_stay_in_their_place():
    assert {
        file.split("/")[0] for file in files_importing("tensorflow", "tensorflow_datasets")
    } == {"data"}
    assert files_importing("orbax") == {"training/checkpoints.py"}
    assert files_importing("keras") == {"interop/keras_weights.py"}
    assert files_importing("keras", top_level_only=True) == set()
    assert not {file for file in files_importing("jax", "flax") if file.startswith("data/")}
    assert files_importing("pycocotools") == {"evaluation/coco.py"}
    assert {file for file in files_importing("jax") if file.startswith("evaluation/")} == {
        "runs/evaluator.py"
    }


def test_only_one_file_knows_pmap():
    using = {
        str(path.relative_to(ROOT / "ssd_jax"))
        for path in PACKAGE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("pmap", "psum", "device_count")
    }
    assert using == {"devices.py"}
