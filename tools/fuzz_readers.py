"""Reads 10,000 damaged files of all kinds, and counts the outcomes.

    python -m tools.fuzz_readers
    python -m tools.fuzz_readers --files=500 --kinds=checkpoint,export

The files belong to work directories, checkpoints, exports, weights in every layout, configs,
detections, videos, images, and annotations in every format. Two outcomes are correct: the file is
read, or an error of one line names it. Anything else is a fault. More than 10 s of CPU time for a
file (or a minute of wall time, on a busy machine) is a fault too, and so is 1 GB of memory for all
files. After a fault the exit status is 1. 10,000 files take some minutes.
"""

import argparse
import collections
import contextlib
import dataclasses
import logging
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image

from ssd_jax.config.files import load_config
from ssd_jax.data.cut import read_cut
from ssd_jax.data.records import Object
from ssd_jax.data.sources import explicit_sources, open_dataset
from ssd_jax.errors import UserError
from ssd_jax.evaluation.detection_files import read_detections
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.images.opening import open_image
from ssd_jax.interop.caffe_model import NetParameter
from ssd_jax.interop.trained import load_folder
from ssd_jax.interop.weight_files import read_weights
from ssd_jax.runs import workdir
from ssd_jax.runs.trained import load_workdir
from ssd_jax.storage.checksums import CHECKSUMS_FILE
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.metrics_writer import read_metrics
from tools.damage import IMAGES, JSON, SPOIL, TEXT, XML
from tools.formats.noise import picture
from tools.formats.writers import writers
from tools.small_run import copy_export, copy_run
from tools.torch_files import save_legacy, save_zip, state_dict

OBJECTS = (Object("dog", (6, 4, 30, 20)), Object("cat", (0, 0, 60, 40)))
MAX_SECONDS = 10  # of CPU time
MAX_WAITING = 60  # seconds of any kind
MAX_GROWTH = 2**30  # bytes
CHANGES = {".json": JSON, ".jsonl": TEXT, ".xml": XML, ".py": TEXT}


class Slow(BaseException):
    """Reading a file exceeded the time limit."""


@dataclasses.dataclass
class Kind:
    """Files of a kind.

    Attributes:
      files: the files to damage, one at a time, each with its reader.
      share: the share of this kind in all tried files.
    """

    files: dict[Path, Callable[[], object]]
    share: float


@dataclasses.dataclass
class Row:
    """The outcomes of the files of a kind."""

    files: int = 0
    read: int = 0
    errors: int = 0
    faults: int = 0
    longest: float = 0.0


