"""Work in threads, in order and with bounded memory."""

import collections
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 1.0  # seconds to wait for threads after a signal or when an iterator is closed
FEW_WAITS = 0.1  # seconds that reads may wait before several threads read
POLL = 0.5  # seconds; a signal just before an untimed wait is handled only after that wait

_END = object()


def num_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_background(items: Iterable[Item], ahead: int) -> Generator[Item, None, None]:
    """Yields the items of an iterator that runs in a thread, up to `ahead` of them in advance.

    An error of the iterator is raised here, after the items before it. Closing this generator, for
    example after a signal, stops the thread, but waits for at most `PATIENCE`: the thread may be
    reading from storage that does not respond. The iterator closes its files when it ends.
    """
    waiting = queue.Queue(ahead)
    stopped = threading.Event()

    def hand_over(item: object, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                return waiting.put((item, error), timeout=0.1)

    def work() -> None:
        iterator = iter(items)
        try:
            while not stopped.is_set():
                hand_over(next(iterator, _END))
        except BaseException as error:
            hand_over(_END, error)
        finally:
            if isinstance(iterator, Generator):
                iterator.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            try:
                item, error = waiting.get(timeout=POLL)
            except queue.Empty:
                continue
            if error:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join(PATIENCE)


@contextlib.contextmanager
def pool_of_threads(workers: int) -> Iterator[Executor]:
    """A pool of threads; the end of the block waits for them, so that none writes afterwards.

    After a signal it waits for at most `PATIENCE`: a thread may be reading from storage that does
    not respond.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        waiting = threading.Thread(target=pool.shutdown, daemon=True)
        waiting.start()
        waiting.join(None if isinstance(error, Exception) else PATIENCE)
        raise
    pool.shutdown()


def map_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """`map` in the threads of a pool: results in order, at most `ahead` calls at a time."""
    running = collections.deque()
    for item in items:
        running.append(pool.submit(function, item))
        if len(running) == ahead:
            yield _result(running.popleft())
    while running:
        yield _result(running.popleft())


def map_reads(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """`map_ahead` for many short reads: one thread alone as long as its reads do not wait.

    Several threads hide the time of a disk or network. Files in memory they would read in twice
    the time of one thread, because each read gives Python's lock to another thread.
    """
    items, waited, worked = iter(items), 0.0, 0.0

    def timed(item: Item) -> tuple[Result, float, float]:
        began, own = time.perf_counter(), time.thread_time()
        result = function(item)
        return result, time.perf_counter() - began, time.thread_time() - own

    for item in items:
        result, seconds, own = _result(pool.submit(timed, item))
        yield result
        waited, worked = waited + seconds - own, worked + own
        if waited > max(worked, FEW_WAITS):
            break
    yield from map_ahead(pool, function, items, ahead)


def _result(future: "Future[Result]") -> Result:
    """The result of a call; signals are handled while it waits."""
    while not future.done():
        wait([future], timeout=POLL)
    return future.result()
