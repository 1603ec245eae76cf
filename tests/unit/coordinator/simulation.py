"""Coordinators, workers, the log and the store in one thread and in simulated time: the world that `model.py` troubles.

What decides is the product's own: the actor of a partition with `state`, `jobs`, `records`, the scheduler, the leases, the
intake's `interpret`, the worker's buffer and offsets. Modelled is what surrounds it: topics as lists, a transaction that is
committed whole or refused, the consumer groups, the loop of a worker, what work leaves in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from schemas import envelope, topics
from schemas.events import (
    CLEANUP_STAGE,
    KINDS,
    CancelRequested,
    JobCancelled,
    RetryRequested,
    TaskReleased,
    WorkerSeen,
)
from services.coordinator import state
from services.coordinator.intake import interpret
from services.coordinator.partition import Tick
from services.runtime.kafka.partition_log import TROUBLE, Stuck
from services.runtime.kafka.producer import Record, record
from services.runtime.kafka.reader import Received
from tests.unit.coordinator.auditor import Auditor, Broken
from tests.unit.coordinator.simulated import (
    BEGIN_MS,
    CLASSES,
    JOB_PARTITIONS,
    SHIFTED,
    TASK_PARTITIONS,
    TASKS,
    OwnedLog,
    Owner,
    Process,
    Sent,
    Spec,
    Store,
    partition_of,
)
from tests.unit.coordinator.simulated_worker import Worker


class World:
    """Everything, and what may happen to it: one method `do_…` for each step of a schedule."""

    def __init__(self, specs: Sequence[Spec], *, trace: bool = False) -> None:
        self.now = BEGIN_MS
        self.healed_ms = 0
        self.specs = {f"job-{n}": spec for n, spec in enumerate(specs)}
        self.trace: list[str] | None = [] if trace else None
        self.audit = Auditor(self)
        self.events: list[list[Received]] = [[] for _ in range(JOB_PARTITIONS)]
        self.jobs: list[list[Received]] = [[] for _ in range(JOB_PARTITIONS)]
        self.epochs = [0] * JOB_PARTITIONS
        self.tasks: dict[tuple[str, int], list[Received]] = {(s, p): [] for s in TASKS.values() for p in range(TASK_PARTITIONS)}
        self.requests: list[Received] = []
        self.taken = 0
        """Requests that the intake has read."""
        self.control: list[JobCancelled] = []
        self.workers_log: list[tuple[int, WorkerSeen]] = []
        self.afloat: list[Sent] = []
        """Sent by processes that have ended, and not yet there."""
        self.store = Store()
        self.excuses: dict[str, set[str]] = {}
        """Job to the classes of failures that it may fail by."""
        self.uncleaned = {job_id for job_id, spec in self.specs.items() if spec.curse and spec.curse[0] == CLEANUP_STAGE}
        """Jobs whose tidying up never succeeds."""
        self.lost_workers = 0
        self.asked: set[str] = set()
        self.fault = ""
        self.nested: dict[str, tuple[str, int]] = {}
        self.positions: dict[tuple[str, int], int] = {}
        self.members: dict[tuple[str, int], Worker] = {}
        self.generation = 0
        """Of all groups of workers: how often one was changed."""
        self.rounds = 0
        self.names = 0
        self.workers: list[Worker] = []
        self.processes: list[Process] = []
        self.assigned: dict[int, Process] = {}
        self._services = {"transcoder"}
        for spec in specs:
            self._services.add(KINDS[spec.type].service)
            if spec.then or spec.otherwise:
                self._services.add("notifier")
            if spec.shifted:
                self._services.add(SHIFTED[KINDS[spec.type].service])
        for service in sorted(self._services):
            self.spawn(service)
        self.boot()

    # ── What it consists of ───────────────────────────────────────────────────────────────────────────────────────

    def say(self, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{(self.now - BEGIN_MS) / 1000:10.1f} s  {text}")

    def spec(self, job_id: str) -> Spec:
        """Of a job; of a follow-up, a small one."""
        known = self.specs.get(job_id)
        if known is not None:
            return known
        kind = self.audit.status[job_id].kind
        return Spec(stages=() if kind == "callback" else (1,))

    def curse(self, task: TaskReleased) -> str | None:
        curse = self.spec(task.job_id).curse
        return curse[2] if curse is not None and curse[:2] == (task.stage, task.number) else None

    def spawn(self, service: str) -> Worker:
        self.names += 1
        worker = Worker(self, f"{service}-{self.names}", service, slots=2)
        self.workers.append(worker)
        self.rebalance(service)
        self.say(f"{worker.name} starts")
        return worker

    def boot(self) -> Process:
        self.names += 1
        process = Process(f"coordinator-{self.names}", skew_ms=(0, 1500, -1500)[self.names % 3])
        self.processes.append(process)
        self.say(f"{process.name} starts")
        for partition in range(JOB_PARTITIONS):
            if partition not in self.assigned:
                self.assign(partition, process)
        return process

    def assign(self, partition: int, process: Process) -> None:
        """The group gives a partition to a process; a former one hears of it if it can."""
        former = self.assigned.get(partition)
        if former is not None and not former.frozen:
            former.revoke(partition)
        process.revoke(partition)
        self.assigned[partition] = process
        process.owners[partition] = Owner(process, partition)
        self.say(f"partition {partition} is given to {process.name}")

    def rebalance(self, service: str) -> None:
        """Share the partitions of a service among the workers that the group hears of."""
        self.generation += 1
        live = [w for w in self.workers if w.service == service and w.awake and not w.leaving]
        for partition in range(TASK_PARTITIONS):
            if live:
                self.members[service, partition] = live[partition % len(live)]
            else:
                self.members.pop((service, partition), None)
        for worker in live:
            worker.notice()

    def meanwhile(self, where: str) -> None:
        """Something else happens while a coordinator waits for the broker."""
        step = self.nested.pop(where, None)
        if step is not None:
            self.say(f"during the {where}:")
            self.do(*step)

    def commit(self, owned: OwnedLog, records: Sequence[Record]) -> None:
        partition = owned.partition
        fault, self.fault = self.fault, ""
        if owned.epoch != self.epochs[partition]:
            self.say(f"partition {partition}: a former owner's transaction is refused")
            raise Stuck("fenced")
        if fault == "abort":
            self.say(f"partition {partition}: the transaction is aborted")
            raise Stuck("aborted")
        made = [self._received(each, partition) for each in records]
        self.audit.committed(partition, made)
        for received in made:
            self._append(received)
        if fault == "doubt":
            self.say(f"partition {partition}: the answer to a commit is lost")
            raise Stuck("no answer")

    def _received(self, each: Record, partition: int) -> Received:
        key = each.key.encode() if isinstance(each.key, str) else each.key
        partition = each.partition if each.partition >= 0 else partition
        return Received(each.topic, partition, 0, self.now, key, each.value, each.headers)  # type: ignore[arg-type]

    def _append(self, received: Received) -> None:
        topic = received.topic
        if topic == topics.JOBS:
            self.jobs[received.partition].append(received)
        elif topic == topics.REQUESTS:
            self.requests.append(received)
        elif topic == topics.CONTROL:
            self.control.append(envelope.decode(received.value or b"", JobCancelled))
        elif topic in TASKS:
            log = self.tasks[TASKS[topic], received.partition]
            log.append(msgspec.structs.replace(received, offset=len(log)))

    def append_event(self, partition: int, each: Record) -> None:
        log = self.events[partition]
        key = each.key.encode() if isinstance(each.key, str) else each.key
        log.append(Received(each.topic, partition, len(log), self.now, key, each.value, each.headers))  # type: ignore[arg-type]

    def hand(self, event: Any) -> None:
        """Something that a person asks for, as the intake hands it on."""
        self.append_event(partition_of(event.job_id), record(event, event.job_id, source="hand", event_id="e", topic=topics.JOB_EVENTS))

    def request(self, job_id: str) -> None:
        spec = self.specs[job_id]
        data: dict[str, Any] = {"job_id": job_id, "owner": job_id[-1]}
        if spec.type == "UploadReceived":
            data |= {"key": f"{job_id}.mkv", "recipe": {"hls": False}}
        elif spec.type == "StreamRequested":
            data |= {"key": f"{job_id}.mkv"}
        else:
            data |= {"url": "https://x.example/"}
        if spec.deadline is not None:
            data["deadline_seconds"] = spec.deadline
        callback = {"type": "CallbackRequested", "data": {"url": "https://x.example/"}}
        data |= {name: [callback] for name in ("then", "otherwise") if getattr(spec, name)}
        headers = envelope.headers_for(spec.type, source="people", event_id=job_id)
        self.requests.append(
            Received(topics.REQUESTS, 0, 0, self.now, job_id.encode(), msgspec.json.encode(data), headers)  # type: ignore[arg-type]
        )
        self.asked.add(job_id)

    def intake(self, most: int = 1000) -> bool:
        got = False
        for received in self.requests[self.taken : self.taken + most]:
            got = True
            self.taken += 1
            made = interpret(received, "b")
            assert isinstance(made.key, str)
            self.append_event(partition_of(made.key), made)
        return got

    # ── Steps of a coordinator ────────────────────────────────────────────────────────────────────────────────────

    def owners(self) -> list[Owner]:
        return [o for process in self.processes if not process.frozen for o in (*process.owners.values(), *process.retired) if not o.busy]

    def advance(self, owner: Owner, most: int = 1000) -> bool:
        """What the owner's thread does next: open the partition, or one turn."""
        if owner.log is None and owner.stopped:
            self._ended(owner)
            return True
        owner.busy = True
        now = self.now + owner.process.skew_ms
        try:
            if owner.log is None:
                owner.log = OwnedLog(self, owner.partition)
                self.say(f"partition {owner.partition}: {owner.process.name} opens it")
                owner.memory = owner.actor.begin(owner.log, now)
                owner.delivered = owner.actor.position
                return True
            return self._turn(owner, most, now)
        except TROUBLE:
            owner.log = None
            owner.process.scheduler.leave(owner.actor)
            return True
        finally:
            owner.busy = False
            if owner.stopped:
                self._ended(owner)

    def _turn(self, owner: Owner, most: int, now: int) -> bool:
        while not owner.actor.inbox.empty():
            owner.actor.inbox.get_nowait()
        events = self.events[owner.partition][owner.delivered : owner.delivered + most]
        owner.delivered += len(events)
        tick, owner.tick = owner.tick, None
        assert owner.log is not None
        owner.actor.turn(owner.log, owner.memory, events, tick, now)
        return bool(events) or tick is not None

    def _ended(self, owner: Owner) -> None:
        owner.process.scheduler.leave(owner.actor)
        if owner in owner.process.retired:
            owner.process.retired.remove(owner)

    def wants_turn(self, owner: Owner) -> bool:
        if owner.log is None or owner.stopped or owner.tick is not None or not owner.actor.inbox.empty():
            return True
        if owner.delivered < len(self.events[owner.partition]):
            return True
        now = self.now + owner.process.skew_ms
        return owner.memory.wait_seconds(now, 1.0) <= 0

    def tick(self, process: Process) -> None:
        """Once a second: echo, hear the workers, give verdicts, and hear of the group."""
        partitions = tuple(process.owners)
        self.workers_log.append((self.now, WorkerSeen(worker=process.name, service="coordinator", partitions=partitions)))
        leases = process.leases
        for at, said in self.workers_log[process.seen :]:
            leases.observe(said, at)
        process.seen = len(self.workers_log)
        for partition in [p for p in process.owners if self.assigned.get(p) is not process]:
            process.revoke(partition)
        leases.forget_old()
        alive = leases.alive()
        others = sum(len(c.partitions) for c in alive if c.service == "coordinator" and c.worker != process.name)
        owned = len(process.owners)
        process.scheduler.set_workers(alive, owned / (owned + others) if owned else 1.0)
        told = Tick(frozenset(leases.silent()), frozenset(leases.gone()), tuple(alive))
        for owner in process.owners.values():
            if owner.log is not None:
                owner.tick = told

    def pass_seconds(self, seconds: int) -> None:
        """Time during which whoever can says that it is there."""
        for n in range(seconds):
            self.now += 1000
            for worker in self.workers:
                if worker.awake and (n + 1) % 2 == 0:
                    worker.beat()
            for process in self.processes:
                if not process.frozen:
                    self.tick(process)

    # ── Everything as it should go ────────────────────────────────────────────────────────────────────────────────

    def proceed(self) -> bool:
        """A round in which everybody who can does all that there is to do. Answers whether there was anything."""
        self.rounds += 1
        did = self.intake()
        for owner in self.owners():
            if self.wants_turn(owner):
                did = self.advance(owner) or did
        for each in self.afloat:
            self.append_event(each.partition, each.record)
            did = True
        self.afloat = []
        for worker in self.workers:
            if worker.awake:
                did = self.work(worker) or did
                while worker.end(self.rounds):
                    did = True
                if worker.leaving and not worker.taken:
                    worker.bye()
                    did = True
                did = worker.ship() or did
        return did

    def work(self, worker: Worker) -> bool:
        """A turn of the worker's loop."""
        did = worker.listen()
        did = worker.poll() or did
        did = worker.start() or did
        did = worker.ship() or did
        return worker.commit() or did

    def supervise(self) -> None:
        """Start what is missing, let go of what is dead, give every partition to somebody who is there."""
        for worker in [w for w in self.workers if w.dead]:
            self.workers.remove(worker)
            self.rebalance(worker.service)
        for service in sorted(self._services):
            if not any(w.service == service and not w.leaving for w in self.workers):
                self.spawn(service)
                self.pass_seconds(1)  # to start, and to join the group
        awake = [p for p in self.processes if not p.frozen]
        if not awake:
            awake = [self.boot()]
        for partition in range(JOB_PARTITIONS):
            holder = self.assigned.get(partition)
            if holder is None or holder.frozen or holder not in self.processes:
                self.assign(partition, awake[0])

    def heal(self) -> None:
        """No more faults: everything goes on until nothing is left to do. Raises Broken when that does not come."""
        self.fault = ""
        self.nested = {}
        for each in (*self.workers, *self.processes):
            each.frozen = False
        self.healed_ms = self.now
        self.say("healed")
        self.supervise()
        for process in self.processes:
            self.tick(process)  # it hears of the partitions that it has lost
        for service in self._services:
            self.rebalance(service)
        idle = 0
        for _ in range(5000):
            self.supervise()
            if self.proceed():
                idle = 0
                continue
            living = self.audit.unsettled()
            if not living:
                break
            idle += 1
            if idle == 1:
                self.now += 500  # every actor takes a turn so often, whether something has come or not
                for owner in self.owners():
                    self.advance(owner)
                continue
            if idle <= 12 and self.audit.outstanding():
                self.pass_seconds(1)
                continue
            due = self.audit.next_due(self.now - 1500)  # some clocks are late
            if due is None or idle > 40:
                raise Broken(f"{living} wait for ever")
            self.now = max(self.now + 1, due + 1500)
            self.pass_seconds(1)
        else:
            raise Broken(f"{self.audit.unsettled()} come to no end")
        for _ in range(2):
            self.pass_seconds(1)
            while self.proceed():
                pass
        self.audit.finish()

    # ── Steps of a schedule; `pick` chooses among what there is ───────────────────────────────────────────────────

    def do(self, step: str, pick: int) -> None:
        self.say(f"{step} {pick}")
        getattr(self, "do_" + step.replace("-", "_"))(pick)

    def do_run(self, pick: int) -> None:
        """Some rounds in which all goes well."""
        for _ in range(1 + pick % 4):
            self.proceed()

    def do_request(self, pick: int) -> None:
        self.request(_pick(sorted(self.specs), pick))

    def do_intake(self, pick: int) -> None:
        """Also what it had read before, when it did not come to commit."""
        if pick % 4 == 3:
            self.taken = max(0, self.taken - 2)
        self.intake(1 + pick % 3)

    def do_turn(self, pick: int) -> None:
        if owners := self.owners():
            self.advance(owners[pick % len(owners)], (1000, 1, 1000, 2)[pick // len(owners) % 4])

    def do_skip(self, pick: int) -> None:
        """The consumer leaves something out."""
        if owners := self.owners():
            owner = owners[pick % len(owners)]
            if owner.delivered + 1 < len(self.events[owner.partition]):
                owner.delivered += 1

    def do_twice(self, pick: int) -> None:
        """The consumer delivers something again."""
        if owners := self.owners():
            owner = owners[pick % len(owners)]
            owner.delivered = max(0, owner.delivered - 1 - pick % 3)

    def do_tick(self, pick: int) -> None:
        awake = [p for p in self.processes if not p.frozen]
        if awake:
            self.tick(awake[pick % len(awake)])

    def do_pass(self, pick: int) -> None:
        self.pass_seconds((1, 3, 9)[pick % 3])

    def do_jump(self, pick: int) -> None:
        """Time passes while the broker is away: nobody says anything."""
        self.now += (500, 5000, 40_000, state.KEEP_FAILED_MS)[pick % 4]

    def do_abort(self, pick: int) -> None:
        self.fault = "doubt" if pick % 2 else "abort"

    def do_amid_commit(self, pick: int) -> None:
        self.nested["commit"] = (NESTED[pick % len(NESTED)], pick // len(NESTED))

    def do_amid_read(self, pick: int) -> None:
        self.nested["read"] = (NESTED[pick % len(NESTED)], pick // len(NESTED))

    def do_assign(self, pick: int) -> None:
        awake = [p for p in self.processes if not p.frozen]
        if awake:
            self.assign(pick % JOB_PARTITIONS, awake[pick // JOB_PARTITIONS % len(awake)])

    def do_reassign(self, pick: int) -> None:
        """A partition is taken from a process and given to it again, and the new owner has opened it before the former has ended."""
        self.do_assign(pick)
        owner = self.assigned[pick % JOB_PARTITIONS].owners.get(pick % JOB_PARTITIONS)
        if owner is not None and not owner.busy and not owner.process.frozen:
            self.advance(owner)

    def do_boot(self, pick: int) -> None:
        if len(self.processes) < 3:
            process = self.boot()
            self.assign(pick % JOB_PARTITIONS, process)

    def do_crash(self, pick: int) -> None:
        """Kill a coordinator."""
        process = _pick(self.processes, pick)
        if any(o.busy for o in (*process.owners.values(), *process.retired)):
            return  # it is in the middle of what this happens in
        self.processes.remove(process)
        self.say(f"{process.name} is killed")
        for partition in [p for p, holder in self.assigned.items() if holder is process]:
            del self.assigned[partition]
        self.supervise()

    def do_suspend(self, pick: int) -> None:
        """Stop a coordinator for longer than its session."""
        process = _pick(self.processes, pick)
        process.frozen = True
        self.say(f"{process.name} is stopped")
        self.supervise()

    def do_resume(self, _pick: int) -> None:
        for process in self.processes:
            process.frozen = False

    def worker(self, pick: int) -> Worker | None:
        awake = [w for w in self.workers if w.awake]
        return awake[pick % len(awake)] if awake else None

    def do_work(self, pick: int) -> None:
        if worker := self.worker(pick):
            self.work(worker)

    def do_poll(self, pick: int) -> None:
        if worker := self.worker(pick):
            worker.poll(1 + pick // 8)

    def do_start(self, pick: int) -> None:
        if worker := self.worker(pick):
            worker.start()

    def do_ship(self, pick: int) -> None:
        if worker := self.worker(pick):
            worker.ship(1 + pick // 4)

    def do_commit(self, pick: int) -> None:
        if worker := self.worker(pick):
            worker.commit()

    def do_end(self, pick: int) -> None:
        busy = [w for w in self.workers if w.awake and w.running]
        if busy:
            busy[pick % len(busy)].end(pick // len(busy))

    def do_fail(self, pick: int) -> None:
        busy = [w for w in self.workers if w.awake and w.running]
        if busy:
            busy[pick % len(busy)].end(pick // 3, CLASSES[pick % 3 if pick % 5 == 0 else pick % 2])

    def do_beat(self, pick: int) -> None:
        if worker := self.worker(pick):
            worker.beat()

    def do_listen(self, pick: int) -> None:
        if worker := self.worker(pick):
            worker.listen()

    def do_spawn(self, pick: int) -> None:
        if len(self.workers) < 5:
            self.spawn(_pick(sorted(self._services), pick))

    def do_kill(self, pick: int) -> None:
        """Kill a worker; the group hears of it at some time."""
        if worker := self.worker(pick):
            self.say(f"{worker.name} is killed")
            worker.die()
            self.lost_workers += 1
            if pick // 8 % 2:
                self.rebalance(worker.service)

    def do_freeze(self, pick: int) -> None:
        """Stop a worker for a while; the group throws it out."""
        if worker := self.worker(pick):
            self.say(f"{worker.name} is stopped")
            worker.frozen = True
            self.lost_workers += 1
            if pick // 8 % 2:
                self.rebalance(worker.service)

    def do_thaw(self, pick: int) -> None:
        """One that was stopped goes on: it does not know yet what it has lost."""
        for worker in self.workers:
            if worker.frozen:
                worker.frozen = False
                if pick % 2:
                    self.rebalance(worker.service)

    def do_rebalance(self, pick: int) -> None:
        self.rebalance(_pick(sorted(self._services), pick))

    def do_leave(self, pick: int) -> None:
        if worker := self.worker(pick):
            worker.leave()

    def do_bye(self, _pick: int) -> None:
        for worker in self.workers:
            if worker.awake and worker.leaving:
                worker.bye()

    def do_arrive(self, _pick: int) -> None:
        for each in self.afloat:
            self.append_event(each.partition, each.record)
        self.afloat = []

    def do_lose(self, _pick: int) -> None:
        """What was sent last by one that has ended never arrives."""
        self.afloat = self.afloat[:-1]

    def do_cancel(self, pick: int) -> None:
        job_id = _pick(sorted(self.audit.status or self.specs), pick)
        self.excuses.setdefault(job_id, set()).add("cancelled")
        self.hand(CancelRequested(job_id=job_id))

    def do_retry(self, pick: int) -> None:
        self.hand(RetryRequested(job_id=_pick(sorted(self.audit.status or self.specs), pick)))

    def do_repeat(self, pick: int) -> None:
        """An event comes once more, later."""
        log = self.events[pick % JOB_PARTITIONS]
        if log:
            again = log[pick // JOB_PARTITIONS % len(log)]
            if dict(again.headers)["ce_type"] != b"reelworks.TaskStarted":
                log.append(msgspec.structs.replace(again, offset=len(log)))


NESTED = ("reassign", "assign", "turn", "work", "tick", "turn")


def _pick(among: Sequence[Any], pick: int) -> Any:
    return among[pick % len(among)]
