"""The thread that hears of new versions of playlists, on `media.playlists`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from schemas import envelope, topics
from schemas.events import PlaylistChanged
from services.runtime.kafka.reader import LogReader
from services.runtime.settings import Settings
from services.runtime.telemetry.logging import get_logger

_BACK_SECONDS = 60.0
"""What grows is announced every few seconds; of what has not changed for so long, a read tells as much."""
_QUIET_SECONDS = 5.0
"""A log that says nothing for so long may be an idle one or a lost one: ask."""

log = get_logger(__name__)


class Announcements:
    """Follows the topic. Any failure: wait a little, begin again.

    Called in this thread: `on_change` with what was announced; `on_hearing` with whether announcements are being heard, each time
    that changes.
    """

    def __init__(
        self, settings: Settings, *, on_change: Callable[[list[PlaylistChanged]], None], on_hearing: Callable[[bool], None]
    ) -> None:
        self._settings = settings
        self._on_change = on_change
        self._on_hearing = on_hearing
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcements", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except Exception as wrong:  # one recovery path: begin again
                log.info("announcements of playlists cannot be read; trying again", reason=str(wrong))
            self._on_hearing(False)
            self._stop.wait(1.0)

    def _follow(self) -> None:
        reader = LogReader.from_end(self._settings, topics.PLAYLISTS, back_seconds=_BACK_SECONDS)
        try:
            if not reader.ends:
                raise LookupError(f"there is no topic {topics.PLAYLISTS}")
            self._on_hearing(True)
            heard, hearing = time.monotonic(), True
            while not self._stop.is_set():
                changes = [change for record in reader.poll(0.5) if (change := _read(record.value)) is not None]
                if changes:
                    self._on_change(changes)
                elif time.monotonic() - heard < _QUIET_SECONDS:
                    continue
                heard = time.monotonic()
                if hearing != (now := bool(changes) or reader.reachable(2.0)):
                    hearing = now
                    self._on_hearing(hearing)
        finally:
            reader.close()


def _read(value: bytes | None) -> PlaylistChanged | None:
    """The announcement in a record; None for a tombstone and for what is none."""
    try:
        return envelope.decode(value or b"", PlaylistChanged)
    except envelope.Unreadable:
        return None
