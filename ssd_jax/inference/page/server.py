"""Serves the page until Ctrl-C or SIGTERM."""

import ipaddress
import logging
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ssd_jax.errors import UserError, check_installed, reason_of
from ssd_jax.inference.choice import check_score_threshold
from ssd_jax.inference.detector import Detector

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 32 * 2**10  # limit of the first line and headers of a request
ENDING_SECONDS = 1  # seconds for running answers when the server stops


def serve(
    detector: Detector,
    score_threshold: float,
    host: str,
    port: int,
    allowed_hosts: Sequence[str] = (),
    auth: str = "",
) -> None:
    """Serves the page until the process is stopped.

    Args:
      detector: the detector.
      score_threshold: the initial value of the slider.
      host: the address to listen on; 127.0.0.1 accepts only this machine.
      port: the port; 0 chooses a free one.
      allowed_hosts: additional allowed names of the page.
      auth: USER:PASSWORD that users must enter; "" for none.

    Raises:
      UserError: a package is missing, an argument is wrong, or the port is taken.
    """
    for package in ("starlette", "uvicorn", "python_multipart"):
        check_installed(package)
    from ssd_jax.inference.page.app import make_app
    from ssd_jax.inference.page.guard import AllowedNames, check_auth

    check_score_threshold(score_threshold, "--score_threshold")
    check_auth(auth)
    with _listen(host, port) as listener:
        address, port = listener.getsockname()[:2]
        names = AllowedNames(host, address, allowed_hosts)
        app = make_app(detector, score_threshold, names, auth)
        detector(np.zeros((1, 1, 3), np.uint8))  # compiles, so that the first image is fast
        server = make_server(app)
        _announce(address, port, auth)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            logger.info("the page has ended")


def make_server(app: "ASGIApp", port: int = 0) -> "uvicorn.Server":
    """Makes the server of the page; `port` is used on 127.0.0.1 if `run` gets no socket."""
    import uvicorn

    from ssd_jax.inference.page.connections import Connection

    config = uvicorn.Config(
        app,
        port=port,
        http=Connection,
        ws="none",
        loop="asyncio",  # others fork, which JAX does not support
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=ENDING_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    if not host:
        raise UserError("--host is empty: use 127.0.0.1 (this machine) or 0.0.0.0 (all addresses)")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, place = min(found, key=lambda each: each[0] != socket.AF_INET)
        return socket.create_server(place[:2], family=family, backlog=256)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = reason_of(error).partition(" (while")[0]
        raise UserError(
            f"--port={port} on --host={host} cannot be used: {reason}: name another"
        ) from error


def _announce(address: str, port: int, auth: str) -> None:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if parsed.is_unspecified:
        address = "127.0.0.1"
        where = ", and by the other addresses of this machine,"
    else:
        where = ""
    shown = f"[{address}]" if ":" in address else address
    logger.info("the page is at http://%s:%d%s until Ctrl-C ends it", shown, port, where)
    if not auth and not parsed.is_loopback:
        logger.info(
            "anyone who can reach this machine can use it: add --auth=USER:PASSWORD to limit access"
        )
