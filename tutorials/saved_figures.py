"""A backend of Matplotlib without a display: `plt.show()` saves figures and prints their paths."""

import itertools
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvas  # noqa: F401

FOLDER = Path("runs/figures")
NUMBERS = itertools.count(1)  # of the figures of the program


def use_without_display() -> None:
    """Selects this backend in a tutorial that runs as a program where no window can open."""
    is_program = Path(sys.argv[0]).resolve().parent == Path(__file__).resolve().parent
    if is_program and plt.get_backend().lower() == "agg":
        plt.switch_backend(f"module://{__name__}")


def show(**_: object) -> None:
    """Saves the open figures as `PROGRAM_NUMBER.png` and closes them; Matplotlib calls it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number in plt.get_fignums():
        path = FOLDER / f"{Path(sys.argv[0]).stem}_{next(NUMBERS)}.png"
        plt.figure(number).savefig(path, dpi=100)
        print("figure:", path)
    plt.close("all")
