"""Commands that are stopped, or whose disk is full, while they write their results."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ssd_jax.data.formats.shapes import write_images
from tools.attacks.attack import ROOT, Attack, check_refused, command
from tools.attacks.outputs import KIND, PARTIAL, contents
from tools.attacks.page_server import tiny_detector


def export_blocked(folder: Path) -> None:
    """An export that fails at its last file leaves the earlier one."""
    from ssd_jax.interop.export import export
    from ssd_jax.interop.trained import load_folder

    trained = load_folder(tiny_detector())
    export("safetensors", trained, str(folder / "out"))
    before = contents(folder)
    limit = _file_limit(20_000)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            limit()
            export("safetensors", trained, str(folder / "out"))
        except OSError:
            status = 0
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 0 and contents(folder) == before


def _file_limit(num_bytes: int) -> Callable[[], None]:
    """Makes the system reject larger files, like a full disk."""
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def start_predict(folder: Path, *more: str) -> subprocess.Popen[str]:
    """Starts `ssd-jax predict` on 400 images in a separate process."""
    if not (folder / "in").exists():
        write_images(str(folder / "in"), 40)
        for i in range(40, 400):
            shutil.copy(folder / "in" / "test_00000.jpg", folder / "in" / f"{i}.jpg")
    arguments = ["predict", f"--weights={tiny_detector()}", f"--output={folder / 'out'}"]
    return subprocess.Popen(
        [sys.executable, "-m", "ssd_jax", *arguments, str(folder / "in"), *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_lines(folder: Path, number: int, process: subprocess.Popen[str]) -> None:
    """Waits until this number of images is finished."""
    for _ in range(1200):
        with contextlib.suppress(OSError):
            if (folder / "out" / PARTIAL).read_bytes().count(b"\n") > number:
                return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it does not begin")


def signalled(number: int, lines: int, folder: Path) -> None:
    """A signal during prediction keeps the finished images, and the earlier result."""
    (folder / "out").mkdir()
    (folder / "out" / "detections.json").write_text("before")
    process = start_predict(folder)
    wait_for_lines(folder, lines, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number), errors[-500:]
    assert "Traceback" not in errors, errors[-1500:]
    assert (folder / "out" / "detections.json").read_text() == "before"
    first, *found = map(json.loads, (folder / "out" / PARTIAL).open())
    assert first["partial"] and len(found) >= lines
    if number != signal.SIGKILL:  # which allows no cleanup
        assert not list(folder.rglob("*.tmp*"))
        assert not (folder / "out" / "lock").exists()


def two_at_once(folder: Path) -> None:
    """Of two runs with one output, the second is rejected, and the first is complete."""
    first = start_predict(folder)
    wait_for_lines(folder, 1, first)
    second = start_predict(folder)
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 2 and "is in use by another process" in errors, errors[-500:]
    assert first.wait(120) == 0
    results = json.loads((folder / "out" / "detections.json").read_text())
    assert len(results["images"]) == 400


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def disk_full(size: str, arguments: Sequence[str], folder: Path) -> None:
    """A command with a full disk reports it in one line, and leaves no unfinished file."""
    write_images(str(folder / "in"), 60)
    with small_disk(folder, size) as disk:
        places = {"disk": disk, "weights": tiny_detector(), "in": folder / "in"}
        result = command(*(each.format(**places) for each in arguments), timeout=120)
        check_refused(result, ["No space left on device"], 2 if arguments[0] == "predict" else 1)
        assert not list(disk.rglob("*.tmp*")), list(disk.rglob("*"))
        assert not list(disk.rglob("detections.json"))
        for line in (disk / "out" / PARTIAL).open() if (disk / "out" / PARTIAL).exists() else ():
            json.loads(line)


PREDICT = ("predict", "--weights={weights}", "--output={disk}/out", "--score_threshold=0", "{in}")
CHECK = ("check-data", "--source=shapes:test", "--records={disk}/records.jsonl")
CONVERT = ("convert-data", "--source=shapes:test[:200]", "--to=coco", "--output={disk}/out")

ATTACKS = [
    Attack(KIND, "export that fails at a file", export_blocked),
    *(
        Attack(
            KIND,
            f"predict ended by {signal.Signals(number).name} after {lines} images",
            functools.partial(signalled, number, lines),
        )
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
        for lines in (1, 100)
    ),
    Attack(KIND, "two predict into one folder", two_at_once),
]
if hasattr(os, "geteuid") and os.geteuid() == 0:  # only root can mount a small disk
    ATTACKS += [
        Attack(KIND, f"{how[0]} on a disk of {size}", functools.partial(disk_full, size, how))
        for size, how in (
            ("4k", PREDICT),
            ("16k", PREDICT),
            ("64k", PREDICT),
            ("256k", PREDICT),
            ("16k", CHECK),
            ("64k", CONVERT),
        )
    ]
