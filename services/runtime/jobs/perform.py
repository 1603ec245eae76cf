"""One released task, done: load what it needs, call the handler, store what it answers. Knows nothing of Kafka."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from schemas.events import BY_NAME, KINDS, PLAN_MISSING, TaskFinished, TaskReleased
from services.runtime.jobs import plan as plans
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Cancelled, Permanent, Transient
from services.runtime.jobs.handler import Finished, Job, JobHandler, Results, Task
from services.runtime.jobs.plan import Plan, StoredPlan
from services.runtime.jobs.results import StoredResults
from services.runtime.storage.base import NotFound, ObjectStore, PreconditionFailed

JSON = "application/json"
PLAN_LIMIT = 64 * 1024**2


class Performer:
    """Runs tasks of one handler. Plans are cached: a film of hundreds of tasks reads its plan once a process."""

    def __init__(self, handler: JobHandler, *, plans_kept: int = 32) -> None:
        self._handler = handler
        self._kept = plans_kept
        self._plans: OrderedDict[str, StoredPlan] = OrderedDict()

    async def perform(self, task: TaskReleased, ctx: TaskContext, worker: str) -> TaskFinished:
        """Do it. Raises whatever the handler or the store raises; nothing half-done is visible then."""
        store = ctx.storage.bucket()
        done = TaskFinished(job_id=task.job_id, stage=task.stage, number=task.number, attempt=task.attempt, worker=worker)
        if task.role == "plan":
            made = await self._handler.plan(_job(task), ctx)
            if made.needs is not None:
                return msgspec.structs.replace(done, needs=made.needs)
            stored, digest = await self._keep(task, made, store)
            return msgspec.structs.replace(done, plan_hash=digest, stages=stored.summary())
        if task.role == "cleanup":
            await self._cleanup(task, ctx, store)
            return done
        stored = await self._load(task, store)
        job = Job(job_id=task.job_id, kind=stored.kind, subject=stored.subject, request_type=stored.request_type, request=stored.request)
        if task.role == "run":
            stage = stored.stages[task.stage - 1]
            answer = await self._handler.run(
                Task(
                    job=job, stage=stage.name, number=task.number, parameters=stage.tasks[task.number], data=stored.data,
                    earlier=StoredResults(store, stored),
                ),
                ctx,
            )  # fmt: skip
            if answer is not None:
                body = msgspec.json.encode(answer)
                await store.put(plans.result_key(task.job_id, task.stage, task.number), body, content_type=JSON)
                await self._leave_nothing_late(task, job, ctx, store)
            return done
        results = Results[Any](await StoredResults(store, stored).all())
        finished = await self._handler.finish(job, stored.data, results, ctx)
        _check_completion(job, finished)
        return msgspec.structs.replace(done, outputs=finished.outputs, data=finished.data)

    async def _keep(self, task: TaskReleased, made: Plan, store: ObjectStore) -> tuple[StoredPlan, str]:
        stored = StoredPlan(
            job_id=task.job_id, kind=task.kind, subject=task.subject, request_type=task.request_type, request=task.request,
            stages=made.stages, data=msgspec.to_builtins(made.data),
        )  # fmt: skip
        body = plans.encode(stored)
        key = plans.plan_key(task.job_id)
        try:
            await store.put(key, body, content_type=JSON, if_none_match=True)
        except PreconditionFailed:
            # Another attempt planned before and its tasks may be under way: the first plan is the plan.
            body = await store.read(key, limit=PLAN_LIMIT)
            stored = plans.decode(body)
        return stored, plans.digest(body)

    async def _load(self, task: TaskReleased, store: ObjectStore) -> StoredPlan:
        known = self._plans.get(task.job_id + task.plan_hash)
        if known is None:
            try:
                body = await store.read(plans.plan_key(task.job_id), limit=PLAN_LIMIT)
            except NotFound:
                raise Permanent(PLAN_MISSING, "the job's plan is not in storage any more", "Retry the job: it is planned again.") from None
            if plans.digest(body) != task.plan_hash:
                raise Transient("plan-changed", f"the plan in storage is {plans.digest(body)}, the task belongs to {task.plan_hash}")
            known = plans.decode(body)
            self._plans[task.job_id + task.plan_hash] = known
            if len(self._plans) > self._kept:
                self._plans.popitem(last=False)
        return known

    async def _leave_nothing_late(self, task: TaskReleased, job: Job, ctx: TaskContext, store: ObjectStore) -> None:
        if not await ctx.over():
            return
        left = await _keys(task.job_id, store)
        if plans.plan_key(task.job_id) in left:  # a retry by hand has planned anew just now: what is not ours is its
            left = [plans.result_key(task.job_id, task.stage, task.number)]
        else:
            await self._handler.cleanup(job, ctx)
        await store.delete_many(left)
        raise Cancelled("the job was tidied up before this task had ended")

    async def _cleanup(self, task: TaskReleased, ctx: TaskContext, store: ObjectStore) -> None:
        await self._handler.cleanup(_job(task), ctx)
        await store.delete(plans.plan_key(task.job_id))
        # What a process that woke late has begun before it could find no plan.
        await self._handler.cleanup(_job(task), ctx)
        remaining = await store.delete_many(await _keys(task.job_id, store))
        if remaining:
            key, reason = next(iter(remaining.items()))
            raise Transient("cleanup", f"{len(remaining)} objects remain, such as {key}: {reason}")


async def _keys(job_id: str, store: ObjectStore) -> list[str]:
    return [info.key async for info in store.list(plans.job_prefix(job_id))]


def _check_completion(job: Job, finished: Finished) -> None:
    """Writers are strict: raises ValidationError when the outcome would not be what its schema says."""
    base = {"job_id": job.job_id, "subject": job.subject, "kind": job.kind, "outputs": msgspec.to_builtins(finished.outputs)}
    msgspec.convert(finished.data | base, BY_NAME[KINDS[job.request_type].completion])


def _job(task: TaskReleased) -> Job:
    return Job(
        job_id=task.job_id, kind=task.kind, subject=task.subject, request_type=task.request_type, request=task.request, outcome=task.outcome
    )
