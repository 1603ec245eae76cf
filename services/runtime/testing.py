"""Run a handler without Kafka. Public: for tests of services, benchmarks and trying things out.

    async with JobEnvironment(handler(), tmp_path) as environment:
        await environment.put("in/film.mp4", Path("film.mp4"))
        done = await environment.run(UploadReceived(key="in/film.mp4"))
        done.outputs, done.data, done.events

Everything is real but the broker: storage (a folder, unless another is given), plans and results as JSON in storage,
scratch folders, cancellation. Tasks run one after the other, in the order of the plan, unless `slots` says otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from schemas import envelope
from schemas.events import KINDS, FollowUp, Output
from services.runtime.jobs import plan as plans
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.handler import Finished, Job, JobHandler, Results, Task
from services.runtime.jobs.results import StoredResults
from services.runtime.settings import Settings
from services.runtime.storage.base import Storage
from services.runtime.storage.factory import open_storage
from services.runtime.together import together

Hook = Callable[[str, TaskContext], Awaitable[None] | None]
"""Called with the label of a task (`plan`, `encode-0`, `finish`, `cleanup`) and its context, before it begins."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended well."""

    job: Job
    plan: plans.StoredPlan
    results: dict[str, list[Any]]
    outputs: tuple[Output, ...]
    data: dict[str, Any]
    events: tuple[tuple[str, msgspec.Struct], ...]
    """What was emitted: key and event, in order."""

    def output(self, role: str, name: str = "") -> Output:
        """The one output of that role (and name). Raises LookupError when there is not exactly one."""
        found = [o for o in self.outputs if o.role == role and name in ("", o.name)]
        if len(found) != 1:
            raise LookupError(f"{len(found)} outputs {role} {name}; there are {[(o.role, o.name) for o in self.outputs]}")
        return found[0]


class Needed(Exception):
    """The plan wants another job first: run it, then ask again with its outcome as `cause`."""

    def __init__(self, request: FollowUp) -> None:
        super().__init__(f"{request.type} must come first")
        self.request = request


