"""Jobs that follow upon jobs, and jobs that another must come before."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.events import CancelRequested, ErrorInfo, FollowUp, JobRequested, JobStatus, RetryRequested, TaskFailed, TaskFinished
from services.coordinator import policy, state

NEEDS = FollowUp(type="UploadReceived", data={"key": "film.mkv", "recipe": {"hls": False}})


def begin(request_type: str = "StreamRequested", **request: Any) -> JobStatus:
    kind, service = ("stream", "streamer") if request_type == "StreamRequested" else ("transcode", "transcoder")
    event = JobRequested(
        job_id="j", kind=kind, service=service, subject="a", request_type=request_type, request={"key": "film.mkv", **request},
        owner="o", title="A film",
    )  # fmt: skip
    job, _ = state.step(None, event, 1000)
    assert job is not None
    return job


def finished(job: JobStatus, now: int, **more: Any) -> tuple[JobStatus, list[state.Effect]]:
    """Release the next task and finish it."""
    released = state.release(job, 0, now)
    assert released is not None
    job, task = released
    event = TaskFinished(job_id="j", stage=task.stage, number=task.number, attempt=task.attempt, worker="w", **more)
    after, effects = state.step(job, event, now)
    assert after is not None
    return after, effects


def waiting(**request: Any) -> tuple[JobStatus, state.Continue]:
    job, effects = finished(begin(**request), 2000, needs=NEEDS)
    (asked,) = effects
    assert isinstance(asked, state.Continue)
    return job, asked


def ended(asked: state.Continue, which: str = "then", *, outcome: str = "succeeded") -> JobRequested:
    """What the intake makes of the continuation when the job that came first has ended."""
    (follow,) = asked.data[which]
    cause = {"job_id": asked.data["job_id"], "kind": "transcode", "subject": "a", "state": outcome}
    return JobRequested(
        job_id=follow["data"]["job_id"], kind="stream", service="streamer", subject="a", request_type=follow["type"],
        request={**follow["data"], "cause": cause},
    )  # fmt: skip


def test_a_job_waits_for_the_one_that_must_come_first() -> None:
    job, asked = waiting()
    assert asked.type == "UploadReceived"
    assert (asked.data["key"], asked.data["owner"], asked.data["job_id"]) == ("film.mkv", "o", job.needs)
    assert state.ready(job, 10**12) == 0
    assert (job.state, job.note) == ("planning", "a transcode must come first")
    # The same question twice is the same job.
    assert waiting()[1] == asked


@pytest.mark.parametrize(("which", "outcome"), [("then", "succeeded"), ("otherwise", "failed"), ("otherwise", "cancelled")])
def test_it_is_planned_again_when_that_one_has_ended(which: str, outcome: str) -> None:
    job, asked = waiting()
    after, effects = state.step(job, ended(asked, which, outcome=outcome), 3000)
    assert after is not None
    assert (effects, after.needs, after.note) == ([], "", "")
    released = state.release(after, 0, 3000)
    assert released is not None
    assert (released[1].role, released[1].attempt) == ("plan", 2)
    assert released[1].request["cause"]["state"] == outcome
    assert released[1].request["key"] == "film.mkv"


def test_the_end_of_another_job_does_not_wake_it_and_the_right_one_only_once() -> None:
    job, asked = waiting()
    right = ended(asked)
    wrong = JobRequested(**{f: getattr(right, f) for f in right.__struct_fields__} | {"request": {"cause": {"job_id": "x"}}})
    unmoved, effects = state.step(job, wrong, 3000)
    assert unmoved is not None
    assert (unmoved.needs, unmoved.again, effects) == (job.needs, job.again, [])
    woken, _ = state.step(job, right, 3000)
    assert woken is not None
    released = state.release(woken, 0, 3000)
    assert released is not None
    again, effects = state.step(released[0], right, 4000)
    assert again is not None
    assert (effects, again.again, len(again.outstanding)) == ([], [], 1)


def test_a_late_word_of_the_first_plan_changes_nothing() -> None:
    job, _ = waiting()
    late = TaskFinished(job_id="j", stage=0, number=0, attempt=1, worker="w", needs=NEEDS)
    after, effects = state.step(job, late, 5000)
    assert after is not None
    assert (after.needs, after.again, effects) == (job.needs, job.again, [])


def test_what_it_waited_for_is_cancelled_with_it() -> None:
    job, asked = waiting()
    after, effects = state.step(job, CancelRequested(job_id="j"), 3000)
    assert after is not None
    assert after.state == "cancelled"
    assert [e.data["job_id"] for e in effects if isinstance(e, state.Continue) and e.type == "CancelRequested"] == [asked.data["job_id"]]


def test_a_retry_asks_for_what_failed_again() -> None:
    job, asked = waiting()
    woken, _ = state.step(job, ended(asked, "otherwise", outcome="failed"), 3000)
    assert woken is not None
    released = state.release(woken, 0, 3000)
    assert released is not None
    error = ErrorInfo(code="not-a-video", message="m")
    failed, _ = state.step(
        released[0], TaskFailed(job_id="j", stage=0, number=0, attempt=released[1].attempt, worker="w", error=error), 3000
    )
    assert failed is not None
    assert failed.state == "failed"
    retried, _ = state.step(failed, RetryRequested(job_id="j"), 4000)
    assert retried is not None
    assert "cause" not in retried.request
    job, effects = finished(retried, 5000, needs=NEEDS)
    (second,) = effects
    assert isinstance(second, state.Continue)
    assert second.data["job_id"] == job.needs != asked.data["job_id"]


def transcoded(**request: Any) -> list[state.Continue]:
    """What follows upon a transcode that succeeds."""
    job = begin("UploadReceived", **request)
    effects: list[state.Effect] = []
    while job.state != "succeeded":
        job, more = finished(job, 2000)
        effects += more
    return [e for e in effects if isinstance(e, state.Continue)]


def test_hls_follows_upon_every_transcode() -> None:
    (stream,) = transcoded()
    assert (stream.type, stream.data["asset_id"], stream.data["title"], stream.data["owner"]) == ("StreamRequested", "a", "A film", "o")
    assert stream.data["cause"]["state"] == "succeeded"


@pytest.mark.parametrize("recipe", [{"hls": False}, {"layout": "beside"}])
def test_a_recipe_may_do_without_hls(recipe: dict[str, Any]) -> None:
    assert transcoded(recipe=recipe) == []


def test_hls_that_is_asked_for_is_not_made_twice() -> None:
    own = {"type": "StreamRequested", "data": {"title": "mine"}}
    (stream,) = transcoded(then=[own])
    assert stream.data["title"] == "mine"
    flat = {"type": "StreamRequested", "data": {"layout": "flat-ts", "target": "Films/a.hls/"}}
    assert [c.data.get("layout", "asset") for c in transcoded(then=[flat])] == ["flat-ts", "asset"]


def test_no_hls_follows_upon_a_failure() -> None:
    job = begin("UploadReceived")
    cancelled, _ = state.step(job, CancelRequested(job_id="j"), 2000)
    assert cancelled is not None
    assert policy.always_then(cancelled) == []
