"""The thread that begins again after any failure, until it is stopped."""

from __future__ import annotations

import threading

import pytest

from services.gateway import listener
from services.gateway.listener import Listener

# As long as a hung test may take; nothing here waits for time to pass.
WAIT_SECONDS = 30


class Failing(Listener):
    """Fails twice, then hears until it is stopped."""

    def __init__(self) -> None:
        super().__init__(thread="failing", reads="nothings")
        self.attempts = 0
        self.hears = threading.Event()
        self.ended = threading.Event()

    def listen(self, stop: threading.Event) -> None:
        self.attempts += 1
        if self.attempts < 3:
            raise LookupError("there is no topic")
        self.hears.set()
        stop.wait(WAIT_SECONDS)
        self.ended.set()


def test_it_begins_again_after_failures_and_ends_when_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_AGAIN_SECONDS", 0.0)
    failing = Failing()
    failing.start()
    assert failing.hears.wait(WAIT_SECONDS)
    assert not failing.ended.is_set()
    failing.stop()
    assert failing.ended.is_set()
    assert failing.attempts == 3


def test_what_was_never_started_can_be_stopped() -> None:
    failing = Failing()
    failing.stop()
    assert failing.attempts == 0
