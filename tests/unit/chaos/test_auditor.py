"""The auditor finds what is wrong: a run that is as it should be, and the same run with one thing changed."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from schemas import envelope, topics
from schemas.events import ErrorInfo, JobFailed, JobStatus, Output, StageStatus, TaskFinished, ZipCompleted
from services.runtime.kafka.producer import Record
from services.runtime.kafka.reader import Received
from tests.chaos import evidence
from tests.chaos.auditor import Verdict, audit
from tests.chaos.evidence import Evidence, StoredObject
from tests.chaos.orders import Ledger, Placed
from tests.chaos.schedule import Order
from tests.chaos.sources import Sources
from tests.servers.processes import status_of
from tests.servers.webhooks import Callback

JOB, CALLBACK = "job-1", "callback-1"
OUTPUT = Output(role="archive", bucket="b", key="archives/1.zip", size=100)
ORDER = Order(1, 0.0, "zip-topic", 0, 1, callback=True, cancel_after=None, retry_after=None)
POISON = Record(topic=topics.REQUESTS, key=b"poison", value=b"{", headers=[("a", b"1")])


class Scene:
    """A run of one archive, its callback and one poisonous record."""

    def __init__(self) -> None:
        self.stock = Sources({"files/a": b"a"}, {"files/a": '"1"'})
        self.ledger = Ledger(placed={1: Placed(ORDER, JOB, 0.0, "succeeded")}, poison=[POISON])
        self.evidence = Evidence({topic: [] for topic in evidence.READ})
        self.evidence.objects = {"files/a": StoredObject("files/a", 1, '"1"'), OUTPUT.key: StoredObject(OUTPUT.key, 100, '"2"')}
        self.job(JOB, "ZipRequested", {"target": {"key": OUTPUT.key}}, (OUTPUT,))
        cause = {"job_id": JOB, "kind": "zip", "subject": "s", "state": "succeeded"}
        self.job(CALLBACK, "CallbackRequested", {"url": "http://receiver.test/", "cause": cause}, ())
        self.evidence.callbacks = [callback()]
        origin: list[tuple[str, bytes | None]] = [("reelworks-origin-partition", b"0"), ("reelworks-origin-offset", b"7")]
        self.add(topics.DEAD_LETTERS, b"poison", b"{", [("a", b"1"), *origin])
        self.evidence.answers = {JOB: {"gateway-1": answer("succeeded"), "gateway-2": answer("succeeded")}}
        self.evidence.lag = {"reelworks-intake": 0}

    def job(self, job_id: str, request_type: str, request: dict[str, Any], outputs: tuple[Output, ...]) -> None:
        kind = "zip" if request_type == "ZipRequested" else "callback"
        stages = [StageStatus(name="plan", service="zipper", total=1, done=1), StageStatus(name="finish", service="zipper", total=1)]
        begun = JobStatus(
            job_id=job_id, kind=kind, service="zipper", subject="s", state="finishing", request_type=request_type, request=request,
            created_ms=1, updated_ms=1, stages=stages, stage=1, progress=0.5,
        )  # fmt: skip
        done = base64.b64encode(b"\1").decode()
        ended = [stages[0], StageStatus(name="finish", service="zipper", total=1, done=1)]
        end = msgspec.structs.replace(
            begun, state="succeeded", stages=ended, finished=done, finished_ms=9, progress=1.0, outputs=outputs, cleanup="done"
        )
        for status in (begun, end):
            self.status(status)
        for stage in (0, 1):
            self.event(topics.JOB_EVENTS, TaskFinished(job_id=job_id, stage=stage, number=0, attempt=1, worker="w"))
        if kind == "zip":
            self.event(topics.COMPLETIONS, ZipCompleted(job_id=job_id, subject="s", kind=kind, outputs=outputs, finished_ms=9))
        else:
            told = msgspec.json.encode({"job_id": job_id, "subject": "s", "kind": kind, "finished_ms": 9})
            self.add(topics.COMPLETIONS, b"s:callback", told, envelope_headers("CallbackDelivered"))

    def status(self, status: JobStatus) -> None:
        self.add(topics.JOBS, status.job_id.encode(), envelope.encode_value(status), [])

    def event(self, topic: str, event: msgspec.Struct) -> None:
        self.add(topic, None, envelope.encode_value(event), envelope_headers(type(event).__name__))

    def add(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
        self.evidence.records[topic].append(Received(topic, 0, len(self.evidence.records[topic]), 0, key, value, headers))

    def last(self) -> JobStatus:
        found = [s for r in self.evidence.records[topics.JOBS] if (s := status_of(r)) is not None and s.job_id == JOB]
        return found[-1]

    def audit(self) -> Verdict:
        return audit(self.ledger, self.evidence, self.stock)


def envelope_headers(name: str) -> list[tuple[str, bytes | None]]:
    return [(n, v.encode() if isinstance(v, str) else v) for n, v in envelope.headers_for(name, source="test")]


def answer(state: str) -> bytes:
    return msgspec.json.encode({"job_id": JOB, "state": state})


def callback(body: bytes = b"{}", webhook_id: str = CALLBACK) -> Callback:
    from services.notifier.message import signature
    from tests.servers.webhooks import SECRET

    now = int(time.time())
    signed = signature(SECRET, webhook_id, now, body)
    return Callback({"webhook-id": webhook_id, "webhook-timestamp": str(now), "webhook-signature": signed}, body)


def test_a_run_that_is_as_it_should_be_has_no_findings() -> None:
    verdict = Scene().audit()
    assert verdict.findings == []
    assert verdict.checked["accepted requests that ended"] == 1
    assert verdict.checked["poison among the dead letters, byte for byte"] == 1


def failed_in_silence(scene: Scene) -> None:
    scene.status(msgspec.structs.replace(scene.last(), state="failed"))


def left_its_end(scene: Scene) -> None:
    scene.status(msgspec.structs.replace(scene.last(), state="finishing", finished=""))


def used_up(scene: Scene) -> None:
    error = ErrorInfo(code="x", message="m", failure_class="permanent")
    scene.event(topics.COMPLETIONS, JobFailed(job_id=JOB, subject="s", kind="zip", state="failed", error=error, finished_ms=9))
    scene.add(topics.DEAD_LETTERS, JOB.encode(), b"{}", [])


WRONG: dict[str, tuple[Callable[[Scene], object], str]] = {
    "no job": (lambda s: s.ledger.placed.update({2: Placed(ORDER, "job-2", 0.0, "succeeded")}), "no job is known"),
    "another end": (lambda s: setattr(s.ledger.placed[1], "expected", "failed"), "succeeded instead of failed"),
    "no outcome": (lambda s: s.evidence.records[topics.COMPLETIONS].pop(0), "ended 1 times and has 0 outcomes"),
    "outcome twice": (lambda s: s.evidence.records[topics.COMPLETIONS].append(s.evidence.records[topics.COMPLETIONS][0]), "has 2 outcomes"),
    "another state": (failed_in_silence, "was succeeded and is failed"),
    "left its end": (left_its_end, "went from succeeded to finishing without a retry"),
    "task not finished": (lambda s: s.evidence.records[topics.JOB_EVENTS].pop(1), "not all 1 tasks of finish"),
    "callback of another body": (lambda s: s.evidence.callbacks.append(callback(b"[]")), "2 different things"),
    "callback that nobody took": (lambda s: s.evidence.callbacks.__setitem__(0, replace(callback(), answered=503)), "has not taken"),
    "callback forged": (lambda s: s.evidence.callbacks.append(Callback(callback().headers, b"x")), "genuine"),
    "callback of nobody": (lambda s: s.evidence.callbacks.append(callback(webhook_id="other")), "no job of that id"),
    "callback missing": (lambda s: s.evidence.callbacks.clear(), "told 0 different things"),
    "output missing": (lambda s: s.evidence.objects.pop(OUTPUT.key), "is listed and not there"),
    "output cut": (lambda s: s.evidence.objects.update({OUTPUT.key: StoredObject(OUTPUT.key, 99, "")}), "has 99"),
    "object of nobody": (lambda s: s.evidence.objects.update({"jobs/x": StoredObject("jobs/x", 1, "")}), "belongs to nothing"),
    "archive of nobody": (lambda s: s.evidence.objects.update({"archives/2": StoredObject("archives/2", 1, "")}), "no job's output"),
    "asset of nobody": (lambda s: s.evidence.objects.update({"assets/a/b": StoredObject("assets/a/b", 1, "")}), "belongs to no job"),
    "upload left": (lambda s: s.evidence.uploads.append("x"), "multipart upload"),
    "scratch left": (lambda s: s.evidence.scratch.append("x"), "scratch folder"),
    "process left": (lambda s: s.evidence.orphans.append("ffmpeg"), "a process was left"),
    "source changed": (lambda s: s.stock.etags.update({"files/a": '"9"'}), "the source files/a"),
    "gateways differ": (lambda s: s.evidence.answers[JOB].update({"gateway-2": answer("failed")}), "say different things"),
    "gateways behind": (lambda s: s.evidence.answers.update({JOB: {"gateway-1": answer("running")}}), "the log says succeeded"),
    "lag": (lambda s: s.evidence.lag.update({"reelworks-intake": 3}), "3 records of reelworks-intake"),
    "poison lost": (lambda s: s.evidence.records[topics.DEAD_LETTERS].clear(), "from 0 places"),
    "dead letter of nobody": (lambda s: s.ledger.poison.clear(), "nobody sent as poison"),
    "dead job": (used_up, "1 times among the dead letters"),
    "odd answer": (lambda s: s.ledger.oddities.append("500"), "500"),
    "patience": (lambda s: s.ledger.given_up.append("PUT"), "had to give up"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str) -> None:
    change, words = WRONG[name]
    scene = Scene()
    change(scene)
    found = scene.audit().findings
    assert any(words in finding.words for finding in found), found


def test_a_signed_url_may_differ_in_its_time() -> None:
    scene = Scene()
    body = b'{"state":"succeeded","url":"http://s/x?X-Amz-Algorithm=A&X-Amz-Date=%d"}'
    scene.evidence.answers = {JOB: {"gateway-1": body % 1, "gateway-2": body % 2}}
    assert scene.audit().findings == []
