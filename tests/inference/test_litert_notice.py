import os
import tempfile
import threading

from ssd_jax.inference import litert_notice
from ssd_jax.inference.litert_notice import NOTICE, STDERR, without_notice


def test_other_lines_are_kept(capfd):
    with without_notice():
        os.write(STDERR, b"before\n" + NOTICE + b" XNNPACK delegate for CPU.\nafter\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_without_a_temporary_file_the_notice_is_shown(capfd, monkeypatch):
    def fail():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(litert_notice.tempfile, "TemporaryFile", fail)
    with without_notice():
        os.write(STDERR, NOTICE)
    assert capfd.readouterr().err == NOTICE.decode()


def test_stderr_is_restored_after_two_threads():
    begun, may_end = threading.Event(), threading.Event()

    def second():
        with without_notice():
            begun.set()
            may_end.wait(10)

    with tempfile.TemporaryFile() as own:
        kept = os.dup(STDERR)
        os.dup2(own.fileno(), STDERR)
        try:
            thread = threading.Thread(target=second)
            with without_notice():
                thread.start()
                assert not begun.wait(0.1)
            may_end.set()
            thread.join()
            assert os.fstat(STDERR).st_ino == os.fstat(own.fileno()).st_ino
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)
