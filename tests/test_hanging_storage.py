"""Ctrl-C ends all commands that wait for storage that does not answer."""

import os
import signal
import threading

import pytest

from ssd_jax.data.convert import convert_data
from ssd_jax.data.evaluation_batches import evaluation_batches, read_objects
from ssd_jax.data.near_duplicates import read_thumbnails
from ssd_jax.data.sources import open_dataset
from ssd_jax.diagnostics.check_data import check_data
from ssd_jax.runs.data_checks import check_images
from tests.helpers.pictures import write_ten

READERS = {
    "opening": lambda spec, dataset, folder: open_dataset(spec),
    "check-data": lambda spec, dataset, folder: check_data(spec),
    "convert-data": lambda spec, dataset, folder: convert_data(spec, "coco", folder / "out"),
    "thumbnails": lambda spec, dataset, folder: read_thumbnails(dataset),
    "before the first step": lambda spec, dataset, folder: check_images(dataset),
    "evaluation": lambda spec, dataset, folder: list(
        evaluation_batches(dataset, image_size=32, batch_size=2)
    ),
    "objects": lambda spec, dataset, folder: list(read_objects(dataset)),
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_ten(tmp_path_factory.mktemp("voc") / "data")


@pytest.mark.parametrize("reader", READERS)
def test_control_c_does_not_wait_for_the_thread(reader, spec, tmp_path, monkeypatch):
    dataset = open_dataset(spec)
    asked, answers, opened = threading.Event(), threading.Event(), os.open
    waited = []

    def hangs(path, *arguments, **options):
        if str(path).endswith(".jpg"):
            asked.set()
            answers.wait(30)
            waited.append(path)
        return opened(path, *arguments, **options)

    def press_control_c():
        if asked.wait(30):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    monkeypatch.setattr(os, "open", hangs)
    threading.Thread(target=press_control_c, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            READERS[reader](spec, dataset, tmp_path)
        assert not waited
    finally:
        answers.set()
