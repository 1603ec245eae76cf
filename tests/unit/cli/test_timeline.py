"""The timeline of a job: what records say, in which order, and what is known to be missing."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas import envelope, topics
from schemas.events import (
    ATTEMPTS_A_RUN,
    AttemptNote,
    ErrorInfo,
    JobCancelled,
    JobFailed,
    JobRequested,
    JobStatus,
    Outstanding,
    RetryRequested,
    Segment,
    SegmentsReady,
    StageStatus,
    TaskFailed,
    TaskFinished,
    TaskReleased,
    TaskStarted,
    TranscodeCompleted,
    UploadReceived,
)
from services.cli import job_records, timeline
from services.runtime.kafka.reader import Received

JOB = envelope.derived_id("test", "one")
T0 = 1_763_769_600_000
TASKS = topics.tasks("transcoder")
DAY = topics.DAY_MS


def at(
    ms: int, topic: str, event: msgspec.Struct | None, offset: int, *, partition: int = 3, source: str = "s", **headers: str
) -> Received:
    name = type(event).__name__ if event is not None else ""
    made = envelope.headers_for(name, source=source, event_id=headers.pop("event_id", "one")) if event is not None else []
    sent = [(n, v if isinstance(v, bytes) else str(v).encode()) for n, v in [*made, *headers.items()]]
    value = envelope.encode_value(event) if event is not None else None
    return Received(
        topic, partition, offset, T0 + ms, JOB.encode(), value, [(n.replace("_", "-") if "ce_" not in n else n, v) for n, v in sent]
    )


def status(ms: int, offset: int, **more: Any) -> Received:
    fields: dict[str, Any] = {
        "job_id": JOB, "kind": "transcode", "service": "transcoder", "subject": "film", "state": "queued", "request_type": "UploadReceived",
        "request": {"key": "a.mp4"}, "created_ms": T0, "updated_ms": T0 + ms,
        "stages": [StageStatus(name="plan", service="transcoder", total=1)],
    }  # fmt: skip
    return at(ms, topics.JOBS, JobStatus(**(fields | more)), offset)


PLANNED = [
    StageStatus(name="plan", service="transcoder", total=1, done=1), StageStatus(name="encode", service="transcoder", total=12),
    StageStatus(name="finish", service="transcoder", total=1),
]  # fmt: skip
TASK: dict[str, Any] = {"job_id": JOB, "stage": 1, "number": 2, "attempt": 1}
REQUEST = at(0, topics.REQUESTS, UploadReceived(key="a.mp4"), 7, source="test")
BEGUN = at(
    5, topics.JOB_EVENTS,
    JobRequested(job_id=JOB, kind="transcode", service="transcoder", subject="film", request_type="UploadReceived", request={}), 0,
)  # fmt: skip
RELEASED = at(30, TASKS, TaskReleased(kind="transcode", role="run", **TASK), 40, partition=9)
STARTED = at(40, topics.JOB_EVENTS, TaskStarted(worker="transcoder-a", **TASK), 2)
RUNNING = status(25, 4, state="running", stage=1, stages=PLANNED, outstanding=[Outstanding(2, 1, 9)])


def lines(*records: Received) -> list[tuple[str, str]]:
    return [(entry.who, entry.what) for entry in timeline.fold({JOB: list(records)})]


def test_a_job_is_told_from_its_request_to_its_first_task():
    assert lines(status(10, 1), RUNNING, BEGUN, STARTED, RELEASED, REQUEST) == [
        ("test", "UploadReceived"),
        ("intake", "accepted UploadReceived as transcode"),
        ("coordinator", "queued: plan 0 of 1 done"),
        ("coordinator", "running: encode 0 of 12 done, 0 running, 1 released"),
        ("coordinator", "encode 3 of 12 released, attempt 1"),
        ("transcoder-a", "encode 3 of 12 started, attempt 1"),
    ]


def test_a_line_has_time_seconds_who_what_and_place():
    text = timeline.render(timeline.fold({JOB: [REQUEST, BEGUN]}))
    assert text.splitlines() == [
        "2025-11-22T00:00:00.000Z  +0.000 s  test    UploadReceived  media.requests/3/7",
        "2025-11-22T00:00:00.005Z  +0.005 s  intake  accepted UploadReceived as transcode  media.job-events/3/0",
    ]


def test_an_entry_has_what_a_program_asks_for():
    error = ErrorInfo(code="storage", message="the store\nis away", failure_class="transient")
    failed = at(9, topics.JOB_EVENTS, TaskFailed(worker="transcoder-a", error=error, **(TASK | {"attempt": ATTEMPTS_A_RUN + 2})), 3)
    (entry,) = timeline.fold({JOB: [RUNNING, failed]})[:1]
    assert (entry.stage, entry.number, entry.attempt, entry.failure_class, entry.reason) == (
        "encode", 2, 10_002, "transient", "the store\nis away",
    )  # fmt: skip
    assert timeline.render([entry]).endswith(
        "encode 3 of 12 failed, attempt 2 of run 2: transient, the store is away  media.job-events/3/3"
    )


def test_a_worker_that_was_lost_is_told_by_the_status_which_alone_knows():
    note = AttemptNote(
        task="encode 3 of 12",
        attempt=1,
        failure_class="worker-lost",
        message="transcoder-a fell silent",
        at_ms=T0 + 90,
        worker="transcoder-a",
    )
    lost = status(90, 5, state="running", stage=1, stages=PLANNED, attempts=[note])
    assert lines(RUNNING, lost)[-1] == (
        "coordinator", "running: encode 0 of 12 done; encode 3 of 12 no. 1 failed, worker-lost, transcoder-a fell silent",
    )  # fmt: skip


def test_a_status_in_which_nothing_but_progress_is_new_is_left_out():
    further = status(
        60, 5, state="running", stage=1, stages=PLANNED, outstanding=[Outstanding(2, 1, 9, "", 0.5)], progress=0.1, note="encoding"
    )
    assert lines(RUNNING, further) == lines(RUNNING)


def test_outcomes_cancellations_segments_and_dead_letters_are_told():
    ready = SegmentsReady(
        asset_id="film", job_id=JOB, bucket="b", recipe="r", rendition="video-720", init_key="i",
        segments=tuple(Segment(number=n, key="k", duration_seconds=4, size=1) for n in (3, 4)),
    )  # fmt: skip
    error = ErrorInfo(code="x", message="given up", failure_class="transient")
    letter = at(
        4,
        topics.DEAD_LETTERS,
        RetryRequested(job_id=JOB),
        8,
        partition=0,
        source=job_records.COORDINATOR,
        **{"reelworks-reason": "given up"},
    )
    told = lines(
        at(0, topics.SEGMENTS, ready, 1, source="transcoder-a"),
        at(1, topics.CONTROL, JobCancelled(job_id=JOB, attempts_below=10_001), 1),
        at(2, topics.COMPLETIONS, TranscodeCompleted(job_id=JOB, subject="film", kind="transcode", asset_id="film"), 1),
        at(3, topics.COMPLETIONS, JobFailed(job_id=JOB, subject="film", kind="transcode", state="failed", error=error), 2),
        letter,
        at(5, topics.DEAD_LETTERS, None, 9, partition=0, **{"reelworks-replayed": "0/8"}),
    )
    assert told == [
        ("transcoder-a", "video-720: segments 3 to 4 are stored"),
        ("coordinator", "tells workers to stop attempts below 10001"),
        ("coordinator", "TranscodeCompleted, 0 outputs"),
        ("coordinator", "JobFailed, failed: given up"),
        ("coordinator", "dead letter 0/8: given up"),
        ("operator", "dead letter 0/8 was sent again"),
    ]


def test_what_a_job_asks_for_is_told_by_both():
    child = envelope.derived_id(job_records.COORDINATOR, f"{JOB}/1/then/0")
    asked = at(0, topics.REQUESTS, UploadReceived(key="b.mp4"), 1, source=job_records.COORDINATOR, event_id=f"{JOB}/1/then/0")
    both = timeline.fold({JOB: [asked], child: [asked]})
    assert [(e.job_id, e.what, e.asks_for, e.asked_by) for e in both] == [
        (JOB, f"asks for UploadReceived: job {child}", child, ""),
        (child, f"UploadReceived, asked for by job {JOB}", "", JOB),
    ]
    assert [f"  {e.job_id[:8]}  " in line for e, line in zip(both, timeline.render(both).splitlines(), strict=True)] == [True, True]
    assert child in job_records.children_of(JOB, [asked])


def test_follow_ups_are_known_from_the_status_when_their_requests_are_gone():
    ended = status(0, 1, state="failed", runs=2, request={"key": "a.mp4", "otherwise": [{"type": "CallbackRequested", "data": {}}]})
    assert envelope.derived_id(job_records.COORDINATOR, f"{JOB}/2/otherwise/0") in job_records.children_of(JOB, [ended])


def test_a_record_that_cannot_be_read_is_an_entry_with_the_reason():
    broken = msgspec.structs.replace(BEGUN, value=b"{", headers=BEGUN.headers)
    assert lines(broken)[0][1].startswith("cannot be read: JobRequested: ")


@given(st.lists(st.tuples(st.sampled_from([topics.JOB_EVENTS, topics.REQUESTS, TASKS]), st.integers(0, 2), st.integers(0, 50))))
def test_records_of_a_partition_keep_their_order_whatever_their_clocks_say(made: list[tuple[str, int, int]]):
    records = [at(ms, topic, RetryRequested(job_id=JOB), n, partition=p) for n, (topic, p, ms) in enumerate(made)]
    entries = timeline.fold({JOB: records})
    assert sorted((e.topic, e.partition, e.offset) for e in entries) == sorted((r.topic, r.partition, r.offset) for r in records)
    for place in {(e.topic, e.partition) for e in entries}:
        offsets = [e.offset for e in entries if (e.topic, e.partition) == place]
        assert offsets == sorted(offsets)


# ── What is missing ────────────────────────────────────────────────────────────────────────────────────────────────

WHOLE = [REQUEST, BEGUN, status(10, 1), RUNNING, RELEASED, STARTED]


def missing(*records: Received, days: float = 0) -> list[str]:
    return [words.removeprefix(f"job {JOB}: ") for words in timeline.missing(timeline.fold({JOB: list(records)}), T0 + int(days * DAY))]


def test_of_a_whole_timeline_nothing_is_missing():
    assert missing(*WHOLE) == []
    assert missing(REQUEST) == []  # it has not begun
    assert timeline.missing([], T0) == []


def test_what_retention_and_compaction_took_is_said():
    last = status(900, 9, state="succeeded", cleanup="done", stage=2, stages=PLANNED)
    assert missing(STARTED, last, days=8) == [
        "its request is gone from media.requests (kept for 14 days)",
        "the event by which it began is gone from media.job-events (kept for 7 days), and perhaps later ones",
        "the releases of 1 started tasks are gone from media.tasks.* (kept for 3 days)",
        "its first statuses are not on media.jobs, which keeps for certain only the last",
        "its outcome is not on media.completions, which keeps for certain only the last of a subject and kind",
        "it began 8 days ago; media.control and media.segments keep less (kept for 1 day)",
    ]


def test_a_finished_task_counts_as_an_event():
    finished = at(50, topics.JOB_EVENTS, TaskFinished(worker="transcoder-a", **TASK), 4)
    assert lines(RUNNING, finished)[-1] == ("transcoder-a", "encode 3 of 12 finished, attempt 1")


def test_a_job_without_a_status_says_so():
    assert missing(REQUEST, BEGUN) == ["media.jobs has no status of it: none was written yet, or it is gone (kept for 30 days)"]
