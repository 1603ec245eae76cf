"""The thread that keeps the view level with the log."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping

from schemas import acls, topics
from services.gateway.views.fold import TOPICS, Folded, fold
from services.gateway.views.store import View, is_damage
from services.runtime.kafka import access, admin
from services.runtime.kafka.reader import LogReader, Place
from services.runtime.settings import Settings
from services.runtime.telemetry.logging import get_logger

_BATCH = 5000
"""Records of one SQLite transaction: large while catching up, where several statuses of a job are one row to write."""
_SWEEP_SECONDS = 600.0
_QUIET_SECONDS = 5.0
"""A log that says nothing for so long may be an idle one or a lost one: ask."""

log = get_logger(__name__)


class LogRenewed(RuntimeError):
    """The topics are not those that the view was made from."""


class Follower:
    """Reads the topics from where the view stands, for ever. Any failure: wait a little, begin again.

    `on_change` is called in this thread after each transaction; `on_caught_up` when the view has all that the log had when
    reading began; `on_behind` when it was emptied and is being filled again.
    """

    def __init__(
        self,
        settings: Settings,
        view: View,
        *,
        on_change: Callable[[Folded], None],
        on_caught_up: Callable[[], None],
        on_behind: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._view = view
        self._on_change = on_change
        self._on_caught_up = on_caught_up
        self._on_behind = on_behind
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="view", daemon=True)
        self.caught_up = False
        self.connected = False
        """Whether the log is being followed now."""
        self.unreadable = 0
        self.trouble = ""
        """Why the view cannot be written, while it cannot."""
        self._damaged = threading.Event()

    def damaged(self) -> None:
        """Somebody could not read the view: fill it again. From any thread."""
        self._damaged.set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(20)

    def _run(self) -> None:
        wait = 0.2
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._follow()
            except sqlite3.Error as wrong:
                self._mend(wrong)
            except Exception as wrong:  # the broker is away, topics are missing, the log was made anew: the same way back
                log.warning("the log cannot be followed; trying again", reason=str(wrong) or type(wrong).__name__)
            self.connected = False
            wait = 0.2 if time.monotonic() - began > 30 else min(wait * 2, 3.0)
            self._stop.wait(wait * random.uniform(0.8, 1.2))  # noqa: S311 (jitter)

    def _mend(self, wrong: sqlite3.Error) -> None:
        if is_damage(wrong):
            self._damaged.set()
            return
        self.trouble = str(wrong)
        log.error("the view cannot be written; trying again", reason=str(wrong), file=str(self._view.path))

    def _follow(self) -> None:
        if self._damaged.is_set():
            log.error("the view is damaged: it is filled again", file=str(self._view.path))
            self._view.renew()
            self._damaged.clear()
        access.require(self._settings, acls.of_service("gateway"))
        identity = admin.identity(self._settings, TOPICS)
        offsets = self._view.prepare(identity, _now_ms())
        if not offsets:
            self._behind()
        reader = self._reader(offsets)
        try:
            if any(reader.positions.get(place) != next_ for place, next_ in offsets.items()):
                log.warning("the view's place is no longer in the log: it is filled again")
                self._behind()
                self._view.wipe(identity)
                reader.close()
                reader = self._reader({})
            self._read(reader)
        except LogRenewed:
            self._behind()
            self._view.wipe(identity)
            raise
        finally:
            reader.close()

    def _behind(self) -> None:
        self.caught_up = False
        self._on_behind()

    def _reader(self, offsets: Mapping[Place, int]) -> LogReader:
        # Requests at last: those that have become jobs since are not decoded.
        return LogReader(self._settings, TOPICS, offsets, last=(topics.REQUESTS,), bare=(topics.JOBS, topics.ASSETS))

    def _read(self, reader: LogReader) -> None:
        swept = heard = time.monotonic()
        self.connected = True
        while not self._stop.is_set():
            if self._damaged.is_set():
                raise sqlite3.DatabaseError("the view could not be read")
            before = dict(reader.positions)
            batch = reader.poll(0.2, _BATCH)
            for record in batch:
                if record.offset < before[(record.topic, record.partition)]:
                    raise LogRenewed(f"{record.topic} went back to offset {record.offset}: it was made anew")
            if batch or reader.positions != before:
                folded = fold(batch, self._view.subject_of_film)
                self.unreadable += folded.unreadable
                self._view.write(folded, reader.positions)
                self.trouble = ""
                self._on_change(folded)
                self.connected = True
                heard = time.monotonic()
            elif time.monotonic() - heard > _QUIET_SECONDS:
                self.connected = reader.reachable(2.0)
                heard = time.monotonic()
            if not self.caught_up and reader.caught_up:
                self._view.filled()
                self.caught_up = True
                self._on_caught_up()
            if time.monotonic() - swept > _SWEEP_SECONDS:
                swept = time.monotonic()
                self._on_change(Folded(jobs_gone=set(self._view.expire(_now_ms()))))


def _now_ms() -> int:
    return int(time.time() * 1000)
