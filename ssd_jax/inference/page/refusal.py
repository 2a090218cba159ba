"""Answers that refuse a request: JSON with an `error`."""

import asyncio
import contextlib
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

RECEIVED = "ssd_jax.received"  # is set in the scope of a request that was received wholly
LINGER_SECONDS = 2  # how long the rest of a refused upload is received


class Refusal(JSONResponse):
    """Refuses a request; its connection ends.

    The rest of the request is received for a while and dropped: a client that is still sending
    when the connection ends would see no answer at all.
    """

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
        always = {"connection": "close", "cache-control": "no-store"}
        super().__init__({"error": error}, status, {**(headers or {}), **always})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        # Asked to go on, a client that waits for that would send what nobody wants.
        if "expect" not in Headers(scope=scope) and not scope.get(RECEIVED):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while (await receive()).get("more_body"):
                        pass
        await send({"type": "http.response.body"})


class RefusedError(Exception):
    """Raised where a request is refused.

    Attributes:
      refusal: the answer.
    """

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.refusal = Refusal(status, error, headers)


def busy(error: str) -> RefusedError:
    """What is raised where there is more to do than can be done soon."""
    return RefusedError(503, f"{error}: try again in a few seconds", {"retry-after": "2"})


async def answer_refused(request: Request, error: Exception) -> Refusal:
    """The answer to a `RefusedError`, as Starlette asks for it."""
    assert isinstance(error, RefusedError)
    return error.refusal


async def answer_unknown(request: Request, error: Exception) -> Refusal:
    """The answer where there is no such address, or no such method at it."""
    assert isinstance(error, HTTPException)
    return Refusal(error.status_code, error.detail, error.headers)
