"""The structure of the package: who imports whom, where heavy packages are imported, and sizes."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ssd_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
TOOLS = sorted((ROOT / "tools").rglob("*.py"))

# What each package may import of ours, beside itself and `errors`. The order is the layering:
# every package imports only packages above its own line.
ALLOWED = {
    "errors": set(),
    "threads": set(),
    "progress": set(),
    "config": set(),
    "storage": set(),
    "images": {"storage"},
    "data": {"config", "images", "progress", "storage", "threads"},
    "detection": {"config"},
    "distributed": set(),
    "models": {"config", "detection"},
    "training": {"config", "detection", "distributed", "models", "progress", "storage"},
    "evaluation": {"data", "images", "progress", "storage"},
    "interop": {"config", "data", "detection", "models", "progress", "storage"},
    "runs": {
        "config",
        "data",
        "detection",
        "distributed",
        "evaluation",
        "images",
        "interop",
        "models",
        "progress",
        "storage",
        "threads",
        "training",
    },
    "inference": {
        "config",
        "data",
        "distributed",
        "evaluation",
        "images",
        "interop",
        "models",
        "runs",
        "progress",
        "storage",
        "threads",
    },
    "diagnostics": {
        "config",
        "data",
        "detection",
        "images",
        "models",
        "progress",
        "storage",
        "threads",
        "training",
    },
    "benchmark": {
        "config",
        "data",
        "detection",
        "distributed",
        "inference",
        "interop",
        "models",
        "storage",
        "training",
        "threads",
    },
    "cli": {
        "benchmark",
        "config",
        "data",
        "diagnostics",
        "distributed",
        "evaluation",
        "inference",
        "interop",
        "runs",
        "storage",
    },
}

MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 350, 60, 8
LONG_FILES = {
    "ssd_jax/config/schema.py": "every field of a config is documented there, and only there",
}
LONG_FUNCTIONS: dict[str, str] = {}
MANY_PARAMETERS: dict[str, str] = {}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


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


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def distributions(path: Path, top_level_only: bool = False) -> set[str]:
    """The first parts of the names that a file imports."""
    return {name.split(".")[0] for name in imports(path, top_level_only)}


def files_importing(*names: str, top_level_only: bool = False) -> set[str]:
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if distributions(path, top_level_only) & set(names)
    }


def test_the_table_has_an_entry_for_each_package_and_no_other():
    assert len(ALLOWED) <= 18
    packages = {package_of(path) for path in FILES} - {"__init__", "__main__"}
    assert packages <= set(ALLOWED)


def test_the_root_of_the_package_has_no_other_modules():
    assert {path.name for path in PACKAGE.glob("*.py")} <= {
        "__init__.py",
        "__main__.py",
        "errors.py",
        "progress.py",
        "threads.py",
    }


def test_packages_import_one_way():
    order = list(ALLOWED)
    for package, allowed in ALLOWED.items():
        assert all(order.index(name) < order.index(package) for name in allowed), package
    # The same by a topological sort, which raises an error that names the cycle.
    graphlib.TopologicalSorter(ALLOWED).prepare()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_only_what_its_package_may(path):
    assert not distributions(path) & {"configs", "tools", "tests", "train", "evaluate"}
    package = package_of(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("ssd_jax.")}
    if package == "__main__":
        assert ours <= {"cli"}
    elif package != "__init__":
        assert ours <= ALLOWED[package] | {package, "errors"}


@pytest.mark.parametrize("path", TOOLS, ids=name_of)
def test_tools_import_no_tests(path):
    assert "tests" not in distributions(path)


@pytest.mark.slow
def test_heavy_packages_are_imported_only_in_named_files():
    # Training batches and their benchmark, sets of TFDS, export to TFLite and SavedModel.
    by_way_of = "ssd_jax.data.tensorflow_setup"
    assert files_importing("tensorflow", "tensorflow_datasets") | {
        path.relative_to(PACKAGE).as_posix() for path in FILES if by_way_of in imports(path)
    } == {
        "benchmark/input_pipeline.py",
        "data/custom_stage.py",
        "data/damage.py",
        "data/formats/shapes_builder.py",
        "data/formats/shards.py",
        "data/formats/tfds_records.py",
        "data/formats/tfds_slices.py",
        "data/geometry.py",
        "data/mosaic.py",
        "data/reading.py",
        "data/rendering.py",
        "data/tensorflow_setup.py",
        "data/training_batches.py",
        "data/training_order.py",
        "interop/saved_model.py",
        "interop/tflite_detector.py",  # its converter
        "interop/tflite_network.py",
    }
    assert files_importing("orbax") == {"training/checkpoints.py"}
    assert files_importing("keras") == {"interop/keras_weights.py"}
    assert files_importing("keras", top_level_only=True) == set()
    assert files_importing("pycocotools") == {"evaluation/coco.py"}
    for package in ("config", "data", "evaluation", "images", "storage"):
        using = files_importing("jax", "flax", "optax")
        assert not {file for file in using if file.startswith(f"{package}/")}


# Modules whose data can run code when it is read.
RUN_CODE = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def reads_what_runs_code(path: Path) -> bool:
    """Whether a file imports a module that executes code, or allows NumPy to read pickles."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {node.func.attr for node in calls if isinstance(node.func, ast.Attribute)}
    allows = any(
        keyword.arg == "allow_pickle"
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        for node in calls
        for keyword in node.keywords
    )
    return bool(distributions(path) & RUN_CODE or names & {"read_pickle", "to_pickle"} or allows)


def test_reading_files_cannot_run_code():
    # Foreign weights are pickles, too: `interop/pickle_reader.py` reads them without running them.
    assert not {name_of(path) for path in FILES if reads_what_runs_code(path)}


def test_numpy_loads_without_pickles():
    # It is so by default since 1.16.3; here it stands in the code.
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func) in ("np.load", "numpy.load")
            ):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("allow_pickle") == "False", name_of(path)


def test_only_one_file_knows_pmap():
    using = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("pmap", "psum", "device_count")
    }
    assert using == {"distributed/devices.py"}


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


def num_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The number of parameters of a function, without `self`, `cls`, `*args` and `**kwargs`."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_every_exception_has_a_reason():
    exceptions = LONG_FILES | LONG_FUNCTIONS | MANY_PARAMETERS
    assert all(len(reason) > 10 for reason in exceptions.values())
    assert all((ROOT / name.partition("::")[0]).is_file() for name in exceptions)


@pytest.mark.parametrize("path", [*FILES, *TOOLS], ids=name_of)
def test_files_and_functions_are_small(path):
    file = name_of(path)
    if len(path.read_text().splitlines()) > MAX_FILE:
        assert file in LONG_FILES
    for function in functions(path):
        name = f"{file}::{function.name}"
        if function.end_lineno - function.lineno >= MAX_FUNCTION:
            assert name in LONG_FUNCTIONS
        if num_parameters(function) > MAX_PARAMETERS:
            assert name in MANY_PARAMETERS
