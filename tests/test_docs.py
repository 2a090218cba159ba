"""What the documents name is there."""

import ast
import re
from pathlib import Path

import pytest

from configs import ssd300_voc

ROOT = Path(__file__).parents[1]
RECIPE = (ROOT / "docs" / "recipe.md").read_text()


def names_defined_in(path: Path) -> set[str]:
    """Functions, classes and constants at the top of a file."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("reference", sorted(set(re.findall(r"`([\w/]+\.py::\w+)`", RECIPE))))
def test_the_recipe_names_code_and_tests_that_exist(reference):
    file, name = reference.split("::")
    folder = "tests" if name.startswith("test_") else "ssd_jax"
    assert name in names_defined_in(ROOT / folder / file)


def test_every_row_of_the_recipe_names_code_and_a_test():
    tables = RECIPE.split("## What others do")[0]
    rows = [line for line in tables.splitlines() if line.startswith("| ") and "::" in line]
    headings = tables.count("| paper / Caffe | we | code | test |")
    assert len([line for line in tables.splitlines() if line.startswith("|")]) == (
        len(rows) + 2 * headings
    )
    for row in rows:
        *_, code, tests, _ = row.split("|")
        assert "::" in code and "::test_" in tests


def test_the_recipe_names_options_that_exist():
    config = ssd300_voc.get_config()
    options = set(re.findall(r"`((?:model|loss|augment|data)\.\w+)", RECIPE))
    assert len(options) > 8
    for option in options:
        room, field = option.split(".")
        assert field in config[room]
