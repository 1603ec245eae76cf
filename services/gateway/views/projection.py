"""From a job's record on `media.jobs` to the status that the API shows. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from schemas.api import Attempt, JobView, OutputView, Problem, TaskCounts
from schemas.events import TERMINAL, ErrorInfo, JobStatus, Output, Request
from services.gateway.views.times import rfc3339, rfc3339_or_none

Sign = Callable[[Output], str]
"""URL under which an output can be fetched."""

# Below this, "elapsed / progress" says nothing yet.
_LEAST_PROGRESS = 0.02


def job_view(job: JobStatus, *, recorded_ms: int, sign: Sign, waiting_for: str | None = None) -> JobView:
    """The status of a job. A function of the record and its time, the words about its waiting, and how URLs are signed: no
    clock, so that equal records give equal bytes and equal ETags."""
    ended = job.state in TERMINAL
    return JobView(
        job_id=job.job_id,
        kind=job.kind,
        type=job.request_type,
        state=job.state,
        progress=1.0 if job.state == "succeeded" else round(job.progress, 4),
        eta_seconds=None if ended else eta_seconds(job, recorded_ms),
        waiting_for=None if ended else waiting_for,
        note=job.note,
        title=job.title,
        subject=job.subject,
        owner=job.owner,
        tasks=TaskCounts(
            total=sum(s.total for s in job.stages),
            done=sum(s.done for s in job.stages),
            running=0 if ended else sum(1 for o in job.outstanding if o.worker),
        ),
        attempt_count=max(len(job.attempts), sum(f.count for f in job.failures)),
        attempts=[
            Attempt(
                task=a.task,
                attempt=a.attempt,
                failure_class=a.failure_class,
                message=a.message,
                at=rfc3339(a.at_ms),
                worker=a.worker,
            )
            for a in job.attempts
        ],
        outputs=[output_view(o, sign) for o in job.outputs],
        error=problem(job.error),
        data=job.data,
        runs=job.runs,
        created_at=rfc3339(job.created_ms),
        updated_at=rfc3339(job.updated_ms),
        started_at=rfc3339_or_none(job.started_ms),
        finished_at=rfc3339_or_none(job.finished_ms),
        deadline_at=rfc3339_or_none(job.deadline_ms),
    )


def output_view(output: Output, sign: Sign) -> OutputView:
    """An output with its URL."""
    return OutputView(
        role=output.role,
        name=output.name,
        url=sign(output),
        bucket=output.bucket,
        key=output.key,
        size=output.size,
        content_type=output.content_type,
        width=output.width,
        height=output.height,
        bit_rate=output.bit_rate,
        codecs=output.codecs,
    )


def problem(error: ErrorInfo | None) -> Problem | None:
    """An error for people."""
    return None if error is None else Problem(code=error.code, message=error.message, hint=error.hint)


def eta_seconds(job: JobStatus, recorded_ms: int) -> int | None:
    """Seconds to go, if it goes on as it went until the record was written; None while nothing can be said."""
    elapsed_ms = recorded_ms - job.started_ms
    if not job.started_ms or elapsed_ms <= 0 or job.progress < _LEAST_PROGRESS or job.runs > 1:
        return None
    return math.ceil(elapsed_ms / 1000 * (1 - min(job.progress, 1.0)) / job.progress)


def waiting_service(job: JobStatus) -> str:
    """The service whose slot the job waits for; "" when it has a task running, waits for another job, or has ended."""
    if job.state in TERMINAL or job.needs or any(o.worker for o in job.outstanding):
        return ""
    return job.stages[job.stage].service if job.stage < len(job.stages) else job.service


def accepted_status(request: Request, *, request_type: str, kind: str, service: str, subject: str, source: str, at_ms: int) -> JobStatus:
    """What is known of a job before the coordinator has seen its request."""
    # As the intake takes it.
    title = str(getattr(request, "title", "") or getattr(request, "filename", ""))
    return JobStatus(
        job_id=request.job_id or "",
        kind=kind,
        service=service,
        subject=subject,
        state="queued",
        request_type=request_type,
        request=msgspec.to_builtins(request),
        owner=request.owner,
        source=source,
        title=title,
        created_ms=at_ms,
        updated_ms=at_ms,
    )
