"""What happens to a job: pure functions from (status, event) to (status, effects).

No clock, no I/O, no randomness: the same events in the same order give the same status, whoever computes it. Laws, each
with a property test: a terminal state is left only by a retry by hand; a finished task stays finished; outcomes that come
twice, late or out of order change nothing.
"""

from __future__ import annotations

import base64
import copy
from typing import Any

import msgspec

from schemas.envelope import derived_id
from schemas.events import (
    ATTEMPTS_A_RUN,
    CLEANUP_STAGE,
    KINDS,
    PLAN_MISSING,
    TERMINAL,
    Again,
    AttemptNote,
    CancelRequested,
    ErrorInfo,
    FailureClass,
    FailureCount,
    FollowUp,
    JobRequested,
    JobStatus,
    Outcome,
    Outstanding,
    RetryRequested,
    StageStatus,
    State,
    TaskFailed,
    TaskFinished,
    TaskReleased,
    TaskReturned,
    TaskStarted,
)
from services.coordinator import policy

NOTES_KEPT = 10
KEEP_FAILED_MS = 3600 * 1000
"""A job that failed or was cancelled keeps its plan and results for so long, so that a retry by hand goes on there."""
CLEANUP_ATTEMPTS = 100
"""More than one cleanup can have: a second one numbers its attempts on from there."""
NEVER_MS = 1 << 53
"""A time that does not come: integers up to here are exact in every reader's JSON."""
AGAIN_LIMIT = 32
"""Tasks of a job that wait to be tried again; with so many, no new one is released. Where everything fails, in a store that is away, the
others would only fail, too, and each is remembered in the status."""
LAST_PHASE = 0.02
"""Share of planning, and of finishing, in the progress that people see."""

JobEvent = JobRequested | CancelRequested | RetryRequested | TaskStarted | TaskFinished | TaskFailed | TaskReturned


class Complete(msgspec.Struct, frozen=True):
    """Publish an outcome on media.completions."""

    type: str
    key: str
    data: dict[str, Any]


class Continue(msgspec.Struct, frozen=True):
    """Emit a request on media.requests."""

    type: str
    data: dict[str, Any]
    event_id: str


class Stop(msgspec.Struct, frozen=True):
    """Tell the workers to stop what they do for the job, as far as its attempts are below this one."""

    job_id: str
    attempts_below: int


class Bury(msgspec.Struct, frozen=True):
    """Put the job among the dead letters: attempts are exhausted."""

    job_id: str
    reason: str


Effect = Complete | Continue | Stop | Bury


def step(job: JobStatus | None, event: JobEvent, now_ms: int) -> tuple[JobStatus | None, list[Effect]]:
    """The job after the event, and what must leave the process with it. The given job is not changed.

    Raises ValueError for a request of an unknown kind.
    """
    if job is None:
        if not isinstance(event, JobRequested):
            return None, []
        if event.request_type not in KINDS:
            raise ValueError(f"{event.request_type!r} is no request that a job can come of")
        return _begin(event, now_ms), []
    job = _copy(job)
    effects: list[Effect] = []
    match event:
        case JobRequested():
            _resume(job, event, now_ms)  # or the same request again
        case CancelRequested():
            if job.state not in TERMINAL:
                error = ErrorInfo(code="cancelled", message=event.reason or "cancelled on request", failure_class="cancelled")
                _end(job, "cancelled", now_ms, effects, error)
            job.retry_wanted = False
        case RetryRequested():
            if job.state in ("failed", "cancelled"):
                _retry(job, now_ms, effects)
        case TaskStarted():
            _started(job, event, now_ms, effects)
        case TaskFinished():
            _finished(job, event, now_ms, effects)
        case TaskFailed():
            _failed(job, event.stage, event.number, event.attempt, event.error, event.worker, now_ms, effects)
        case TaskReturned():
            _returned(job, event.stage, event.number, event.attempt, now_ms)
    job.updated_ms = max(job.updated_ms, now_ms)
    return job, effects


# ── What the host asks ─────────────────────────────────────────────────────────────────────────────────────────────


def service_of_stage(job: JobStatus) -> str:
    """Whose workers the job needs now."""
    return job.service if job.state in TERMINAL else job.stages[job.stage].service


