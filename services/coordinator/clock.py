"""Follows media.workers: our own heartbeat in, everybody's out, and the lease clock that they make."""

from __future__ import annotations

import time

from schemas import envelope, topics
from schemas.events import WorkerSeen
from services.coordinator.leases import Leases
from services.runtime.kafka.producer import EventProducer, record
from services.runtime.kafka.reader import LogReader
from services.runtime.settings import Settings

ECHO_SECONDS = 1.0
FRESH_SECONDS = 3.0
BACK_SECONDS = 30.0
"""Read from so far back: longer than any lease that is in doubt after a restart."""


class WorkerLog:
    """One thread calls `follow` many times a second."""

    def __init__(self, settings: Settings, name: str, producer: EventProducer, lease_seconds: float) -> None:
        self.leases = Leases(int(lease_seconds * 1000))
        self.name = name
        self._producer = producer
        self._reader = LogReader.from_end(settings, topics.WORKERS, back_seconds=BACK_SECONDS)
        self._sent = 0.0
        self._heard = 0.0
        self._drained = False

    def follow(self, owned: tuple[int, ...]) -> None:
        """Echo once a second, and read what has come."""
        now = time.monotonic()
        if now - self._sent >= ECHO_SECONDS:
            self._sent = now
            echo = WorkerSeen(worker=self.name, service="coordinator", partitions=owned)
            self._producer.send(record(echo, self.name, source="reelworks/coordinator"))
        records = self._reader.poll(0, 1000)
        self._drained = len(records) < 1000
        for received in records:
            try:
                said = envelope.decode(received.value or b"", WorkerSeen)
            except envelope.Unreadable:
                continue  # a foreign hand's record is no heartbeat
            self.leases.observe(said, received.timestamp_ms)
            if said.worker == self.name:
                self._heard = now

    @property
    def fresh(self) -> bool:
        """Whether a verdict may be given: our own echo came back lately and everything before it was read."""
        return self._drained and time.monotonic() - self._heard < FRESH_SECONDS

    def share(self, owned: int) -> float:
        """Our part of the partitions that all live coordinators own."""
        others = sum(
            min(len(c.partitions), topics.JOB_PARTITIONS)
            for c in self.leases.alive()
            if c.service == "coordinator" and c.worker != self.name
        )
        return owned / (owned + others) if owned else 1.0

    def close(self) -> None:
        """Say good-bye and stop reading."""
        self._producer.send(
            record(WorkerSeen(worker=self.name, service="coordinator", bye=True), self.name, source="reelworks/coordinator")
        )
        self._reader.close()
