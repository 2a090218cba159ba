"""Opens uploaded images in processes that are ended where they take too long or too much."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np

import ssd_jax
from ssd_jax.errors import UserError
from ssd_jax.inference.detector import Prepared
from ssd_jax.inference.page import preparing

NUM_PROCESSES = 2  # so that one slow image leaves the way free
MAX_SECONDS = 10  # for an image
PIECE = 2**18  # bytes that are written at a time

PROCESS_VARIABLES = {
    "OPENBLAS_NUM_THREADS": "1",
    # Has glibc give the memory of every image back, and keep little for later.
    "MALLOC_MMAP_THRESHOLD_": str(2**23),
    "MALLOC_TRIM_THRESHOLD_": str(2**20),
}


class Preparers:
    """Processes that open images: see `preparing`.

    Args:
      side: of the images that the network takes, in pixels.
    """

    def __init__(self, side: int) -> None:
        self._all = [Preparer(side) for _ in range(NUM_PROCESSES)]
        self._free: asyncio.LifoQueue[Preparer] = asyncio.LifoQueue()
        for each in self._all:
            self._free.put_nowait(each)

    async def start(self) -> None:
        """Starts the processes."""
        await asyncio.gather(*(each.start() for each in self._all))

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator["Preparer"]:
        """Waits for a process that has nothing to do."""
        preparer = await self._free.get()
        try:
            await preparer.start()
            yield preparer
        finally:
            self._free.put_nowait(preparer)

    async def close(self) -> None:
        """Ends the processes."""
        await asyncio.gather(*(each.end() for each in self._all))


class Preparer:
    """One process, which is ended where it does not answer.

    Args:
      side: see `Preparers`.
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._process: Process | None = None

    async def start(self) -> None:
        """Starts the process, unless it runs."""
        if self._process is not None and self._process.returncode is None:
            return
        package = str(Path(ssd_jax.__file__).parents[1])
        paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            preparing.__name__,
            str(self._side),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=os.environ | {"PYTHONPATH": paths} | PROCESS_VARIABLES,
            start_new_session=True,  # Ctrl-C is for the server, which ends this
        )

    async def prepare(self, file: bytes | bytearray) -> Prepared:
        """An image, ready for the network, without the image itself.

        Raises:
          UserError: it cannot be read, or takes too long or too much memory.
        """
        try:
            async with asyncio.timeout(MAX_SECONDS):
                head, pixels = await self._exchange_again(file)
        except TimeoutError:
            await self.end()
            raise UserError(
                f"the image cannot be read: that takes longer than {MAX_SECONDS} seconds"
            ) from None
        except (asyncio.IncompleteReadError, ConnectionError):  # the process has ended
            raise UserError(_how_ended(await self._ended())) from None
        except BaseException:  # it would give this answer to the next question
            await self.end()
            raise
        if "error" in head:
            raise UserError(head["error"])
        shape = (self._side, self._side, 3)
        return Prepared(
            "", (head["height"], head["width"]), np.frombuffer(pixels, np.uint8).reshape(shape)
        )

    async def _exchange_again(self, file: bytes | bytearray) -> tuple[dict[str, Any], bytes]:
        """`_exchange`, once more where somebody killed the process, which may have been idle."""
        try:
            return await self._exchange(file)
        except (asyncio.IncompleteReadError, ConnectionError):
            if await self._ended() != -signal.SIGKILL:
                raise
            await self.start()
            return await self._exchange(file)

    async def _exchange(self, file: bytes | bytearray) -> tuple[dict[str, Any], bytes]:
        """The answer of the process to a file: see `preparing`."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(len(file).to_bytes(preparing.LENGTH_BYTES))
        for start in range(0, len(file), PIECE):  # so that nothing is copied but a piece
            process.stdin.write(memoryview(file)[start : start + PIECE])
            await process.stdin.drain()
        head = json.loads(await process.stdout.readuntil(b"\n"))
        side = self._side
        pixels = b"" if "error" in head else await process.stdout.readexactly(side * side * 3)
        return head, pixels

    async def _ended(self) -> int | None:
        """The status of the process, which has ended by itself, or nearly so."""
        process = self._process
        assert process is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 1)
        return process.returncode

    async def end(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _how_ended(status: int | None) -> str:
    """Why there is no image, where decoders end their process by crashing."""
    if status is None:
        how = "closed its output"
    elif status >= 0:
        how = f"ended with the status {status}"
    else:
        how = f"was ended by {_name_of_signal(-status)}"
    return f"the image cannot be read: the process that decodes it {how}"


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"