class JobEnvironment:
    """A place for jobs of one handler."""

    def __init__(
        self,
        handler: JobHandler,
        folder: Path,
        *,
        settings: Settings | None = None,
        storage: Storage | None = None,
        before_task: Hook | None = None,
        on_event: Callable[[str, msgspec.Struct, TaskContext], None] | None = None,
        slots: int = 1,
    ) -> None:
        """`folder` gets a bucket, `bucket`, and the scratch space. `before_task` and `on_event` are for faults: they may raise,
        or call `cancel()` on the context. Settings without a storage URL are given one below `folder`."""
        self.handler = handler
        self.folder = folder
        base = settings or Settings()
        self.settings = msgspec.structs.replace(
            base,
            storage_url=base.storage_url or (folder / "bucket").as_uri(),
            scratch_dir=base.scratch_dir or str(folder / "scratch"),
            data_dir=base.data_dir or str(folder / "data"),
        )
        self.storage = storage or open_storage(self.settings)
        self.before_task = before_task
        self.on_event = on_event
        self.slots = slots
        self.events: list[tuple[str, msgspec.Struct]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.storage.close()

    async def put(self, key: str, data: bytes | Path, *, bucket: str = "") -> None:
        """An object for a job to find."""
        body = data if isinstance(data, bytes) else await asyncio.to_thread(data.read_bytes)
        await self.storage.bucket(bucket).put(key, body)

    async def keys(self, prefix: str = "", *, bucket: str = "") -> list[str]:
        """What lies in the bucket."""
        return [item.key async for item in self.storage.bucket(bucket).list(prefix)]

    def job(self, request: msgspec.Struct, *, job_id: str = "", subject: str = "") -> Job:
        """A job as the coordinator would make it of a request."""
        name = type(request).__name__
        body = msgspec.to_builtins(request)
        subject = subject or body.get("asset_id") or envelope.derived_id(body.get("bucket", ""), body.get("key", ""))
        identity = job_id or envelope.derived_id("testing", msgspec.json.encode(request, order="deterministic").decode())
        return Job(job_id=identity, kind=KINDS[name].kind, subject=subject, request_type=name, request=body)

    async def run(self, request: msgspec.Struct, *, job_id: str = "", subject: str = "") -> Done:
        """Plan, all tasks of all stages, finish, cleanup.

        Raises what the handler raises, after its cleanup. Nothing is retried: calling again is the second attempt.
        """
        job = self.job(request, job_id=job_id, subject=subject)
        self.events = []
        try:
            stored = await self.plan(job)
            results = {stage.name: await self._stage(job, stored, stage) for stage in stored.stages}
            done = await self.finish(job, stored, results)
        except Exception:
            await self.cleanup(job)
            raise
        await self.cleanup(job)
        return Done(job=job, plan=stored, results=results, outputs=done.outputs, data=done.data, events=tuple(self.events))

    async def plan(self, job: Job) -> plans.StoredPlan:
        """The plan, as it comes back from storage. Raises Needed when another job must come first."""
        made = await self._with_context("plan", job, lambda ctx: self.handler.plan(job, ctx))
        if made.needs is not None:
            raise Needed(made.needs)
        stored = plans.StoredPlan(
            job_id=job.job_id, kind=job.kind, subject=job.subject, request_type=job.request_type, request=job.request,
            stages=made.stages, data=made.data,
        )  # fmt: skip
        body = plans.encode(stored)
        await self.storage.bucket().put(plans.plan_key(job.job_id), body)
        return plans.decode(body)

    async def task(self, job: Job, stored: plans.StoredPlan, stage: str, number: int) -> Any:
        """One task of a plan; its result as it comes back from storage."""
        index = next(i for i, s in enumerate(stored.stages) if s.name == stage)
        task = Task(
            job=job, stage=stage, number=number, parameters=stored.stages[index].tasks[number], data=stored.data,
            earlier=StoredResults(self.storage.bucket(), stored),
        )  # fmt: skip
        made = await self._with_context(f"{stage}-{number}", job, lambda ctx: self.handler.run(task, ctx))
        body = msgspec.json.encode(made)
        await self.storage.bucket().put(plans.result_key(job.job_id, index + 1, number), body)
        return msgspec.json.decode(body)

    async def finish(self, job: Job, stored: plans.StoredPlan, results: dict[str, list[Any]]) -> Finished:
        return await self._with_context("finish", job, lambda ctx: self.handler.finish(job, stored.data, Results(results), ctx))

    async def cleanup(self, job: Job) -> None:
        """The handler's, before and after the plan is removed, then the runtime's own: everything below `jobs/{job}/`."""
        await self._with_context("cleanup", job, lambda ctx: self.handler.cleanup(job, ctx))
        await self.storage.bucket().delete(plans.plan_key(job.job_id))
        await self._with_context("cleanup", job, lambda ctx: self.handler.cleanup(job, ctx))
        await self.storage.bucket().delete_many(await self.keys(plans.job_prefix(job.job_id)))

    async def _stage(self, job: Job, stored: plans.StoredPlan, stage: plans.Stage) -> list[Any]:
        slots = asyncio.Semaphore(self.slots)

        async def one(number: int) -> Any:
            async with slots:
                return await self.task(job, stored, stage.name, number)

        if self.slots == 1:
            return [await one(n) for n in range(len(stage.tasks))]
        return await together(*(one(n) for n in range(len(stage.tasks))))

    async def _with_context(self, label: str, job: Job, call: Callable[[TaskContext], Awaitable[Any]]) -> Any:
        ctx: TaskContext

        async def emit(event: msgspec.Struct, key: str) -> None:
            self.events.append((key, event))
            if self.on_event is not None:
                self.on_event(key, event, ctx)

        ctx = TaskContext(storage=self.storage, settings=self.settings, emit=emit, job_id=job.job_id, attempt=1, label=label)
        try:
            if self.before_task is not None:
                waiting = self.before_task(label, ctx)
                if waiting is not None:
                    await waiting
            return await call(ctx)
        finally:
            ctx.close()