def ready(job: JobStatus, now_ms: int) -> int:
    """How many tasks could be released now."""
    if job.state in TERMINAL:
        return sum(1 for a in job.again if a.due_ms <= now_ms)
    return _unreleased(job) + sum(1 for a in job.again if a.due_ms <= now_ms)


def next_due_ms(job: JobStatus, now_ms: int = 0) -> int | None:
    """When, later than `now_ms`, something happens by itself: a task is due again, or the deadline."""
    times = [a.due_ms for a in job.again]
    if job.state not in TERMINAL:
        times.append(job.deadline_ms)
    return min((t for t in times if t > now_ms), default=None)


def release(job: JobStatus, partition: int, now_ms: int) -> tuple[JobStatus, TaskReleased] | None:
    """Release the job's next task to a partition of its service. None when none is ready."""
    chosen = min((a for a in job.again if a.due_ms <= now_ms), key=lambda a: a.number, default=None)
    if chosen is None and (job.state in TERMINAL or not _unreleased(job)):
        return None
    job = _copy(job)
    if chosen is not None:
        number, attempt = chosen.number, chosen.attempt
        job.again = [a for a in job.again if a.number != number]
    else:
        number, attempt = job.cursor, _first_attempt(job)
        job.cursor += 1
    job.outstanding = [*job.outstanding, Outstanding(number, attempt, partition)]
    if job.state == "queued":
        job.updated_ms = now_ms
    return job, _released(job, number, attempt)


def lose(job: JobStatus, silent: set[str], gone: set[str], now_ms: int) -> tuple[JobStatus, list[Effect]] | None:
    """Take the tasks of workers that are `silent` (counts as a failed attempt) or that said `bye` (does not).

    None when the job has none of theirs.
    """
    lost = [o for o in job.outstanding if o.worker and (o.worker in silent or o.worker in gone)]
    if not lost:
        return None
    job = _copy(job)
    effects: list[Effect] = []
    stage = CLEANUP_STAGE if job.state in TERMINAL else job.stage
    for task in lost:
        if task.worker in gone:
            _returned(job, stage, task.number, task.attempt, now_ms)
            continue
        error = _worker_lost(job, stage, task.number, task.worker)
        _failed(job, stage, task.number, task.attempt, error, task.worker, now_ms, effects)
    job.updated_ms = max(job.updated_ms, now_ms)
    return job, effects


def expire(job: JobStatus, now_ms: int) -> tuple[JobStatus, list[Effect]] | None:
    """End the job when its deadline has passed; else None."""
    if job.state in TERMINAL or not job.deadline_ms or now_ms < job.deadline_ms:
        return None
    job = _copy(job)
    effects: list[Effect] = []
    last = f" The last attempt failed: {job.attempts[-1].message}" if job.attempts else ""
    error = ErrorInfo(code="deadline", message="the job did not end before its deadline." + last, failure_class="timed-out")
    _end(job, "failed", now_ms, effects, error)
    effects.append(Bury(job.job_id, error.message))
    job.updated_ms = now_ms
    return job, effects


def report(job: JobStatus, progress: dict[tuple[int, int], tuple[float, str]]) -> JobStatus | None:
    """The job with the progress that workers told of, by (task number, attempt); None when people would see no change."""
    if job.state in TERMINAL or not job.outstanding:
        return None
    note = job.note
    changed: list[Outstanding] = []
    for task in job.outstanding:
        fraction, said = progress.get((task.number, task.attempt), (task.progress, ""))
        note = said or note
        fraction = min(1.0, max(task.progress, round(fraction, 3)))
        changed.append(Outstanding(task.number, task.attempt, task.partition, task.worker, fraction))
    after = _copy(job)
    after.outstanding, after.note = changed, note
    after.progress = max(job.progress, overall(after))
    return after if after.progress - job.progress >= 0.01 or note != job.note else None


def overall(job: JobStatus) -> float:
    """Progress of the whole job, 0 to 1."""
    if job.state == "succeeded":
        return 1.0
    if job.stage == 0 or len(job.stages) < 2:
        return 0.0
    planned = job.stages[1:-1]
    total = sum(s.total for s in planned) or 1
    done = float(sum(s.done for s in planned))
    if job.stage < len(job.stages) - 1:
        done += sum(o.progress for o in job.outstanding)
    return round(min(1.0 - LAST_PHASE, LAST_PHASE + (1 - 2 * LAST_PHASE) * done / total), 3)


