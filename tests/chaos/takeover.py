"""How long it takes after a kill until somebody else goes on with what was in the dead process's hands. Pure.

A worker: from the kill to the next start of each task that it had begun. A coordinator: for each partition that it owned, from
the kill (or the first event behind it, when that came later) to the next record that an owner wrote. The live app: from the
kill, or the first segment behind it, to the next playlist.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from schemas import topics
from schemas.events import ATTEMPTS_A_RUN, TaskStarted, WorkerSeen
from tests.chaos.evidence import TASK_EVENTS, Evidence, event_of, of_process

if TYPE_CHECKING:
    from services.runtime.kafka.reader import Received
    from tests.chaos.troubles import Kill


def measure(kills: list[Kill], found: Evidence) -> dict[str, list[float]]:
    """Seconds, by service."""
    result: dict[str, list[float]] = defaultdict(list)
    for kill in kills:
        at_ms = int(kill.at * 1000)
        if kill.kind == "coordinator":
            result[kill.kind] += _coordinator(kill.service, at_ms, found)
        elif kill.kind == "streamer-live":
            result[kill.kind] += _follows(at_ms, found.records[topics.SEGMENTS], found.records[topics.PLAYLISTS])
        elif kill.kind != "gateway":
            result[kill.kind] += _worker(kill.service, at_ms, found)
    return {service: sorted(round(s, 2) for s in several) for service, several in result.items() if several}


def _worker(name: str, at_ms: int, found: Evidence) -> list[float]:
    held: dict[tuple[str, int, int, int], str] = {}
    waiting: dict[tuple[str, int, int], int] = {}
    seconds: list[float] = []
    for received in sorted(found.records[topics.JOB_EVENTS], key=lambda r: r.timestamp_ms):
        event = event_of(received)
        if not isinstance(event, TASK_EVENTS):
            continue
        task = (event.job_id, event.stage, event.number)
        if received.timestamp_ms <= at_ms:
            if isinstance(event, TaskStarted):
                held[(*task, event.attempt)] = event.worker
            else:
                held.pop((*task, event.attempt), None)
            continue
        if not waiting and held:
            waiting = {key[:3]: key[3] for key, worker in held.items() if of_process(worker, name)}
            held.clear()
        before = waiting.get(task, 1 << 60)
        if isinstance(event, TaskStarted) and event.attempt > before and event.attempt // ATTEMPTS_A_RUN == before // ATTEMPTS_A_RUN:
            seconds.append((received.timestamp_ms - at_ms) / 1000)
            del waiting[task]
    return seconds


def _coordinator(name: str, at_ms: int, found: Evidence) -> list[float]:
    owned: tuple[int, ...] = ()
    for received in found.records[topics.WORKERS]:
        seen = event_of(received)
        if (
            isinstance(seen, WorkerSeen)
            and seen.service == "coordinator"
            and of_process(seen.worker, name)
            and received.timestamp_ms <= at_ms
        ):
            owned = seen.partitions
    seconds: list[float] = []
    for partition in owned:
        events = [r for r in found.records[topics.JOB_EVENTS] if r.partition == partition]
        statuses = [r for r in found.records[topics.JOBS] if r.partition == partition]
        seconds += _follows(at_ms, events, statuses)
    return seconds


def _follows(at_ms: int, causes: list[Received], effects: list[Received]) -> list[float]:
    """From the first cause after the kill to the first effect after that; [] when there was none within a minute."""
    cause = min((r.timestamp_ms for r in causes if r.timestamp_ms > at_ms), default=0)
    effect = min((r.timestamp_ms for r in effects if r.timestamp_ms >= cause), default=0)
    return [(effect - max(at_ms, cause)) / 1000] if cause and effect and effect - cause < 60_000 else []
