"""Reads uploads: bounded in bytes, in time, and in what all of them hold together."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ssd_jax.inference.page.refusal import RECEIVED, RefusedError, busy

MAX_BYTES = 20 * 2**20  # of an upload
MAX_HELD_BYTES = 24 * 2**20  # of all uploads that are under way
MAX_UNDER_WAY = 64  # uploads that are received, wait or are worked on
ROOM_SECONDS = 20  # how long an upload waits until others have made place
FIRST_SECONDS = 10  # how long an upload may take beyond what its bytes allow
SLOWEST = 100_000  # bytes a second

HOW = (
    "send the bytes of an image, with Content-Type: image/jpeg (or another type of images, or "
    "application/octet-stream), or a form with one file as multipart/form-data"
)


class Upload(NamedTuple):
    """An uploaded file.

    Attributes:
      name: as the client calls it; "" where it does not.
      content: the file.
    """

    name: str
    content: bytes | bytearray


class Uploads:
    """Receives uploads, which are kept in memory while they are worked on, and never on disk."""

    def __init__(self) -> None:
        self._under_way = 0
        self._held = 0
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[Upload]:
        """The file of a request, within the limits.

        Raises:
          RefusedError: it is of a wrong type, too large or too slow, or there are too many.
        """
        kind = request.headers.get("content-type", "application/octet-stream")
        kind = kind.partition(";")[0].strip().lower()
        is_form = kind == "multipart/form-data"
        if not (is_form or kind.startswith("image/") or kind == "application/octet-stream"):
            raise RefusedError(415, f"uploads are not of the type {kind[:80]!r}: {HOW}")
        size = _size(request)
        # The file of a form is copied out of it.
        async with self._room(min(2 * size, MAX_HELD_BYTES) if is_form else size):
            if is_form:
                yield await _file_of_form(request)
            else:
                yield Upload("", await _body(request, size))

    @contextlib.asynccontextmanager
    async def _room(self, size: int) -> AsyncIterator[None]:
        """Waits until the other uploads leave so many bytes, and takes them."""
        if self._under_way >= MAX_UNDER_WAY:
            raise busy(f"{self._under_way} images are under way already")
        self._under_way += 1
        try:
            async with self._changed:
                try:
                    async with asyncio.timeout(ROOM_SECONDS):
                        await self._changed.wait_for(lambda: self._held + size <= MAX_HELD_BYTES)
                except TimeoutError:
                    raise busy("other uploads are under way") from None
                self._held += size
            try:
                yield
            finally:
                self._held -= size
                async with self._changed:
                    self._changed.notify_all()
        finally:
            self._under_way -= 1


class _FormParser(MultiPartParser):
    spool_max_size = 2 * MAX_BYTES  # never on disk


def _size(request: Request) -> int:
    """The bytes that a request says it has."""
    given = request.headers.get("content-length")
    if given is None:
        raise RefusedError(411, f"the request has no Content-Length: {HOW}")
    size = int(given)  # the server has checked that it is a number
    if size > MAX_BYTES:
        raise RefusedError(
            413, f"the upload has {size:,} bytes, but must have {MAX_BYTES:,} or fewer"
        )
    if size == 0:
        raise RefusedError(400, f"the request is empty: {HOW}")
    return size


async def _limited(request: Request) -> AsyncGenerator[bytes, None]:
    """The parts of a request, as long as they come quickly enough."""
    parts = request.stream()
    deadline = asyncio.get_running_loop().time() + FIRST_SECONDS
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                part = await anext(parts, None)
        except TimeoutError:
            raise RefusedError(
                408, f"the upload is too slow: fewer than {SLOWEST:,} bytes a second"
            ) from None
        if part is None:
            request.scope[RECEIVED] = True
            return
        deadline += len(part) / SLOWEST
        yield part


async def _body(request: Request, size: int) -> bytearray:
    # In one piece from the start: the memory of many small ones would not be given back.
    body, end = bytearray(size), 0
    async for part in _limited(request):
        body[end : end + len(part)] = part
        end += len(part)
    return body


async def _file_of_form(request: Request) -> Upload:
    try:
        form = await _FormParser(
            request.headers, _limited(request), max_files=1, max_fields=0
        ).parse()
    except MultiPartException as error:
        reason = error.message
        if reason.startswith("Too many fields"):  # Starlette's, as of `--form image=photo.jpg`
            reason = "it has a field that is no file"
        raise RefusedError(400, f"the form cannot be read ({reason}): {HOW}") from error
    try:
        files = [each for each in form.values() if isinstance(each, UploadFile)]
        if not files:
            raise RefusedError(400, f"the form has no file: {HOW}")
        content = await files[0].read()
        if not content:
            raise RefusedError(400, f"the file of the form cannot be read: it is empty: {HOW}")
        return Upload(files[0].filename or "", content)
    finally:
        await form.close()
