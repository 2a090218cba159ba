"""The tutorials: public names, valid configs, pages that show the current programs."""

import ast
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

import ssd_jax
from tests.helpers.commands import ROOT
from tools import tutorials
from tools.tutorials import SCRIPTS, Cell

FOLDER = ROOT / tutorials.PAGES
README = (ROOT / "README.md").read_text()

every_tutorial = pytest.mark.parametrize("name", SCRIPTS)


def page_of(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text()


def nodes_of(name: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(SCRIPTS[name].read_text())))


@every_tutorial
def test_tutorials_use_public_names(name):
    used = {
        node.attr
        for node in nodes_of(name)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "ssd_jax"
    }
    assert used <= set(ssd_jax.__all__)
    for node in nodes_of(name):
        if isinstance(node, ast.ImportFrom):
            assert not node.module.startswith("ssd_jax")
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("ssd_jax.") for alias in node.names)


@every_tutorial
def test_configs_of_tutorials_exist(name):
    for node in nodes_of(name):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ssd_jax.load_config":
            ssd_jax.load_config(*map(ast.literal_eval, node.args))


def test_all_tutorials_have_the_detector_of_the_first_one():
    files = SCRIPTS["1_train"], ROOT / "tutorials" / "road_signs.py"
    calls = [
        [
            ast.unparse(node)
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("ssd_jax.load_config", "ssd_jax.train")
        ]
        for file in files
    ]
    assert len(calls[0]) == 2 and calls[0] == calls[1]


@every_tutorial
def test_pages_of_tutorials_show_the_current_programs(name):
    page = page_of(name)
    place = 0
    for cell in tutorials.split(SCRIPTS[name].read_text()):
        found = page.find(tutorials.show(cell), place)
        assert found >= 0, f"python -m tools.tutorials --output={tutorials.PAGES}: {cell.source}"
        place = found + 1


def test_the_pages_are_in_the_navigation_and_in_the_readme():
    navigation = re.search(r"^nav:\n(.*)", (ROOT / "mkdocs.yml").read_text(), re.M | re.S)[1]
    (listed,) = (each["Tutorials"] for each in yaml.safe_load(navigation) if "Tutorials" in each)
    assert listed == [f"tutorials/{name}.md" for name in SCRIPTS]
    assert re.findall(rf"{tutorials.PAGES}/(\w+)\.md", README) == list(SCRIPTS)


def test_every_image_is_on_a_page():
    pages = "".join(page_of(name) for name in SCRIPTS)
    assert sorted(re.findall(r"\(images/(.*?)\)", pages)) == sorted(
        path.name for path in (FOLDER / "images").iterdir()
    )


PROGRAM = """\
# %% [markdown]
# # Title
#
# See [data](../docs/data.md), [the next](2_errors.py), [names](../README.md#names) and
# [a site](https://example.com).

# %%
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

number = 1
print("printed", number)
number + 1

# %%
plt.figure(figsize=(2, 1))
plt.plot([0, number])
Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8))
"""


def test_a_program_becomes_a_page_with_outputs_and_figures(tmp_path):
    cells = tutorials.split(PROGRAM)
    assert [cell.is_text for cell in cells] == [True, False, False]
    outputs = tutorials.run("example", cells)
    assert [output.text for output in outputs] == ["", "printed 1\n2", ""]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "example_3.png").touch()  # of an earlier program
    tutorials.write_page("example", cells, outputs, tmp_path)

    page = (tmp_path / "example.md").read_text()
    assert page.startswith("# Title\n\nSee [data](../data.md), [the next](2_errors.md), ")
    assert "[names](../../README.md#names) and\n[a site](https://example.com).\n" in page
    assert "number + 1\n```\n\n```text\nprinted 1\n2\n```\n" in page
    # Noise is smaller as JPEG, a drawing as PNG.
    assert re.findall(r"!\[(.*?)\]\((.*?)\)", page) == [
        ("Title", "images/example_1.jpg"),
        ("Title", "images/example_2.png"),
    ]
    sizes = [Image.open(path).size for path in sorted((tmp_path / "images").iterdir())]
    assert sizes == [(40, 50), (200, 100)]


def test_an_error_of_a_program_is_raised():
    with pytest.raises(ZeroDivisionError):
        tutorials.run("example", [Cell(False, "number = 0\n1 / number")])


def test_a_program_without_display_saves_its_figures_and_prints_their_paths(tmp_path):
    shutil.copy(ROOT / "tutorials" / "saved_figures.py", tmp_path)
    (tmp_path / "9_draw.py").write_text(
        "import matplotlib.pyplot as plt, saved_figures\n"
        "saved_figures.use_without_display()\n"
        "for side in 1, 2:\n"
        "    plt.figure(figsize=(side, 1))\n"
        "    plt.show()\n"
    )
    command = [sys.executable, tmp_path / "9_draw.py"]
    environment = os.environ | {"MPLBACKEND": "agg"}
    printed = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    paths = [f"runs/figures/9_draw_{number}.png" for number in (1, 2)]
    assert printed.splitlines() == [f"figure: {path}" for path in paths]
    assert [Image.open(tmp_path / path).size for path in paths] == [(100, 100), (200, 100)]


def test_boxes_of_the_road_signs_equal_those_of_their_pixels(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tutorials"))
    import road_signs

    random = np.random.default_rng(0)
    inside, outside = [], []  # how much more blue than red there is, at the edges of blue signs
    for _ in range(20):
        image, objects = road_signs.draw_street(random)
        pixels = np.pad(np.asarray(image, int), ((8, 8), (8, 8), (0, 0)), mode="edge")
        for label, (x, y, width, height) in objects:
            if road_signs.CLASS_NAMES[label] == "straight_on":
                for margin, found in ((-3, inside), (3, outside)):
                    half = np.array([width, height]) / 2 * image.width + margin
                    centre = np.array([x, y]) * image.width + 8
                    for edge in ((-1, 0), (1, 0), (0, -1)):
                        column, row = (centre + half * edge).astype(int)
                        found.append(pixels[row, column, 2] - pixels[row, column, 0])
    assert len(inside) >= 30
    assert np.min(inside) > 40 and np.mean(outside) < 20
