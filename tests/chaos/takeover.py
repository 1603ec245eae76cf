"""How long it takes after a kill until somebody else goes on with what was in the dead process's hands. Pure.

A worker: from the kill to the next start of each task that it had begun. A coordinator: for each partition that it owned, from
the kill (or the first event behind it, when that came later) to the next record that an owner wrote. The live app: from the
kill, or the first segment behind it, to the next playlist.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from schemas import topics
from schemas.events import ATTEMPTS_A_RUN, TaskStarted, WorkerSeen
from tests.chaos.evidence import TASK_EVENTS, Evidence, Held, event_of, of_process

if TYPE_CHECKING:
    from services.runtime.kafka.reader import Received
    from tests.chaos.troubles import Blow


def measure(kills: list[Blow], found: Evidence, away: Callable[[float, float], bool], blows: list[Blow]) -> dict[str, list[float]]:
    """Seconds, by service, of those with which nothing else interfered.

    `away`: whether a broker was away at some moment between two times; nobody can take over then. `blows`: what hit processes; when
    one hit those who might take over, there are two takeovers one after the other.
    """
    result: dict[str, list[float]] = defaultdict(list)
    for kill in kills:
        others = [blow.at for blow in blows if blow.kind == kill.kind and blow is not kill]
        for taken in _of(kill, found):
            if not away(kill.at - 1, taken.at) and not any(kill.at <= at <= taken.at for at in others):
                result[kill.kind].append(round(taken.seconds, 2))
    return {service: sorted(several) for service, several in result.items() if several}


class _Taken(NamedTuple):
    at: float
    """Seconds since 1970."""
    seconds: float


def _of(kill: Blow, found: Evidence) -> list[_Taken]:
    at_ms = int(kill.at * 1000)
    if kill.kind == "coordinator":
        return _coordinator(kill.service, at_ms, found)
    if kill.kind == "streamer-live":
        return _follows(at_ms, found.records[topics.SEGMENTS], found.records[topics.PLAYLISTS])
    return [] if kill.kind == "gateway" else _worker(kill.service, at_ms, found)


def _worker(name: str, at_ms: int, found: Evidence) -> list[_Taken]:
    held, waiting = Held(), dict[tuple[str, int, int], int]()
    taken: list[_Taken] = []
    begun = False
    for received in sorted(found.records[topics.JOB_EVENTS], key=lambda r: r.timestamp_ms):
        event = event_of(received)
        if not isinstance(event, TASK_EVENTS):
            continue
        if received.timestamp_ms <= at_ms:
            held.note(event)
            continue
        if not begun:
            begun, waiting = True, {(job, stage, number): attempt for job, stage, number, attempt in held.of(name)}
        task = (event.job_id, event.stage, event.number)
        before = waiting.get(task, 1 << 60)
        if isinstance(event, TaskStarted) and event.attempt > before and event.attempt // ATTEMPTS_A_RUN == before // ATTEMPTS_A_RUN:
            taken.append(_Taken(received.timestamp_ms / 1000, (received.timestamp_ms - at_ms) / 1000))
            del waiting[task]
    return taken


def _coordinator(name: str, at_ms: int, found: Evidence) -> list[_Taken]:
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
    taken: list[_Taken] = []
    for partition in owned:
        events = [r for r in found.records[topics.JOB_EVENTS] if r.partition == partition]
        statuses = [r for r in found.records[topics.JOBS] if r.partition == partition]
        taken += _follows(at_ms, events, statuses)
    return taken


def _follows(at_ms: int, causes: list[Received], effects: list[Received]) -> list[_Taken]:
    """From the first cause after the kill to the first effect after that; [] when there was none within a minute."""
    cause = min((r.timestamp_ms for r in causes if r.timestamp_ms > at_ms), default=0)
    effect = min((r.timestamp_ms for r in effects if r.timestamp_ms >= cause), default=0)
    return [_Taken(effect / 1000, (effect - max(at_ms, cause)) / 1000)] if cause and effect and effect - cause < 60_000 else []
