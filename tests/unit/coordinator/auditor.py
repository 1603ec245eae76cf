"""What must hold in every world: an auditor that sees only what coordinators commit, and the world when it is quiet."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from schemas import envelope, topics
from schemas.events import ATTEMPTS_A_RUN, CLEANUP_STAGE, TERMINAL, JobStatus, Position, TaskReleased
from services.coordinator import records, state
from services.coordinator.jobs import Jobs
from services.runtime.kafka.reader import Received

if TYPE_CHECKING:
    from tests.unit.coordinator.simulation import World

STATUS_LIMIT = 4096
PATIENCE_MS = 12 * 3600 * 1000
"""After healing every job ends within so long, or at its deadline."""


class Broken(AssertionError):
    """An invariant does not hold."""


def claim(holds: bool, what: str, *about: object) -> None:
    if not holds:
        raise Broken(" ".join((what, *(_shown(a) if isinstance(a, JobStatus) else str(a) for a in about))))


class Auditor:
    """Reads every committed transaction."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.status: dict[str, JobStatus] = {}
        self.positions: dict[int, int] = {}
        self._completed: Counter[tuple[str, int]] = Counter()
        """(job, run)"""
        self._released: dict[tuple[str, int, int], int] = {}
        """(job, stage, number) to the highest attempt."""
        self._followed: Counter[str] = Counter()
        """Ids of requests that were asked for."""
        self._buried: Counter[tuple[str, int]] = Counter()

    def committed(self, partition: int, made: list[Received]) -> None:
        """A transaction, before its records are seen by anybody else."""
        touched: list[str] = []
        for received in made:
            if received.topic == topics.JOBS:
                if received.key == records.POSITION_KEY.encode():
                    self._position(partition, envelope.decode(received.value or b"", Position).next)
                    continue
                touched.append(self._status(received))
            elif received.topic == topics.COMPLETIONS:
                job_id, run, outcome = _id(received).rsplit("/", 2)
                self._completed[job_id, int(run)] += 1
                self._world.say(f"    {job_id} (run {run}): {outcome} is published")
            elif received.topic == topics.REQUESTS:
                self._follow_up(received)
            elif received.topic == topics.DEAD_LETTERS:
                self._bury(received)
        for received in made:
            if received.topic.startswith("media.tasks."):
                self._release(envelope.decode(received.value or b"", TaskReleased))
        for job_id in touched:
            self._outcomes(self.status[job_id])

    # ── One transaction ───────────────────────────────────────────────────────────────────────────────────────────

    def _position(self, partition: int, position: int) -> None:
        claim(position >= self.positions.get(partition, 0), "the position went back to", position)
        claim(position <= len(self._world.events[partition]), "the position is behind the end:", position)
        self.positions[partition] = position

    def _status(self, received: Received) -> str:
        value = received.value or b""
        after = envelope.decode(value, JobStatus)
        before = self.status.get(after.job_id)
        if self._world.trace is not None:
            self._world.say(f"    {_shown(after)}")
        claim(len(value) < STATUS_LIMIT, "a status is too large:", len(value))
        _check_sound(after)
        if before is not None:
            _check_passage(before, after)
        self.status[after.job_id] = after
        return after.job_id

    def _release(self, task: TaskReleased) -> None:
        job, key = self.status[task.job_id], (task.job_id, task.stage, task.number)
        claim(task.attempt > self._released.get(key, 0), "released again as an earlier attempt:", task)
        self._released[key] = task.attempt
        out = [(o.number, o.attempt) for o in job.outstanding]
        claim((task.number, task.attempt) in out, "released, and not in the status:", task)
        claim(task.stage == (CLEANUP_STAGE if job.state in TERMINAL else job.stage), "released for another stage than the job's:", task)
        if job.state not in TERMINAL:
            claim(not state.finished_tasks(job) >> task.number & 1, "a finished task is released:", task)
            claim(task.plan_hash == job.plan_hash, "released for another plan:", task)
        self._world.say(f"    {task.job_id} {task.stage}/{task.number} attempt {task.attempt} is released")

    def _follow_up(self, received: Received) -> None:
        name = _id(received)
        self._followed[name] += 1
        claim(self._followed[name] == 1, "a request was asked for twice:", name)
        self._world.say(f"    {name} is asked for")

    def _bury(self, received: Received) -> None:
        job_id, run, _ = _id(received).rsplit("/", 2)
        self._buried[job_id, int(run)] += 1
        claim(self._buried[job_id, int(run)] == 1, "buried twice in a run:", job_id)

    def _outcomes(self, job: JobStatus) -> None:
        """Every run that has ended has one outcome, and the one that goes on has none."""
        ended = job.runs if job.state in TERMINAL else job.runs - 1
        counts = [self._completed[job.job_id, run] for run in range(1, job.runs + 1)]
        claim(counts == [1] * ended + [0] * (job.runs - ended), f"outcomes of {job.job_id} by run:", counts, "state:", job.state)

    # ── What the world asks ───────────────────────────────────────────────────────────────────────────────────────

    def unsettled(self) -> list[str]:
        """Jobs that have not ended or are not tidied up, and those of which nothing is known yet."""
        known = [j.job_id for j in self.status.values() if j.state not in TERMINAL or j.cleanup != "done"]
        return known + [j for j in self._world.asked if j not in self.status]

    def outstanding(self) -> bool:
        return any(j.outstanding for j in self.status.values())

    def next_due(self, now_ms: int) -> int | None:
        return min((due for j in self.status.values() if (due := state.next_due_ms(j, now_ms)) is not None), default=None)

    # ── At the end ────────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self) -> None:
        """The world is healed and quiet."""
        world = self._world
        claim(not self.unsettled(), "not settled:", self.unsettled())
        for job in self.status.values():
            claim(not job.retry_wanted and not job.outstanding and not job.again and not job.needs, "something is left of", job)
            self._outcomes(job)
            self._check_reason(job)
        self._check_follow_ups()
        for partition, log in enumerate(world.events):
            claim(self.positions.get(partition, 0) == len(log), f"partition {partition} is read up to", self.positions.get(partition))
        for place, log in world.tasks.items():
            claim(world.positions.get(place, 0) == len(log), f"{place} is committed up to", world.positions.get(place), "of", len(log))
        for process in world.processes:
            left = {service: (out, jobs) for service, (out, jobs, _) in process.scheduler.outstanding().items() if out or jobs}
            claim(not left, f"the scheduler of {process.name} holds", left)
            for owner in process.owners.values():
                self._check_memory(owner.memory, owner.partition)
        for worker in world.workers:
            claim(not worker.running and not worker.taken and not len(worker.buffer), f"{worker.name} is not idle")
        left = (world.store.plans.keys() | world.store.results.keys()) - world.uncleaned
        claim(not left, "left in the store:", sorted(left))

    def _check_memory(self, memory: Jobs, partition: int) -> None:
        again = Jobs()
        last = {(r.key or b"").decode(): r for r in self._world.jobs[partition]}
        last.pop(records.POSITION_KEY, None)
        for job_id, received in last.items():
            again.load(received)
            claim(memory.get(job_id) == again.get(job_id), "memory and log differ about", job_id)
        claim(memory.busy == again.busy and memory.living == again.living, "memory and log differ about what is under way")

    def _check_follow_ups(self) -> None:
        expected: set[str] = set()
        for job in self.status.values():
            for which in ("then", "otherwise"):
                expected |= {
                    f"{job.job_id}/{run}/{which}/{n}"
                    for run in range(1, job.runs + 1)
                    for n in range(len(job.request.get(which, [])))
                    if (run < job.runs and which == "otherwise") or (run == job.runs and (job.state == "succeeded") == (which == "then"))
                }
        asked = {name for name in self._followed if name.rsplit("/", 1)[-1].isdigit()}
        # A stream is asked for upon every transcode that does not refuse it; the wishes here are those that were spelled out.
        claim(expected <= asked, "requests that were not asked for:", sorted(expected - asked))
        claim(not {a for a in asked - expected if a.split("/")[0] in self._world.specs}, "asked for without a reason:", asked - expected)

    def _check_reason(self, job: JobStatus) -> None:
        if job.state == "succeeded":
            claim([s.done for s in job.stages] == [s.total for s in job.stages], "succeeded with tasks missing:", job)
            claim(job.progress == 1.0, "succeeded with progress", job.progress)
            claim([s.total for s in job.stages[1:-1]] == list(self._world.spec(job.job_id).stages), "not as planned:", job)
            return
        error = job.error
        claim(error is not None, "ended without a reason:", job)
        assert error is not None
        excuses = self._world.excuses.get(job.job_id, set())
        if error.code == "deadline":
            claim(self._world.spec(job.job_id).deadline is not None or job.kind == "callback", "waited for its deadline:", job)
        elif error.failure_class == "worker-lost":
            claim("kills" in excuses or self._world.lost_workers >= 3, "failed as worker-lost without losses:", job)
        elif error.failure_class == "cancelled":
            unneeded = any(name.endswith("/unneeded") for name in self._followed)
            claim("cancelled" in excuses or (unneeded and job.job_id not in self._world.specs), "cancelled by nobody:", job)
        else:
            claim(error.failure_class in excuses, "failed without a reason:", error, job)