def finished_tasks(job: JobStatus) -> int:
    """Bitmap of the present stage as an integer: bit n is task n."""
    return int.from_bytes(base64.b64decode(job.finished), "little")


# ── Transitions; all of them change the copy that they are given ───────────────────────────────────────────────────


def _begin(event: JobRequested, now_ms: int) -> JobStatus:
    return JobStatus(
        job_id=event.job_id, kind=event.kind, service=event.service, subject=event.subject, state="queued",
        request_type=event.request_type, request=event.request, owner=event.owner, source=event.source, title=event.title,
        traceparent=event.traceparent,
        created_ms=now_ms, updated_ms=now_ms,
        deadline_ms=now_ms + 1000 * event.deadline_seconds, deadline_seconds=event.deadline_seconds,
        stages=[StageStatus(name="plan", service=event.service, total=1)],
    )  # fmt: skip


def _started(job: JobStatus, event: TaskStarted, now_ms: int, effects: list[Effect]) -> None:
    if not _current(job, event.stage):
        if job.state in TERMINAL:
            effects.append(_stop(job))  # released before the end, taken after it
        return
    task = _outstanding(job, event.number, event.attempt)
    if task is None:
        return
    if task.worker not in ("", event.worker):
        # Its record was read again: the worker before has ended, or lost the partition, before its commit. Nobody would notice its
        # silence, since from here on the lease is this one's; a task that ends every worker would go from one to the next for ever.
        lost = _worker_lost(job, event.stage, event.number, task.worker)
        if not _strike(job, event.stage, event.number, event.attempt, lost, task.worker, now_ms, effects):
            return
        if _suspect(job, event.number):
            _again(job, event.stage, event.number, event.attempt, "worker-lost", now_ms)
            return
    job.outstanding = [Outstanding(o.number, o.attempt, o.partition, event.worker, o.progress) if o is task else o for o in job.outstanding]
    job.started_ms = job.started_ms or now_ms
    if job.state == "queued":
        job.state = "planning"


def _finished(job: JobStatus, event: TaskFinished, now_ms: int, effects: list[Effect]) -> None:
    if event.needs is None:
        _tidy_again(job, event.stage, now_ms)
    if not _current(job, event.stage) or event.attempt < _first_attempt(job):
        return  # what an earlier run has left may have been tidied up since
    if event.needs is not None and _outstanding(job, event.number, event.attempt) is None:
        return  # said late: it was asked for already, or a later attempt will say it
    if event.stage == CLEANUP_STAGE:
        if all(o.attempt == event.attempt for o in job.outstanding):  # else another attempt still removes what it finds
            _cleaned(job, now_ms)
        return
    _forget(job, event.number)
    stage = job.stages[job.stage]
    done = finished_tasks(job)
    if not 0 <= event.number < stage.total or done >> event.number & 1:
        return
    job.started_ms = job.started_ms or now_ms
    if job.stage == 0 and event.needs is not None:
        _wait(job, event.needs, event.attempt, effects)
        return
    _mark(job, done | 1 << event.number)
    job.failures = [f for f in job.failures if f.number != event.number]
    _set_done(job, job.stage, stage.done + 1)
    if job.stage == 0:
        job.plan_hash = event.plan_hash
        job.stages = [
            *job.stages,
            *(StageStatus(name=s.name, service=s.service, total=s.tasks) for s in event.stages),
            StageStatus(name="finish", service=job.service, total=1),
        ]
    elif job.stage == len(job.stages) - 1:
        job.outputs, job.data = event.outputs, event.data
    _advance(job, now_ms, effects)
    job.progress = max(job.progress, overall(job))


def _wait(job: JobStatus, needs: FollowUp, attempt: int, effects: list[Effect]) -> None:
    """Ask for the job that must come first, and stand by. Its end, good or bad, is a request for this job with its outcome."""
    job.state, job.needs = "planning", _needed(job)
    job.note = f"a {KINDS[needs.type].kind} must come first"
    job.again = [Again(0, attempt + 1, NEVER_MS)]
    request = {name: value for name, value in job.request.items() if name != "cause"}
    again = {"type": job.request_type, "data": request | {"job_id": job.job_id}}
    data = {"owner": job.owner, **needs.data, "job_id": job.needs, "then": [again], "otherwise": [again]}
    effects.append(Continue(needs.type, data, f"{job.job_id}/{job.runs}/needs"))


