"""What the scripts say on the terminal: the project's own messages, and errors in one line."""

import contextlib
import logging
import sys
from collections.abc import Iterator

import absl.logging
from tqdm.contrib.logging import logging_redirect_tqdm

from ssd_jax.errors import UserError


@contextlib.contextmanager
def session(failure_status: int = 1) -> Iterator[None]:
    """Shows the messages of this package; ends the program with one line for a `UserError`."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("ssd_jax")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # JAX, Orbax and TFDS report every backend they try and every file they touch.
    absl.logging.set_verbosity(absl.logging.ERROR)
    logging.getLogger().setLevel(logging.ERROR)
    with logging_redirect_tqdm([logger]):
        try:
            yield
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(failure_status)