def _check_sound(job: JobStatus) -> None:
    """A status by itself."""
    numbers = [o.number for o in job.outstanding] + [a.number for a in job.again]
    claim(len(numbers) == len(set(numbers)), "a task is out or waiting twice:", job)
    claim(len(job.attempts) <= 10, "too many notes of attempts:", len(job.attempts))
    claim(0 <= job.progress <= 1, "progress", job.progress)
    first = 1 + ATTEMPTS_A_RUN * (job.runs - 1)
    claim(all(x.attempt >= first for x in (*job.outstanding, *job.again)), "an attempt of an earlier run:", job)
    if job.state in TERMINAL:
        claim(job.cleanup in ("waiting", "done"), "ended, and cleanup is", repr(job.cleanup))
        claim(numbers == ([0] if job.cleanup == "waiting" else []), "the cleanup is neither waiting nor out nor done:", job)
        claim(bool(job.finished_ms), "ended at no time:", job)
        return
    claim(not job.cleanup and not job.retry_wanted and job.error is None and not job.finished_ms, "living with the marks of an end:", job)
    done, stage = state.finished_tasks(job), job.stages[job.stage]
    claim(stage.done == done.bit_count(), "counted", stage.done, "of", job)
    claim(stage.done < stage.total, "a stage that is done is not passed:", job)
    claim(all(s.done == s.total for s in job.stages[: job.stage]), "an earlier stage is not done:", job)
    claim(not any(s.done for s in job.stages[job.stage + 1 :]), "a later stage has begun:", job)
    claim(job.cursor <= stage.total, "the cursor is past the end:", job)
    waiting = {*numbers, *range(job.cursor, stage.total)}
    missing = {n for n in range(stage.total) if not done >> n & 1}
    claim(missing == waiting and len(waiting) == len(numbers) + stage.total - job.cursor, "a task is in no place, or in two:", job)
    claim(all(f.number in missing for f in job.failures), "failures of a finished task are kept:", job)


