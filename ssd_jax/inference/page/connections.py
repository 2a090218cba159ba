"""Limits the number and the time of connections."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 512  # systems often allow 1,024 open files
HEADER_SECONDS = 10  # until the headers of a request are received
REQUEST_SECONDS = 300  # from then until the client has received the answer


class Connection(H11Protocol):
    """An HTTP connection that is closed if its client is slow.

    If there are too many, the connection that has waited longest for a request is closed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit: asyncio.TimerHandle | None = None
        self._is_busy = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore
        super().connection_made(transport)
        self._since = self.loop.time()
        self._allow(HEADER_SECONDS)
        if len(self.connections) > MAX_CONNECTIONS:
            others = [each for each in self.connections if isinstance(each, Connection)]
            waiting = [each for each in others if not each._is_busy]
            min(waiting, key=lambda each: each._since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._limit is not None:
            self._limit.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._note_progress()

    def on_response_complete(self) -> None:
        self._is_busy = False
        self._since = self.loop.time()
        self._allow(HEADER_SECONDS)
        super().on_response_complete()
        self._note_progress()  # the next request may have arrived already

    def send_400_response(self, msg: str) -> None:
        if self._is_busy:  # the body is wrong, and an answer may have begun
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _note_progress(self) -> None:
        if not self._is_busy and self.cycle is not None and not self.cycle.response_complete:
            self._is_busy = True
            self._allow(REQUEST_SECONDS)

    def _allow(self, seconds: float) -> None:
        """Closes the connection after some seconds, unless called again before."""
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self.loop.call_later(seconds, self.transport.abort)