def _resume(job: JobStatus, event: JobRequested, now_ms: int) -> None:
    """Plan again, now that the job that had to come first has ended."""
    cause = event.request.get("cause") or {}
    if job.state in TERMINAL or not job.needs or cause.get("job_id") != job.needs:
        return
    job.request, job.needs, job.note = job.request | {"cause": cause}, "", ""
    job.again = [Again(a.number, a.attempt, now_ms) for a in job.again]


def _advance(job: JobStatus, now_ms: int, effects: list[Effect]) -> None:
    while job.stages[job.stage].done == job.stages[job.stage].total:
        if job.stage == len(job.stages) - 1:
            _end(job, "succeeded", now_ms, effects, None)
            return
        job.stage += 1
        job.cursor, job.finished = 0, ""
        job.again, job.outstanding, job.failures = [], [], []
    job.state = _state_of_stage(job)


def _failed(
    job: JobStatus, stage: int, number: int, attempt: int, error: ErrorInfo, worker: str, now_ms: int, effects: list[Effect]
) -> None:
    _tidy_again(job, stage, now_ms)
    if not _current(job, stage) or _outstanding(job, number, attempt) is None:
        return
    _forget(job, number)
    if _strike(job, stage, number, attempt, error, worker, now_ms, effects):
        _again(job, stage, number, attempt, error.failure_class, now_ms)


def _strike(
    job: JobStatus, stage: int, number: int, attempt: int, error: ErrorInfo, worker: str, now_ms: int, effects: list[Effect]
) -> bool:
    """Count a failed attempt. Answers whether there may be another one; if not, this was the end of the job, or of its cleanup."""
    counted = _add_failure(job, number, error.failure_class)
    exhausted = counted >= policy.of(job.kind).limit(error.failure_class)
    if stage == CLEANUP_STAGE:
        if exhausted:
            _cleaned(job, now_ms)  # what remains is swept by age, see docs/operations.md
        return not exhausted
    note = AttemptNote(
        task=_label(job, stage, number), attempt=_shown(attempt), failure_class=error.failure_class, message=error.message[:500],
        at_ms=now_ms, worker=worker,
    )  # fmt: skip
    job.attempts = [*job.attempts, note][-NOTES_KEPT:]
    if not exhausted:
        return True
    if error.failure_class != "permanent":
        tried = f"{_label(job, stage, number)} failed {counted} times"
        error = msgspec.structs.replace(error, message=f"{tried}; the last time: {error.message}")
        effects.append(Bury(job.job_id, error.message))
    _end(job, "failed", now_ms, effects, error)
    return False


def _again(job: JobStatus, stage: int, number: int, attempt: int, failure_class: FailureClass, now_ms: int) -> None:
    """Release a task once more after a while."""
    _forget(job, number)
    seed = f"{job.job_id}/{stage}/{number}/{attempt}"
    due = now_ms + policy.of(job.kind).delay_ms(seed, _count(job, number, failure_class))
    job.again = [*job.again, Again(number, attempt + 1, due)]


def _worker_lost(job: JobStatus, stage: int, number: int, worker: str) -> ErrorInfo:
    return ErrorInfo(
        code="worker-lost",
        message=f"the worker {worker} fell silent while it ran {_label(job, stage, number)}",
        hint="It may have run out of memory or was stopped; if this task ends every worker, its input is the likely cause.",
        failure_class="worker-lost",
    )


def _suspect(job: JobStatus, number: int) -> bool:
    """Whether the next worker that is lost over a task ends the job. It then runs alone, so that it is not blamed for a neighbour."""
    return _count(job, number, "worker-lost") >= policy.of(job.kind).limit("worker-lost") - 1


def _returned(job: JobStatus, stage: int, number: int, attempt: int, now_ms: int) -> None:
    _tidy_again(job, stage, now_ms)
    if _current(job, stage) and _outstanding(job, number, attempt) is not None:
        _forget(job, number)
        job.again = [*job.again, Again(number, attempt + 1, 0)]


