"""A proxy for an object store that adds latency to each request and makes some requests fail.

    gcp-storage-emulator start --port=9023 --in-memory --default-bucket=bucket
    python -m tools.slow_store --store=127.0.0.1:9023 --port=9024 --delay=20 --fail-every=10
    STORAGE_EMULATOR_HOST=http://127.0.0.1:9024 ssd-jax benchmark data --source=gs://bucket/data

Every request waits for `--delay` milliseconds. With `--fail-every=10`, every tenth is answered by
503 (Service Unavailable), and is not passed on. It prints the number of both at its end.
"""

import argparse
import asyncio
import contextlib
import itertools
import re

AT_ONCE = 4  # requests that are passed on together: emulators refuse many connections
LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
LONGEST_HEAD = 2**20  # bytes


class SlowStore:
    """The proxy.

    Attributes:
      passed: the number of requests that were passed on.
      refused: the number of those that failed.
    """

    def __init__(self, store: str, delay: float, fail_every: int = 0):
        """Takes its settings.

        Args:
          store: HOST:PORT.
          delay: milliseconds before each request.
          fail_every: one of this number of requests fails; 0 = none.
        """
        self.passed = self.refused = 0
        self._host, _, self._port = store.rpartition(":")
        self._delay, self._fail_every = delay / 1000, fail_every
        self._numbers = itertools.count(1)
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection of a client, one after the other."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                await asyncio.sleep(self._delay)
                if self._fail_every and next(self._numbers) % self._fail_every == 0:
                    self.refused += 1
                    writer.write(REFUSAL)
                else:
                    self.passed += 1
                    async with self._turns:
                        writer.write(await self._answer(head, body))
                await writer.drain()
        writer.close()

    async def _answer(self, head: bytes, body: bytes) -> bytes:
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
    given = parser.parse_args()
    proxy = SlowStore(given.store, given.delay, given.fail_every)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(proxy, given.port))
    print(f"{proxy.passed} requests passed on, {proxy.refused} refused")


if __name__ == "__main__":
    main()
