"""Opens uploaded images in processes that are ended where they take too long or too much."""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import numpy as np

import ssd_jax
from ssd_jax.errors import UserError
from ssd_jax.inference.detector import Prepared
from ssd_jax.inference.page import preparing

NUM_PROCESSES = 2  # so that one slow image leaves the way free
MAX_SECONDS = 10  # for an image

PROCESS_VARIABLES = {
    "OPENBLAS_NUM_THREADS": "1",
    # Has glibc give the memory of every image back, and keep none for later.
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
}


class Preparers:
    """Processes that open images: see `preparing`.

    Args:
      side: of the images that the network takes, in pixels.
    """

    def __init__(self, side: int) -> None:
        self._all = [_Preparer(side) for _ in range(NUM_PROCESSES)]
        self._free: asyncio.LifoQueue[_Preparer] = asyncio.LifoQueue()
        for each in self._all:
            self._free.put_nowait(each)

    async def start(self) -> None:
        """Starts the processes."""
        await asyncio.gather(*(each.start() for each in self._all))

    async def prepare(self, file: bytes) -> Prepared:
        """An image, ready for the network, without the image itself.

        Raises:
          UserError: it cannot be read, or takes too long or too much memory.
        """
        preparer = await self._free.get()
        try:
            await preparer.start()
            async with asyncio.timeout(MAX_SECONDS):
                return await preparer.prepare(file)
        except TimeoutError:
            raise UserError(
                f"the image cannot be read: that takes longer than {MAX_SECONDS} seconds"
            ) from None
        except (asyncio.IncompleteReadError, ConnectionError):  # the process has ended
            raise UserError(preparing.NO_MEMORY) from None
        finally:
            self._free.put_nowait(preparer)

    async def close(self) -> None:
        """Ends the processes."""
        await asyncio.gather(*(each.end() for each in self._all))


class _Preparer:
    """One process, ended and started anew where it does not answer."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._process: Process | None = None

    async def start(self) -> None:
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

    async def prepare(self, file: bytes) -> Prepared:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(len(file).to_bytes(preparing.LENGTH_BYTES))
            process.stdin.write(file)
            await process.stdin.drain()
            head = json.loads(await process.stdout.readuntil(b"\n"))
            if "error" in head:
                raise UserError(head["error"])
            side = self._side
            pixels = await process.stdout.readexactly(side * side * 3)
        except UserError:
            raise
        except BaseException:  # also where the time is over: it would answer to the next one
            await self.end()
            raise
        shape = (side, side, 3)
        return Prepared(
            "", (head["height"], head["width"]), np.frombuffer(pixels, np.uint8).reshape(shape)
        )

    async def end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
