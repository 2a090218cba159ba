"""Runs the tutorials and writes their pages, with outputs and figures.

    python -m tools.tutorials --output=docs/tutorials
    python -m tools.tutorials --output=docs/tutorials 1_train 2_errors

A tutorial is a program in `tutorials/`, in the percent format of Jupytext: `# %%` begins a cell of
code, and `# %% [markdown]` a cell of text in comments. As in a notebook, the output of a cell is
the text that it prints, the value of its last expression, and its figures. The programs run in
sequence in a temporary folder, so a later one finds the run of an earlier one. Needs the extras
`train` and `onnx`.
"""

import argparse
import ast
import contextlib
import io
import os
import posixpath
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
from PIL import Image

ROOT = Path(__file__).parents[1]
SCRIPTS = {path.stem: path for path in sorted((ROOT / "tutorials").glob("[0-9]_*.py"))}
PAGES = "docs/tutorials"  # the place of the pages in the project, from which links are relative
TEXT = "[markdown]"
LINK = re.compile(r"\]\(([^):#\s]+)(?=[)#])")  # not those to other sites


class Cell(NamedTuple):
    """A part of a tutorial: `source` is Markdown, or a program."""

    is_text: bool
    source: str


class Output(NamedTuple):
    """The result of a cell: its printed text and its figures."""

    text: str
    figures: list[Image.Image]


def main() -> None:
    """Runs the tutorials that are named, or all."""
    parser = argparse.ArgumentParser(description="Run the tutorials and write their pages.")
    parser.add_argument("--output", type=Path, required=True, help="the folder of the pages")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCRIPTS)}")
    options = parser.parse_args()
    for name in options.names:
        if name not in SCRIPTS:
            parser.error(f"there is no tutorial {name}: known are {', '.join(SCRIPTS)}")
    output = options.output.resolve()
    matplotlib.use("agg")
    warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
    sys.path.insert(0, str(ROOT / "tutorials"))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in options.names or SCRIPTS:
            before = cpu_seconds()
            cells = split(SCRIPTS[name].read_text())
            write_page(name, cells, run(name, cells), output)
            print(f"{name}: {cpu_seconds() - before:.0f} s of CPU time", flush=True)


def cpu_seconds() -> float:
    """The CPU time of this process and its children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def split(program: str) -> list[Cell]:
    """The cells of a program in the percent format."""
    cells = []
    for part in re.split(r"^# %%", program, flags=re.MULTILINE)[1:]:
        kind, _, source = part.partition("\n")
        is_text = kind.strip() == TEXT
        if is_text:
            source = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
        cells.append(Cell(is_text, source.strip()))
    return cells


def run(name: str, cells: list[Cell]) -> list[Output]:
    """Executes the cells of code in turn; the output of text is empty."""
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for number, cell in enumerate(cells):
        printed, figures = io.StringIO(), []
        if not cell.is_text:
            with contextlib.redirect_stdout(printed):
                value = execute(cell.source, f"{name}, cell {number}", names)
                if isinstance(value, Image.Image):
                    figures.append(value)
                elif value is not None:
                    print(repr(value))
            figures += take_figures()
        outputs.append(Output(printed.getvalue().rstrip(), figures))
    return outputs


def execute(source: str, file: str, names: dict[str, Any]) -> Any:
    """Executes a program; returns the value of its last statement, None if it is no expression."""
    tree = ast.parse(source, file)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, file, "exec"), names)
    return last and eval(compile(ast.Expression(last.value), file, "eval"), names)


def take_figures() -> list[Image.Image]:
    """The open figures of Matplotlib as images; closes them."""
    figures = []
    for number in plt.get_fignums():
        encoded = io.BytesIO()
        plt.figure(number).savefig(encoded, dpi=100)
        figures.append(Image.open(encoded).convert("RGB"))
    plt.close("all")
    return figures


def write_page(name: str, cells: list[Cell], outputs: list[Output], folder: Path) -> None:
    """Writes `NAME.md` and its images into `folder/images`; older images of it are removed."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for old in (folder / "images").glob(f"{name}_*"):
        old.unlink()
    parts, heading, count = [], "", 0
    for cell, output in zip(cells, outputs, strict=True):
        parts.append(show(cell))
        heading = (re.findall(r"^#+ (.*)", cell.source, re.MULTILINE) or [heading])[-1]
        if output.text:
            parts.append(f"```text\n{output.text}\n```")
        for figure in output.figures:
            count += 1
            file = save(figure, folder / "images" / f"{name}_{count}")
            parts.append(f"![{heading}](images/{file})")
    parts.append(f"The program of this page: [{name}.py](../../tutorials/{name}.py)")
    (folder / f"{name}.md").write_text("\n\n".join(parts) + "\n")


def show(cell: Cell) -> str:
    """A cell in Markdown, with links as the page has them."""
    if cell.is_text:
        return LINK.sub(lambda link: f"]({from_page(link[1])}", cell.source)
    return f"```python\n{cell.source}\n```"


def from_page(link: str) -> str:
    """A link of a program as a link of its page; other tutorials are their pages there."""
    path = posixpath.normpath(posixpath.join("tutorials", link))
    if path.startswith("tutorials/"):
        path = path.replace("tutorials", PAGES, 1).removesuffix(".py") + ".md"
    return posixpath.relpath(path, PAGES)


def save(figure: Image.Image, path: Path) -> str:
    """Writes a figure as PNG or JPEG, the smaller one; returns the name of the file."""
    choices = {}
    for suffix, options in ((".png", {"optimize": True}), (".jpg", {"quality": 85})):
        encoded = io.BytesIO()
        figure.convert("RGB").save(encoded, Image.registered_extensions()[suffix], **options)
        choices[suffix] = encoded.getvalue()
    suffix = min(choices, key=lambda each: len(choices[each]))
    path.with_suffix(suffix).write_bytes(choices[suffix])
    return path.with_suffix(suffix).name


if __name__ == "__main__":
    main()
