"""Opens uploaded images in processes, which are killed if they take too long or too much memory."""

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

NUM_PROCESSES = 2  # so that one slow image does not block others
MAX_SECONDS = 10  # for an image
PIECE = 2**18  # bytes per write

PROCESS_VARIABLES = {
    "OPENBLAS_NUM_THREADS": "1",
    # Makes glibc return the memory of every image, and keep little.
    "MALLOC_MMAP_THRESHOLD_": str(2**23),
    "MALLOC_TRIM_THRESHOLD_": str(2**20),
}


class Preparers:
    """Processes that open images: see `preparing`.

    Args:
      side: the side of the network's input images, in pixels.
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
        """Waits for an idle process."""
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
    """One process; it is killed if it does not answer.

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
            start_new_session=True,  # Ctrl-C is for the server, which ends this process
        )

    async def prepare(self, file: bytes | bytearray) -> Prepared:
        """Prepares an image for the network; the result does not include the image itself.

        Raises:
          UserError: the image cannot be read, or takes too long or too much memory.
        """
        try:
            async with asyncio.timeout(MAX_SECONDS):
                head, pixels = await self._exchange_again(file)
        except TimeoutError:
            await self.end()
            raise UserError(
                f"the image cannot be read: that takes longer than {MAX_SECONDS} seconds"
            ) from None
        except (asyncio.IncompleteReadError, ConnectionError):  # the process has exited
            raise UserError(_how_ended(await self._ended())) from None
        except BaseException:  # its answer would be read as the next one
            await self.end()
            raise
        if "error" in head:
            raise UserError(head["error"])
        shape = (self._side, self._side, 3)
        return Prepared(
            "", (head["height"], head["width"]), np.frombuffer(pixels, np.uint8).reshape(shape)
        )

    async def _exchange_again(self, file: bytes | bytearray) -> tuple[dict[str, Any], bytes]:
        """`_exchange`, repeated once if the process was killed while it was idle."""
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
        for start in range(0, len(file), PIECE):  # copies only one piece at a time
            process.stdin.write(memoryview(file)[start : start + PIECE])
            await process.stdin.drain()
        head = json.loads(await process.stdout.readuntil(b"\n"))
        side = self._side
        pixels = b"" if "error" in head else await process.stdout.readexactly(side * side * 3)
        return head, pixels

    async def _ended(self) -> int | None:
        """The status of the process, which has exited or is about to."""
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
    """The reason for a missing image after a crash of the process."""
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
    except ValueError:  # a real-time signal
        return f"signal {number}"
