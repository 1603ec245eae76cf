"""Laws of `step`: whatever comes, in whatever order, jobs stay sound."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import (
    CLEANUP_STAGE,
    PLAN_MISSING,
    TERMINAL,
    CancelRequested,
    ErrorInfo,
    JobRequested,
    JobStatus,
    Output,
    RetryRequested,
    StagePlan,
    TaskFailed,
    TaskFinished,
    TaskReleased,
    TaskReturned,
    TaskStarted,
)
from services.coordinator import state

REQUEST = JobRequested(
    job_id="j", kind="transcode", service="transcoder", subject="a", request_type="UploadReceived",
    request={"key": "k", "recipe": {"hls": False}}, owner="o",
)  # fmt: skip


def begin(**request: object) -> JobStatus:
    event = msgspec.structs.replace(REQUEST, request={**REQUEST.request, **request})
    job, effects = state.step(None, event, 1000)
    assert job is not None
    assert effects == []
    return job


def release(job: JobStatus, now: int = 2000, partition: int = 0) -> tuple[JobStatus, TaskReleased]:
    released = state.release(job, partition, now)
    assert released is not None
    return released


def started(task: TaskReleased, worker: str = "w") -> TaskStarted:
    return TaskStarted(job_id="j", stage=task.stage, number=task.number, attempt=task.attempt, worker=worker)


def finished(task: TaskReleased, **more: object) -> TaskFinished:
    return TaskFinished(job_id="j", stage=task.stage, number=task.number, attempt=task.attempt, worker="w", **more)  # type: ignore[arg-type]


def failed(task: TaskReleased, failure_class: str = "transient") -> TaskFailed:
    error = ErrorInfo(code="c", message="m", failure_class=failure_class)  # type: ignore[arg-type]
    return TaskFailed(job_id="j", stage=task.stage, number=task.number, attempt=task.attempt, worker="w", error=error)


def planned(*totals: int, **request: object) -> JobStatus:
    """A job whose plan is done: one stage for each total."""
    job, task = release(begin(**request))
    stages = tuple(StagePlan(name=f"s{n}", service="transcoder", tasks=t) for n, t in enumerate(totals))
    after, _ = state.step(job, finished(task, plan_hash="h", stages=stages), 3000)
    assert after is not None
    return after


def run_all(job: JobStatus, now: int = 4000) -> tuple[JobStatus, list[state.Effect]]:
    """Finish every task until the job ends."""
    effects: list[state.Effect] = []
    while job.state not in TERMINAL:
        job, task = release(job, now)
        after, more = state.step(job, finished(task), now)
        assert after is not None
        job, effects = after, effects + more
    return job, effects


def test_the_same_request_twice_is_one_job() -> None:
    job = begin()
    after, effects = state.step(job, REQUEST, 5000)
    assert after is not None
    assert (after.state, after.created_ms, effects) == ("queued", 1000, [])


def test_stages_follow_each_other_and_empty_ones_are_passed_over() -> None:
    job = planned(0, 2, 0, 1)
    assert (job.state, job.stage) == ("running", 2)
    ended, effects = run_all(job)
    assert ended.state == "succeeded"
    assert ended.progress == 1.0
    assert [type(e) for e in effects] == [state.Complete]


def test_a_plan_without_tasks_leaves_only_the_finish() -> None:
    job = planned()
    assert job.state == "finishing"
    _, task = release(job)
    assert task.role == "finish"


def test_success_publishes_outputs_and_emits_the_then() -> None:
    job = planned(1, then=[{"type": "CallbackRequested", "data": {"url": "https://x.example"}}], otherwise=[{"type": "X", "data": {}}])
    job, task = release(job)
    job, _ = state.step(job, finished(task), 4000)
    assert job is not None
    job, task = release(job)
    output = Output(role="rendition", bucket="b", key="k.mp4")
    job, effects = state.step(job, finished(task, outputs=(output,), data={"asset_id": "a"}), 5000)
    assert job is not None
    complete, follow = effects
    assert isinstance(complete, state.Complete)
    assert (complete.type, complete.key, complete.data["asset_id"]) == ("TranscodeCompleted", "a:transcode", "a")
    assert isinstance(follow, state.Continue)
    assert follow.type == "CallbackRequested"
    assert follow.event_id == "j/1/then/0"
    assert follow.data["url"] == "https://x.example"
    assert follow.data["cause"]["state"] == "succeeded"
    assert follow.data["cause"]["outputs"][0]["key"] == "k.mp4"


def test_a_permanent_failure_ends_the_job_at_once_with_its_reason_and_emits_the_otherwise() -> None:
    job = planned(3, otherwise=[{"type": "CallbackRequested", "data": {"url": "https://x.example"}}])
    job, task = release(job)
    after, effects = state.step(job, failed(task, "permanent"), 4000)
    assert after is not None
    assert after.state == "failed"
    assert after.error is not None
    assert after.error.message == "m"
    assert [type(e) for e in effects] == [state.Complete, state.Continue]
    assert effects[0].key == "a:transcode:failed"  # type: ignore[union-attr]


def test_transient_failures_back_off_exponentially_and_are_limited() -> None:
    job = planned(1)
    now, waits = 10_000, []
    while True:
        job, task = release(job, now)
        after, effects = state.step(job, failed(task), now)
        assert after is not None
        job = after
        if job.state == "failed":
            break
        assert state.ready(job, now) == 0
        assert state.release(job, 0, now) is None
        waits.append(job.again[0].due_ms - now)
        now = job.again[0].due_ms
    assert len(waits) == 5
    assert all(250 * 2**n <= wait <= 500 * 2**n for n, wait in enumerate(waits))
    assert any(isinstance(e, state.Bury) for e in effects)
    assert len(job.attempts) == 6
    assert job.error is not None
    assert job.error.message == "s0 failed 6 times; the last time: m"


def test_a_task_that_ends_its_worker_three_times_fails_as_worker_lost() -> None:
    job = planned(1)
    for attempt in (1, 2, 3):
        now = 100_000 * attempt
        job, task = release(job, now)
        after, _ = state.step(job, started(task, f"w{attempt}"), now)
        assert after is not None
        lost = state.lose(after, {f"w{attempt}"}, set(), now)
        assert lost is not None
        job = lost[0]
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.failure_class == "worker-lost"
    assert "out of memory" in job.error.hint


def test_a_worker_that_said_goodbye_costs_no_attempt() -> None:
    job = planned(1)
    job, task = release(job)
    after, _ = state.step(job, started(task), 4000)
    assert after is not None
    lost = state.lose(after, set(), {"w"}, 4000)
    assert lost is not None
    assert (lost[0].attempts, lost[0].failures, state.ready(lost[0], 4000)) == ([], [], 1)


def test_a_returned_task_is_released_again_at_once_and_costs_no_attempt() -> None:
    job = planned(1)
    job, task = release(job)
    returned = TaskReturned(job_id="j", stage=1, number=0, attempt=task.attempt, worker="w")
    after, _ = state.step(job, returned, 4000)
    assert after is not None
    _, again = release(after, 4000)
    assert (again.number, again.attempt, after.failures) == (0, 2, [])


def test_a_failure_of_an_older_attempt_is_ignored_and_its_success_counts() -> None:
    job = planned(1)
    job, first = release(job)
    job, _ = state.step(job, TaskReturned(job_id="j", stage=1, number=0, attempt=1, worker="w"), 4000)  # type: ignore[assignment]
    job, second = release(job, 5000)
    same, effects = state.step(job, failed(first, "permanent"), 5000)
    assert same is not None
    assert (same.state, effects) == ("running", [])
    done, _ = state.step(same, finished(first), 6000)
    assert done is not None
    assert done.state == "finishing"
    assert second.attempt == 2


def test_cancel_ends_the_job_stops_its_workers_and_has_no_effect_afterwards() -> None:
    job = planned(2)
    job, task = release(job)
    job, _ = state.step(job, started(task), 4000)  # type: ignore[assignment]
    cancelled, effects = state.step(job, CancelRequested(job_id="j", reason="enough"), 5000)
    assert cancelled is not None
    assert (cancelled.state, cancelled.error.message if cancelled.error else "") == ("cancelled", "enough")
    assert [type(e) for e in effects] == [state.Complete, state.Stop]
    again, effects = state.step(cancelled, CancelRequested(job_id="j"), 6000)
    assert again is not None
    assert (again.state, again.finished_ms, effects) == ("cancelled", 5000, [])


def test_a_task_taken_after_the_end_is_stopped() -> None:
    job = planned(2)
    job, task = release(job)
    cancelled, _ = state.step(job, CancelRequested(job_id="j"), 5000)
    _, effects = state.step(cancelled, started(task), 6000)
    assert effects == [state.Stop("j", 10_001)]


def test_an_ended_job_is_tidied_up_and_stays_as_it_ended() -> None:
    ended, _ = run_all(planned(1))
    job, task = release(ended, 10_000)
    assert (task.role, task.stage, task.outcome) == ("cleanup", CLEANUP_STAGE, "succeeded")
    after, effects = state.step(job, finished(task), 11_000)
    assert after is not None
    assert (after.state, after.cleanup, effects, state.ready(after, 99_999)) == ("succeeded", "done", [], 0)


def test_a_failed_job_is_tidied_up_later_so_that_a_retry_does_only_what_is_missing() -> None:
    job = planned(3)
    job, one = release(job)
    job, two = release(job)
    job, _ = state.step(job, finished(one), 4000)  # type: ignore[assignment]
    job, _ = state.step(job, failed(two, "permanent"), 4000)  # type: ignore[assignment]
    assert job.state == "failed"
    assert state.ready(job, 4000 + state.KEEP_FAILED_MS - 1) == 0
    assert state.ready(job, 4000 + state.KEEP_FAILED_MS) == 1
    retried, _ = state.step(job, RetryRequested(job_id="j"), 5000)
    assert retried is not None
    assert (retried.state, retried.runs, retried.error) == ("running", 2, None)
    numbers = []
    while state.ready(retried, 5000):
        retried, task = release(retried, 5000)
        numbers.append(task.number)
        assert task.attempt > 10_000
    assert sorted(numbers) == [1, 2]


def test_a_retry_after_the_cleanup_plans_anew() -> None:
    job = planned(1)
    job, task = release(job)
    job, _ = state.step(job, failed(task, "permanent"), 4000)  # type: ignore[assignment]
    late = 4000 + state.KEEP_FAILED_MS
    job, cleanup = release(job, late)
    waiting, _ = state.step(job, RetryRequested(job_id="j"), late)
    assert waiting is not None
    assert (waiting.state, waiting.retry_wanted) == ("failed", True)
    retried, _ = state.step(waiting, finished(cleanup), late)
    assert retried is not None
    assert (retried.state, retried.stage, retried.runs) == ("queued", 0, 2)
    assert release(retried, late)[1].role == "plan"


def test_the_deadline_fails_the_job_with_the_last_reason() -> None:
    job = planned(1)
    job, task = release(job)
    job, _ = state.step(job, failed(task), 4000)  # type: ignore[assignment]
    assert state.expire(job, job.deadline_ms - 1) is None
    expired = state.expire(job, job.deadline_ms)
    assert expired is not None
    assert expired[0].error is not None
    assert (expired[0].state, expired[0].error.code) == ("failed", "deadline")
    assert "The last attempt failed: m" in expired[0].error.message


def test_a_callback_is_tried_until_its_deadline() -> None:
    event = msgspec.structs.replace(REQUEST, kind="callback", service="notifier", request_type="CallbackRequested")
    job, _ = state.step(None, event, 1000)
    now = 2000
    for _ in range(50):
        assert job is not None
        job, task = release(job, now)
        job, _ = state.step(job, failed(task), now)
        assert job is not None
        now = job.again[0].due_ms
    assert job is not None
    assert job.state == "queued"
    assert job.again[0].due_ms - now <= 300_000


def test_a_status_of_ten_thousand_tasks_is_under_four_kib() -> None:
    job = planned(10_000)
    for number in range(10_000):
        job, task = release(job)
        if number % 7 and number < 9_980:
            job, _ = state.step(job, finished(task), 4000)  # type: ignore[assignment]
        elif number < 9_980:
            job.outstanding = job.outstanding[:-1]
    for o in job.outstanding:
        o.worker = "transcoder-machine-12-of-twenty-31337"
    assert len(msgspec.json.encode(job)) < 4096


EVENTS = ["start", "finish", "fail", "permanent", "return", "cancel", "retry", "request", "lose", "release", "wait"]
WORKERS = ["w1", "w2"]


class Machine:
    """Feeds a job events of tasks that were really released, in any order, any number of times."""

    def __init__(self) -> None:
        self.job = begin()
        self.released: list[TaskReleased] = []
        self.now = 2000
        self.completions: list[tuple[str, int]] = []

    def apply(self, what: str, pick: int) -> None:
        task = self.released[pick % len(self.released)] if self.released else None
        worker = WORKERS[pick % 2]
        if what == "release":
            got = state.release(self.job, pick % 24, self.now)
            if got is not None:
                self.job, task = got
                self.released.append(task)
        elif what == "wait":
            self.now += [10, 1000, 60_000, state.KEEP_FAILED_MS][pick % 4]
            if (expired := state.expire(self.job, self.now)) is not None:
                self.take(*expired)
        elif what == "lose":
            if (lost := state.lose(self.job, {worker}, set(), self.now)) is not None:
                self.take(*lost)
        elif (event := self.event(what, task, worker)) is not None:
            job, effects = state.step(self.job, event, self.now)
            assert job is not None
            self.take(job, effects)

    def take(self, job: JobStatus, effects: list[state.Effect]) -> None:
        self.job = job
        self.completions += [(e.type, job.runs) for e in effects if isinstance(e, state.Complete)]

    def event(self, what: str, task: TaskReleased | None, worker: str) -> state.JobEvent | None:
        match what:
            case "cancel":
                return CancelRequested(job_id="j")
            case "retry":
                return RetryRequested(job_id="j")
            case "request":
                return REQUEST
        if task is None:
            return None
        place = {"job_id": "j", "stage": task.stage, "number": task.number, "attempt": task.attempt, "worker": worker}
        match what:
            case "start":
                return TaskStarted(**place)  # type: ignore[arg-type]
            case "finish":
                stages = (StagePlan(name="a", service="transcoder", tasks=3), StagePlan(name="b", service="transcoder", tasks=2))
                return TaskFinished(**place, plan_hash="h", stages=stages if task.role == "plan" else ())  # type: ignore[arg-type]
            case "return":
                return TaskReturned(**place)  # type: ignore[arg-type]
            case "fail":
                return failed(task)
            case _:
                return failed(task, "permanent")


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 1000)), max_size=150))
@settings(max_examples=400, deadline=None)
def test_whatever_comes_a_job_stays_sound(script: list[tuple[str, int]]) -> None:
    machine = Machine()
    for what, pick in script:
        before = machine.job
        encoded = msgspec.json.encode(before)
        machine.apply(what, pick)
        after = machine.job
        assert msgspec.json.encode(before) == encoded, "step changed the job that it was given"
        if before.state in TERMINAL and after.state != before.state:
            assert what == "retry" or before.retry_wanted, "a terminal state was left without a retry"
            assert after.runs == before.runs + 1
        if after.stage == before.stage and after.runs == before.runs and after.cleanup != "done":
            lost = state.finished_tasks(before) & ~state.finished_tasks(after)
            assert not lost, "a finished task was forgotten"
        numbers = [o.number for o in after.outstanding] + [a.number for a in after.again]
        assert len(numbers) == len(set(numbers)), "a task is released twice at once"
        if after.state not in TERMINAL:
            stage = after.stages[after.stage]
            assert stage.done == state.finished_tasks(after).bit_count() <= stage.total
            missing = set(range(stage.total)) - {n for n in range(stage.total) if state.finished_tasks(after) >> n & 1}
            assert missing == set(numbers) | set(range(after.cursor, stage.total)), "a task is neither waiting, nor released, nor done"
        assert after.progress >= before.progress or after.runs > before.runs
    for run in {run for _, run in machine.completions}:
        assert sum(1 for _, r in machine.completions if r == run) == 1, "a run has more than one outcome"


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 1000)), max_size=60))
@settings(max_examples=100, deadline=None)
def test_a_job_read_back_from_its_record_goes_on_the_same(script: list[tuple[str, int]]) -> None:
    lived, restarted = Machine(), Machine()
    for what, pick in script:
        lived.apply(what, pick)
        restarted.apply(what, pick)
        restarted.job = msgspec.json.decode(msgspec.json.encode(restarted.job), type=JobStatus)
        assert msgspec.to_builtins(restarted.job) == msgspec.to_builtins(lived.job)


def test_progress_of_running_tasks_is_told_when_it_shows() -> None:
    job = planned(2)
    job, task = release(job)
    assert state.report(job, {(0, 1): (0.001, "")}) is None
    told = state.report(job, {(0, 1): (0.5, "encoding")})
    assert told is not None
    assert told.note == "encoding"
    assert told.progress == pytest.approx(0.02 + 0.96 * 0.25, abs=0.001)
    assert state.report(told, {(0, 1): (0.2, "encoding")}) is None
    assert task.number == 0


def test_a_request_of_an_unknown_kind_begins_no_job() -> None:
    with pytest.raises(ValueError, match="'Nonsense' is no request"):
        state.step(None, msgspec.structs.replace(REQUEST, request_type="Nonsense"), 1000)


@pytest.mark.parametrize("number", [-1, 1, 10**9])
def test_an_outcome_of_a_task_that_there_is_not_changes_nothing(number: int) -> None:
    job = planned(1)
    job, task = release(job)
    after, effects = state.step(job, msgspec.structs.replace(finished(task), number=number), 4000)
    assert after is not None
    assert (after.state, state.finished_tasks(after), effects) == ("running", 0, [])


def lost_twice() -> tuple[JobStatus, int]:
    """A job whose one task has lost two workers, and the time at which it is due again."""
    job, now = planned(1), 10_000
    for worker in ("w1", "w2"):
        job, task = release(job, now)
        after, _ = state.step(job, started(task, worker), now)
        assert after is not None
        assert not task.alone
        lost = state.lose(after, {worker}, set(), now)
        assert lost is not None
        job, now = lost[0], lost[0].again[0].due_ms
    return job, now


def test_the_attempt_that_is_the_last_to_lose_a_worker_runs_alone_so_that_it_is_not_blamed_for_a_neighbour() -> None:
    job, now = lost_twice()
    _, task = release(job, now)
    assert (task.attempt, task.alone) == (3, True)


def test_a_start_by_a_second_worker_is_a_lost_attempt_of_the_first_which_nobody_would_notice_any_more() -> None:
    job = planned(1)
    job, task = release(job)
    for worker in ("w1", "w1", "w2"):
        job, effects = state.step(job, started(task, worker), 4000)  # type: ignore[assignment]
        assert effects == []
    assert [(f.failure_class, f.count) for f in job.failures] == [("worker-lost", 1)]
    assert [(note.worker, note.failure_class) for note in job.attempts] == [("w1", "worker-lost")]
    assert [o.worker for o in job.outstanding] == ["w2"]
    job, _ = state.step(job, started(task, "w3"), 5000)  # type: ignore[assignment]
    job, again = release(job, job.again[0].due_ms)
    assert (again.attempt, again.alone) == (2, True)
    job, _ = state.step(job, started(again, "w4"), 6000)  # type: ignore[assignment]
    failed_job, effects = state.step(job, started(again, "w5"), 7000)
    assert failed_job is not None
    assert failed_job.error is not None
    assert (failed_job.state, failed_job.error.code) == ("failed", "worker-lost")
    assert state.Stop("j", 10_001) in effects


def test_what_failed_and_was_then_done_is_not_remembered() -> None:
    job = planned(2)
    job, task = release(job)
    job, _ = state.step(job, failed(task), 4000)  # type: ignore[assignment]
    job, again = release(job, 10_000)
    assert again.attempt == 2
    job, _ = state.step(job, finished(again), 10_000)  # type: ignore[assignment]
    assert job.failures == []


def test_while_everything_fails_no_more_tasks_are_tried_than_a_small_status_can_hold() -> None:
    job, now, tried = planned(10_000), 10_000, set[int]()
    for _ in range(300):
        while (released := state.release(job, 0, now)) is not None:
            job, task = released
            tried.add(task.number)
            after, _ = state.step(job, failed(task, "timed-out" if task.attempt == 3 else "transient"), now)
            assert after is not None
            job = after
            assert len(msgspec.json.encode(job)) < 4096
        if job.state in TERMINAL:
            break
        assert state.ready(job, now) == 0
        now = min(a.due_ms for a in job.again)
    assert job.state == "failed"
    assert len(tried) == state.AGAIN_LIMIT


def cancelled_while_running(tasks: int = 1) -> tuple[JobStatus, TaskReleased]:
    """A cancelled job, and a task of it that a worker may still be running."""
    job = planned(tasks)
    job, task = release(job)
    job, _ = state.step(job, started(task), 4000)  # type: ignore[assignment]
    job, _ = state.step(job, CancelRequested(job_id="j"), 4000)  # type: ignore[assignment]
    return job, task


def test_a_result_of_an_earlier_run_does_not_count_since_it_may_have_been_tidied_up() -> None:
    job, old = cancelled_while_running(2)
    job, cleanup = release(job, 4000 + state.KEEP_FAILED_MS)
    job, _ = state.step(job, finished(cleanup), 4000 + state.KEEP_FAILED_MS)  # type: ignore[assignment]
    job, _ = state.step(job, RetryRequested(job_id="j"), 5000 + state.KEEP_FAILED_MS)  # type: ignore[assignment]
    job, plan = release(job, 5000 + state.KEEP_FAILED_MS)
    stages = (StagePlan(name="s", service="transcoder", tasks=2),)
    job, _ = state.step(job, finished(plan, plan_hash="i", stages=stages), 6000 + state.KEEP_FAILED_MS)  # type: ignore[assignment]
    late, _ = state.step(job, finished(old), 7000 + state.KEEP_FAILED_MS)
    assert late is not None
    assert (late.stage, state.finished_tasks(late), late.stages[1].done) == (1, 0, 0)


def test_a_retry_waits_for_a_cleanup_that_has_failed_once_because_a_part_is_gone_already() -> None:
    job, _ = cancelled_while_running()
    now = 4000 + state.KEEP_FAILED_MS
    job, cleanup = release(job, now)
    job, _ = state.step(job, failed(cleanup), now)  # type: ignore[assignment]
    job, _ = state.step(job, RetryRequested(job_id="j"), now)  # type: ignore[assignment]
    assert (job.state, job.retry_wanted) == ("cancelled", True)
    job, again = release(job, job.again[0].due_ms)
    job, _ = state.step(job, finished(again), now + 9000)  # type: ignore[assignment]
    assert (job.state, job.stage, job.runs) == ("queued", 0, 2)


def test_a_cleanup_is_not_over_while_a_later_attempt_of_it_still_removes_things() -> None:
    job, _ = cancelled_while_running()
    now = 4000 + state.KEEP_FAILED_MS
    job, first = release(job, now)
    job, _ = state.step(job, started(first, "w1"), now)  # type: ignore[assignment]
    lost = state.lose(job, {"w1"}, set(), now)
    assert lost is not None
    job, second = release(lost[0], lost[0].again[0].due_ms)
    job, _ = state.step(job, RetryRequested(job_id="j"), now)  # type: ignore[assignment]
    job, _ = state.step(job, finished(first), now + 9000)  # type: ignore[assignment]
    assert (job.state, job.cleanup) == ("cancelled", "waiting")
    job, _ = state.step(job, finished(second), now + 9000)  # type: ignore[assignment]
    assert (job.state, job.runs) == ("queued", 2)


def test_a_late_outcome_of_an_earlier_runs_cleanup_does_not_stand_for_this_ones() -> None:
    job, _ = cancelled_while_running()
    now = 4000 + state.KEEP_FAILED_MS
    job, old = release(job, now)
    job, _ = state.step(job, finished(old), now)  # type: ignore[assignment]
    job, _ = state.step(job, RetryRequested(job_id="j"), now)  # type: ignore[assignment]
    job, _ = state.step(job, CancelRequested(job_id="j"), now)  # type: ignore[assignment]
    job, _ = state.step(job, finished(old), now)  # type: ignore[assignment]
    assert job.cleanup == "waiting"


def test_a_plan_that_comes_after_the_end_is_tidied_up_by_a_second_cleanup() -> None:
    job, plan = release(begin())
    job, _ = state.step(job, CancelRequested(job_id="j"), 4000)  # type: ignore[assignment]
    now = 4000 + state.KEEP_FAILED_MS
    job, cleanup = release(job, now)
    job, _ = state.step(job, finished(cleanup), now)  # type: ignore[assignment]
    job, effects = state.step(job, finished(plan, plan_hash="h"), now)  # type: ignore[assignment]
    assert (job.state, job.cleanup, effects) == ("cancelled", "waiting", [])
    job, second = release(job, now)
    assert (second.role, second.attempt) == ("cleanup", 101)
    job, _ = state.step(job, finished(second), now)  # type: ignore[assignment]
    assert (job.cleanup, job.tidied) == ("done", 2)


def test_a_cancellation_takes_back_a_retry_that_waits_for_the_cleanup() -> None:
    job, _ = cancelled_while_running()
    job, cleanup = release(job, 4000 + state.KEEP_FAILED_MS)
    for event in (RetryRequested(job_id="j"), CancelRequested(job_id="j"), finished(cleanup)):
        job, effects = state.step(job, event, 5000 + state.KEEP_FAILED_MS)  # type: ignore[assignment]
        assert effects == []
    assert (job.state, job.cleanup, job.runs) == ("cancelled", "done", 1)


def test_a_retry_plans_anew_when_the_plan_is_not_there_any_more() -> None:
    job = planned(1)
    job, task = release(job)
    gone = ErrorInfo(code=PLAN_MISSING, message="m", failure_class="permanent")
    job, _ = state.step(job, msgspec.structs.replace(failed(task), error=gone), 4000)  # type: ignore[assignment]
    job, _ = state.step(job, RetryRequested(job_id="j"), 5000)  # type: ignore[assignment]
    assert (job.state, job.stage, job.plan_hash) == ("queued", 0, "")


def test_every_run_has_the_time_that_the_first_one_had() -> None:
    job = planned(1)
    for now in (10**9, 2 * 10**9, 3 * 10**9):
        job, _ = state.step(job, CancelRequested(job_id="j"), now)  # type: ignore[assignment]
        job, _ = state.step(job, RetryRequested(job_id="j"), now)  # type: ignore[assignment]
        assert job.deadline_ms - now == 7 * 86400 * 1000
