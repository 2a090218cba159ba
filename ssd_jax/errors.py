"""Exceptions that end a program with a message: mistakes of users, and interruptions."""

import errno
import importlib.util
import os
import re
import reprlib
import textwrap
from collections.abc import Sequence

TRY_AGAIN = 75  # the exit status EX_TEMPFAIL of sysexits.h: the same command will continue
GOES_ON = "the same command continues"
# Errors of systems when a disk is full; the last one is a limit of the process.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
START_AGAIN = "Start all of them again: they continue from the last checkpoint"

# Of a longer word, the beginning and the end are shown. Paths have up to 4,096 bytes, but rarely
# more than a few hundred.
LONG_WORD = re.compile(r"(\S{300})\S{300,}(\S{300})")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class UserError(ValueError):
    """A mistake of the user; the message names the wrong value and the fix.

    Commands print the message without a traceback, in one line. Line breaks and control
    characters, as in the name of a file or of a class, are escaped. The middle of a very long word
    is left out.
    """

    def __init__(self, message: str):
        super().__init__(LONG_WORD.sub(r"\1…\2", one_line(as_named(message))))


class Interrupted(KeyboardInterrupt):
    """The program was interrupted; the same command continues its work.

    Commands print the message and exit with status 75, "try again". It is a `KeyboardInterrupt`, so
    that code that handles errors does not catch it.
    """


class LostProcessError(RuntimeError):
    """Another process of the run has ended or does not respond.

    Commands print the message and exit with status 75, like `Interrupted`.
    """


class StoreError(RuntimeError):
    """An object store does not respond any more; the cause is not a file in it.

    Commands print the message and exit with status 75. It is not a `UserError`, so that code that
    leaves out damaged images does not leave out intact ones.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM was received: the program removes unfinished files and ends, as after Ctrl-C."""


_shown_instead: dict[str, str] = {}


def shown_instead(path: str, name: str) -> None:
    """Makes messages show `name` instead of `path`, which may be a copy of a remote file."""
    _shown_instead[path] = name


def as_named(text: str) -> str:
    """A message with the names given by the user: see `shown_instead`."""
    for path, name in _shown_instead.items():
        text = text.replace(path, name)
    return text


def one_line(text: str) -> str:
    """A message in one line, with escapes for characters that are not printable.

    Such characters in a file name could end the line or control the terminal.
    """
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode()
        for sign in text
    )


def printable(text: str) -> str:
    """A message of one or more lines, each passed through `one_line`."""
    return "\n".join(map(one_line, text.split("\n")))


def shown(value: object) -> str:
    """A value from a file, for messages: in one line, shortened if it is long."""
    return _short.repr(value)


def reason_of(error: BaseException) -> str:
    """The message of an error in one short line, even if it quotes a file."""
    lines = (getattr(error, "strerror", None) or str(error)).splitlines()
    return textwrap.shorten(lines[0], 200) if lines else type(error).__name__


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 image", "1,200 boxes"."""
    plural = f"{noun}es" if noun.endswith(("s", "x")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def path_text(value: object, name: str) -> str:
    """An argument that is text or a path, as text.

    Raises:
      UserError: it is neither.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise UserError(f"{name} is {value!r}, but must be text or a path")
    return value


def first_names(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many others there are: "a, b and 3 more"."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# Optional packages: the feature that needs one, its name, the extra that installs it.
EXTRAS = {
    "tensorflow": ("training", "TensorFlow", "train"),
    "tensorflow_datasets": ("this data", "TensorFlow Datasets", "train"),
    "array_record": ("this data", "array_record", "train"),
    "tensorboardX": ("training", "tensorboardX", "train"),
    "wandb": ("logging to Weights & Biases", "wandb", "loggers"),
    "mlflow": ("logging to MLflow", "MLflow", "loggers"),
    "keras": ("weights of Keras", "Keras", "train"),
    "h5py": ("weights of Keras", "h5py", "train"),
    "pycocotools": ("evaluation", "pycocotools", "evaluate"),
    "defusedxml": ("reading annotations", "defusedxml", "evaluate"),
    "msgspec": ("reading annotations", "msgspec", "evaluate"),
    "matplotlib": ("a chart", "Matplotlib", "evaluate"),
    "jinja2": ("a report", "Jinja", "evaluate"),
    "psutil": ("a benchmark", "psutil", "benchmark"),
    "av": ("video", "PyAV", "video"),
    "trackers": ("--track", "trackers", "track"),
    "starlette": ("--serve", "Starlette", "page"),
    "uvicorn": ("--serve", "uvicorn", "page"),
    "python_multipart": ("--serve", "python-multipart", "page"),
    "supervision": ("to_supervision", "supervision", "supervision"),
    "gcsfs": ("a path that begins with gs://", "gcsfs", "gcs"),
    "aiohttp": ("a path that begins with gs://", "aiohttp", "gcs"),
    "s3fs": ("a path that begins with s3://", "s3fs", "s3"),
    "huggingface_hub": ("the Hugging Face hub", "huggingface_hub", "hub"),
    "onnx": ("export to ONNX", "ONNX", "onnx"),
    "onnxruntime": ("the engine onnx", "onnxruntime", "onnx"),
    "openvino": ("the engine openvino", "OpenVINO", "openvino"),
    "ai_edge_litert": ("TFLite", "LiteRT", "tflite"),
}


def missing_extra(error: ImportError) -> UserError | None:
    """The error for a failed import of an optional package, with the extra to install; or None."""
    package = (error.name or "").partition(".")[0]
    return missing_package(package) if package in EXTRAS else None


def check_installed(package: str, purpose: str = "") -> None:
    """Raises the `UserError` of `missing_package` if a package of `EXTRAS` is missing."""
    if importlib.util.find_spec(package) is None:
        raise missing_package(package, purpose)


def missing_package(package: str, purpose: str = "") -> UserError:
    """The error for a missing package of `EXTRAS`, with the extra to install.

    Args:
      package: its name in an import statement.
      purpose: the feature that needs it; "" for that of `EXTRAS`.
    """
    usual, name, extra = EXTRAS[package]
    return UserError(
        f"{purpose or usual} needs {name}: pip install -e '.[{extra}]' in the folder of ssd_jax"
    )
