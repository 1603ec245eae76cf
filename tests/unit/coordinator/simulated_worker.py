"""A worker of the simulated world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from schemas import envelope, topics
from schemas.events import (
    KINDS,
    PLAN_MISSING,
    TERMINAL,
    ErrorInfo,
    FailureClass,
    FollowUp,
    Outcome,
    Output,
    RunningTask,
    StagePlan,
    TaskFailed,
    TaskFinished,
    TaskReleased,
    TaskReturned,
    TaskStarted,
    WorkerSeen,
)
from services.runtime.jobs.buffer import TaskBuffer, Waiting
from services.runtime.jobs.offsets import OpenOffsets
from services.runtime.kafka.producer import record
from services.runtime.kafka.reader import Received
from tests.unit.coordinator.auditor import Broken
from tests.unit.coordinator.simulated import SHIFTED, Running, Sent, name_of, partition_of

if TYPE_CHECKING:
    from tests.unit.coordinator.simulation import World


class Worker:
    """The loop of services/runtime/jobs/worker.py, in steps."""

    def __init__(self, world: World, name: str, service: str, slots: int) -> None:
        self.world, self.name, self.service, self.slots = world, name, service, slots
        self.frozen = self.dead = self.leaving = False
        self.generation = 0
        self.owned: set[int] = set()
        self.position: dict[int, int] = {}
        self.buffer = TaskBuffer()
        self.offsets: dict[int, OpenOffsets] = {}
        self.sent: list[Sent] = []
        self.taken: list[Waiting] = []
        self.started: list[Waiting] = []
        self.running: list[Running] = []
        self.heard = len(world.control)
        self.cancelled: dict[str, int] = {}
        self.beat()

    @property
    def awake(self) -> bool:
        return not self.dead and not self.frozen

    # ── The consumer's thread ─────────────────────────────────────────────────────────────────────────────────────

    def notice(self) -> bool:
        """Take up what the group has decided."""
        if self.generation == self.world.generation:
            return False
        self.generation = self.world.generation
        owned = {p for (service, p), w in self.world.members.items() if service == self.service and w is self}
        if owned == self.owned:
            return False
        lost = self.owned - owned
        self.buffer.drop(lambda waiting: waiting.partition in lost)
        for partition in lost:
            self.offsets.pop(partition, None)
        for partition in owned - self.owned:
            self.position[partition] = self.world.positions.get((self.service, partition), 0)
        self.owned = owned
        self.beat()
        return True

    def poll(self, most: int = 1000) -> bool:
        got = self.notice()
        if self.leaving:
            return got
        for partition in sorted(self.owned):
            log = self.world.tasks[self.service, partition]
            begin = self.position[partition]
            for received in log[begin : begin + most]:
                got = True
                self._buffered(received)
            self.position[partition] = min(len(log), begin + most)
        return got

    def _buffered(self, received: Received) -> None:
        offsets = self.offsets.setdefault(received.partition, OpenOffsets())
        offsets.open(received.offset)
        waiting = Waiting(envelope.decode(received.value or b"", TaskReleased), received.partition, received.offset)
        if self._unwanted(waiting):
            offsets.close(received.offset)
        else:
            self.buffer.push(waiting)

    def _unwanted(self, waiting: Waiting) -> bool:
        return waiting.task.role != "cleanup" and waiting.task.attempt < self.cancelled.get(waiting.task.job_id, 0)

    def start(self) -> bool:
        began = False
        while len(self.buffer) and not self.leaving and len(self.taken) + len(self.running) < self.slots:
            waiting = self.buffer.take([*(w.task for w in self.taken), *(r.task for r in self.running)])
            if waiting is None:
                break
            began = True
            self.taken.append(waiting)
            self._send(TaskStarted(**self._place(waiting.task)), waiting)
        return began

    def ship(self, most: int = 1000) -> bool:
        """The broker has some of what was sent, in its order, and says so."""
        sent, self.sent = self.sent[:most], self.sent[most:]
        for each in sent:
            self.world.append_event(each.partition, each.record)
            if (waiting := each.waiting) is not None:
                if (offsets := self.offsets.get(waiting.partition)) is not None:
                    offsets.close(waiting.offset)
                self.started.append(waiting)
        return bool(sent)

    def commit(self) -> bool:
        """Commit offsets, where the group still takes them from us, and begin what was started."""
        for partition, open_offsets in self.offsets.items():
            offset = open_offsets.committable()
            if offset is not None and self.world.members.get((self.service, partition)) is self:
                self.world.positions[self.service, partition] = offset
        begun, self.started = self.started, []
        for waiting in begun:
            self.taken.remove(waiting)
            if self._unwanted(waiting):
                continue
            self.running.append(Running(waiting.task))
            if self.world.curse(waiting.task) == "kills":
                self.world.lost_workers += 1
                self.world.say(f"{self.name} dies of {name_of(waiting.task)}")
                self.die()
                return True
        return bool(begun)

    def listen(self) -> bool:
        told, self.heard = self.world.control[self.heard :], len(self.world.control)
        for each in told:
            self.cancelled[each.job_id] = each.attempts_below
            for waiting in self.buffer.drop(self._unwanted):
                if (offsets := self.offsets.get(waiting.partition)) is not None:
                    offsets.close(waiting.offset)
            for running in self.running:
                task = running.task
                if task.job_id == each.job_id and task.attempt < each.attempts_below and task.role != "cleanup":
                    running.cancelled = True
        return bool(told)

    def beat(self, *, bye: bool = False) -> None:
        running = tuple(
            RunningTask(job_id=r.task.job_id, stage=r.task.stage, number=r.task.number, attempt=r.task.attempt, progress=0.5)
            for r in self.running
        )
        slots = 0 if self.leaving else self.slots
        seen = WorkerSeen(
            worker=self.name, service=self.service, slots=slots, partitions=tuple(sorted(self.owned)), running=running, bye=bye
        )
        self.world.workers_log.append((self.world.now, seen))

    # ── The handlers' loop ────────────────────────────────────────────────────────────────────────────────────────

    def end(self, pick: int = 0, failure: FailureClass | None = None) -> bool:
        """One running task ends. A failure that is not the task's own is the machine's or the input's."""
        if not self.running:
            return False
        running = self.running.pop(pick % len(self.running))
        task = running.task
        if task.role == "plan" and (running.cancelled or failure is not None) and pick // 2 % 2 and not self.world.spec(task.job_id).needs:
            self.world.store.plan(task.job_id)  # it was stored, and nobody has heard of it
        if running.cancelled:
            outcome = self._failed(task, "cancelled", "cancelled")
        elif failure is not None:
            self.world.excuses.setdefault(task.job_id, set()).add(failure)
            if task.role == "cleanup":
                self.world.uncleaned.add(task.job_id)
                self.world.store.plans.pop(task.job_id, None)  # a part is done
            outcome = self._failed(task, "drawn", failure)
        else:
            outcome = self._perform(task)
        self.world.say(f"{self.name} ends {name_of(task)}: {type(outcome).__name__}")
        self._send(outcome)
        return True

    def give_back(self) -> None:
        for running in self.running:
            self._send(TaskReturned(**self._place(running.task)))
        self.running = []

    def _perform(self, task: TaskReleased) -> msgspec.Struct:
        curse = self.world.curse(task)
        if curse is not None:
            self.world.excuses.setdefault(task.job_id, set()).add(curse)
            return self._failed(task, "cursed", curse)
        place, store, spec = self._place(task), self.world.store, self.world.spec(task.job_id)
        if task.role == "cleanup":
            if self.world.audit.status[task.job_id].state in TERMINAL:
                store.clear(task.job_id)
            # else its worker was stopped for so long that the job was tidied up by another, and begun again: nothing holds it
            # back from removing the new plan, whose tasks then fail as `plan-missing`. That is known, and left out here.
            return TaskFinished(**place)
        if task.role == "plan":
            return self._plan(task)
        if task.job_id not in store.plans:
            return self._failed(task, PLAN_MISSING, "permanent")
        if store.plans[task.job_id] != task.plan_hash:
            return self._failed(task, "plan-changed", "transient")
        results = store.results.setdefault(task.job_id, set())
        if task.role == "run":
            results.add((task.stage, task.number))
            return TaskFinished(**place)
        missing = {(n + 1, t) for n, total in enumerate(spec.stages) for t in range(total)} - results
        if missing:
            raise Broken(f"{name_of(task)} runs, and the results {sorted(missing)} are not there")
        output = Output(role="rendition", bucket="b", key=f"{task.subject}.mp4")
        return TaskFinished(**place, outputs=(output,), data={"asset_id": task.subject})

    def _plan(self, task: TaskReleased) -> msgspec.Struct:
        spec = self.world.spec(task.job_id)
        cause = task.request.get("cause")
        if spec.needs and cause is None:
            wish = FollowUp(type="UploadReceived", data={"key": "first.mkv", "recipe": {"hls": False}})
            return TaskFinished(**self._place(task), needs=wish)
        if spec.needs and msgspec.convert(cause, Outcome).state != "succeeded":
            self.world.excuses.setdefault(task.job_id, set()).add("permanent")
            return self._failed(task, "needed", "permanent")
        service = KINDS[task.request_type].service
        other = SHIFTED[service] if spec.shifted else service
        stages = tuple(
            StagePlan(name=f"stage-{n}", service=other if n == 1 else service, tasks=total) for n, total in enumerate(spec.stages)
        )
        return TaskFinished(**self._place(task), plan_hash=self.world.store.plan(task.job_id), stages=stages)

    def _failed(self, task: TaskReleased, code: str, failure: Any) -> TaskFailed:
        error = ErrorInfo(code=code, message=f"attempt {task.attempt} of {name_of(task)}", failure_class=failure)
        return TaskFailed(**self._place(task), error=error)

    def _place(self, task: TaskReleased) -> dict[str, Any]:
        return {"job_id": task.job_id, "stage": task.stage, "number": task.number, "attempt": task.attempt, "worker": self.name}

    def _send(self, event: Any, waiting: Waiting | None = None) -> None:
        made = record(event, event.job_id, source=self.name, event_id="e", topic=topics.JOB_EVENTS)
        self.sent.append(Sent(partition_of(event.job_id), made, waiting))

    # ── Its end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def leave(self) -> None:
        """SIGTERM: leave the group; what was taken begins."""
        if self.leaving:
            return
        self.notice()
        self.commit()
        if self.dead:
            return
        self.leaving = True
        self.world.rebalance(self.service)
        self.notice()

    def bye(self) -> None:
        """After the drain: say what is not done, then good-bye. The events may arrive after it."""
        self.give_back()
        self.beat(bye=True)
        self.world.afloat += self.sent
        self.sent = []
        self.dead = True

    def die(self) -> None:
        self.dead = True
        self.sent, self.running, self.started = [], [], []
        self.buffer = TaskBuffer()
