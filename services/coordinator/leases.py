"""Which workers are alive, on the clock of the log. Pure.

The clock is made of the append times of `media.workers` (one partition, LogAppendTime): it advances with each record by
the time since the one before, at most 1.5 s. When the broker is away, nobody can append and the clock stands still, so an
outage of any length costs nobody a lease. The same holds for a reader that was stopped: what it did not read did not pass.
"""

from __future__ import annotations

import msgspec

from schemas.events import WorkerSeen

STEP_LIMIT_MS = 1500
"""Half the heartbeat's interval: with at least one coordinator's echo a second, steps are shorter."""
FORGET_MS = 600_000
"""A worker that said good-bye or fell silent so long ago is not remembered."""


class Seen(msgspec.Struct):
    clock_ms: int
    said: WorkerSeen | None
    """None: only named by a task so far."""


class Leases:
    """Folds heartbeats; answers who is silent."""

    def __init__(self, lease_ms: int) -> None:
        self.lease_ms = lease_ms
        self.clock_ms = 0
        self._last_timestamp = 0
        self._workers: dict[str, Seen] = {}

    def observe(self, said: WorkerSeen, timestamp_ms: int) -> None:
        """A record of media.workers, in the order of the log."""
        if self._last_timestamp:
            self.clock_ms += min(max(0, timestamp_ms - self._last_timestamp), STEP_LIMIT_MS)
        self._last_timestamp = max(timestamp_ms, self._last_timestamp)
        self._workers[said.worker] = Seen(self.clock_ms, said)

    def notice(self, worker: str) -> None:
        """A task names this worker. One that was never heard of gets a full lease from now."""
        self._workers.setdefault(worker, Seen(self.clock_ms, None))

    def silent(self) -> set[str]:
        """Workers whose lease has run out."""
        return {w for w, seen in self._workers.items() if not _gone(seen) and self.clock_ms - seen.clock_ms >= self.lease_ms}

    def gone(self) -> set[str]:
        """Workers that said good-bye."""
        return {w for w, seen in self._workers.items() if _gone(seen)}

    def alive(self) -> list[WorkerSeen]:
        """The last words of workers whose lease holds."""
        return [
            seen.said
            for seen in self._workers.values()
            if seen.said is not None and not seen.said.bye and self.clock_ms - seen.clock_ms < self.lease_ms
        ]

    def forget_old(self) -> None:
        """Drop workers that are of no interest any more."""
        self._workers = {w: seen for w, seen in self._workers.items() if self.clock_ms - seen.clock_ms < FORGET_MS}


def _gone(seen: Seen) -> bool:
    return seen.said is not None and seen.said.bye
