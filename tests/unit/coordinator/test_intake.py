"""What a request becomes."""

from __future__ import annotations

import json

import pytest

from schemas import envelope, topics
from schemas.events import JobRequested
from services.coordinator.intake import dead_letter, interpret
from services.runtime.kafka.reader import Received


def sent(data: object, event_type: str = "UploadReceived", event_id: str = "1", **headers: str) -> Received:
    made = envelope.headers_for(event_type, source="s", event_id=event_id)
    made += [(k, v.encode()) for k, v in headers.items()]
    return Received("media.requests", 2, 7, 1234, b"any", json.dumps(data).encode(), made)  # type: ignore[arg-type]


def job_of(received: Received) -> JobRequested:
    record = interpret(received)
    assert record.topic == topics.JOB_EVENTS
    job = envelope.decode(record.value or b"", JobRequested)
    assert record.key == job.job_id
    return job


def test_the_job_id_is_derived_from_source_and_id_where_none_is_given() -> None:
    assert job_of(sent({"key": "a.mov"})).job_id == envelope.derived_id("s", "1")
    assert job_of(sent({"key": "a.mov"})).job_id != job_of(sent({"key": "a.mov"}, event_id="2")).job_id
    assert job_of(sent({"key": "a.mov", "job_id": "mine"})).job_id == "mine"


def test_the_subject_is_the_asset_and_is_derived_from_bucket_and_key_where_none_is_given() -> None:
    assert job_of(sent({"key": "a.mov", "asset_id": "film"})).subject == "film"
    assert job_of(sent({"key": "a.mov"})).subject == job_of(sent({"key": "a.mov"}, event_id="2")).subject
    assert job_of(sent({"key": "a.mov"})).subject != job_of(sent({"key": "a.avi"})).subject


def test_a_stream_is_the_assets_and_what_is_made_elsewhere_is_not() -> None:
    asset = {"key": "in/a.mov", "asset_id": "film"}
    flat = {"layout": "flat-ts", "target": "Films/a.hls/"}
    assert job_of(sent(asset, "StreamRequested")).subject == "film"
    assert job_of(sent({"key": "in/a.mov"}, "StreamRequested")).subject == job_of(sent({"key": "in/a.mov"})).subject
    subjects = {job_of(sent(asset | flat | more, "StreamRequested")).subject for more in ({}, {"target_bucket": "old"})}
    assert len(subjects | {"film"}) == 3


def test_title_owner_trace_and_deadline_are_taken_over() -> None:
    job = job_of(sent({"key": "in/Café.mov", "owner": "o", "deadline_seconds": 60}, traceparent="00-abc"))
    assert (job.title, job.owner, job.traceparent, job.deadline_seconds) == ("Café.mov", "o", "00-abc", 60)


@pytest.mark.parametrize(
    ("received", "words"),
    [
        (sent({}), "Object missing required field `key`"),
        (sent({"key": "a", "deadline_seconds": 0}), "`int` >= 1 - at `$.deadline_seconds`"),
        (sent({"key": "a", "recipe": {"thumbnail_at": "soon"}}), "`$.recipe.thumbnail_at`"),
        (sent({"key": "a", "job_id": "../x"}), "`$.job_id`"),
        (sent([]), "Expected `object`, got `array`"),
        (sent({"key": "a"}, "Nonsense"), "'Nonsense' is not a request; accepted are CallbackRequested, CancelRequested"),
        (sent({"key": "a"}, "TaskReleased"), "'TaskReleased' is not a request"),
        (sent({"asset_id": "a"}, "IndexRequested"), "IndexRequested is not served by this version"),
        (
            sent({"key": "a", "then": [{"type": "Nope", "data": {}}]}),
            "names 'Nope'; this version serves UploadReceived, StreamRequested, ZipRequested, CallbackRequested",
        ),
        (
            sent({"key": "a", "otherwise": [{"type": "CallbackRequested", "data": {}}]}),
            "CallbackRequested: Object missing required field `url`",
        ),
        (sent({"key": "x" * 600_000}), "bytes, at most 524288 are accepted; store a long list as an object"),
    ],
)
def test_what_is_wrong_is_said(received: Received, words: str) -> None:
    with pytest.raises(envelope.Unreadable) as refused:
        interpret(received)
    assert words in str(refused.value)


def test_a_dead_letter_is_the_record_as_it_came_with_its_reason_and_origin() -> None:
    received = Received("media.requests", 2, 7, 1234, b"k", b"\xff", [("a", b"b"), ("empty", None)])
    letter = dead_letter(received, "why")
    assert (letter.topic, letter.key, letter.value) == (topics.DEAD_LETTERS, b"k", b"\xff")
    assert dict(letter.headers) == {
        "a": b"b", "empty": None, "reelworks-reason": b"why", "reelworks-origin-topic": b"media.requests",
        "reelworks-origin-partition": b"2", "reelworks-origin-offset": b"7", "reelworks-origin-timestamp-ms": b"1234",
    }  # fmt: skip
