"""What the simulated world consists of, but for its workers: jobs that somebody asks for, the store, the log, coordinators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from schemas import topics
from schemas.events import (
    ATTEMPTS_A_RUN,
    CLEANUP_STAGE,
    FailureClass,
    TaskReleased,
)
from services.coordinator.leases import Leases
from services.coordinator.partition import Actor, Host, Tick
from services.coordinator.scheduler import Scheduler
from services.runtime.jobs.buffer import Waiting
from services.runtime.kafka.partition_log import PartitionLog
from services.runtime.kafka.producer import Record
from services.runtime.kafka.reader import Received

if TYPE_CHECKING:
    from tests.unit.coordinator.simulation import World

JOB_PARTITIONS = 2
TASK_PARTITIONS = 3
LEASE_MS = 8000
BEGIN_MS = 1_000_000
CLASSES: tuple[FailureClass, ...] = ("transient", "timed-out", "permanent")
TASKS = {topics.tasks(service): service for service in ("transcoder", "streamer", "zipper", "indexer", "notifier")}
SHIFTED = {"transcoder": "streamer", "streamer": "transcoder"}
"""Whose workers run a stage that is not its job's service's."""


class Spec(NamedTuple):
    """A job that somebody asks for, and how its work goes."""

    type: str = "UploadReceived"
    stages: tuple[int, ...] = (2,)
    """Tasks of each planned stage."""
    shifted: bool = False
    """The second stage is for the workers of another service."""
    needs: bool = False
    """Another job must come first."""
    then: bool = False
    otherwise: bool = False
    deadline: int | None = None
    """Seconds."""
    curse: tuple[int, int, str] | None = None
    """Stage, number, and how every attempt of that task ends: a failure class, or `kills`: its process dies."""


class Running(msgspec.Struct, eq=False):
    """A task in a slot."""

    task: TaskReleased
    cancelled: bool = False


class Sent(msgspec.Struct, eq=False):
    """A record on its way to the events of a partition; `waiting`: the task whose start it tells."""

    partition: int
    record: Record
    waiting: Waiting | None = None


class Store:
    """What lies in `jobs/`."""

    def __init__(self) -> None:
        self.plans: dict[str, str] = {}
        self.results: dict[str, set[tuple[int, int]]] = {}
        self._planned = 0

    def plan(self, job: str) -> str:
        """Store a plan if none is there. Answers the hash of the one that is."""
        if job not in self.plans:
            self._planned += 1
            self.plans[job] = f"plan-{self._planned}"
        return self.plans[job]

    def clear(self, job: str) -> None:
        self.plans.pop(job, None)
        self.results.pop(job, None)


class OwnedLog(PartitionLog):
    """The log of a partition as one owner has it: it writes until somebody else has opened it."""

    def __init__(self, world: World, partition: int) -> None:
        world.epochs[partition] += 1
        self.world, self.partition, self.epoch = world, partition, world.epochs[partition]

    def read(self) -> Iterator[Received]:
        records = self.world.jobs[self.partition]
        records = compacted(records) if self.epoch % 2 else list(records)
        for n, received in enumerate(records):
            if n == len(records) // 2:
                self.world.meanwhile("read")
            yield received
        if not records:
            self.world.meanwhile("read")

    def commit(self, records: Sequence[Record]) -> None:
        self.world.meanwhile("commit")
        self.world.commit(self, records)


class SimulatedActor(Actor):
    def _legal_gap(self, offset: int, position: int) -> bool:
        return False


class Owner:
    """An actor with what its thread holds."""

    def __init__(self, process: Process, partition: int) -> None:
        self.process, self.partition = process, partition
        host = Host(seek=self._seek, notice=process.leases.notice, guarded=())
        self.actor = SimulatedActor(None, partition, process.scheduler, host, None)  # type: ignore[arg-type]
        self.log: OwnedLog | None = None
        self.memory: Any = None
        self.tick: Tick | None = None
        self.delivered = 0
        self.stopped = False
        self.busy = False
        """In the middle of a step, while something else happens."""

    def stop(self) -> None:
        self.stopped = True
        self.actor.stop()

    def _seek(self, _partition: int, offset: int) -> None:
        self.delivered = offset


class Process:
    """A coordinator."""

    def __init__(self, name: str, skew_ms: int) -> None:
        self.name, self.skew_ms = name, skew_ms
        self.scheduler = Scheduler(dict.fromkeys(TASKS.values(), TASK_PARTITIONS))
        self.leases = Leases(LEASE_MS)
        self.seen = 0
        """Of media.workers."""
        self.owners: dict[int, Owner] = {}
        self.retired: list[Owner] = []
        """Told to stop; each may be in the middle of a last turn."""
        self.frozen = False

    def revoke(self, partition: int) -> None:
        owner = self.owners.pop(partition, None)
        if owner is not None:
            owner.stop()
            self.retired.append(owner)


def compacted(records: Sequence[Received]) -> list[Received]:
    """The last record of each key."""
    return list({r.key: r for r in records}.values())


def partition_of(job_id: str) -> int:
    """Of a job."""
    return int(job_id[-1], 16) % JOB_PARTITIONS


def name_of(task: TaskReleased) -> str:
    run, attempt = divmod(task.attempt - 1, ATTEMPTS_A_RUN)
    what = "cleanup" if task.stage == CLEANUP_STAGE else f"{task.stage}/{task.number}"
    return f"{task.job_id} {what} (run {run + 1}, attempt {attempt + 1})"
