"""media.requests → media.job-events: reads what anybody sent, says no with words, hands on what is sound.

Outsiders choose key and partitioner, so nothing relies on where a request lies. At least once: produce, flush, commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec

from schemas import envelope, topics
from schemas.events import KINDS, CancelRequested, FollowUp, JobRequested, Request, RetryRequested
from services.runtime.kafka.group import GroupConsumer
from services.runtime.kafka.producer import EventProducer, Record, record
from services.runtime.kafka.reader import Received
from services.runtime.settings import Settings
from services.runtime.storage.factory import default_bucket
from services.runtime.telemetry import metrics
from services.runtime.telemetry.logging import get_logger

GROUP = "reelworks-intake"
SOURCE = "reelworks/intake"
DEADLINES = {"callback": 86400}
DEFAULT_DEADLINE_SECONDS = 7 * 86400
log = get_logger(__name__)


def interpret(received: Received, default_bucket: str = "") -> Record:
    """The job event that a request becomes. Raises envelope.Unreadable with what is wrong and what is accepted. Pure.

    `default_bucket` is what an object without a bucket lies in: the same object is the same subject, however it is named.
    """
    size = len(received.value or b"")
    if size > topics.REQUEST_LIMIT_BYTES:
        raise envelope.Unreadable(
            f"the request has {size} bytes, at most {topics.REQUEST_LIMIT_BYTES} are accepted; "
            "store a long list as an object and send its key"
        )
    sent = envelope.read(received.headers, received.value)
    if sent.type in ("CancelRequested", "RetryRequested"):
        event = envelope.decode(sent.data, CancelRequested if sent.type == "CancelRequested" else RetryRequested)
        return _event(event, event.job_id, sent)
    kind = KINDS.get(sent.type)
    if kind is None:
        accepted = ", ".join(sorted([*KINDS, "CancelRequested", "RetryRequested"]))
        raise envelope.Unreadable(f"{sent.type!r} is not a request; accepted are {accepted} (each after 'reelworks.')")
    if not kind.served:
        raise envelope.Unreadable(
            f"{sent.type} is not served by this version; it serves {', '.join(n for n, k in KINDS.items() if k.served)}"
        )
    request = envelope.decode_any(sent)
    assert isinstance(request, Request)
    for follow in (*request.then, *request.otherwise):
        _check_follow_up(follow)
    job_id = request.job_id or sent.job_id()
    body: dict[str, Any] = msgspec.to_builtins(request)
    event = JobRequested(
        job_id=job_id,
        kind=kind.kind,
        service=kind.service,
        subject=_subject(body, job_id, default_bucket),
        request_type=sent.type,
        request=body,
        owner=request.owner,
        source=sent.source,
        title=body.get("title") or body.get("filename") or _object(body).get("key", "").rpartition("/")[2],
        traceparent=sent.traceparent,
        deadline_seconds=request.deadline_seconds or DEADLINES.get(kind.kind, DEFAULT_DEADLINE_SECONDS),
    )
    return _event(event, job_id, sent)


def dead_letter(received: Received, reason: str) -> Record:
    """The record as it came, byte for byte, with the reason and its origin in headers."""
    origin = [
        ("reelworks-reason", reason.encode()[:4000]),
        ("reelworks-origin-topic", received.topic.encode()),
        ("reelworks-origin-partition", str(received.partition).encode()),
        ("reelworks-origin-offset", str(received.offset).encode()),
        ("reelworks-origin-timestamp-ms", str(received.timestamp_ms).encode()),
    ]
    kept = [(name, value if value is not None else b"") for name, value in received.headers]
    return Record(topic=topics.DEAD_LETTERS, key=received.key, value=received.value, headers=[*kept, *origin])


def _subject(body: dict[str, Any], job_id: str, default_bucket: str) -> str:
    if body.get("layout") == "flat-ts":
        # Not the asset: what is made for it elsewhere is another thing than its own stream.
        return envelope.derived_id(body.get("target_bucket") or body.get("bucket") or default_bucket, body.get("target", ""))
    if body.get("asset_id"):
        return body["asset_id"]
    named = _object(body)
    if not named.get("key"):
        return job_id
    return envelope.derived_id(named.get("bucket") or default_bucket, named["key"])


def _object(body: dict[str, Any]) -> dict[str, Any]:
    """What names the object that a request is about: the target of an archive, else the request itself."""
    target = body.get("target")
    return target if isinstance(target, dict) else body


def _check_follow_up(follow: FollowUp) -> None:
    kind = KINDS.get(follow.type)
    if kind is None or not kind.served:
        served = ", ".join(n for n, k in KINDS.items() if k.served)
        raise envelope.Unreadable(f"`then`/`otherwise` names {follow.type!r}; this version serves {served}")
    struct = envelope.events.BY_NAME[follow.type]
    try:
        msgspec.convert(follow.data, struct)
    except msgspec.ValidationError as wrong:
        raise envelope.Unreadable(f"`then`/`otherwise`: {follow.type}: {wrong}") from None


def _event(event: msgspec.Struct, job_id: str, sent: envelope.Envelope) -> Record:
    return record(event, job_id, source=SOURCE, event_id=sent.id, traceparent=sent.traceparent, topic=topics.JOB_EVENTS)


class Intake(threading.Thread):
    """Runs until `stop`; after any error it begins again from the last commit."""

    def __init__(self, settings: Settings, alive: Callable[[], None]) -> None:
        super().__init__(name="intake", daemon=True)
        self._settings = settings
        self._default_bucket = default_bucket(settings)
        self._alive = alive
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read()
            except Exception as wrong:
                log.warning("intake begins again", error=str(wrong))
                self._stopping.wait(1.0)

    def _read(self) -> None:
        consumer = GroupConsumer(self._settings, group=GROUP, topic=topics.REQUESTS, on_assign=_nothing, on_revoke=_nothing)
        producer = EventProducer(self._settings)
        try:
            while not self._stopping.is_set():
                self._alive()
                batch = consumer.poll(0.1)
                if not batch:
                    continue
                sent = [producer.send(self._answer(received)) for received in batch]
                for acknowledged in sent:
                    acknowledged.result(timeout=60)
                consumer.commit({r.partition: r.offset + 1 for r in batch})
        finally:
            producer.close(5.0)
            consumer.close()

    def _answer(self, received: Received) -> Record:
        try:
            answer = interpret(received, self._default_bucket)
            metrics.INTAKE.labels("accepted").inc()
            return answer
        except envelope.Unreadable as wrong:
            metrics.INTAKE.labels("refused").inc()
            metrics.DEAD_LETTERS.labels("unreadable").inc()
            log.warning("dead letter", reason=str(wrong), partition=received.partition, offset=received.offset)
            return dead_letter(received, str(wrong))


def _nothing(_: list[int]) -> None: ...