def _check_passage(before: JobStatus, after: JobStatus) -> None:
    """A status and the one before it; several events may lie between."""
    claim(after.runs >= before.runs and after.created_ms == before.created_ms, "a run was forgotten:", after)
    if after.runs > before.runs:
        return
    if before.state in TERMINAL:
        claim(
            (after.state, after.finished_ms, after.outputs) == (before.state, before.finished_ms, before.outputs),
            "an ended job has changed:", before, "to", after,
        )  # fmt: skip
        claim(after.tidied >= before.tidied, "tidied up less often than before:", after)
        return
    claim(after.progress >= before.progress, "progress went back from", before.progress, "to", after.progress)
    claim(after.stage >= before.stage, "a stage was left backwards:", after)
    if after.stage == before.stage:
        lost = state.finished_tasks(before) & ~state.finished_tasks(after)
        claim(not lost, "finished tasks were forgotten:", before, "to", after)
    if before.plan_hash:
        claim(after.plan_hash == before.plan_hash, "the plan was changed:", after)


def _id(received: Received) -> str:
    return (dict(received.headers)["ce_id"] or b"").decode()


def _shown(job: JobStatus) -> str:
    out = " ".join(f"{o.number}#{o.attempt}@{o.worker or '-'}" for o in job.outstanding)
    again = " ".join(f"{a.number}#{a.attempt}" for a in job.again)
    stage = f"stage {job.stage} {job.stages[job.stage].done}/{job.stages[job.stage].total}"
    more = "".join(
        (f" cleanup {job.cleanup}" if job.cleanup else "", " retry wanted" if job.retry_wanted else "", " needs" if job.needs else "")
    )
    return f"{job.job_id} run {job.runs} {job.state} {stage} cursor {job.cursor} out [{out}] again [{again}]{more}"
