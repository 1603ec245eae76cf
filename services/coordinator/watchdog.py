"""Ends the process when a thread of it hangs.

librdkafka calls can block past their time-out. A coordinator that hangs in one holds partitions that others could serve,
so it is killed and started again: starting is the same as recovering. A process that was itself stopped (SIGSTOP, a
suspended machine) is not to blame for the time that passed: the watchdog notices by its own tick and gives a new term.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback

from services.runtime.telemetry.logging import get_logger

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""
TICK_SECONDS = 1.0
STOPPED_SECONDS = 5.0
log = get_logger(__name__)


class Watch:
    """One watched thread: it beats before every step that may block."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds = name, seconds
        self.until = time.monotonic() + seconds
        self.active = True
        self.thread = 0
        """That beats: its `threading.get_ident`."""

    def beat(self) -> None:
        self.thread = threading.get_ident()
        self.until = time.monotonic() + self.seconds

    def done(self) -> None:
        self.active = False


class Watchdog(threading.Thread):
    """Watches until `stop`."""

    def __init__(self) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._watches: list[Watch] = []
        self._stopping = threading.Event()

    def watch(self, name: str, seconds: float) -> Watch:
        """A term of `seconds` that each beat renews."""
        made = Watch(name, seconds)
        self._watches = [w for w in self._watches if w.active] + [made]
        return made

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        before = time.monotonic()
        while not self._stopping.wait(TICK_SECONDS):
            now = time.monotonic()
            if now - before > STOPPED_SECONDS:
                for watch in self._watches:
                    watch.beat()
            before = now
            for watch in self._watches:
                if watch.active and now > watch.until:
                    log.error(
                        "a thread hangs; the process ends and is started again",
                        thread=watch.name, seconds=watch.seconds, stack=_stack(watch.thread),
                    )  # fmt: skip
                    os._exit(EXIT_CODE)


def _stack(thread: int) -> list[str]:
    """Where a thread is, innermost last."""
    frame = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage] (documented; there is no other way)
    return [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_stack(frame)] if frame is not None else []
