"""The actor of one partition: reads its events, decides, and writes everything in one transaction.

Its memory is the compacted status topic, and nothing leaves the process before the commit. Whatever goes wrong, the answer
is the same: drop the producer and the state, wait a little, fence, read everything again.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable

import msgspec

from schemas import acls, envelope, topics
from schemas.events import JobStatus, Position, TaskStarted, WorkerSeen
from services.coordinator import records, soundness, state
from services.coordinator.intake import dead_letter
from services.coordinator.jobs import Jobs
from services.coordinator.scheduler import Scheduler
from services.coordinator.watchdog import Watch
from services.runtime.kafka.admin import low_watermark
from services.runtime.kafka.partition_log import TROUBLE, PartitionLog
from services.runtime.kafka.producer import Record
from services.runtime.kafka.reader import Received
from services.runtime.settings import Settings
from services.runtime.telemetry import metrics
from services.runtime.telemetry.logging import get_logger

BATCH = 1000
"""Events of one transaction at most."""
PACE_SECONDS = 0.015
"""Least time between two transactions of a partition. What comes after a pause is decided at once; what comes in a rush
is decided together, since a transaction costs the broker the same with one event or fifty."""
log = get_logger(__name__)


class Tick(msgspec.Struct, frozen=True):
    """Once a second, while the workers' log is read to its end and our own echo in it is fresh."""

    silent: frozenset[str]
    gone: frozenset[str]
    alive: tuple[WorkerSeen, ...]


class Host(msgspec.Struct, frozen=True):
    """What an actor asks of the process that it lives in."""

    seek: Callable[[int, int], None]
    """(partition, offset): deliver events from there on."""
    notice: Callable[[str], None]
    """A task names this worker."""
    guarded: tuple[tuple[str, int], ...]
    """Places that transactions may write to, beside the partition's own."""


