"""One record of a job as a line of its timeline: who, what, and where it lies. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from schemas import envelope, topics
from schemas.events import (
    ATTEMPTS_A_RUN,
    CLEANUP_STAGE,
    KINDS,
    CancelRequested,
    Completion,
    JobCancelled,
    JobFailed,
    JobRequested,
    JobStatus,
    Request,
    RetryRequested,
    SegmentsReady,
    StageStatus,
    TaskFailed,
    TaskFinished,
    TaskReleased,
    TaskReturned,
    TaskStarted,
)
from services.cli import job_records, replaying
from services.runtime.kafka.reader import Received

COORDINATOR: Final = "coordinator"
TaskEvent = TaskReleased | TaskStarted | TaskFinished | TaskFailed | TaskReturned


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record."""

    at_ms: int
    """Timestamp of the record, by the clock of whoever wrote it."""
    after_seconds: float = 0.0
    """Since the first entry."""
    job_id: str
    who: str
    """The worker, `coordinator`, `intake`, or the CloudEvents source of whoever asked."""
    event: str
    """Name of the event: `TaskStarted`. Empty when it cannot be read."""
    what: str
    """In words."""
    topic: str
    partition: int
    offset: int
    stage: str = ""
    """Name of the task's stage: `plan`, those of the plan, `finish`, `cleanup`."""
    number: int | None = None
    """Of the task in its stage, from 0."""
    attempt: int | None = None
    """As it travels: those of a second run begin at 10,001."""
    failure_class: str = ""
    reason: str = ""
    state: str = ""
    """Of the job, with statuses and outcomes."""
    run: int = 0
    """With statuses: 1, and one more with each retry by hand."""
    asks_for: str = ""
    """The job that this one asks for, or cancels, at its end."""
    asked_by: str = ""
    """The job that asks for this one."""


def entries_of(job_id: str, records: Iterable[Received]) -> dict[tuple[str, int], list[Entry]]:
    """Entries by topic and partition, each in the order of its log. Statuses in which nothing but progress is new are left out."""
    found = list(records)
    stages = _stages(found)
    made: dict[tuple[str, int], list[Entry]] = {}
    before: JobStatus | None = None
    for received in found:
        entry: Entry | None
        if (status := job_records.status_of(received)) is not None:
            entry, before = _status(received, status, before), status
        else:
            entry = _entry(job_id, received, stages)
        if entry is not None:
            made.setdefault((received.topic, received.partition), []).append(entry)
    return made


def _stages(found: Sequence[Received]) -> list[StageStatus]:
    """The most complete list that a status has: after a retry that plans anew it is short for a while."""
    return max((status.stages for status in filter(None, map(job_records.status_of, found))), key=len, default=[])


def _entry(job_id: str, received: Received, stages: list[StageStatus]) -> Entry:
    headers = job_records.headers_of(received)
    if received.topic == topics.DEAD_LETTERS:
        return _dead_letter(job_id, received, headers)
    try:
        sent = envelope.read(received.headers, received.value)
        event = envelope.decode_any(sent)
    except envelope.Unreadable as wrong:
        return _plain(job_id, received, headers.get("ce_source", ""), "", f"cannot be read: {wrong}")
    if received.topic == topics.REQUESTS:
        return _request(job_id, received, event, sent)
    if isinstance(event, TaskEvent):
        return _task(job_id, received, event, stages)
    who = {topics.JOB_EVENTS: "intake", topics.SEGMENTS: sent.source}.get(received.topic, COORDINATOR)
    entry = _plain(job_id, received, who, sent.type, _words(event, sent.type))
    if isinstance(event, JobFailed):
        error = event.error
        return msgspec.structs.replace(
            entry, state=event.state, failure_class=error.failure_class if error else "", reason=error.message if error else ""
        )
    return msgspec.structs.replace(entry, state="succeeded") if isinstance(event, Completion) and _ends(event, sent.type) else entry


def _plain(job_id: str, received: Received, who: str, event: str, what: str) -> Entry:
    return Entry(
        at_ms=received.timestamp_ms, job_id=job_id, who=who, event=event, what=what, topic=received.topic, partition=received.partition,
        offset=received.offset,
    )  # fmt: skip


def _words(event: msgspec.Struct, name: str) -> str:
    match event:
        case JobRequested():
            return f"accepted {event.request_type} as {event.kind}"
        case CancelRequested():
            return f"accepted CancelRequested{_because(event.reason)}"
        case RetryRequested():
            return "accepted RetryRequested"
        case JobCancelled():
            return f"tells workers to stop attempts below {event.attempts_below}"
        case SegmentsReady():
            numbers = [segment.number for segment in event.segments]
            return f"{event.rendition}: segments {min(numbers)} to {max(numbers)} are stored" if numbers else f"{event.rendition} begins"
        case JobFailed():
            return f"JobFailed, {event.state}{_because(event.error.message if event.error else '')}"
        case Completion():
            return f"{name}, {len(event.outputs)} outputs"
        case _:
            return name


def _ends(event: Completion, name: str) -> bool:
    """Whether it is the outcome of a job: the stream of a growing film is told of before."""
    return name in {kind.completion for kind in KINDS.values()} and not getattr(event, "progressive", False)


