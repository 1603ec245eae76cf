"""Running tasks: each is an asyncio task with a context, a hard deadline and one outcome that is sent when it ends."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from schemas import topics
from schemas.events import ATTEMPTS_A_RUN, ErrorInfo, TaskFailed, TaskReleased, TaskReturned
from services.runtime.jobs.buffer import Waiting
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Cancelled, TimedOut, classify
from services.runtime.jobs.handler import JobHandler
from services.runtime.jobs.perform import Performer
from services.runtime.kafka.producer import EventProducer, record
from services.runtime.settings import Settings
from services.runtime.storage.base import Storage
from services.runtime.telemetry import metrics, tracing
from services.runtime.telemetry.logging import bind, get_logger

EXIT_UNDELIVERED = 71
log = get_logger(__name__)


class Running:
    """A task in a slot."""

    def __init__(self, waiting: Waiting, ctx: TaskContext, deadline: float) -> None:
        self.task: TaskReleased = waiting.task
        self.traceparent = waiting.traceparent
        self.ctx = ctx
        self.deadline = deadline
        """Of time.monotonic()."""
        self.returned = False
        """It is to be handed back, not to fail."""
        self.work: asyncio.Task[None] | None = None


class Slots:
    """`start`, `cancel` and `running` may be called from any thread; everything else belongs to the loop."""

    def __init__(
        self, handler: JobHandler, settings: Settings, storage: Storage, producer: EventProducer, worker: str,
        *, ended: Callable[[Running], None],
    ) -> None:  # fmt: skip
        self._performer = Performer(handler)
        self._service = handler.service
        self._settings, self._storage, self._producer, self._worker = settings, storage, producer, worker
        self._ended = ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[int, Running] = {}
        self._telling: dict[int, Running] = {}
        self._busy = 0

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Handlers run on this loop from now on."""
        self._loop = loop

    @property
    def busy(self) -> int:
        """Slots in use."""
        return len(self._running)

    def running(self) -> list[Running]:
        """Tasks whose lease we hold: in a slot, or with an outcome that is not acknowledged yet."""
        return [*self._running.copy().values(), *self._telling.copy().values()]

    def start(self, waiting: Waiting) -> None:
        """Run it now."""
        task = waiting.task
        label = f"{task.role}-{task.stage}-{task.number}" if task.role == "run" else task.role
        ctx = TaskContext(
            storage=self._storage, settings=self._settings, job_id=task.job_id, label=label,
            attempt=(task.attempt - 1) % ATTEMPTS_A_RUN + 1,
            emit=lambda event, key: self._emit(event, key, waiting.traceparent),
        )  # fmt: skip
        running = Running(waiting, ctx, time.monotonic() + self._settings.task_timeout_seconds)
        self._running[id(running)] = running
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._spawn, running)

    def cancel(self, job_id: str, attempts_below: int) -> None:
        """Stop what runs for a job, but for its cleanup and later attempts."""
        assert self._loop is not None
        for running in self.running():
            task = running.task
            if task.job_id == job_id and task.attempt < attempts_below and task.role != "cleanup":
                running.ctx.cancel()
                self._loop.call_soon_threadsafe(_interrupt, running)

    async def drain(self, seconds: float) -> None:
        """Let running tasks end in their time; hand back those that have not."""
        await self._wait(seconds)
        for running in list(self._running.values()):
            running.returned = True
            running.ctx.cancel()
            _interrupt(running)
        await self._wait(10.0)

    async def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (works := [r.work for r in list(self._running.values()) if r.work is not None]) and time.monotonic() < until:
            await asyncio.wait(works, timeout=until - time.monotonic())

    def _spawn(self, running: Running) -> None:
        running.work = asyncio.create_task(self._run(running))

    async def _run(self, running: Running) -> None:
        task, ctx = running.task, running.ctx
        metrics.TASKS_STARTED.labels(self._service, task.role).inc()
        metrics.RUNNING.labels(self._service).set(self.busy)
        began = time.monotonic()
        with bind(job_id=task.job_id, task=ctx.label, attempt=task.attempt, trace_id=tracing.trace_id(running.traceparent)):
            outcome: msgspec.Struct
            try:
                outcome = await self._within_deadline(running)
                metrics.TASKS_FINISHED.labels(self._service, task.role).inc()
                metrics.TASK_SECONDS.labels(self._service, task.role).observe(time.monotonic() - began)
                log.debug("task finished", seconds=round(time.monotonic() - began, 3))
            except BaseException as wrong:
                outcome = self._failure(running, wrong)
            finally:
                with suppress(OSError):
                    ctx.close()
            self._tell(running, outcome)

    async def _within_deadline(self, running: Running) -> msgspec.Struct:
        seconds = self._settings.task_timeout_seconds
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await self._performer.perform(running.task, running.ctx, self._worker)
        except TimeoutError as wrong:
            if limit.expired():
                raise TimedOut(
                    "task-deadline", f"{running.ctx.label} did not end within {seconds:.0f} s", "See REELWORKS_TASK_TIMEOUT_SECONDS."
                ) from wrong
            raise

    def _failure(self, running: Running, wrong: BaseException) -> msgspec.Struct:
        task = running.task
        if running.returned:
            metrics.TASKS_RETURNED.labels(self._service).inc()
            return TaskReturned(job_id=task.job_id, stage=task.stage, number=task.number, attempt=task.attempt, worker=self._worker)
        if running.ctx.cancelled:
            wrong = Cancelled()
        info: ErrorInfo = classify(wrong)
        metrics.TASKS_FAILED.labels(self._service, task.role, info.failure_class).inc()
        log.warning(
            "task failed", code=info.code, failure_class=info.failure_class, message=info.message, exc_info=info.code == "unexpected"
        )
        return TaskFailed(job_id=task.job_id, stage=task.stage, number=task.number, attempt=task.attempt, worker=self._worker, error=info)

    def _tell(self, running: Running, outcome: msgspec.Struct) -> None:
        # The slot is free at once; the lease is ours until the broker has the outcome.
        self._telling[id(running)] = running
        self._running.pop(id(running), None)
        metrics.RUNNING.labels(self._service).set(self.busy)
        sent = self._producer.send(
            record(outcome, running.task.job_id, source=self._worker, traceparent=running.traceparent, topic=topics.JOB_EVENTS)
        )

        def told(done: object) -> None:
            if sent.exception() is not None:
                log.error("an outcome was not acknowledged; the process ends and is started again", error=str(sent.exception()))
                os._exit(EXIT_UNDELIVERED)
            self._telling.pop(id(running), None)

        sent.add_done_callback(told)
        self._ended(running)

    async def _emit(self, event: msgspec.Struct, key: str, traceparent: str) -> None:
        await self._producer.publish(record(event, key, source=self._worker, traceparent=traceparent))


def _interrupt(running: Running) -> None:
    if running.work is not None:
        running.work.cancel()
