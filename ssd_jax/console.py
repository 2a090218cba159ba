"""What the scripts say on the terminal: the project's own messages, and errors in one line."""

import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Iterator

import absl.logging
from tqdm.contrib.logging import logging_redirect_tqdm

from ssd_jax import parallel
from ssd_jax.errors import Interrupted, UserError

TRY_AGAIN = 75  # the exit status EX_TEMPFAIL of sysexits.h
CONTROL_C = 130  # what shells report of a program that Ctrl-C ended


@contextlib.contextmanager
def session(failure_status: int = 1) -> Iterator[None]:
    """Shows the messages of this package; ends the program with one line for what stops it.

    Args:
      failure_status: the exit status after a `UserError`. After `Interrupted`, and where another
        process of the run is gone, it is 75: the same command will go on.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("ssd_jax")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # JAX, Orbax and TFDS report every backend they try and every file they touch; Orbax also what
    # it raises.
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger().setLevel(logging.CRITICAL)
    with logging_redirect_tqdm([logger]):
        try:
            yield
        except UserError as error:
            _end(f"error: {error}", failure_status)
        except Interrupted as error:
            _end(f"{error}; the same command goes on from the last checkpoint", TRY_AGAIN)
        except KeyboardInterrupt:
            _end("stopped by Ctrl-C", CONTROL_C)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            what = error.filename or "a file"
            _end(f"error: {what} cannot be written: {os.strerror(error.errno)}", failure_status)
        except (ValueError, RuntimeError) as error:
            if not (parallel.joined() and RUNTIME_ERROR.match(str(error))):
                raise
            _end(
                "error: the connection to another process of the run broke; it may have been "
                f"killed, and its own output may say why ({str(error).splitlines()[0]}). Start all "
                "of them again: they go on from the last checkpoint",
                TRY_AGAIN,
            )


# How errors of JAX's runtime begin: with the code of a status.
RUNTIME_ERROR = re.compile(r"(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED):")


def _end(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    parallel.end_process(status)
