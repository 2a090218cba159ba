"""Clients of gcsfs and s3fs, with limits of time and repeats of requests that failed.

With its defaults, gcsfs waits for an answer without a limit, repeats a failed request after one to
two seconds, and searches credentials for 20 seconds if there is no network. s3fs waits seven
minutes for a store that never answers, and repeats a failed request for seven seconds.
"""

import asyncio
import functools
import logging
import socket
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

from ssd_jax.errors import check_installed, reason_of

PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}
CONNECTIONS = 100  # at the same time; gcsfs has as many
# Seconds. A connection that became silent must fail before another process may claim the work
# directory, because the heartbeat waits for it; see `mirror.py`.
CONNECTING, SILENCE = 5.0, 15.0
FAILED = (429, 500, 502, 503, 504)  # HTTP statuses of requests that are repeated
SOON = (0.1, 0.2, 0.4)  # seconds before each repeat
LATER = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds, for s3; gcsfs has longer ones
# Seconds of the first connection, before credentials are searched.
CONNECTION_LIMIT, CONNECTION_PAUSES = 3.0, (1.0, 2.0)
S3_ROUNDS = 2  # of s3fs, of the five attempts of botocore


@functools.cache
def file_system(scheme: str) -> Any:
    """The client of a store, made once, without a cache of object lists.

    Raises:
      UserError: its package is not installed.
      ConnectionError: Google's store is not reachable, most often because there is no network.
    """
    check_installed(PACKAGES[scheme])
    # They log errors with tracebacks, also those that `clouds.answering` reports.
    logging.getLogger(PACKAGES[scheme]).setLevel(logging.CRITICAL)
    return _google() if scheme == "gs" else _amazon()


def _google() -> Any:
    import aiohttp
    from gcsfs.core import GCSFileSystem

    settings: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    anonymous = GCSFileSystem(token="anon", **settings)
    if not anonymous.session_kwargs:  # which the configuration of fsspec may set, for a proxy
        _check_reachable(anonymous.base)
    client = GCSFileSystem(**settings)
    # While an upload takes long, it is not silent: the time begins at its end.
    client.requests_timeout = aiohttp.ClientTimeout(sock_connect=CONNECTING, sock_read=SILENCE)
    client.session_kwargs = {"middlewares": (_repeat_soon,), **client.session_kwargs}
    return client


def _amazon() -> Any:
    import s3fs

    settings = {
        "max_pool_connections": CONNECTIONS,
        "connect_timeout": CONNECTING,
        "read_timeout": SILENCE,
    }
    client: Any = s3fs.S3FileSystem(
        use_listings_cache=False, skip_instance_cache=True, config_kwargs=settings
    )
    client.retries = S3_ROUNDS
    client.s3.meta.events.register_first("needs-retry.s3", _pause_before)
    return client


def _pause_before(response: Any, attempts: int, **about: Any) -> float | None:
    """Seconds before a request is repeated, as a handler of botocore; None = botocore decides."""
    del about
    pauses = (*SOON, *LATER)
    is_failed = response is not None and response[0].status_code in FAILED
    return pauses[attempts - 1] if is_failed and attempts <= len(pauses) else None


async def _repeat_soon(request: Any, send: Callable[[Any], Awaitable[Any]]) -> Any:
    """Repeats a request that the store refused for the moment, as a middleware of aiohttp."""
    for pause in SOON:
        answer = await send(request)
        if answer.status not in FAILED:
            return answer
        answer.release()
        await asyncio.sleep(pause)
    return await send(request)


def _check_reachable(address: str) -> None:
    """Raises an `OSError` if the host of an address is unknown or refuses connections."""
    parts = urllib.parse.urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    for pause in (*CONNECTION_PAUSES, None):
        try:
            socket.create_connection((parts.hostname, port), CONNECTION_LIMIT).close()
            return
        except OSError as error:
            if pause is None:
                raise ConnectionError(f"{parts.hostname}: {reason_of(error)}") from error
        time.sleep(pause)
