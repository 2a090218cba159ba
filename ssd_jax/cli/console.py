"""Messages of commands on the terminal, and errors in one line."""

import codecs
import contextlib
import errno
import io
import logging
import os
import re
import select
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import NoReturn

from ssd_jax.cli import early_signals
from ssd_jax.cli.early_signals import CONTROL_C
from ssd_jax.errors import (
    GOES_ON,
    NO_SPACE,
    START_AGAIN,
    TRY_AGAIN,
    Interrupted,
    LostProcessError,
    StoreError,
    Terminated,
    UserError,
    as_named,
    missing_extra,
    one_line,
    printable,
)
from ssd_jax.storage.caches import cache_folder
from ssd_jax.storage.copies import remove_copies

MAX_COMPILED_BYTES = 2 * 2**30  # the least recently used programs are removed first
KEPT_FROM = 0.1  # seconds; a program that compiles faster is not cached
TERMINATED = 143  # the status that shells report for a program that SIGTERM ended
CLOSED_PIPE = 141  # and for one that wrote to `| head` after `head` had ended
# Replacements of our non-ASCII characters, for terminals and files without UTF-8.
PLAIN = {"–": "-", "—": "-", "…": "...", "×": "x", "²": "2", "≥": ">=", "≤": "<=", "→": "->"}

# Errors of the system that a wrong path of the user causes.
OF_A_PATH = (
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)

# The beginnings of errors of JAX's runtime: a status code.
# The second form appears while processes exchange their devices. INTERNAL is left out there,
# because it rather means a broken driver.
RUNTIME_ERROR = re.compile(
    "(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED):"
    "|Unable to initialize backend '[a-z]+': (UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED):"
)


def escape_unencodable() -> None:
    """Makes standard output and errors replace characters that their encoding lacks.

    The characters of `PLAIN` become ASCII, others escapes like `\\u732b`.
    """

    def replaced(error: UnicodeError) -> tuple[str | bytes, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        sign = error.object[error.start]
        if sign in PLAIN:
            return PLAIN[sign], error.start + 1
        one = UnicodeEncodeError(
            error.encoding, error.object, error.start, error.start + 1, error.reason
        )
        return codecs.backslashreplace_errors(one)

    codecs.register_error("ssd_jax.plain", replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ssd_jax.plain")


@contextlib.contextmanager
def session(failure_status: int = 1) -> Iterator[None]:
    """Shows the messages of this package; errors end the program: see `one_line_errors`.

    Programs that JAX compiles are kept in the user's cache folder for the next start.
    """
    import absl.logging
    from tqdm.contrib.logging import logging_redirect_tqdm

    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    logger = logging.getLogger("ssd_jax")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # JAX, Orbax and TFDS log every backend that they try and every file that they open; Orbax also
    # logs the errors that it raises.
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger().setLevel(logging.CRITICAL)
    _keep_compiled()
    with logging_redirect_tqdm([logger]), one_line_errors(failure_status):
        yield


@contextlib.contextmanager
def one_line_errors(failure_status: int = 1) -> Iterator[None]:
    """Ends the program with one line after a mistake of the user or an error of the system.

    Args:
      failure_status: the exit status after a `UserError`. After `Interrupted`, and after the loss
        of another process of the run or of an object store, it is 75: the same command will
        continue.
    """
    try:
        yield
    except UserError as error:
        _end(f"error: {error}", failure_status)
    except Interrupted as error:
        _end(f"{error}; {GOES_ON}", TRY_AGAIN)
    except LostProcessError as error:
        _end(f"error: {error}. {START_AGAIN}", TRY_AGAIN)
    except StoreError as error:
        _end(f"error: {error}", TRY_AGAIN)
    except Terminated:
        _end("stopped by SIGTERM", TERMINATED)
    except KeyboardInterrupt:
        _end("stopped by Ctrl-C", CONTROL_C)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        _end(f"error: {missing}", failure_status)
    except BrokenPipeError:
        if not _is_output_closed():
            raise
        _end("", CLOSED_PIPE)
    except OSError as error:
        # Only errors of the system, about a file or a connection, have a number.
        if error.errno is None:
            raise
        _end(f"error: {_describe_system_error(error)}", failure_status)
    except MemoryError as error:
        told = f" ({one_line(str(error))})" if str(error) else ""
        _end(f"error: there is not enough memory{told}", failure_status)
    except Exception as error:
        if not _joined_others():
            raise
        if not (isinstance(error, ValueError | RuntimeError) and RUNTIME_ERROR.match(str(error))):
            # End the process, so that the others do not wait for it.
            traceback.print_exc()
            _end(f"error: {type(error).__name__}: {str(error)[:500]}", 1)
        _end(
            "error: the connection to another process of the run broke; it may have been "
            f"killed, and its own output may say why ({str(error).splitlines()[0]}). {START_AGAIN}",
            TRY_AGAIN,
        )


class _Formatter(logging.Formatter):
    """Formats messages with printable characters only, also if names contain others."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(as_named(super().format(record)))


def _describe_system_error(error: OSError) -> str:
    """A system error in words: the file, the reason and the fix."""
    reason = error.strerror or os.strerror(error.errno or 0)
    if error.errno in NO_SPACE:
        what = error.filename2 or error.filename or "a file"  # filename2: the target of a copy
        return one_line(f"{_path(what)} cannot be written: {reason}")
    if error.filename is None:
        return f"{reason} (error {error.errno} of the system)"
    told = one_line(f"{_path(error.filename)}: {reason}")
    return f"{told}: name another path" if error.errno in OF_A_PATH else told


def _path(name: object) -> str:
    """The path of an error as text."""
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)


def _keep_compiled() -> None:
    """Switches on JAX's cache of compiled programs, unless JAX's settings name another folder.

    Without a writable folder the program runs without the cache.
    """
    import jax

    folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if folder is not None:
        return
    try:
        folder = cache_folder("compiled")
        (folder / ".lockfile").touch()  # the file that JAX will lock
    except (OSError, RuntimeError):  # RuntimeError: this user has no home directory
        return
    # Where the cache fails, as on a full disk, JAX warns and compiles.
    warnings.filterwarnings("ignore", ".*persistent compilation cache")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", MAX_COMPILED_BYTES)
    # By default JAX keeps programs that took a second to compile.
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", KEPT_FROM)


def _joined_others() -> bool:
    """Whether this process is one of several."""
    if "jax" not in sys.modules:  # without JAX it joined no others; importing JAX takes a second
        return False
    from ssd_jax.distributed import devices

    return devices.joined()


def _is_output_closed() -> bool:
    """Whether the reader of standard output or errors has ended; then redirects to /dev/null."""
    is_closed = False
    for stream in (sys.stdout, sys.stderr) if hasattr(select, "poll") else ():  # not on Windows
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            is_closed = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return is_closed


def _end(message: str, status: int) -> NoReturn:
    early_signals.finish(status)
    remove_copies()
    message = printable(as_named(message))
    if "jax" in sys.modules:
        with contextlib.suppress(Exception):  # JAX may be half imported
            from ssd_jax.distributed import watch

            watch.end_process(status, message)
    if message:
        print(message, file=sys.stderr)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(status)  # Python would wait for threads, which may read from storage that hangs
