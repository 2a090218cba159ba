"""Answers that reject a request: JSON with an `error`."""

import asyncio
import contextlib
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

RECEIVED = "ssd_jax.received"  # set in the scope of a completely received request
LINGER_SECONDS = 2  # seconds for which the rest of a rejected upload is received


class Refusal(JSONResponse):
    """Rejects a request, and closes its connection.

    The rest of the request is received for some time and dropped: a client that is still sending
    when the connection is closed would not receive the answer.
    """

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
        always = {"connection": "close", "cache-control": "no-store"}
        super().__init__({"error": error}, status, {**(headers or {}), **always})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        # A client that waits for "continue" would otherwise send its body.
        if "expect" not in Headers(scope=scope) and not scope.get(RECEIVED):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while (await receive()).get("more_body"):
                        pass
        await send({"type": "http.response.body"})


class RefusedError(Exception):
    """A request is rejected.

    Attributes:
      refusal: the answer.
    """

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.refusal = Refusal(status, error, headers)


def busy(error: str) -> RefusedError:
    """The error for too many requests."""
    return RefusedError(503, f"{error}: try again in a few seconds", {"retry-after": "2"})


async def answer_refused(request: Request, error: Exception) -> Refusal:
    """The answer to a `RefusedError`, in Starlette's interface."""
    assert isinstance(error, RefusedError)
    return error.refusal


async def answer_unknown(request: Request, error: Exception) -> Refusal:
    """The answer for an unknown address or method."""
    assert isinstance(error, HTTPException)
    return Refusal(error.status_code, error.detail, error.headers)
