"""Reads uploads, with limits on bytes, time and total memory."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ssd_jax.inference.page.refusal import RECEIVED, RefusedError, busy

MAX_BYTES = 20 * 2**20  # limit of an upload
MAX_HELD_BYTES = 24 * 2**20  # limit of all current uploads
MAX_UNDER_WAY = 64  # limit of current uploads: received, waiting or in detection
ROOM_SECONDS = 20  # seconds that an upload waits for others
FIRST_SECONDS = 10  # seconds that an upload may take in addition to its bytes
SLOWEST = 100_000  # bytes per second

HOW = (
    "send the bytes of an image, with Content-Type: image/jpeg (or another type of images, or "
    "application/octet-stream), or a form with one file as multipart/form-data"
)


class Upload(NamedTuple):
    """An uploaded file.

    Attributes:
      name: the name given by the client, or "".
      content: the file.
    """

    name: str
    content: bytes | bytearray


class Uploads:
    """Receives uploads; they are kept in memory during detection, and never written to disk."""

    def __init__(self) -> None:
        self._under_way = 0
        self._held = 0
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[Upload]:
        """Receives the file of a request, within the limits.

        Raises:
          RefusedError: it has a wrong type, is too large or too slow, or there are too many.
        """
        kind = request.headers.get("content-type", "application/octet-stream")
        kind = kind.partition(";")[0].strip().lower()
        is_form = kind == "multipart/form-data"
        if not (is_form or kind.startswith("image/") or kind == "application/octet-stream"):
            raise RefusedError(415, f"uploads cannot have the type {kind[:80]!r}: {HOW}")
        size = _size(request)
        # The file is copied from a form.
        async with self._reserved(min(2 * size, MAX_HELD_BYTES) if is_form else size):
            if is_form:
                yield await _file_of_form(request)
            else:
                yield Upload("", await _body(request, size))

    @contextlib.asynccontextmanager
    async def _reserved(self, size: int) -> AsyncIterator[None]:
        """Waits until other uploads leave enough memory, and reserves it."""
        if self._under_way >= MAX_UNDER_WAY:
            raise busy(f"{self._under_way} images are in progress already")
        self._under_way += 1
        try:
            async with self._changed:
                try:
                    async with asyncio.timeout(ROOM_SECONDS):
                        await self._changed.wait_for(lambda: self._held + size <= MAX_HELD_BYTES)
                except TimeoutError:
                    raise busy("other uploads are in progress") from None
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
    """The stated size of a request, in bytes."""
    given = request.headers.get("content-length")
    if given is None:
        raise RefusedError(411, f"the request has no Content-Length: {HOW}")
    size = int(given)  # the server has checked the number
    if size > MAX_BYTES:
        raise RefusedError(413, f"the upload has {size:,} bytes, but the limit is {MAX_BYTES:,}")
    if size == 0:
        raise RefusedError(400, f"the request is empty: {HOW}")
    return size


async def _limited(request: Request) -> AsyncGenerator[bytes, None]:
    """Yields the parts of a request, while they arrive quickly enough."""
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
    # One buffer of the full size: the memory of many small ones would not be returned.
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
        if reason.startswith("Too many fields"):  # e.g. `--form image=photo.jpg`
            reason = "it has a field that is not a file"
        raise RefusedError(400, f"the form cannot be read ({reason}): {HOW}") from error
    try:
        files = [each for each in form.values() if isinstance(each, UploadFile)]
        if not files:
            raise RefusedError(400, f"the form has no file: {HOW}")
        content = await files[0].read()
        if not content:
            raise RefusedError(400, f"the file of the form is empty: {HOW}")
        return Upload(files[0].filename or "", content)
    finally:
        await form.close()