def _end(job: JobStatus, state: State, now_ms: int, effects: list[Effect], error: ErrorInfo | None) -> None:
    running = bool(job.outstanding)
    job.state, job.finished_ms, job.error, job.note = state, now_ms, error, ""
    job.outstanding, job.failures = [], []
    if job.needs:
        reason = "the job that waited for it has ended"
        effects.append(Continue("CancelRequested", {"job_id": job.needs, "reason": reason}, f"{job.job_id}/{job.runs}/unneeded"))
        job.needs = ""
    job.cleanup = "waiting"
    if state == "succeeded":
        job.progress = 1.0
        done = KINDS[job.request_type].completion
        data = {"job_id": job.job_id, "subject": job.subject, "kind": job.kind, "outputs": msgspec.to_builtins(job.outputs)}
        effects.append(Complete(done, f"{job.subject}:{job.kind}", job.data | data | {"finished_ms": now_ms}))
        job.again = [Again(0, _first_attempt(job), now_ms)]
    else:
        data = {"job_id": job.job_id, "subject": job.subject, "kind": job.kind, "state": state, "finished_ms": now_ms}
        data["error"] = msgspec.to_builtins(error)
        effects.append(Complete("JobFailed", f"{job.subject}:{job.kind}:failed", data))
        job.again = [Again(0, _first_attempt(job), now_ms + KEEP_FAILED_MS)]
        if running:
            effects.append(_stop(job))
    _follow_up(job, effects)


def _follow_up(job: JobStatus, effects: list[Effect]) -> None:
    which = "then" if job.state == "succeeded" else "otherwise"
    cause = Outcome(
        job_id=job.job_id, kind=job.kind, subject=job.subject, state=job.state, outputs=job.outputs, data=job.data, error=job.error,
        finished_ms=job.finished_ms,
    )  # fmt: skip
    wishes = [*job.request.get(which, []), *policy.always_then(job)]
    for n, wanted in enumerate(wishes):
        data = {"owner": job.owner, **wanted["data"], "cause": msgspec.to_builtins(cause)}
        effects.append(Continue(wanted["type"], data, f"{job.job_id}/{job.runs}/{which}/{n}"))


def _retry(job: JobStatus, now_ms: int, effects: list[Effect]) -> None:
    if job.outstanding or any(a.attempt > _first_attempt(job) for a in job.again):
        job.retry_wanted = True  # the cleanup has begun: what it removes must not be used any more
        return
    cleaned = job.cleanup == "done" or (job.error is not None and job.error.code == PLAN_MISSING)
    cause = job.request.get("cause") or {}
    if cause.get("job_id") == _needed(job) and cause.get("state") != "succeeded":
        # What had to come first failed: it is asked for again, too.
        job.request = {name: value for name, value in job.request.items() if name != "cause"}
    job.runs += 1
    job.retry_wanted, job.cleanup = False, ""
    job.error, job.finished_ms = None, 0
    if job.deadline_ms:
        job.deadline_ms = now_ms + (1000 * job.deadline_seconds or max(1000, job.deadline_ms - job.created_ms))
    job.failures, job.again, job.tidied = [], [], 0
    if cleaned or len(job.stages) < 2:
        job.stages = [StageStatus(name="plan", service=job.service, total=1)]
        job.stage, job.cursor, job.finished, job.plan_hash, job.progress = 0, 0, "", "", 0.0
        job.state = "queued"
        return
    # What is not finished is to be done again; what is finished stays.
    done, stage = finished_tasks(job), job.stages[job.stage]
    job.again = [Again(n, _first_attempt(job), now_ms) for n in range(job.cursor) if not done >> n & 1]
    job.state = "queued" if job.stage == 0 else _state_of_stage(job)
    _set_done(job, job.stage, min(stage.done, done.bit_count()))


def _cleaned(job: JobStatus, now_ms: int) -> None:
    job.cleanup, job.again, job.outstanding, job.failures = "done", [], [], []
    job.tidied += 1
    if job.retry_wanted:
        _retry(job, now_ms, [])


