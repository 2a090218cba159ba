"""A proxy for an object store that adds latency to each request and makes some requests fail.

    gcp-storage-emulator start --port=9023 --in-memory --default-bucket=bucket
    python -m tools.slow_store --store=127.0.0.1:9023 --port=9024 --delay=20 --fail-every=10
    STORAGE_EMULATOR_HOST=http://127.0.0.1:9024 ssd-jax benchmark data --source=gs://bucket/data

Every request waits for `--delay` milliseconds. With `--fail-every=10`, every tenth is answered by
503 (Service Unavailable), and is not passed on. With `--remember`, the answer of a read is kept in
memory, and given again to the same read: then an emulator, which takes milliseconds of CPU time for
a request, does not slow down the measured program. It prints the number of requests at its end.
"""

import argparse
import asyncio
import contextlib
import itertools
import re
import signal

AT_ONCE = 4  # requests that are passed on together: emulators refuse many connections
LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)
EXPECT = re.compile(rb"^expect: *100-continue\r\n", re.IGNORECASE | re.MULTILINE)
RANGE = re.compile(rb"^range:[^\r]*", re.IGNORECASE | re.MULTILINE)
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
LONGEST_HEAD = 2**20  # bytes


class SlowStore:
    """The proxy.

    Attributes:
      passed: the number of requests that were passed on.
      remembered: the number of those that were answered from memory.
      refused: the number of those that failed.
    """

    def __init__(self, store: str, delay: float, fail_every: int = 0, remembers: bool = False):
        """Takes its settings.

        Args:
          store: HOST:PORT.
          delay: milliseconds before each request.
          fail_every: one of this number of requests fails; 0 = none.
          remembers: whether answers to reads of ranges are kept; the objects must not change.
        """
        self.passed = self.remembered = self.refused = 0
        self._host, _, self._port = store.rpartition(":")
        self._delay, self._fail_every = delay / 1000, fail_every
        self._answers: dict[bytes, bytes] | None = {} if remembers else None
        self._numbers = itertools.count(1)
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def answer(self, head: bytes, body: bytes) -> bytes:
        """The answer to a request, without the delay."""
        if self._fail_every and next(self._numbers) % self._fail_every == 0:
            self.refused += 1
            return REFUSAL
        found = RANGE.search(head) if self._answers is not None else None
        read = head[: head.index(b"\r\n")] + found[0] if found else b""
        if self._answers and read in self._answers:
            self.remembered += 1
            return self._answers[read]
        self.passed += 1
        async with self._turns:
            answer = await self._ask(head, body)
        if self._answers is not None and read and answer.startswith(b"HTTP/1.1 20"):
            self._answers[read] = answer
        return answer

    async def _ask(self, head: bytes, body: bytes) -> bytes:
        """The answer of the store, as one of HTTP/1.1, which keeps the connection."""
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=LONGEST_HEAD)
        try:
            writer.write(head + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            has_body = not head.startswith(b"HEAD ")
            content = await reader.readexactly(_length(answer)) if has_body else b""
        finally:
            writer.close()
        lines = answer.replace(b"HTTP/1.0", b"HTTP/1.1", 1)
        return re.sub(rb"\r\nconnection:[^\r]*", b"", lines, flags=re.IGNORECASE) + content

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection of a client, one after the other."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if EXPECT.search(head):  # of S3: the client asks before it sends the body
                    head = EXPECT.sub(b"", head)
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(_length(head))
                await asyncio.sleep(self._delay)
                writer.write(await self.answer(head, body))
                await writer.drain()
        writer.close()


def _length(head: bytes) -> int:
    found = LENGTH.search(head)
    return int(found[1]) if found else 0


async def run(proxy: SlowStore, port: int) -> None:
    """Serves on a port of this machine until it is stopped."""
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port, limit=LONGEST_HEAD)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Reads the flags and serves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--store", required=True, help="HOST:PORT of the store")
    parser.add_argument("--port", type=int, required=True, help="of the proxy")
    parser.add_argument("--delay", type=float, default=20.0, help="milliseconds")
    parser.add_argument("--fail-every", type=int, default=0, help="0 = no request fails")
    parser.add_argument("--remember", action="store_true", help="keeps answers to reads of ranges")
    given = parser.parse_args()
    proxy = SlowStore(given.store, given.delay, given.fail_every, given.remember)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(proxy, given.port))
    print(
        f"{proxy.passed} requests passed on, {proxy.remembered} answered from memory, "
        f"{proxy.refused} refused"
    )


if __name__ == "__main__":
    main()
