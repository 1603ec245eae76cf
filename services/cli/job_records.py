"""All records of a job, from the topics alone. The key of a job decides its partition, its creation where reading begins."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from schemas import envelope, topics
from schemas.events import KINDS, SERVICES, JobRequested, JobStatus
from services.cli import replaying
from services.cli.exits import Unreachable
from services.runtime.kafka.reader import LogReader, Received
from services.runtime.settings import Settings

COORDINATOR: Final = "reelworks/coordinator"
"""CloudEvents source of what the coordinator asks for when a job ends; the id begins with that job's."""
EARLIER_MS: Final = 10 * 60_000
"""Clocks of producers differ: topics are read from so long before a job's creation."""
EARLIER_REQUEST_MS: Final = 24 * 3600_000
"""A request may wait for the coordinator. One that is not found so far back is looked for from the beginning."""
STILL_SECONDS: Final = 30.0
"""A broker from which nothing comes for so long is given up."""

Belongs = Callable[[Received], bool]


def of(settings: Settings, job_id: str) -> list[Received]:
    """The records of one job, those of each partition in their order; [] when no topic has any.

    Raises Unreachable when the broker does not answer.
    """
    key = job_id.encode()
    found = _read(settings, [topics.JOBS], 0, lambda r: r.key == key and status_of(r) is not None, key)
    last = status_of(found[-1]) if found else None
    created = last.created_ms if last else 0
    since = max(0, created - EARLIER_MS)

    def outcome(received: Received) -> bool:
        return received.topic == topics.COMPLETIONS and _data(received).get("job_id") == job_id

    events = _read(settings, [topics.JOB_EVENTS, topics.COMPLETIONS], since, lambda r: r.key == key or outcome(r), key)
    found += events
    found += _requests(settings, job_id, created)
    services, subjects = _services(found), _subjects(found)
    prefix = f"{job_id}/".encode()
    if events or created:
        work = [*map(topics.tasks, services), topics.CONTROL]
        found += _read(settings, work, since, lambda r: r.key == key or (r.key or b"").startswith(prefix))
    found += _dead_letters(settings, job_id, since)
    for subject in subjects:
        found += _read(settings, [topics.SEGMENTS], since, lambda r: _data(r).get("job_id") == job_id, subject.encode())
    return found


def job_of(received: Received) -> str:
    """Id of the job that a request is about, though it be none that is accepted; "" when it names none."""
    try:
        sent = envelope.read(received.headers, received.value)
    except envelope.Unreadable:
        return ""
    named = _json(sent.data).get("job_id")
    return named if isinstance(named, str) and named else sent.job_id()


def asked_by(received: Received) -> str:
    """Id of the job at whose end the coordinator has asked for this; "" when it has not."""
    headers = headers_of(received)
    asked = headers.get("ce_source") == COORDINATOR and received.topic == topics.REQUESTS
    return headers.get("ce_id", "").partition("/")[0] if asked else ""


def children_of(job_id: str, records: Sequence[Received]) -> list[str]:
    """Ids of the jobs that this one has asked for: `then`, `otherwise`, `needs`. Each once, in their order. Pure.

    Those that its statuses promise are among them though their requests are gone; they need not exist.
    """
    asked = [job_of(r) for r in records if asked_by(r) == job_id and _type(r) in KINDS]
    for status in filter(None, map(status_of, records)):
        for run in range(1, status.runs + 1):
            asked.append(envelope.derived_id(job_id, f"needs/{run}"))
            for which in ("then", "otherwise"):
                # One more than is listed: HLS follows upon a transcode though nobody asks for it.
                count = len(status.request.get(which, ())) + 1
                asked += [envelope.derived_id(COORDINATOR, f"{job_id}/{run}/{which}/{n}") for n in range(count)]
    return [child for child in dict.fromkeys(asked) if child not in ("", job_id)]


# ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _requests(settings: Settings, job_id: str, created_ms: int) -> list[Received]:
    def belongs(received: Received) -> bool:
        return asked_by(received) == job_id or job_of(received) == job_id

    since = max(0, created_ms - EARLIER_REQUEST_MS)
    found = _read(settings, [topics.REQUESTS], since, belongs)
    if since and not any(_type(r) in KINDS and job_of(r) == job_id for r in found):
        found = _read(settings, [topics.REQUESTS], 0, belongs)
    return found


def _dead_letters(settings: Settings, job_id: str, since_ms: int) -> list[Received]:
    letters: set[str] = set()

    def belongs(received: Received) -> bool:
        if noted := replaying.noted(headers_of(received)):
            return noted in letters
        if job_of(received) != job_id:
            return False
        letters.add(f"{received.partition}/{received.offset}")
        return True

    return _read(settings, [topics.DEAD_LETTERS], since_ms, belongs)


def _read(settings: Settings, names: Sequence[str], since_ms: int, belongs: Belongs, key: bytes | None = None) -> list[Received]:
    with contextlib.closing(LogReader.since(settings, names, since_ms, key=key)) as reader:
        found: list[Received] = []
        moved = time.monotonic()
        while not reader.caught_up:
            before = sum(reader.positions.values())
            found += [record for record in reader.poll(0.5, 2000) if belongs(record)]
            if sum(reader.positions.values()) > before:
                moved = time.monotonic()
            elif time.monotonic() - moved > STILL_SECONDS:
                raise Unreachable(f"the broker stopped answering while {', '.join(names)} were read; check KAFKA_BOOTSTRAP_SERVERS")
        return found


# ── What records say ───────────────────────────────────────────────────────────────────────────────────────────────


def status_of(received: Received) -> JobStatus | None:
    """The status that a record of media.jobs carries."""
    try:
        return envelope.decode(received.value or b"", JobStatus) if received.topic == topics.JOBS else None
    except envelope.Unreadable:
        return None


def _services(found: Sequence[Received]) -> list[str]:
    """Whose task topics may have something of the job."""
    named: list[str] = []
    for record in found:
        if status := status_of(record):
            named += [status.service, *(stage.service for stage in status.stages)]
        elif _type(record) == "JobRequested" and (begun := _begun(record)):
            named.append(begun.service)
    return [service for service in dict.fromkeys(named) if service in SERVICES]


def _subjects(found: Sequence[Received]) -> list[str]:
    """Assets of which segments may have been announced."""
    return list(dict.fromkeys(status.subject for status in filter(None, map(status_of, found)) if status.kind == "transcode"))


def _begun(received: Received) -> JobRequested | None:
    try:
        return envelope.decode(received.value or b"", JobRequested)
    except envelope.Unreadable:
        return None


def _type(received: Received) -> str:
    try:
        return envelope.read(received.headers, received.value).type
    except envelope.Unreadable:
        return ""


def _data(received: Received) -> dict[str, Any]:
    return _json(received.value or b"")


def headers_of(received: Received) -> dict[str, str]:
    return {name: (value or b"").decode("utf-8", "replace") for name, value in received.headers}


def _json(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # what a stranger sent may be nested a thousand times
        return {}