def _request(job_id: str, received: Received, event: msgspec.Struct, sent: envelope.Envelope) -> Entry:
    asker, target = job_records.asked_by(received), job_records.job_of(received)
    replayed = job_records.headers_of(received).get(replaying.FROM, "")
    what = sent.type + (f", replayed from {replayed}" if replayed else "")
    asks_for = asked_by = ""
    if asker == job_id and target != job_id:
        what, asks_for = f"asks for {sent.type}: job {target}", target
    elif asker and asker != job_id:
        what, asked_by = f"{sent.type}, asked for by job {asker}", asker
    elif isinstance(event, CancelRequested):
        what += _because(event.reason)
    cause = event.cause if isinstance(event, Request) else None
    if cause is not None:
        what += f" ({cause.kind} job {cause.job_id} {cause.state})"
    entry = _plain(job_id, received, COORDINATOR if asker else sent.source, sent.type, what)
    return msgspec.structs.replace(entry, asks_for=asks_for, asked_by=asked_by)


def _task(job_id: str, received: Received, event: TaskEvent, stages: list[StageStatus]) -> Entry:
    name = _label(stages, event.stage, event.number)
    did = {TaskReleased: "released", TaskStarted: "started", TaskFinished: "finished", TaskReturned: "handed back", TaskFailed: "failed"}
    what = f"{name} {did[type(event)]}, {_attempt(event.attempt)}"
    error = event.error if isinstance(event, TaskFailed) else None
    if error is not None:
        what += f": {error.failure_class}, {error.message}"
    if isinstance(event, TaskFinished) and event.needs is not None:
        what += f": needs {event.needs.type} first"
    who = COORDINATOR if isinstance(event, TaskReleased) else event.worker
    return msgspec.structs.replace(
        _plain(job_id, received, who, type(event).__name__, what),
        stage=_stage(stages, event.stage), number=event.number, attempt=event.attempt,
        failure_class=error.failure_class if error else "", reason=error.message if error else "",
    )  # fmt: skip


def _dead_letter(job_id: str, received: Received, headers: dict[str, str]) -> Entry:
    if letter := replaying.noted(headers):
        did = "is about to be sent again" if replaying.CLAIMED in headers else "was sent again"
        return _plain(job_id, received, headers.get(replaying.BY, "operator"), "", f"dead letter {letter} {did}")
    who = COORDINATOR if headers.get("ce_source") == job_records.COORDINATOR else "intake"
    reason = headers.get(replaying.REASON, "")
    name = headers.get("ce_type", "").removeprefix(envelope.events.TYPE_PREFIX)
    what = f"dead letter {received.partition}/{received.offset}{_because(reason)}"
    return msgspec.structs.replace(_plain(job_id, received, who, name, what), reason=reason)


# ── Statuses ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _status(received: Received, status: JobStatus, before: JobStatus | None) -> Entry | None:
    """None when nothing is new but progress."""
    if before is not None and _shape(before) == _shape(status):
        return None
    known = {(note.task, note.attempt, note.at_ms) for note in before.attempts} if before else set()
    lost = [note for note in status.attempts if (note.task, note.attempt, note.at_ms) not in known]
    parts = [f"{status.state}{f', run {status.runs}' if status.runs > 1 else ''}: {_stage_words(status)}"]
    parts += [f"{note.task} no. {note.attempt} failed, {note.failure_class}, {note.message}" for note in lost]
    if before is None and status.note:
        parts.append(status.note)
    entry = _plain(status.job_id, received, COORDINATOR, "JobStatus", "; ".join(parts))
    error = status.error
    return msgspec.structs.replace(
        entry, state=status.state, run=status.runs, stage=_stage(status.stages, _stage_number(status)),
        failure_class=error.failure_class if error else "", reason=error.message if error else "",
    )  # fmt: skip


def _shape(status: JobStatus) -> list[Any]:
    out = [(task.number, task.attempt, task.worker) for task in status.outstanding]
    ended = [(note.task, note.attempt, note.at_ms) for note in status.attempts]
    done = [(stage.name, stage.done, stage.total) for stage in status.stages]
    return [status.state, status.runs, status.stage, status.cleanup, status.needs, status.retry_wanted, done, out, ended]


def _stage_words(status: JobStatus) -> str:
    if status.cleanup:
        return "tidied up" if status.cleanup == "done" else "to be tidied up"
    stage = status.stages[status.stage]
    started = sum(1 for task in status.outstanding if task.worker)
    words = f"{stage.name} {stage.done} of {stage.total} done"
    if status.outstanding:
        words += f", {started} running, {len(status.outstanding) - started} released"
    if status.again:
        words += f", {len(status.again)} to be repeated"
    return words + (f", needs job {status.needs}" if status.needs else "")


def _stage_number(status: JobStatus) -> int:
    return CLEANUP_STAGE if status.cleanup else status.stage


# ── Names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _stage(stages: list[StageStatus], number: int) -> str:
    if number == CLEANUP_STAGE:
        return "cleanup"
    return stages[number].name if 0 <= number < len(stages) else f"stage {number}"


def _label(stages: list[StageStatus], stage: int, number: int) -> str:
    name = _stage(stages, stage)
    total = stages[stage].total if 0 <= stage < len(stages) else 0
    if stage == CLEANUP_STAGE or total == 1:
        return name
    return f"{name} {number + 1}{f' of {total}' if total else ''}"


def _attempt(attempt: int) -> str:
    run, number = divmod(attempt - 1, ATTEMPTS_A_RUN)
    return f"attempt {number + 1}{f' of run {run + 1}' if run else ''}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
