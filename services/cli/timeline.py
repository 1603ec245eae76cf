"""The timeline of a job across all services, from the topics alone: what each record says, merged in order of time.

`of` reads; the rest is pure. Times are those of whoever wrote a record, so machines whose clocks differ show it here. Records of
one partition stay in the order in which they lie there.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from schemas import topics
from schemas.events import KINDS, TERMINAL
from services.cli import job_records
from services.cli.timeline_entries import Entry, entries_of
from services.runtime.kafka.reader import Received
from services.runtime.settings import Settings

ORDER: Final = (
    topics.DEAD_LETTERS, topics.REQUESTS, topics.JOB_EVENTS, topics.JOBS, topics.CONTROL, topics.COMPLETIONS, topics.SEGMENTS,
)  # fmt: skip
"""Of what has the same time; tasks come last."""
SHORT: Final = 8
"""So much of a job's id tells the jobs of one timeline apart."""


def of(settings: Settings, job_id: str, *, children: bool = False) -> list[Entry]:
    """The timeline of a job, read from the broker's topics; [] when none has a record of it.

    `children`: and of the jobs that it asked for (`then`, `otherwise`, `needs`), and of theirs. Raises exits.Unreachable.
    """
    records: dict[str, list[Received]] = {}
    wanted = [job_id]
    while wanted:
        name = wanted.pop(0)
        records[name] = job_records.of(settings, name)
        if children:
            wanted += [child for child in job_records.children_of(name, records[name]) if child not in records and child not in wanted]
    return fold(records)


def fold(records: Mapping[str, Sequence[Received]]) -> list[Entry]:
    """The records of each job, those of each partition in their order, as one timeline. Pure."""
    logs = [log for job_id, found in records.items() for log in entries_of(job_id, found).items()]
    logs.sort(key=lambda log: (ORDER.index(log[0][0]) if log[0][0] in ORDER else len(ORDER), log[0]))
    merged = list(heapq.merge(*(entries for _, entries in logs), key=lambda entry: entry.at_ms))
    first = min((entry.at_ms for entry in merged), default=0)
    return [msgspec.structs.replace(entry, after_seconds=(entry.at_ms - first) / 1000) for entry in merged]


def render(entries: Sequence[Entry]) -> str:
    """One line an entry: time, seconds since the first, who, what, where it lies; with several jobs, whose it is."""
    several = len({entry.job_id for entry in entries}) > 1
    widths = [max((len(entry.who) for entry in entries), default=0), max((len(_seconds(entry)) for entry in entries), default=0)]
    return "\n".join(
        f"{_time(entry.at_ms)}  {_seconds(entry):>{widths[1]}}  {f'{entry.job_id[:SHORT]}  ' if several else ''}"
        f"{entry.who:<{widths[0]}}  {_one_line(entry.what)}  {entry.topic}/{entry.partition}/{entry.offset}"
        for entry in entries
    )


def missing(entries: Sequence[Entry], now_ms: int) -> list[str]:
    """What a timeline is known to lack, a sentence each: topics forget by their retention, or keep the last record of a key. Pure."""
    told: list[str] = []
    for job_id in dict.fromkeys(entry.job_id for entry in entries):
        told += [f"job {job_id}: {words}" for words in _missing([e for e in entries if e.job_id == job_id], now_ms)]
    return told


def _missing(entries: list[Entry], now_ms: int) -> list[str]:
    told: list[str] = []
    statuses = [e for e in entries if e.event == "JobStatus"]
    events = [e for e in entries if e.topic == topics.JOB_EVENTS]
    if not statuses and not events:
        return told  # it was asked for, and has not begun
    if not any(e.topic == topics.REQUESTS and e.event in KINDS and not e.asks_for for e in entries):
        told.append(f"its request is gone from {topics.REQUESTS}{_kept(topics.REQUESTS)}")
    if not any(e.event == "JobRequested" for e in events):
        told.append(f"the event by which it began is gone from {topics.JOB_EVENTS}{_kept(topics.JOB_EVENTS)}, and perhaps later ones")
    released = {(e.stage, e.number, e.attempt) for e in entries if e.event == "TaskReleased"}
    lacking = {(e.stage, e.number, e.attempt) for e in events if e.event == "TaskStarted"} - released
    if lacking:
        told.append(f"the releases of {len(lacking)} started tasks are gone from media.tasks.*{_kept(topics.tasks('transcoder'))}")
    if not statuses:
        told.append(f"{topics.JOBS} has no status of it: none was written yet, or it is gone{_kept(topics.JOBS)}")
    elif (statuses[0].state, statuses[0].run) != ("queued", 1):
        told.append(f"its first statuses are not on {topics.JOBS}, which keeps for certain only the last")
    last = statuses[-1].state if statuses else ""
    if last in TERMINAL and not any(e.topic == topics.COMPLETIONS and e.state == last for e in entries):
        told.append(f"its outcome is not on {topics.COMPLETIONS}, which keeps for certain only the last of a subject and kind")
    begun = entries[0].at_ms
    brief = [name for name in (topics.CONTROL, topics.SEGMENTS) if now_ms - begun > _retention_ms(name)]
    if brief:
        told.append(f"it began {(now_ms - begun) / topics.DAY_MS:.0f} days ago; {' and '.join(brief)} keep less{_kept(brief[0])}")
    return told


def _retention_ms(name: str) -> int:
    return next(topic.retention_ms for topic in topics.TOPICS if topic.name == name)


def _kept(name: str) -> str:
    days = _retention_ms(name) / topics.DAY_MS
    return f" (kept for {days:g} day{'' if days == 1 else 's'})"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(entry: Entry) -> str:
    return f"+{entry.after_seconds:.3f} s"


def _one_line(words: str) -> str:
    return " ".join(words.split())
