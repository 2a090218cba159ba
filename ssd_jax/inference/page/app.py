"""The page and `POST /detect`, as a Starlette app."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ssd_jax.data.class_lists import describe_classes
from ssd_jax.errors import UserError
from ssd_jax.inference.detections import Detections
from ssd_jax.inference.detector import Detector, Prepared
from ssd_jax.inference.page.files import page_files
from ssd_jax.inference.page.guard import AllowedNames, Guard
from ssd_jax.inference.page.preparers import Preparers
from ssd_jax.inference.page.refusal import Refusal, RefusedError, answer_refused, answer_unknown
from ssd_jax.inference.page.uploads import MAX_BYTES, Uploads

logger = logging.getLogger(__name__)

TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def make_app(detector: Detector, score_threshold: float, names: AllowedNames, auth: str) -> ASGIApp:
    """Makes the app: `GET /`, the files of the page, and `POST /detect`.

    Args:
      detector: the detector.
      score_threshold: the initial value of the slider.
      names: the allowed names of the page.
      auth: USER:PASSWORD, or "".
    """
    endpoint = _Endpoint(detector)
    # Read once: no path of a request is ever read from disk.
    files = page_files("on_server.js", score_threshold, MAX_BYTES)
    routes = [Route("/", _answering(files.pop("index.html"), "text/html"))]
    routes += [
        Route(f"/{name}", _answering(text, TYPES[name.rpartition(".")[2]]))
        for name, text in files.items()
    ]
    routes += [Route("/detect", endpoint.detect, methods=["POST"])]
    app = Starlette(
        routes=routes,
        exception_handlers={
            RefusedError: answer_refused,
            HTTPException: answer_unknown,
            Exception: _answer_failure,
        },
        lifespan=endpoint.lifespan,
    )
    app.router.redirect_slashes = False
    return Guard(app, names, auth)


def _answering(content: str, kind: str) -> Any:
    encoded = content.encode()

    async def answer(request: Request) -> Response:
        return Response(encoded, media_type=kind, headers={"cache-control": "no-cache"})

    return answer


class _Endpoint:
    """`POST /detect`: takes an image, returns its detections; the device detects one by one."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._uploads = Uploads()
        self._preparers = Preparers(detector.side)
        self._device = ThreadPoolExecutor(1, "device")

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self._preparers.start()
        try:
            yield
        finally:
            await self._preparers.close()
            self._device.shutdown(wait=False, cancel_futures=True)

    async def detect(self, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        try:
            async with self._uploads.receive(request) as upload:
                prepared = await self._prepare(request, upload.content)
                found = await loop.run_in_executor(self._device, self._run, prepared)
                answer = self._describe(upload.name, found)
        except ClientDisconnect:
            return Refusal(400, "the upload was interrupted")  # no client receives it
        except UserError as error:
            return Refusal(422, str(error))
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    async def _prepare(self, request: Request, content: bytes | bytearray) -> Prepared:
        async with self._preparers.one() as preparer:
            if await request.is_disconnected():
                raise ClientDisconnect
            return await preparer.prepare(content)

    def _run(self, prepared: Prepared) -> Detections:
        return next(self._detector.stream([(None, prepared)], 1))[1]

    def _describe(self, name: str, found: Detections) -> dict[str, Any]:
        """The form of `detections.json`."""
        height, width = found.size
        return {
            "images": [{"id": 1, "file_name": name, "width": width, "height": height}],
            "annotations": found.to_coco(1),
            "categories": describe_classes(found.class_names, found.category_ids),
            "errors": [],
        }


async def _answer_failure(request: Request, error: Exception) -> Refusal:
    logger.error("error: %s failed: %s: %s", request.url.path, type(error).__name__, error)
    return Refusal(500, "the server failed; its log has the error")
