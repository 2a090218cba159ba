"""Clients of object stores: repeats of failed requests, and limits of time."""

import asyncio
import re
import socket

import pytest

from ssd_jax.errors import UserError
from ssd_jax.storage import clients, clouds, ranges
from tests.helpers.commands import free_port
from tests.helpers.stores import failing_stores

VARIABLES = {"gs": "STORAGE_EMULATOR_HOST", "s3": "AWS_ENDPOINT_URL"}


@pytest.fixture
def waited(monkeypatch):
    """The pauses of all coroutines, which take no time."""
    found, sleep = [], asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: (found.append(seconds), sleep(0))[1])
    return found


@pytest.fixture
def connect(stores, monkeypatch):
    """Makes a scheme use another port of this machine."""

    def change(scheme, port):
        monkeypatch.setenv(VARIABLES[scheme], f"http://127.0.0.1:{port}")
        ranges.forget_clients()

    yield change
    monkeypatch.undo()
    ranges.forget_clients()


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_failed_request_is_repeated_after_a_tenth_of_a_second(scheme, stores, waited):
    with failing_stores(every=3) as proxies:
        for number in range(6):
            clouds.write(f"{scheme}://bucket/soon/{number}", bytes([number]))
            assert clouds.read(f"{scheme}://bucket/soon/{number}") == bytes([number])
    refused = sum(proxy.refused for proxy in proxies)
    assert refused >= 5 and [pause for pause in waited if pause] == [0.1] * refused


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_requests_that_always_fail_are_repeated_for_half_a_minute(scheme, stores, waited):
    with (
        failing_stores(every=1),
        pytest.raises(UserError, match=r"/a cannot be reached: .*(503|Service Unavailable);"),
    ):
        clouds.read(f"{scheme}://bucket/a")
    assert 25 < sum(waited) < 45


@pytest.mark.parametrize(
    "scheme, reason", [("gs", "it does not answer"), ("s3", "Read timeout on endpoint URL.*")]
)
def test_a_store_that_accepts_requests_and_never_answers(
    scheme, reason, connect, waited, monkeypatch
):
    monkeypatch.setattr(clients, "SILENCE", 0.02)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        connect(scheme, silent.getsockname()[1])
        with pytest.raises(UserError, match=f"^{scheme}://bucket/a cannot be reached: {reason};"):
            clouds.read(f"{scheme}://bucket/a")
    assert waited  # it was repeated


def test_a_store_that_cannot_be_reached_is_named_before_credentials_are_searched(
    connect, monkeypatch
):
    monkeypatch.setattr(clients, "CONNECTION_PAUSES", (0.0, 0.0))
    connect("gs", free_port())
    message = "gs://bucket/a cannot be reached: 127.0.0.1: Connection refused; check the name and"
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        clouds.read("gs://bucket/a")
