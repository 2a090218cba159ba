import _thread
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ssd_jax import threads
from ssd_jax.threads import in_background, map_ahead, pool_of_threads


def test_items_are_in_order_and_limited_in_advance():
    taken = []

    def items():
        for i in range(50):
            taken.append(i)
            yield i

    for i in in_background(items(), 3):
        # Three wait, one is in the thread's hands, and this one is out.
        assert len(taken) <= i + 5
        if i == 0:
            first_thread = threading.active_count()
    assert taken == list(range(50)) and i == 49
    assert threading.active_count() < first_thread


def test_errors_are_raised_after_the_items_before_them():
    def items():
        yield from (1, 2)
        raise RuntimeError("no more")

    got = []
    with pytest.raises(RuntimeError, match="no more"):
        for item in in_background(items(), 5):
            got.append(item)
    assert got == [1, 2]


def test_closing_ends_the_thread_and_the_iterator():
    ended = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            ended.set()

    numbers = in_background(items(), 2)
    next(numbers)
    threads = threading.active_count()
    numbers.close()
    assert ended.is_set() and threading.active_count() == threads - 1


def test_closing_does_not_wait_for_a_thread_that_hangs(monkeypatch):
    monkeypatch.setattr(threads, "PATIENCE", 0.01)
    hangs, ended = threading.Event(), threading.Event()

    def items():
        yield 0
        hangs.wait(60)
        ended.set()

    numbers = in_background(items(), 1)
    next(numbers)
    numbers.close()
    assert not ended.is_set()
    hangs.set()


def test_a_pool_maps_in_order_with_a_limited_number_of_tasks():
    taken = []

    def items():
        for i in range(20):
            taken.append(i)
            yield i

    gate = threading.Barrier(2, timeout=10)

    def square(i):
        gate.wait()  # two at a time, or never
        return i * i

    with ThreadPoolExecutor(2) as pool:
        for i, result in enumerate(map_ahead(pool, square, items(), 4)):
            assert result == i * i
            assert len(taken) <= i + 4
    assert len(taken) == 20


def test_fast_reads_run_one_at_a_time(monkeypatch):
    monkeypatch.setattr(threads, "FEW_WAITS", 60.0)  # no pause of a busy machine is a wait
    running, most = [], []

    def read(item):
        running.append(item)
        sum(range(20_000))
        most.append(len(running))
        running.remove(item)
        return -item

    with threads.pool_of_threads(4) as pool:
        assert list(threads.map_reads(pool, read, range(50), 8)) == [-item for item in range(50)]
    assert set(most) == {1}


def test_slow_reads_run_in_all_threads(monkeypatch):
    monkeypatch.setattr(threads, "FEW_WAITS", 0.01)
    together = threading.Barrier(4, timeout=10)

    def read(item):
        if item < 2:  # alone: until they have waited for long enough
            time.sleep(0.006)
        else:
            together.wait()
        return -item

    with threads.pool_of_threads(4) as pool:
        assert list(threads.map_reads(pool, read, range(10), 8)) == [-item for item in range(10)]


def test_an_error_does_not_wait_for_a_pool_whose_threads_hang():
    hangs = threading.Event()
    with pytest.raises(KeyboardInterrupt), pool_of_threads(1) as pool:
        under_way, never = pool.submit(hangs.wait, 60), pool.submit(print)
        raise KeyboardInterrupt
    assert not under_way.done() and never.cancelled()
    hangs.set()


WAITS = {
    "in_background": lambda pool, read: list(in_background(map(read, range(2)), 1)),
    "map_ahead": lambda pool, read: list(map_ahead(pool, read, range(2), 2)),
}


@pytest.mark.parametrize("waits", WAITS)
def test_a_signal_just_before_a_wait_is_handled_during_it(waits):
    """`interrupt_main` marks a signal as received, but wakes no thread, as such a signal does."""
    answers, waited = threading.Event(), []

    def read(item):
        answers.wait(10)
        waited.append(item)

    with ThreadPoolExecutor(2) as pool:
        threading.Timer(0.2, _thread.interrupt_main).start()
        try:
            with pytest.raises(KeyboardInterrupt):
                WAITS[waits](pool, read)
            assert not waited
        finally:
            answers.set()
