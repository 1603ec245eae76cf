"""The jobs of one partition in memory, as their records say. Living jobs are decoded; ended ones stay bytes."""

from __future__ import annotations

import heapq

import msgspec

from schemas import envelope
from schemas.events import TERMINAL, JobStatus
from services.coordinator import state
from services.runtime.kafka.reader import Received

CLEANUP_HEADER = "reelworks-cleanup"
STATE_HEADER = "reelworks-state"


class Jobs:
    """A dictionary of jobs that remembers which of them have something due."""

    def __init__(self) -> None:
        self._living: dict[str, JobStatus] = {}
        self._ended: dict[str, bytes] = {}
        self._unread: dict[str, bytes] = {}
        """Latest records of jobs that are not tidied up, until somebody asks: most are followed by later ones of the same job."""
        self._due: list[tuple[int, str]] = []
        self._tidied: set[str] = set()
        """Ended jobs whose cleanup is waiting."""
        self.busy: set[str] = set()
        """Jobs with released tasks."""

    def __len__(self) -> int:
        return len(self._living) + len(self._ended)

    @property
    def living(self) -> int:
        return len(self._living)

    def get(self, job_id: str) -> JobStatus | None:
        """A job, or None when it is unknown. Not to be changed in place."""
        self._settle()
        job = self._living.get(job_id)
        if job is None and (raw := self._ended.get(job_id)) is not None:
            return _decode(raw)
        return job

    def put(self, job: JobStatus, raw: bytes) -> None:
        """A job after a change, and its record's value."""
        if job.state in TERMINAL:
            self._living.pop(job.job_id, None)
            self._ended[job.job_id] = raw
        else:
            self._ended.pop(job.job_id, None)
            self._living[job.job_id] = job
        (self._tidied.add if job.cleanup == "waiting" else self._tidied.discard)(job.job_id)
        (self.busy.add if job.outstanding else self.busy.discard)(job.job_id)
        self.expect(job, 0)

    def expect(self, job: JobStatus, now_ms: int) -> None:
        """Remember when the next thing after `now_ms` is due for a job."""
        due = state.next_due_ms(job, now_ms)
        if due is not None:
            heapq.heappush(self._due, (due, job.job_id))

    def active(self) -> list[JobStatus]:
        """Jobs of which something is released or may be: the living ones, and ended ones that are to be tidied up."""
        self._settle()
        tidied = [job for name in self._tidied if (job := self.get(name)) is not None]
        return [*self._living.values(), *tidied]

    def load(self, received: Received) -> None:
        """A record of the status topic, while the partition is read back: before anything else is asked.

        An ended and tidied job is not decoded: most of a long history is like that. Nor is what a later record replaces.
        """
        key = (received.key or b"").decode()
        self._unread.pop(key, None)
        self._ended.pop(key, None)
        if received.value is None:
            return
        headers = dict(received.headers)
        if (headers.get(STATE_HEADER) or b"").decode() in TERMINAL and headers.get(CLEANUP_HEADER) == b"done":
            self._ended[key] = received.value
        else:
            self._unread[key] = received.value

    def _settle(self) -> None:
        if self._unread:
            unread, self._unread = self._unread, {}
            for raw in unread.values():
                self.put(_decode(raw), raw)

    def due(self, now_ms: int) -> list[str]:
        """Jobs for which something is due, each once. They are not named again until they change."""
        names: set[str] = set()
        while self._due and self._due[0][0] <= now_ms:
            names.add(heapq.heappop(self._due)[1])
        return sorted(names)

    def wait_seconds(self, now_ms: int, most: float) -> float:
        """Until the next thing is due, at most `most`."""
        return min(most, max(0.0, (self._due[0][0] - now_ms) / 1000)) if self._due else most


def headers(job: JobStatus, source: str, seq: int) -> envelope.Headers:
    """Of a status record: CloudEvents, and what recovery wants to know without decoding the value."""
    made = envelope.headers_for("JobStatus", source=source, event_id=f"{job.job_id}/{seq}", traceparent=job.traceparent)
    made.append((STATE_HEADER, job.state.encode()))
    if job.cleanup:
        made.append((CLEANUP_HEADER, job.cleanup.encode()))
    return made


def _decode(raw: bytes) -> JobStatus:
    try:
        return envelope.decode(raw, JobStatus)
    except envelope.Unreadable as wrong:  # never written by us; a record of a foreign hand must not pass for a state
        raise msgspec.ValidationError(str(wrong)) from None
