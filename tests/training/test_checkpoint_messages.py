import asyncio
import logging
import sys
import weakref

from ssd_jax.training.checkpoint_messages import ignore_closed_loops
from ssd_jax.training.checkpoints import Checkpoints


class Thing:
    pass


def test_a_closed_loop_that_is_called_from_c_is_not_reported_and_other_errors_are(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reported.append(report.exc_type))
    ignore_closed_loops.__wrapped__()  # before the hook of pytest, which others have wrapped
    loop = asyncio.new_event_loop()
    loop.close()

    def fail(_):
        raise RuntimeError("Event loop is closed")

    for callback, expected in (
        (loop.call_soon_threadsafe, []),
        (fail, [RuntimeError]),
    ):
        thing = Thing()
        reference = weakref.ref(thing, callback)  # Python's collector calls it, from C
        del thing
        assert reported == expected
        assert reference() is None


def test_opening_checkpoints_for_reading_logs_no_warning(tmp_path, caplog):
    filters = list(logging.getLogger("absl").filters)
    with caplog.at_level(logging.WARNING, "absl"):
        Checkpoints(tmp_path, read_only=True).close()
    assert not caplog.records
    assert logging.getLogger("absl").filters == filters
