"""The thread that hears of new versions of playlists, on `media.playlists`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from schemas import envelope, topics
from schemas.events import PlaylistChanged
from services.gateway.listener import Listener
from services.runtime.kafka.reader import LogReader
from services.runtime.settings import Settings

_BACK_SECONDS = 60.0
"""What grows is announced every few seconds; of what has not changed for so long, a read tells as much."""
_QUIET_SECONDS = 5.0
"""A log that says nothing for so long may be an idle one or a lost one: ask."""


class Announcements(Listener):
    """Follows the topic.

    Called in this thread: `on_change` with what was announced; `on_hearing` with whether announcements are being heard, each time
    that changes.
    """

    def __init__(
        self, settings: Settings, *, on_change: Callable[[list[PlaylistChanged]], None], on_hearing: Callable[[bool], None]
    ) -> None:
        super().__init__(thread="announcements", reads="announcements of playlists")
        self._settings = settings
        self._on_change = on_change
        self._on_hearing = on_hearing

    def listen(self, stop: threading.Event) -> None:
        try:
            self._follow(stop)
        finally:
            self._on_hearing(False)

    def _follow(self, stop: threading.Event) -> None:
        reader = LogReader.from_end(self._settings, topics.PLAYLISTS, back_seconds=_BACK_SECONDS)
        try:
            if not reader.ends:
                raise LookupError(f"there is no topic {topics.PLAYLISTS}")
            self._on_hearing(True)
            heard, hearing = time.monotonic(), True
            while not stop.is_set():
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
