"""From the record on media.jobs to the status that people see."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.events import AttemptNote, ErrorInfo, JobStatus, Output, Outstanding, StageStatus, UploadReceived
from services.gateway.views.projection import accepted_status, eta_seconds, job_view, waiting_service
from services.gateway.views.ready import Ready

T0 = 1_795_297_320_541


def job(**more: Any) -> JobStatus:
    fields: dict[str, Any] = {
        "job_id": "j1",
        "kind": "transcode",
        "service": "transcoder",
        "subject": "a1",
        "state": "running",
        "request_type": "UploadReceived",
        "request": {"key": "k"},
        "created_ms": T0,
        "updated_ms": T0 + 1000,
        "started_ms": T0,
    }
    return JobStatus(**(fields | more))


def signed(output: Output) -> str:
    return f"https://media.example/{output.key}"


def test_times_are_rfc_3339_and_missing_ones_are_null() -> None:
    view = job_view(job(), recorded_ms=T0, sign=signed)
    assert view.created_at == "2026-11-21T21:42:00.541Z"
    assert view.started_at == "2026-11-21T21:42:00.541Z"
    assert view.finished_at is None


def test_tasks_are_counted_over_all_stages_and_running_ones_are_those_that_started() -> None:
    stages = [
        StageStatus(name="plan", service="transcoder", total=1, done=1),
        StageStatus(name="encode", service="transcoder", total=10, done=4),
    ]
    view = job_view(
        job(stages=stages, stage=1, outstanding=[Outstanding(4, 1, 0, "w1"), Outstanding(5, 1, 1)]), recorded_ms=T0, sign=signed
    )
    assert msgspec.to_builtins(view.tasks) == {"total": 11, "done": 5, "running": 1}


def test_the_estimate_goes_on_at_the_pace_so_far() -> None:
    assert eta_seconds(job(progress=0.25), T0 + 10_000) == 30


@pytest.mark.parametrize("more", [{"progress": 0.0}, {"progress": 0.01}, {"started_ms": 0, "progress": 0.5}, {"runs": 2, "progress": 0.5}])
def test_there_is_no_estimate_without_something_to_go_by(more: dict[str, Any]) -> None:
    assert eta_seconds(job(**more), T0 + 10_000) is None


def test_a_job_that_ended_waits_for_nothing_and_has_no_estimate() -> None:
    view = job_view(job(state="failed", progress=0.5), recorded_ms=T0 + 9000, sign=signed, waiting_for="a slot")
    assert (view.eta_seconds, view.waiting_for) == (None, None)


def test_success_is_all_of_the_progress() -> None:
    assert job_view(job(state="succeeded", progress=0.98), recorded_ms=T0, sign=signed).progress == 1.0


def test_outputs_carry_urls_and_errors_words() -> None:
    view = job_view(
        job(
            state="failed",
            outputs=(Output(role="rendition", bucket="b", key="x.mp4", height=720),),
            error=ErrorInfo(code="not-a-video", message="no streams", hint="Send another."),
            attempts=[AttemptNote(task="encode-3", attempt=1, failure_class="worker-lost", message="gone", at_ms=T0, worker="w1")],
        ),
        recorded_ms=T0,
        sign=signed,
    )
    assert view.outputs[0].url == "https://media.example/x.mp4"
    assert msgspec.to_builtins(view.error) == {"code": "not-a-video", "message": "no streams", "hint": "Send another."}
    assert (view.attempt_count, view.attempts[0].at) == (1, "2026-11-21T21:42:00.541Z")


def test_equal_records_give_equal_bytes_and_etags() -> None:
    one, two = (Ready(msgspec.json.encode(job_view(job(progress=0.3), recorded_ms=T0 + 5000, sign=signed))) for _ in range(2))
    assert one.etag == two.etag
    assert one.etag != Ready(msgspec.json.encode(job_view(job(progress=0.4), recorded_ms=T0 + 5000, sign=signed))).etag


def test_a_job_waits_for_the_service_of_its_stage_until_a_task_has_started() -> None:
    stages = [StageStatus(name="plan", service="transcoder", total=1, done=1), StageStatus(name="pack", service="streamer", total=1)]
    assert waiting_service(job(stages=[], stage=0, state="queued")) == "transcoder"
    assert waiting_service(job(stages=stages, stage=1)) == "streamer"
    assert waiting_service(job(stages=stages, stage=1, outstanding=[Outstanding(0, 1, 0)])) == "streamer"
    assert waiting_service(job(stages=stages, stage=1, outstanding=[Outstanding(0, 1, 0, "w1")])) == ""
    assert waiting_service(job(stages=stages, stage=1, state="cancelled")) == ""


def test_an_accepted_request_is_a_queued_job() -> None:
    request = UploadReceived(job_id="j9", key="k", filename="film.mov", title="Film", owner="o", asset_id="a9")
    status = accepted_status(
        request, request_type="UploadReceived", kind="transcode", service="transcoder", subject="a9", source="s", at_ms=T0
    )
    assert (status.state, status.title, status.owner, status.subject) == ("queued", "Film", "o", "a9")
    assert status.request["key"] == "k"


@pytest.mark.parametrize(
    ("header", "expected"), [("", False), ("*", True), ('"other"', False), ("{tag}", True), ('"x", {tag}', True), ("W/{tag}", True)]
)
def test_if_none_match_compares_weakly(header: str, expected: bool) -> None:
    ready = Ready(b"{}")
    assert ready.matches(header.replace("{tag}", ready.etag)) is expected
