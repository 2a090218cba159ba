"""Who may import whom: one way only, from the data and the maths up to the scripts."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "ssd_jax").rglob("*.py"))

# What of our own each package may import, beside itself and the errors.
ALLOWED = {
    "errors": set(),
    "threads": set(),
    "config": {"evaluation", "models"},
    "images": set(),
    "data": {"config", "images", "threads"},
    "detection": set(),
    "distributed": set(),
    "models": {"detection", "distributed"},
    "training": {"config", "detection", "distributed", "models"},
    "evaluation": {"data", "images"},
    "interop": {"config", "data", "detection", "models"},
    "runs": {
        "config",
        "data",
        "detection",
        "distributed",
        "evaluation",
        "images",
        "interop",
        "models",
        "training",
    },
    "inference": {"data", "images", "interop", "models", "runs", "threads"},
    "diagnostics": {"config", "data", "detection", "images", "models", "threads", "training"},
    "benchmark": {
        "config",
        "data",
        "detection",
        "distributed",
        "inference",
        "interop",
        "models",
        "training",
    },
    "cli": {"config", "distributed"},
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
    } == {"benchmark", "data"}
    assert files_importing("orbax") == {"training/checkpoints.py"}
    assert files_importing("keras") == {"interop/keras_weights.py"}
    assert files_importing("keras", top_level_only=True) == set()
    assert not {file for file in files_importing("jax", "flax") if file.startswith("data/")}
    assert files_importing("pycocotools") == {"evaluation/coco.py"}
    assert not {file for file in files_importing("jax") if file.startswith("evaluation/")}


def test_only_one_file_knows_pmap():
    using = {
        str(path.relative_to(ROOT / "ssd_jax"))
        for path in PACKAGE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("pmap", "psum", "device_count")
    }
    assert using == {"distributed/devices.py"}
