"""Measures the CPU time and the memory of opening annotations.

python -m tools.opening_speed coco_json:large/annotations.json:large/images
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import open_dataset, open_part

Opened = TypeVar("Opened")


def main(arguments: Sequence[str] | None = None) -> None:
    """Opens the annotations, then the data set with a check of every image; prints both times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="FORMAT:ARGUMENT:…")
    given = parser.parse_args(arguments)
    part = _measured("annotations", lambda: open_part(given.source, Problems()))
    print(f"{len(part):,} images")
    del part
    _measured("data set", lambda: open_dataset(given.source))


def _measured(name: str, open_it: Callable[[], Opened]) -> Opened:
    start, processor = time.perf_counter(), time.process_time()
    opened = open_it()
    seconds, own = time.perf_counter() - start, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mebibytes = peak / (2**20 if sys.platform == "darwin" else 2**10)
    print(f"{name}: {own:.1f} s of processor time, {seconds:.1f} s, peak {mebibytes:,.0f} MiB")
    return opened


if __name__ == "__main__":
    main()
