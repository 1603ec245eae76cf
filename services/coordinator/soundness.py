"""Whether a job event is one that the coordinator, the workers and every reader of its status can live with. Pure.

The intake and the workers write nothing else. But the topic can be written to by whoever may, and what passed here would be in the
state of a job, from which each owner of the partition begins.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas import envelope, topics
from schemas.events import BY_NAME, KINDS, SERVICES, FollowUp, JobRequested, TaskFinished, is_identifier
from services.coordinator.state import JobEvent

LONGEST_DEADLINE_SECONDS: Final = 30 * 86400
"""As `Request.deadline_seconds` says."""
MOST_TASKS: Final = 1_000_000
"""Of a stage: which of them are done stands in the status, a bit each."""


def read(value: bytes | None, sent: envelope.Envelope) -> JobEvent:
    """The event of a record. Raises Unreadable with what is wrong and what is accepted."""
    if (size := len(value or b"")) > topics.EVENT_LIMIT_BYTES:
        raise envelope.Unreadable(f"the event has {size} bytes, at most {topics.EVENT_LIMIT_BYTES} are accepted")
    envelope.check_depth(sent.data, 3 * topics.REQUEST_DEPTH)
    event = envelope.decode_any(sent)
    if not isinstance(event, JobEvent):
        raise envelope.Unreadable(f"{sent.type} does not belong on {topics.JOB_EVENTS}")
    if isinstance(event, JobRequested):
        _check_request(event)
    elif isinstance(event, TaskFinished):
        _check_stages(event)
    return event


def check_follow_up(follow: FollowUp) -> None:
    """Raises Unreadable for one that would be refused when its time has come."""
    kind = KINDS.get(follow.type)
    if kind is None or not kind.served:
        served = ", ".join(n for n, k in KINDS.items() if k.served)
        raise envelope.Unreadable(f"`then`/`otherwise` names {envelope.shown(follow.type)}; this version serves {served}")
    _check_fields(follow.type, follow.data, "`then`/`otherwise`: ")


def _check_request(event: JobRequested) -> None:
    for name, text in (("job_id", event.job_id), ("subject", event.subject)):
        if not is_identifier(text):
            raise envelope.Unreadable(
                f"{name} is {envelope.shown(text)}; accepted are 1 to 128 of A-Z a-z 0-9 . _ : - , not beginning with punctuation"
            )
    kind = KINDS.get(event.request_type)
    if kind is None or (event.kind, event.service) != (kind.kind, kind.service):
        named = " for ".join(envelope.shown(text) for text in (event.kind, event.service))
        raise envelope.Unreadable(f"{envelope.shown(event.request_type)} is no request that a job of the kind {named} can come of")
    if not 1 <= event.deadline_seconds <= LONGEST_DEADLINE_SECONDS:
        raise envelope.Unreadable(f"deadline_seconds is {event.deadline_seconds}; accepted is 1 to {LONGEST_DEADLINE_SECONDS}")
    _check_fields(event.request_type, event.request)


def _check_fields(request_type: str, fields: dict[str, Any], where: str = "") -> None:
    try:
        msgspec.convert(fields, BY_NAME[request_type])
    except msgspec.ValidationError as wrong:
        raise envelope.Unreadable(f"{where}{request_type}: {wrong}") from None


def _check_stages(event: TaskFinished) -> None:
    for stage in event.stages:
        if stage.service not in SERVICES:
            raise envelope.Unreadable(
                f"the stage {envelope.shown(stage.name)} is for {envelope.shown(stage.service)}; services are {', '.join(SERVICES)}"
            )
        if not 0 <= stage.tasks <= MOST_TASKS:
            raise envelope.Unreadable(f"the stage {envelope.shown(stage.name)} has {stage.tasks} tasks; accepted is 0 to {MOST_TASKS}")
    if event.needs is not None:
        check_follow_up(event.needs)
