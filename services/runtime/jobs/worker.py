"""The worker process: takes tasks from Kafka, runs them in slots, says how they ended. No transactions.

A task's offset is committed when its start is acknowledged. From then on the coordinator holds a lease on it, which the
heartbeat on media.workers keeps alive; when this process dies, the lease ends and the task is released again. A rebalance
does nothing to running tasks. Every way out is safe, so everything unexpected ends the process.

Two threads: this file's `consume` owns the consumer; an asyncio loop in the main thread runs the handlers (`slots.py`).
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
import time

import uvloop

from schemas import acls, envelope, topics
from schemas.events import JobCancelled, RunningTask, TaskReleased, TaskStarted, WorkerSeen, is_identifier
from services.runtime.jobs import scratch
from services.runtime.jobs.buffer import TaskBuffer, Waiting
from services.runtime.jobs.handler import JobHandler
from services.runtime.jobs.offsets import OpenOffsets
from services.runtime.jobs.slots import Running, Slots
from services.runtime.kafka.group import GroupConsumer
from services.runtime.kafka.producer import EventProducer, record
from services.runtime.kafka.reader import LogReader, Received
from services.runtime.settings import Settings
from services.runtime.storage.base import StorageError
from services.runtime.storage.factory import open_storage
from services.runtime.telemetry import health, metrics
from services.runtime.telemetry.logging import get_logger
from services.runtime.version import VERSION

FULL, LOW = 2000, 1000
"""Buffered tasks at which reading pauses and goes on. Pausing costs about a second a resume, so it is rare."""
HEARTBEAT_SECONDS = 2.5
LINGER_MS = 3
"""Starts and ends of short tasks travel together; a few milliseconds are nothing to a task of half a minute."""
COMMIT_SECONDS = 1.0
"""A task whose commit is not answered for so long is begun all the same."""
LEAVE_SECONDS = 8.0
"""For leaving the group and for the acknowledgement of what was taken at that moment."""
END_SECONDS = 12.0
"""After REELWORKS_DRAIN_SECONDS: to hand back what has not ended, to tell of it, to leave. With a broker that answers nobody the process
ends all the same, within 45 s where nothing is set; its leases run out."""
HANG_SECONDS = 30.0
"""A task that is over its deadline for so long did not let itself be ended: the process ends instead."""
SWEEP_SECONDS = 2 * 86400.0
"""Age of a broken-off write that nobody continues any more: longer than any task, and than any resumed upload."""
CANCELLED_KEPT = 10_000
EXIT_UNDELIVERED, EXIT_HANGING = 71, 70
log = get_logger(__name__)


class Worker:
    """One process of a service."""

    def __init__(self, handler: JobHandler, settings: Settings) -> None:
        self.name = f"{handler.service}-{settings.instance_name()}"
        self.service = handler.service
        self._settings = settings
        self._slot_count = settings.slots or getattr(handler, "slots", 0) or settings.slot_count()
        self._producer = EventProducer(settings, delivery_seconds=120, linger_ms=LINGER_MS)
        self._storage = open_storage(settings)
        self._slots = Slots(handler, settings, self._storage, self._producer, self.name, ended=self._ended)
        self._buffer = TaskBuffer()
        self._offsets: dict[int, OpenOffsets] = {}
        self._acknowledged: queue.SimpleQueue[tuple[Waiting, bool]] = queue.SimpleQueue()
        self._started: list[Waiting] = []
        """Start acknowledged, commit to be asked for."""
        self._committing: list[Waiting] = []
        """Commit asked for."""
        self._commit_until = 0.0
        self._taken: list[Waiting] = []
        """Out of the buffer, and not in a slot yet."""
        self._cancelled: dict[str, int] = {}
        """Job to the attempt from which on it is wanted again."""
        self._owned: tuple[int, ...] = ()
        self._group: GroupConsumer | None = None
        self._stopping = threading.Event()
        self._left = threading.Event()
        """The group is left and nothing more begins."""
        self._drained = threading.Event()
        self._last_beat = 0.0
        self._last_poll = time.monotonic()
        self._paused = False

    # ── The consumer's thread ─────────────────────────────────────────────────────────────────────────────────────

    def consume(self) -> None:
        """Until `stop`; then until the slots are empty."""
        control: LogReader | None = None
        try:
            while not self._stopping.is_set():
                try:
                    control = control or LogReader.from_end(self._settings, topics.CONTROL, back_seconds=60)
                    self._member(control)
                except Exception as wrong:
                    log.warning("the consumer begins again", error=f"{type(wrong).__name__}: {wrong}")
                    self._stopping.wait(1.0)
            until = time.monotonic() + LEAVE_SECONDS
            while not self._drained.is_set():
                self._beat()
                if control is not None:
                    self._control(control)
                self._acknowledge()
                self._committing, self._started = [*self._committing, *self._started], []
                self._begin()
                if not self._taken or time.monotonic() > until:
                    self._left.set()
                self._drained.wait(0.05)
        except BaseException:
            log.exception("the consumer's thread ended")
            os._exit(EXIT_HANGING)
        finally:
            if control is not None:
                control.close()

    def _member(self, control: LogReader) -> None:
        self._beat(force=True)  # the coordinator knows of us before we take anything
        group = self._group = GroupConsumer(
            self._settings,
            group=acls.group(self.service),
            topic=topics.tasks(self.service),
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_commit=self._begin,
        )
        try:
            while not self._stopping.is_set():
                self._last_poll = time.monotonic()
                for received in group.poll(0.02):
                    self._buffered(received)
                self._flow(group)
                self._acknowledge()
                self._start()
                self._control(control)
                self._beat()
                self._watch()
                self._commit(group)
            group.commit_now(self._committable())
        finally:
            self._revoked(list(group.owned))
            group.close()
            self._group = None
            self._begin()

    def _buffered(self, received: Received) -> None:
        offsets = self._offsets.setdefault(received.partition, OpenOffsets())
        offsets.open(received.offset)
        try:
            sent = envelope.read(received.headers, received.value)
            task = envelope.decode(sent.data, TaskReleased)
            if not is_identifier(task.job_id):  # keys and names of folders are made of it
                raise envelope.Unreadable(f"{task.job_id!r} is no job's id")
        except envelope.Unreadable as wrong:
            # Only the coordinator writes here. What it did not write is no task, and nobody waits for it.
            log.error("a record that is no task was passed over", partition=received.partition, offset=received.offset, reason=str(wrong))
            offsets.close(received.offset)
            return
        waiting = Waiting(task, received.partition, received.offset, sent.traceparent)
        if self._unwanted(waiting):
            offsets.close(received.offset)
        else:
            self._buffer.push(waiting)

    def _unwanted(self, waiting: Waiting) -> bool:
        return waiting.task.role != "cleanup" and waiting.task.attempt < self._cancelled.get(waiting.task.job_id, 0)

    def _flow(self, group: GroupConsumer) -> None:
        if not self._paused and len(self._buffer) >= FULL:
            self._paused = True
            group.pause(self._owned)
        elif self._paused and len(self._buffer) <= LOW:
            self._paused = False
            group.resume(self._owned)
        metrics.BUFFERED.labels(self.service).set(len(self._buffer))

    def _start(self) -> None:
        while len(self._buffer) and len(self._taken) + self._slots.busy < self._slot_count:
            waiting = self._buffer.take([*(w.task for w in self._taken), *(r.task for r in self._slots.running())])
            if waiting is None:
                return
            task = waiting.task
            self._taken.append(waiting)
            started = TaskStarted(job_id=task.job_id, stage=task.stage, number=task.number, attempt=task.attempt, worker=self.name)
            sent = self._producer.send(
                record(started, task.job_id, source=self.name, traceparent=waiting.traceparent, topic=topics.JOB_EVENTS)
            )
            sent.add_done_callback(lambda done, w=waiting: self._acknowledged.put((w, done.exception() is None)))

    def _acknowledge(self) -> None:
        while not self._acknowledged.empty():
            waiting, delivered = self._acknowledged.get()
            if not delivered:
                _die("a task's start was not acknowledged", EXIT_UNDELIVERED)
            if (offsets := self._offsets.get(waiting.partition)) is not None:
                offsets.close(waiting.offset)
            self._started.append(waiting)

    def _commit(self, group: GroupConsumer) -> None:
        # A task begins when its offset is committed: one that ends this process at once would else be read again by the next owner, as
        # the same attempt, for ever. If that is not possible it begins after a while: the coordinator counts it as ours.
        if self._committing:
            if time.monotonic() > self._commit_until:
                self._begin()
            return
        if group.commit(self._committable()):
            self._committing, self._started = self._started, []
            self._commit_until = time.monotonic() + COMMIT_SECONDS
        elif self._started:
            self._committing, self._started = self._started, []
            self._begin()

    def _begin(self) -> None:
        begun, self._committing = self._committing, []
        for waiting in begun:
            self._taken.remove(waiting)
            if not self._unwanted(waiting):  # else its job has ended since; nobody waits for a word
                self._slots.start(waiting)

    def _control(self, control: LogReader) -> None:
        for received in control.poll(0):
            try:
                told = envelope.decode(received.value or b"", JobCancelled)
            except envelope.Unreadable:
                continue
            self._cancelled[told.job_id] = told.attempts_below
            while len(self._cancelled) > CANCELLED_KEPT:
                self._cancelled.pop(next(iter(self._cancelled)))
            for waiting in self._buffer.drop(self._unwanted):
                if (offsets := self._offsets.get(waiting.partition)) is not None:
                    offsets.close(waiting.offset)
            self._slots.cancel(told.job_id, told.attempts_below)

    def _beat(self, *, force: bool = False, bye: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._last_beat < HEARTBEAT_SECONDS:
            return
        self._last_beat = now
        running = tuple(
            RunningTask(
                job_id=r.task.job_id, stage=r.task.stage, number=r.task.number, attempt=r.task.attempt,
                progress=round(r.ctx.fraction, 3), note=r.ctx.note,
            )
            for r in self._slots.running()
        )  # fmt: skip
        said = WorkerSeen(
            worker=self.name, service=self.service, slots=0 if self._stopping.is_set() else self._slot_count, partitions=self._owned,
            running=running, version=VERSION, bye=bye,
        )  # fmt: skip
        self._producer.send(record(said, self.name, source=self.name))

    def _watch(self) -> None:
        for running in self._slots.running():
            if time.monotonic() > running.deadline + HANG_SECONDS:
                _die(f"{running.ctx.label} of job {running.task.job_id} did not end at its deadline", EXIT_HANGING)

    def _committable(self) -> dict[int, int]:
        return {p: o for p, open_offsets in self._offsets.items() if (o := open_offsets.committable()) is not None}

    def _assigned(self, partitions: list[int]) -> None:
        self._owned = tuple(sorted({*self._owned, *partitions}))
        if self._paused and self._group is not None:
            self._group.pause(partitions)
        self._beat(force=True)

    def _revoked(self, partitions: list[int]) -> None:
        self._owned = tuple(p for p in self._owned if p not in partitions)
        self._buffer.drop(lambda waiting: waiting.partition in partitions)
        for partition in partitions:
            self._offsets.pop(partition, None)
        self._beat(force=True)

    # ── The main thread ───────────────────────────────────────────────────────────────────────────────────────────

    async def main(self) -> int:
        """Run until SIGTERM or SIGINT. Answers the exit code."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._slots.begin(loop)
        metrics.SLOTS.labels(self.service).set(self._slot_count)
        server = health.start(
            self._settings,
            {"consumer": self._alive},
            ready={"assigned": lambda: "" if self._owned else "no partition yet"},
            service=self.service,
        )
        sweeping = asyncio.create_task(self._sweep())
        thread = threading.Thread(target=self.consume, name="consumer", daemon=True)
        thread.start()
        log.info("worker runs", name=self.name, slots=self._slot_count)
        await stop.wait()
        sweeping.cancel()
        until = time.monotonic() + self._settings.drain_seconds
        end = until + END_SECONDS
        self._stopping.set()
        await asyncio.to_thread(self._left.wait, LEAVE_SECONDS)  # what was just taken begins, and counts as running
        await self._slots.drain(max(0.0, until - time.monotonic()))
        self._drained.set()
        await asyncio.to_thread(thread.join, max(1.0, end - 4.0 - time.monotonic()))
        await asyncio.to_thread(self._producer.flush, max(1.0, end - 2.0 - time.monotonic()))
        self._beat(force=True, bye=True)
        await asyncio.to_thread(self._producer.close, max(1.0, end - time.monotonic()))
        await self._storage.close()
        scratch.remove_own(self._settings.scratch_path())
        server.close()
        log.info("worker ended", name=self.name)
        return 0

    async def _sweep(self) -> None:
        # What processes that were killed have left: scratch folders of this machine, broken-off writes in the store.
        try:
            folders = await asyncio.to_thread(scratch.sweep, self._settings.scratch_path())
            writes = await self._storage.bucket().sweep(older_than_seconds=SWEEP_SECONDS)
        except StorageError as wrong:
            log.warning("leftovers were not removed", reason=str(wrong))
            return
        if folders or writes:
            log.info("leftovers removed", scratch_folders=folders, broken_off_writes=writes)

    def _alive(self) -> str:
        silent = time.monotonic() - self._last_poll
        return f"the consumer was not polled for {silent:.0f} s" if silent > 30 and not self._stopping.is_set() else ""

    def _ended(self, running: Running) -> None:
        """A slot is free. Called in the main thread; the consumer's thread looks at the count."""
        if running.returned:
            log.info("task handed back", job_id=running.task.job_id, task=running.ctx.label)


def _die(why: str, code: int) -> None:
    log.error("the process ends and is started again", why=why)
    os._exit(code)


def serve(handler: JobHandler, settings: Settings) -> int:
    """Run a worker of this handler until SIGTERM or SIGINT. Answers the exit code."""
    return uvloop.run(Worker(handler, settings).main())
