"""Who works, from the heartbeats on `media.workers`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from schemas import envelope, topics
from schemas.events import WorkerSeen
from services.gateway.listener import Listener
from services.gateway.views.queue import Capacity
from services.runtime.kafka.reader import LogReader
from services.runtime.settings import Settings

SILENT_SECONDS = 10.0
"""Heartbeats come every three seconds: three of them missed."""
_BACK_SECONDS = 15.0


class Fleet(Listener):
    """Follows the heartbeats in a thread of its own; `capacities` may be asked from any thread."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(thread="fleet", reads="heartbeats")
        self._settings = settings
        self._clock = clock
        self._seen: dict[str, tuple[WorkerSeen, float]] = {}

    def seen(self, heartbeat: WorkerSeen) -> None:
        """Take a heartbeat in."""
        if heartbeat.bye:
            self._seen.pop(heartbeat.worker, None)
        else:
            self._seen[heartbeat.worker] = (heartbeat, self._clock())

    def capacities(self) -> dict[str, Capacity]:
        """By service, of the workers that were heard lately."""
        now = self._clock()
        sums: dict[str, tuple[int, int, int]] = {}
        for worker, (heartbeat, at) in list(self._seen.items()):
            if now - at > SILENT_SECONDS:
                self._seen.pop(worker, None)
                continue
            workers, slots, busy = sums.get(heartbeat.service, (0, 0, 0))
            sums[heartbeat.service] = (workers + 1, slots + heartbeat.slots, busy + len(heartbeat.running))
        return {service: Capacity(*found) for service, found in sums.items()}

    def listen(self, stop: threading.Event) -> None:
        reader = LogReader.from_end(self._settings, topics.WORKERS, back_seconds=_BACK_SECONDS)
        try:
            while not stop.is_set():
                for record in reader.poll(0.5):
                    try:
                        self.seen(envelope.decode(record.value or b"", WorkerSeen))
                    except envelope.Unreadable:
                        continue
        finally:
            reader.close()
