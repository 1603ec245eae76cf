"""media.requests → media.job-events: reads what anybody sent, says no with words, hands on what is sound.

Outsiders choose key and partitioner, so nothing relies on where a request lies. At least once: produce, flush, commit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from schemas import acls, envelope, topics
from schemas.events import KINDS, CancelRequested, JobRequested, Request, RetryRequested
from services.coordinator import records
from services.coordinator.soundness import check_follow_up
from services.runtime.kafka.group import GroupConsumer
from services.runtime.kafka.producer import EventProducer, Record, record
from services.runtime.kafka.reader import Received
from services.runtime.settings import Settings
from services.runtime.storage.factory import default_bucket
from services.runtime.telemetry import metrics
from services.runtime.telemetry.logging import get_logger

GROUP = acls.INTAKE_GROUP
SOURCE = "reelworks/intake"
DEADLINES = {"callback": 86400}
DEFAULT_DEADLINE_SECONDS = 7 * 86400
SOUND_SECONDS = 3.0
"""Reading that goes well for so long goes well: a consumer that may not read says so sooner."""
log = get_logger(__name__)


def interpret(received: Received, default_bucket: str = "") -> Record:
    """The job event that a request becomes. Raises envelope.Unreadable with what is wrong and what is accepted. Pure.

    `default_bucket` is what an object without a bucket lies in: the same object is the same subject, however it is named.
    """
    _check_size(received)
    sent = envelope.read(received.headers, received.value)
    _check_text(received.value or b"")
    envelope.check_depth(sent.data, topics.REQUEST_DEPTH if sent.source != records.SOURCE else 2 * topics.REQUEST_DEPTH)
    if sent.type in ("CancelRequested", "RetryRequested"):
        event = envelope.decode(sent.data, CancelRequested if sent.type == "CancelRequested" else RetryRequested)
        return _event(event, event.job_id, sent)
    kind = KINDS.get(sent.type)
    if kind is None:
        accepted = ", ".join(sorted([*KINDS, "CancelRequested", "RetryRequested"]))
        raise envelope.Unreadable(f"{envelope.shown(sent.type)} is not a request; accepted are {accepted} (each after 'reelworks.')")
    if not kind.served:
        raise envelope.Unreadable(
            f"{sent.type} is not served by this version; it serves {', '.join(n for n, k in KINDS.items() if k.served)}"
        )
    request = envelope.decode_any(sent)
    assert isinstance(request, Request)
    for follow in (*request.then, *request.otherwise):
        check_follow_up(follow)
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
    made = _event(event, job_id, sent)
    if (size := len(made.value or b"")) > topics.EVENT_LIMIT_BYTES:  # 1e15 in a list is three times as long when it is written out
        raise envelope.Unreadable(f"written out, the request has {size} bytes; at most {topics.EVENT_LIMIT_BYTES} are accepted")
    return made


def dead_letter(received: Received, reason: str) -> Record:
    """The record as it came, byte for byte, with the reason and its origin in headers.

    Two things cannot be kept: headers whose names are no text (`Received.fault`), and what has more bytes than any record may have,
    which a compressed one can; of that its place is told, where it stays for as long as the topic keeps it.
    """
    origin: envelope.Headers = [
        ("reelworks-reason", reason.encode()[:4000]),
        ("reelworks-origin-topic", received.topic.encode()),
        ("reelworks-origin-partition", str(received.partition).encode()),
        ("reelworks-origin-offset", str(received.offset).encode()),
        ("reelworks-origin-timestamp-ms", str(received.timestamp_ms).encode()),
    ]
    size = _size(received)
    if size > topics.MAX_RECORD_BYTES:
        origin.append(("reelworks-left-out-bytes", str(size).encode()))
        return Record(topic=topics.DEAD_LETTERS, key=None, value=None, headers=origin)
    return Record(topic=topics.DEAD_LETTERS, key=received.key, value=received.value, headers=[*received.headers, *origin])


def _size(received: Received) -> int:
    return len(received.key or b"") + len(received.value or b"") + _headers_size(received)


def _headers_size(received: Received) -> int:
    return sum(len(name.encode()) + len(value or b"") for name, value in received.headers)


def _check_text(value: bytes) -> None:
    # The decoder looks only at what it takes: a field whose name was damaged would pass for one that nobody knows.
    try:
        value.decode()
    except UnicodeDecodeError as wrong:
        raise envelope.Unreadable(f"the value is not UTF-8: {wrong}") from None


def _check_size(received: Received) -> None:
    if received.fault:
        raise envelope.Unreadable(received.fault)
    size = len(received.value or b"")
    if size > topics.REQUEST_LIMIT_BYTES:
        raise envelope.Unreadable(
            f"the request has {size} bytes, at most {topics.REQUEST_LIMIT_BYTES} are accepted; "
            "store a long list as an object and send its key"
        )
    if (size := _headers_size(received)) > topics.HEADERS_LIMIT_BYTES:
        raise envelope.Unreadable(f"the headers have {size} bytes, at most {topics.HEADERS_LIMIT_BYTES} are accepted")


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
        self.trouble = ""
        """Why requests are not read now; for /readyz."""

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read()
            except Exception as wrong:
                self.trouble = str(wrong)
                log.warning("intake begins again", error=str(wrong))
                self._stopping.wait(1.0)

    def _read(self) -> None:
        consumer = GroupConsumer(self._settings, group=GROUP, topic=topics.REQUESTS, on_assign=_nothing, on_revoke=_nothing)
        producer = EventProducer(self._settings)
        began = time.monotonic()
        try:
            while not self._stopping.is_set():
                self._alive()
                batch = consumer.poll(0.1)
                if time.monotonic() - began > SOUND_SECONDS:
                    self.trouble = ""
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
            return self._refusal(received, str(wrong))
        except Exception as wrong:
            # A defect of ours. The record would end the same way each time, and everything behind it would wait.
            log.exception("a request could not be read", partition=received.partition, offset=received.offset)
            return self._refusal(received, f"it could not be read: {type(wrong).__name__}: {wrong}")

    def _refusal(self, received: Received, reason: str) -> Record:
        metrics.INTAKE.labels("refused").inc()
        metrics.DEAD_LETTERS.labels("unreadable").inc()
        log.warning("dead letter", reason=reason, partition=received.partition, offset=received.offset)
        return dead_letter(received, reason)


def _nothing(_: list[int]) -> None: ...
