"""The coordinator process: a consumer group that suggests partitions, an actor for each, the intake, the workers' clock.

The main thread reads and distributes; it computes nothing that could take long.
"""

from __future__ import annotations

import queue
import signal
import time

from schemas import acls, topics
from schemas.events import SERVICES
from services.coordinator.clock import WorkerLog
from services.coordinator.intake import Intake
from services.coordinator.partition import Actor, Host, Tick
from services.coordinator.scheduler import Scheduler
from services.coordinator.watchdog import Watchdog
from services.runtime.kafka.admin import partition_count
from services.runtime.kafka.group import GroupConsumer
from services.runtime.kafka.producer import EventProducer
from services.runtime.kafka.reader import Received
from services.runtime.settings import Settings
from services.runtime.telemetry import health, metrics
from services.runtime.telemetry.logging import get_logger

GROUP = acls.COORDINATOR_GROUP
HANG_SECONDS = 45.0
"""Longer than any legitimate step: reading a partition back, or a transaction over a broker's restart."""
CLOSE_SECONDS = 10.0
"""For all threads together, to finish what they have begun. With a broker that answers nobody each would hang; leaving it is as safe."""
FULL, DRAINED = 20_000, 5_000
"""Events in an actor's inbox at which its partition is paused, and resumed."""
log = get_logger(__name__)


class Coordinator:
    """Runs in the thread that calls `run`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = False
        self._watchdog = Watchdog()
        self._watch = self._watchdog.watch("main", HANG_SECONDS)
        self._producer = EventProducer(settings)
        self._clock = WorkerLog(settings, f"coordinator-{settings.instance_name()}", self._producer, settings.lease_seconds)
        task_partitions = {service: partition_count(settings, topics.tasks(service)) for service in SERVICES}
        self._scheduler = Scheduler(task_partitions)
        self._seeks: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._noticed: queue.SimpleQueue[str] = queue.SimpleQueue()
        guarded = [(topics.tasks(s), p) for s, n in task_partitions.items() for p in range(n)]
        for topic in (topics.REQUESTS, topics.CONTROL, topics.DEAD_LETTERS):
            guarded += [(topic, p) for p in range(partition_count(settings, topic))]
        self._host = Host(
            seek=lambda partition, offset: self._seeks.put((partition, offset)),
            notice=self._noticed.put,
            guarded=tuple(guarded),
        )
        self._actors: dict[int, Actor] = {}
        self._paused: set[int] = set()
        self._intake = Intake(settings, self._watchdog.watch("intake", HANG_SECONDS).beat)
        self._group = GroupConsumer(
            settings, group=GROUP, topic=topics.JOB_EVENTS, on_assign=self._assigned, on_revoke=self._revoked, paused=True
        )

    def stop(self) -> None:
        """Ask `run` to end. Safe in a signal handler."""
        self._stopping = True

    def ready(self) -> str:
        """For /readyz: "" once every partition that we own is caught up, while requests are read."""
        behind = [p for p, actor in list(self._actors.items()) if not actor.caught_up.is_set()]
        return f"partitions {behind} are being read" if behind else self._intake.trouble

    def run(self) -> None:
        """Until `stop`."""
        self._watchdog.start()
        self._intake.start()
        last_tick = 0.0
        try:
            while not self._stopping:
                self._watch.beat()
                self._distribute()
                self._seek()
                self._clock.follow(tuple(sorted(self._group.owned)))
                if time.monotonic() - last_tick >= 1.0:
                    last_tick = time.monotonic()
                    self._tick()
        finally:
            self._close()

    def _distribute(self) -> None:
        by_partition: dict[int, list[Received]] = {}
        for received in self._group.poll(0.02):
            by_partition.setdefault(received.partition, []).append(received)
        for partition, events in by_partition.items():
            actor = self._actors.get(partition)
            if actor is not None:
                actor.deliver(events)
        for partition, actor in self._actors.items():
            if actor.pending > FULL and partition not in self._paused:
                self._paused.add(partition)
                self._group.pause([partition])
            elif actor.pending < DRAINED and partition in self._paused:
                self._paused.discard(partition)
                self._group.resume([partition])

    def _seek(self) -> None:
        for _ in range(self._seeks.qsize()):
            partition, offset = self._seeks.get()
            if partition in self._actors and not self._group.seek_and_resume(partition, offset):
                self._seeks.put((partition, offset))

    def _tick(self) -> None:
        leases = self._clock.leases
        while not self._noticed.empty():
            leases.notice(self._noticed.get())
        leases.forget_old()
        if self._clock.fresh:
            alive = leases.alive()
            self._scheduler.set_workers(alive, self._clock.share(len(self._group.owned)))
            tick = Tick(frozenset(leases.silent()), frozenset(leases.gone()), tuple(alive))
            for actor in self._actors.values():
                if actor.caught_up.is_set():
                    actor.inbox.put(tick)
        # For displays of lag only; what counts is the position beside the state.
        self._group.commit({p: actor.position for p, actor in self._actors.items() if actor.caught_up.is_set()})
        for service, (outstanding, waiting, _) in self._scheduler.outstanding().items():
            metrics.OUTSTANDING.labels(service).set(outstanding)
            metrics.JOBS.labels(service).set(waiting)

    def _assigned(self, partitions: list[int]) -> None:
        for partition in partitions:
            self._revoked([partition])
            watch = self._watchdog.watch(f"partition-{partition}", HANG_SECONDS)
            actor = self._actors[partition] = Actor(self._settings, partition, self._scheduler, self._host, watch)
            self._paused.discard(partition)
            actor.start()

    def _revoked(self, partitions: list[int]) -> None:
        for partition in partitions:
            actor = self._actors.pop(partition, None)
            if actor is not None:
                actor.stop()

    def _close(self) -> None:
        self._intake.stop()
        actors = list(self._actors.values())
        self._revoked(list(self._actors))
        until = time.monotonic() + CLOSE_SECONDS
        for thread in (*actors, self._intake):
            thread.join(max(0.0, until - time.monotonic()))
        self._clock.close()
        self._group.close()
        self._producer.close(5.0)
        self._watchdog.stop()


def serve(settings: Settings) -> int:
    """Run a coordinator until SIGTERM or SIGINT. Answers the exit code."""
    coordinator = Coordinator(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: coordinator.stop())
    server = health.start(settings, {}, ready={"partitions": coordinator.ready}, service="coordinator")
    log.info("coordinator runs", name=settings.instance_name())
    try:
        coordinator.run()
    finally:
        server.close()
    log.info("coordinator ended")
    return 0