def _tidy_again(job: JobStatus, stage: int, now_ms: int) -> None:
    """Planned late: by a worker that was stopped for long, or out of a topic that nobody read. It may have stored a plan, also when it was
    told to stop meanwhile, and nobody else would remove that."""
    if job.cleanup == "done" and stage == 0:
        job.cleanup = "waiting"
        job.again = [Again(0, _first_attempt(job) + CLEANUP_ATTEMPTS * job.tidied, now_ms)]


# ── Small parts ────────────────────────────────────────────────────────────────────────────────────────────────────


def _copy(job: JobStatus) -> JobStatus:
    return copy.copy(job)  # lists are replaced, never changed in place


def _current(job: JobStatus, stage: int) -> bool:
    if job.state in TERMINAL:
        return stage == CLEANUP_STAGE and job.cleanup == "waiting"
    return stage == job.stage


def _unreleased(job: JobStatus) -> int:
    """Tasks of the stage that may be released for the first time."""
    return job.stages[job.stage].total - job.cursor if len(job.again) < AGAIN_LIMIT else 0


def _state_of_stage(job: JobStatus) -> State:
    if job.stage == 0:
        return "planning"
    return "finishing" if job.stage == len(job.stages) - 1 else "running"


def _count(job: JobStatus, number: int, failure_class: FailureClass) -> int:
    return sum(f.count for f in job.failures if f.number == number and f.failure_class == failure_class)


def _add_failure(job: JobStatus, number: int, failure_class: FailureClass) -> int:
    counted = 1 + _count(job, number, failure_class)
    others = [f for f in job.failures if not (f.number == number and f.failure_class == failure_class)]
    job.failures = [*others, FailureCount(number, failure_class, counted)]
    return counted


def _outstanding(job: JobStatus, number: int, attempt: int) -> Outstanding | None:
    return next((o for o in job.outstanding if o.number == number and o.attempt == attempt), None)


def _forget(job: JobStatus, number: int) -> None:
    job.outstanding = [o for o in job.outstanding if o.number != number]
    job.again = [a for a in job.again if a.number != number]


def _mark(job: JobStatus, done: int) -> None:
    job.finished = base64.b64encode(done.to_bytes((done.bit_length() + 7) // 8, "little")).decode()


def _set_done(job: JobStatus, stage: int, done: int) -> None:
    job.stages = [*job.stages]
    job.stages[stage] = StageStatus(
        name=job.stages[stage].name, service=job.stages[stage].service, total=job.stages[stage].total, done=done
    )


def _first_attempt(job: JobStatus) -> int:
    return 1 + ATTEMPTS_A_RUN * (job.runs - 1)


def _stop(job: JobStatus) -> Stop:
    return Stop(job.job_id, 1 + ATTEMPTS_A_RUN * job.runs)


def _needed(job: JobStatus) -> str:
    """Id of the job that must come before this run."""
    return derived_id(job.job_id, f"needs/{job.runs}")


def _shown(attempt: int) -> int:
    return (attempt - 1) % ATTEMPTS_A_RUN + 1


def _label(job: JobStatus, stage: int, number: int) -> str:
    if stage == CLEANUP_STAGE:
        return "cleanup"
    name, total = job.stages[stage].name, job.stages[stage].total
    return name if total == 1 else f"{name} {number + 1} of {total}"


def _released(job: JobStatus, number: int, attempt: int) -> TaskReleased:
    alone = _suspect(job, number)
    if job.state in TERMINAL:
        return TaskReleased(
            job_id=job.job_id, kind=job.kind, role="cleanup", stage=CLEANUP_STAGE, number=number, attempt=attempt, subject=job.subject,
            request_type=job.request_type, request=job.request, outcome=job.state, alone=alone,
        )  # fmt: skip
    if job.stage == 0:
        return TaskReleased(
            job_id=job.job_id, kind=job.kind, role="plan", stage=0, number=number, attempt=attempt, subject=job.subject,
            request_type=job.request_type, request=job.request, alone=alone,
        )  # fmt: skip
    return TaskReleased(
        job_id=job.job_id, kind=job.kind, role="finish" if job.stage == len(job.stages) - 1 else "run", stage=job.stage,
        number=number, attempt=attempt, subject=job.subject, plan_hash=job.plan_hash, alone=alone,
    )  # fmt: skip
