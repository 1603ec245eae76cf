"""What the coordinator writes, as records of their topics."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas import envelope, topics
from schemas.events import BY_NAME, JobCancelled, JobStatus, Position, TaskReleased
from services.coordinator import jobs, state
from services.runtime.kafka.producer import Record
from services.runtime.telemetry.logging import get_logger

SOURCE = "reelworks/coordinator"
POSITION_KEY = "@offset"
REASON_LIMIT = 4000
log = get_logger(__name__)


def position(partition: int, offset: int) -> Record:
    """Where the next owner goes on; it lies beside the states that it belongs to."""
    return Record(topic=topics.JOBS, key=POSITION_KEY, value=envelope.encode_value(Position(next=offset)), partition=partition)


def status(partition: int, job: JobStatus, value: bytes, seq: int) -> Record:
    """The whole state of a job; `value` is its JSON."""
    return Record(topic=topics.JOBS, key=job.job_id, value=value, partition=partition, headers=jobs.headers(job, SOURCE, seq))


def task(released: TaskReleased, job: JobStatus, service: str, partition: int) -> Record:
    """A task for a partition of its service."""
    key = f"{released.job_id}/{released.stage}/{released.number}"
    headers = _headers("TaskReleased", job, f"{key}/{released.attempt}")
    return Record(topic=topics.tasks(service), key=key, value=envelope.encode_value(released), headers=headers, partition=partition)


def effect(partition: int, job: JobStatus, decided: state.Effect) -> Record:
    """What a decision sends out. Outcomes lie in the partition of their job: only its owner writes there."""
    match decided:
        case state.Complete(name, key, data):
            headers = _headers(name, job, f"{job.job_id}/{job.runs}/{job.state}")
            return Record(topic=topics.COMPLETIONS, key=key, value=_completion(job, name, data), headers=headers, partition=partition)
        case state.Continue(name, data, event_id):
            return Record(topic=topics.REQUESTS, key=job.job_id, value=msgspec.json.encode(data), headers=_headers(name, job, event_id))
        case state.Stop(job_id, below):
            value = envelope.encode_value(JobCancelled(job_id=job_id, attempts_below=below))
            return Record(topic=topics.CONTROL, key=job_id, value=value, headers=_headers("JobCancelled", job, None))
        case state.Bury(job_id, reason):
            # The letter is the request by which the job goes on: replaying it retries the job by hand.
            headers = _headers("RetryRequested", job, f"{job_id}/{job.runs}/retry")
            headers += [("reelworks-reason", reason.encode()[:REASON_LIMIT]), ("reelworks-origin-topic", topics.REQUESTS.encode())]
            return Record(topic=topics.DEAD_LETTERS, key=job_id, value=msgspec.json.encode({"job_id": job_id}), headers=headers)


def _headers(name: str, job: JobStatus, event_id: str | None) -> envelope.Headers:
    return envelope.headers_for(name, source=SOURCE, event_id=event_id, traceparent=job.traceparent)


def _completion(job: JobStatus, name: str, data: dict[str, Any]) -> bytes:
    try:
        return envelope.encode_value(msgspec.convert(data, BY_NAME[name]))
    except msgspec.ValidationError as wrong:  # workers check what they send; a foreign hand's event must not stop us
        log.error("an outcome is not as its schema says", job_id=job.job_id, type=name, reason=str(wrong))
        return msgspec.json.encode(data)