def main() -> None:
    """Reads all files and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000, help="how many damaged files")
    parser.add_argument("--kinds", default="", help="only these kinds, joined by commas")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    rng, rows = random.Random(arguments.seed), collections.defaultdict(Row)
    with tempfile.TemporaryDirectory() as name:
        kinds = make_kinds(Path(name))
        chosen = [kind for kind in arguments.kinds.split(",") if kind] or list(kinds)
        whole = sum(kinds[kind].share for kind in chosen)
        for kind in kinds.values():  # imports and compiles everything before the measurement
            for read in kind.files.values():
                read()
        before = peak_bytes()
        for kind in chosen:
            count = round(arguments.files * kinds[kind].share / whole)
            fuzz(kinds[kind], count, rng, rows[kind])
    growth = peak_bytes() - before
    print(f"{'kind':<16}{'files':>8}{'read':>8}{'errors':>8}{'faults':>8}{'longest s':>11}")
    for kind, row in rows.items():
        numbers = (row.files, row.read, row.errors, row.faults)
        print(f"{kind:<16}" + "".join(f"{each:>8,}" for each in numbers) + f"{row.longest:>11.2f}")
    total = sum(row.files for row in rows.values())
    faults = sum(row.faults for row in rows.values())
    print(f"{total:,} files, {faults} faults, peak memory {growth / 2**20:,.0f} MiB over the start")
    sys.exit(faults > 0 or growth > MAX_GROWTH)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(kind: Kind, count: int, rng: random.Random, row: Row) -> None:
    """Damages the files of a kind in turn, each time one file in one way."""
    intact = {file: file.read_bytes() for file in kind.files}
    for _ in range(count):
        file = rng.choice(list(intact))
        change = rng.choice(CHANGES.get(file.suffix, IMAGES if file.suffix == ".jpg" else SPOIL))
        try:
            content = change(rng, intact[file])
        except (ValueError, IndexError):  # a change of JSON in a file that has no place for it
            continue
        file.write_bytes(content)
        row.files += 1
        began = time.process_time()
        try:
            with time_limit():
                kind.files[file]()
            row.read += 1
        except UserError as error:
            told = str(error)
            if "\n" in told or len(told) > 2000 or not names(told, file):
                row.faults += 1
                print(f"{file} after {change.__name__}: {told[:500]}", file=sys.stderr)
            row.errors += 1
        except (Exception, Slow, SystemExit) as error:
            row.faults += 1
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{last.filename}:{last.lineno}"
            told = f"{type(error).__name__}: {str(error)[:200]}"
            print(f"{file} after {change.__name__}: {told} ({place})", file=sys.stderr)
        row.longest = max(row.longest, time.process_time() - began)
        file.write_bytes(intact[file])


def names(message: str, file: Path) -> bool:
    """Whether a message names a file, or the folder that it belongs to."""
    return any(str(place) in message for place in (file, *list(file.parents)[:-3]))


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """A block with a time limit in seconds."""

    def end(*_: object) -> None:
        raise Slow(f"more than {MAX_SECONDS} s of CPU time, or {MAX_WAITING} s")

    timers = {
        signal.ITIMER_PROF: (signal.SIGPROF, MAX_SECONDS),
        signal.ITIMER_REAL: (signal.SIGALRM, MAX_WAITING),
    }
    for timer, (number, seconds) in timers.items():
        signal.signal(number, end)
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)


def make_kinds(folder: Path) -> dict[str, Kind]:
    """Creates the files of all kinds in a folder."""
    for name in ("work", "old", "shared", "made"):
        (folder / name).mkdir()
    return {
        "work directory": work_directory(copy_run(folder / "work")),
        "checkpoint": checkpoint(copy_run(folder / "old")),
        "export": export(copy_export(folder / "shared")),
        "weights": weights(folder / "made"),
        "config file": config_file(folder / "made"),
        "detections": detections(folder / "made"),
        "video": video(folder / "made"),
        "image": images(folder / "made"),
        "annotations": annotations(folder / "annotations"),
    }


def work_directory(run: Path) -> Kind:
    def described() -> None:
        workdir.read_config(run)
        workdir.read_classes(run)

    def started() -> None:
        with workdir.locked(run), workdir.locked(run):
            pass

    def locked() -> None:
        with contextlib.suppress(UserError):
            started()

    readers: dict[str, Callable[[], object]] = {
        "config.json": described,
        "classes.json": described,
        "format.json": described,
        "metrics.jsonl": lambda: read_metrics(run),
        "split.json": lambda: read_cut(run),
        "starts.jsonl": locked,
        "lock": locked,
    }
    (run / "lock").touch()
    (run / "lock").write_bytes(b"lock")
    return Kind({run / name: read for name, read in readers.items()}, 0.2)


def checkpoint(run: Path) -> Kind:
    """A checkpoint of an older version, without checksums."""
    (run / "checkpoints" / "2" / CHECKSUMS_FILE).unlink()

    def read() -> None:
        load_workdir(run)
        Checkpoints(run / "checkpoints", read_only=True).restore_progress()

    files = sorted(path for path in (run / "checkpoints" / "2").rglob("*") if path.is_file())
    return Kind(dict.fromkeys(files, read), 0.05)


def export(folder: Path) -> Kind:
    """An export of an older version."""
    (folder / CHECKSUMS_FILE).unlink()
    files = (folder / "config.json", folder / "model.safetensors")
    return Kind(dict.fromkeys(files, lambda: load_folder(folder)), 0.1)


def weights(folder: Path) -> Kind:
    tensors = {"a": np.arange(600, dtype=np.float32).reshape(20, 30), "b": np.ones(2, np.float32)}
    np.savez(folder / "weights.npz", **tensors)
    np.savez_compressed(folder / "packed.npz", **tensors)
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(tensors))
    save_zip(folder / "zip.pth", state_dict(tensors))
    save_legacy(folder / "legacy.pth", state_dict(tensors))
    net = NetParameter()
    blob = net.layer.add(name="conv").blobs.add(data=[1, 2, 3, 4])
    blob.shape.dim.extend([2, 2])
    (folder / "net.caffemodel").write_bytes(net.SerializeToString())
    suffixes = (".npz", ".safetensors", ".pth", ".caffemodel")
    files = sorted(path for path in folder.iterdir() if path.suffix in suffixes)
    return Kind({file: lambda file=file: read_weights(str(file)) for file in files}, 0.2)


def config_file(folder: Path) -> Kind:
    file = folder / "own_config.py"
    file.write_text(
        "from configs import quickstart\n\n\ndef get_config():\n"
        "    config = quickstart.get_config()\n    config.batch_size = 4\n"
        "    config.model.width = 0.5\n    return config\n"
    )
    return Kind({file: lambda: load_config(str(file))}, 0.04)


def detections(folder: Path) -> Kind:
    none, boxes = np.zeros(0), np.zeros((0, 4))
    image = ImageResult("1", (40, 60), boxes, none, none, none, none, boxes, none, none)
    found = folder / "detections.json"
    found.write_text('[{"image_id": 1, "category_id": 3, "bbox": [6, 4, 30, 20], "score": 0.5}]')
    (folder / "voc").mkdir()
    of_class = folder / "voc" / "comp4_det_test_dog.txt"
    of_class.write_text("1 0.5 6 4 30 20\n1 0.25 1 1 3 2\n")
    return Kind(
        {
            found: lambda: read_detections(found, [image], ["dog"], [3]),
            of_class: lambda: read_detections(of_class.parent, [image], ["dog"], [3]),
        },
        0.08,
    )


def video(folder: Path) -> Kind:
    import av

    from ssd_jax.inference import video as videos

    file = folder / "clip.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for index in range(6):
            pixels = np.full((64, 96, 3), 40 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))

    def read() -> None:
        with videos._open(videos._import_av(), str(file)) as opened:
            stream = opened.streams.video[0]
            for _ in videos._frames(av, opened, stream, str(file)):
                pass

    return Kind({file: read}, 0.03)


def images(folder: Path) -> Kind:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    files = {}
    for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"):
        file = folder / f"{name}.jpg"
        Image.fromarray(pixels).save(file, name)
        files[file] = lambda file=file: open_image(file)
    return Kind(files, 0.15)


def annotations(folder: Path) -> Kind:
    files = {}
    for name, write in writers().items():
        place = folder / name
        pictures = [picture("one.png", (40, 60), *OBJECTS)]
        write([*pictures, picture("two.png", (40, 60), *OBJECTS[:1], seed=1)], place)
        source = ",".join(explicit_sources(str(place)))
        for file in sorted(place.rglob("*")):
            if file.is_file() and file.suffix != ".png":
                files[file] = lambda source=source: open_dataset(source)
    return Kind(files, 0.15)


if __name__ == "__main__":
    main()