class Actor(threading.Thread):
    """Owns one partition from `start` until `stop`."""

    def __init__(self, settings: Settings, partition: int, scheduler: Scheduler, host: Host, watch: Watch) -> None:
        super().__init__(name=f"partition-{partition}", daemon=True)
        self.partition = partition
        self.caught_up = threading.Event()
        self.inbox: queue.SimpleQueue[list[Received] | Tick | None] = queue.SimpleQueue()
        """Batches of events, ticks, and None as a nudge."""
        self.position = 0
        """Next event to be applied, after the last commit."""
        self._applied = 0
        """The same, with what was read since and changed nothing."""
        self._committed = 0.0
        self._put = 0
        self._taken = 0
        self._settings, self._scheduler, self._host, self._watch = settings, scheduler, host, watch
        self._stopping = threading.Event()
        self._seq = random.getrandbits(48)

    def deliver(self, events: list[Received]) -> None:
        """Events of the partition, in their order. Called by the host's thread."""
        self._put += len(events)
        self.inbox.put(events)

    @property
    def pending(self) -> int:
        """Events in the inbox; the host pauses the partition when there are too many. Each count has one writer."""
        return self._put - self._taken

    def stop(self) -> None:
        """Finish the transaction under way and end. Does not wait: the next owner's fence makes that needless.

        From now on the scheduler does not hear of this actor: the next owner may be another of this process and already have
        reported the same jobs, which would be forgotten with this one's end.
        """
        self._stopping.set()
        self._scheduler.leave(self)
        self.inbox.put(None)

    def run(self) -> None:
        pause = 0.2
        cause = "assigned"
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._own(cause)
            except Exception as wrong:
                self.caught_up.clear()
                cause = type(wrong).__name__
                told = {"partition": self.partition, "error": f"{cause}: {wrong}"}
                log.warning("partition is read again", **told, exc_info=not isinstance(wrong, TROUBLE))
                pause = 0.2 if time.monotonic() - began > 30 else min(3.0, pause * 2)
                self._stopping.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, no secret)
            finally:
                self._scheduler.leave(self)
        self._watch.done()

    # ── One ownership: fence, read, then batch by batch ───────────────────────────────────────────────────────────

    def _own(self, cause: str) -> None:
        began = time.monotonic()
        own = [(topics.JOBS, self.partition), (topics.COMPLETIONS, self.partition)]
        partition_log = PartitionLog(
            self._settings,
            transactional_id=acls.transactional_id(self.partition),
            topic=topics.JOBS,
            partition=self.partition,
            alive=self._watch.beat,
        )
        try:
            if partition_log.open(own, [*own, *self._host.guarded]):
                log.warning("a hanging transaction was ended", partition=self.partition)
            memory = self.begin(partition_log, _now_ms())
            metrics.RECOVERIES.labels(cause).inc()
            metrics.RECOVERY_SECONDS.observe(time.monotonic() - began)
            log.info("partition is ours", partition=self.partition, jobs=len(memory), living=memory.living, position=self.position,
                     seconds=round(time.monotonic() - began, 2), cause=cause)  # fmt: skip
            self._host.seek(self.partition, self.position)
            self.caught_up.set()
            while not self._stopping.is_set():
                events, tick = self._take(memory.wait_seconds(_now_ms(), 0.5))
                self._watch.beat()
                self.turn(partition_log, memory, events, tick, _now_ms())
        finally:
            partition_log.close()

    def begin(self, partition_log: PartitionLog, now_ms: int) -> Jobs:
        """Read what the partition holds, and tell the scheduler of it. `position` is then where its events go on."""
        self._scheduler.join(self, lambda: self.inbox.put(None))
        if self._stopping.is_set():
            self._scheduler.leave(self)
        memory, self.position = Jobs(), 0
        for received in partition_log.read():
            if received.key == records.POSITION_KEY.encode() and received.value is not None:
                self.position = envelope.decode(received.value, Position).next
            elif received.key is not None and not received.key.startswith(b"@"):
                memory.load(received)
        self._applied = self.position
        for job in memory.active():
            self._report(job, now_ms)
        return memory

    def turn(self, partition_log: PartitionLog, memory: Jobs, events: list[Received], tick: Tick | None, now_ms: int) -> None:
        """Decide upon what has come and what is due, and write it in one transaction.

        Raises whatever the log raises; memory and log may then differ, and only `begin` helps.
        """
        turn = _Turn(memory, now_ms)
        for received in events:
            if received.offset < self._applied:
                continue  # delivered twice, after a seek
            if received.offset > self._applied and not self._legal_gap(received.offset, self._applied):
                self._host.seek(self.partition, self._applied)
                break
            self._applied = received.offset + 1
            self._apply(turn, received)
        if tick is not None:
            self._on_tick(turn, tick)
        for job_id in memory.due(now_ms):
            self._on_due(turn, job_id)
        released = self._release(turn)
        if turn.changed or turn.effects or turn.buried:
            self._commit(partition_log, memory, turn, released)
        elif tick is not None and self._applied != self.position:
            partition_log.commit([records.position(self.partition, self._applied)])
        else:
            return
        self.position = self._applied

    def _take(self, seconds: float) -> tuple[list[Received], Tick | None]:
        events: list[Received] = []
        tick: Tick | None = None
        if (early := self._committed + PACE_SECONDS - time.monotonic()) > 0:
            self._stopping.wait(early)
        timeout: float | None = seconds
        while len(events) < BATCH:
            try:
                item = self.inbox.get(timeout=timeout) if timeout else self.inbox.get_nowait()
            except queue.Empty:
                break
            timeout = None
            if isinstance(item, Tick):
                tick = item
            elif item is not None:
                events.extend(item)
                self._taken += len(item)
        return events, tick

    def _legal_gap(self, offset: int, position: int) -> bool:
        # No transactional writer: offsets follow each other, unless the log begins later because of its retention, or
        # was empty when the position was 0.
        low = low_watermark(self._settings, topics.JOB_EVENTS, self.partition)
        if position < low:
            log.error("events are lost: the position lies before the log", partition=self.partition, position=position, low=low)
        return offset == max(low, position)

    # ── Decisions ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _apply(self, turn: _Turn, received: Received) -> None:
        try:
            if received.fault:
                raise envelope.Unreadable(received.fault)
            sent = envelope.read(received.headers, received.value)
            event = soundness.read(received.value, sent)
        except envelope.Unreadable as wrong:
            turn.buried.append((received, str(wrong)))
            return
        metrics.EVENTS.labels(sent.type).inc()
        if isinstance(event, TaskStarted):
            self._host.notice(event.worker)
        try:
            job, effects = state.step(turn.get(event.job_id), event, turn.now_ms)
        except Exception as wrong:
            # Nobody but the intake and the workers writes here, but a record that cannot be applied must not stop the
            # partition for ever: reading it again would end the same way.
            log.exception("an event could not be applied", partition=self.partition, offset=received.offset)
            turn.buried.append((received, f"{sent.type} could not be applied: {type(wrong).__name__}: {wrong}"))
            return
        if job is not None:
            turn.put(job, effects)

    def _on_tick(self, turn: _Turn, tick: Tick) -> None:
        progress: dict[str, dict[tuple[int, int, int], tuple[float, str]]] = {}
        for worker in tick.alive:
            for task in worker.running:
                progress.setdefault(task.job_id, {})[(task.stage, task.number, task.attempt)] = (task.progress, task.note)
        for job_id in list(turn.memory.busy):
            job = turn.get(job_id)
            if job is None:
                continue
            for task in job.outstanding:
                if task.worker:
                    self._host.notice(task.worker)
            lost = state.lose(job, set(tick.silent), set(tick.gone), turn.now_ms)
            if lost is not None:
                metrics.LEASES_LOST.labels(state.service_of_stage(job)).inc()
                turn.put(*lost)
            elif job_id in progress:
                told = {(number, attempt): said for (stage, number, attempt), said in progress[job_id].items() if stage == job.stage}
                if (after := state.report(job, told)) is not None:
                    turn.put(after, [])

    def _on_due(self, turn: _Turn, job_id: str) -> None:
        job = turn.get(job_id)
        if job is None:
            return
        expired = state.expire(job, turn.now_ms)
        if expired is not None:
            turn.put(*expired)
        else:
            self._report(job, turn.now_ms)
            turn.memory.expect(job, turn.now_ms)

    def _release(self, turn: _Turn) -> list[Record]:
        made: list[Record] = []
        for job in turn.changed.values():
            self._report(job, turn.now_ms)
        for grant in self._scheduler.take(self):
            job = turn.get(grant.job)
            released = state.release(job, grant.partition, turn.now_ms) if job is not None else None
            if job is None or released is None:
                self._report_used(grant.job, job, turn.now_ms, grant.partition)
                continue
            service = state.service_of_stage(job)
            job, task = released
            turn.put(job, [])
            made.append(records.task(task, job, service, grant.partition))
            self._report_used(grant.job, job, turn.now_ms, grant.partition)
        return made

    # ── Writing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _commit(self, partition_log: PartitionLog, memory: Jobs, turn: _Turn, released: list[Record]) -> None:
        values = {job.job_id: envelope.encode_value(job) for job in turn.changed.values()}
        made = [records.position(self.partition, self._applied)]
        for job in turn.changed.values():
            self._seq += 1
            made.append(records.status(self.partition, job, values[job.job_id], self._seq))
        made += released
        made += [records.effect(self.partition, job, effect) for job, effect in turn.effects]
        made += [dead_letter(received, reason) for received, reason in turn.buried]
        began = time.monotonic()
        try:
            partition_log.commit(made)
        except Exception:
            metrics.TRANSACTIONS.labels("failed").inc()
            raise
        self._committed = time.monotonic()
        metrics.TRANSACTIONS.labels("committed").inc()
        metrics.TRANSACTION_SECONDS.observe(time.monotonic() - began)
        for job in turn.changed.values():
            memory.put(job, values[job.job_id])
        for job, effect in turn.effects:
            if isinstance(effect, state.Bury):
                metrics.DEAD_LETTERS.labels("exhausted").inc()
            if isinstance(effect, state.Complete):
                metrics.JOBS_ENDED.labels(job.kind, job.state).inc()
                log.info("job ended", job_id=job.job_id, state=job.state, kind=job.kind, code=job.error.code if job.error else "")

    # ── Towards the scheduler ─────────────────────────────────────────────────────────────────────────────────────

    def _report(self, job: JobStatus, now_ms: int) -> None:
        self._report_used(job.job_id, job, now_ms)

    def _report_used(self, job_id: str, job: JobStatus | None, now_ms: int, *used: int) -> None:
        if job is None:
            return
        self._scheduler.report(
            self,
            job_id,
            state.service_of_stage(job),
            job.owner,
            ready=state.ready(job, now_ms),
            outstanding=tuple(o.partition for o in job.outstanding),
            used=used,
        )


class _Turn:
    """What one transaction is about to change."""

    def __init__(self, memory: Jobs, now_ms: int) -> None:
        self.memory, self.now_ms = memory, now_ms
        self.changed: dict[str, JobStatus] = {}
        self.effects: list[tuple[JobStatus, state.Effect]] = []
        self.buried: list[tuple[Received, str]] = []

    def get(self, job_id: str) -> JobStatus | None:
        return self.changed.get(job_id) or self.memory.get(job_id)

    def put(self, job: JobStatus, effects: list[state.Effect]) -> None:
        self.changed[job.job_id] = job
        self.effects.extend((job, effect) for effect in effects)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
