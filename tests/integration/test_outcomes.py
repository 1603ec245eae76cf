"""What becomes of requests: one coordinator and one worker on real Kafka, for all of these tests."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from schemas import envelope, topics
from schemas.events import FollowUp, JobStatus, RetryRequested
from services.runtime.kafka import admin
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.producer import Record
from services.runtime.settings import Settings
from tests.servers.processes import Cluster, cluster, script

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A coordinator and a worker that these tests share. They have a broker of their own: groups are."""
    folder = tmp_path_factory.mktemp("outcomes")
    with EmbeddedKafka(folder / "kafka", cache=Settings().cache_path()) as broker:
        admin.apply(Settings(bootstrap_servers=broker.bootstrap_servers))
        with cluster(broker.bootstrap_servers, folder, REELWORKS_SLOTS="2") as made:
            made.coordinator()
            made.scripted()
            yield made


def test_the_same_request_twice_is_one_job_with_one_outcome(loop: Cluster) -> None:
    job_id = loop.send(script("twice", tasks=2), "twice")
    loop.send(script("twice", tasks=2), "twice")
    loop.end(job_id)
    loop.send(script("twice", tasks=2), "twice")
    marker = loop.send(script("marker"), "after-twice")
    loop.wait(marker, lambda j: j.cleanup == "done")
    assert loop.jobs[job_id].runs == 1
    ended = [r for r in loop.read(topics.COMPLETIONS) if json.loads(r.value or b"{}").get("job_id") == job_id]
    assert len(ended) == 1


def test_transient_failures_are_tried_again_and_told_of(loop: Cluster) -> None:
    job_id = loop.send(script("transient", tasks=3, fail={"1": ["transient", 2]}), "transient")
    job = loop.end(job_id)
    assert job.state == "succeeded"
    assert [(n.task, n.attempt, n.failure_class) for n in job.attempts] == [
        ("work 2 of 3", 1, "transient"),
        ("work 2 of 3", 2, "transient"),
    ]


def test_bad_input_fails_at_once_with_its_reason(loop: Cluster) -> None:
    job = loop.end(loop.send(script("permanent", plan="permanent"), "permanent"))
    assert job.state == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("bad-input", "the script wants it so")
    assert len(job.attempts) == 1


def test_a_retry_by_hand_does_only_what_is_missing(loop: Cluster) -> None:
    job_id = loop.send(script("retry", tasks=4, fail={"2": ["permanent", 1]}), "retry")
    failed = loop.end(job_id)
    assert failed.state == "failed"
    before = {n for n in range(4) if _done(failed) >> n & 1}
    loop.send(RetryRequested(job_id=job_id), "retry-it")
    loop.wait(job_id, lambda j: j.runs == 2)
    assert loop.end(job_id).state == "failed"  # the script fails the first attempt of each run
    statuses = [envelope.decode(r.value or b"", JobStatus) for r in loop.history if r.key == job_id.encode()]
    again = {o.number for s in statuses if s.runs == 2 and s.stage == 1 and s.state == "running" for o in s.outstanding}
    assert again
    assert not again & before


def _done(job: JobStatus) -> int:
    return int.from_bytes(base64.b64decode(job.finished), "little")


def test_then_begins_another_job_with_the_cause(loop: Cluster) -> None:
    follow = FollowUp(type="UploadReceived", data={"key": "in/second.mov", "title": "{}"})
    first = loop.send(script("first", then=(follow,)), "chain")
    loop.end(first)
    second = envelope.derived_id("reelworks/coordinator", f"{first}/1/then/0")
    job = loop.end(second)
    assert job.state == "succeeded"
    assert job.request["cause"]["job_id"] == first
    assert job.request["cause"]["outputs"][0]["role"] == "numbers"


def test_what_cannot_be_read_becomes_a_dead_letter_byte_for_byte_and_the_service_goes_on(loop: Cluster) -> None:

    def sent(key: str, value: bytes | None, event_type: str) -> Record:
        headers = [("ce_specversion", b"1.0"), ("ce_source", b"poison"), ("ce_type", event_type.encode()), ("ce_id", key.encode())]
        return Record(topic=topics.REQUESTS, key=key, value=value, headers=headers)

    upload = "reelworks.UploadReceived"
    poison = {
        "garbage": sent("p1", b"\xff\xfe\x00 not json", upload),
        "not-json": sent("p8", b'{"key" "in/a.mov"}', upload),
        "no-envelope": Record(topic=topics.REQUESTS, key="p2", value=b'{"key":"a"}'),
        "unknown": sent("p3", b"{}", "reelworks.NoSuchThing"),
        "wrong-shape": sent("p4", b'{"key":17}', upload),
        "not-served": sent("p5", b'{"asset_id":"a"}', "reelworks.IndexRequested"),
        "five-megabytes": sent("p6", b'{"key":"' + b"x" * 5_000_000 + b'"}', upload),
        "tombstone": sent("p7", None, upload),
    }
    for record in poison.values():
        loop.send_raw(record)
    assert loop.end(loop.send(script("after-poison"), "after-poison")).state == "succeeded"
    letters = {r.key: r for r in loop.read(topics.DEAD_LETTERS)}
    reasons = {}
    for name, record in poison.items():
        letter = letters[str(record.key).encode()]
        assert letter.value == record.value, name
        headers = dict(letter.headers)
        assert {k: headers[k] for k, _ in record.headers} == dict(record.headers), name
        assert headers["reelworks-origin-topic"] == b"media.requests"
        reasons[name] = (headers["reelworks-reason"] or b"").decode()
    assert "the value is not UTF-8" in reasons["garbage"]
    assert "malformed" in reasons["not-json"]
    assert "ce_type" in reasons["no-envelope"]
    assert "'NoSuchThing' is not a request; accepted are" in reasons["unknown"]
    assert "Expected `str`, got `int` - at `$.key`" in reasons["wrong-shape"]
    assert "not served by this version" in reasons["not-served"]
    assert "5000010 bytes, at most 524288 are accepted" in reasons["five-megabytes"]
    assert "no value" in reasons["tombstone"]


def test_a_request_with_an_unknown_field_and_a_structured_one_are_accepted(loop: Cluster) -> None:
    body = {"specversion": "1.0", "type": "reelworks.UploadReceived", "source": "elsewhere", "id": "s1",
            "data": {"key": "in/s.mov", "title": "{}", "colour": "blue"}}  # fmt: skip
    loop.send_raw(
        Record(
            topic=topics.REQUESTS, key=None, value=json.dumps(body).encode(), headers=[("content-type", b"application/cloudevents+json")]
        )
    )
    assert loop.end(envelope.derived_id("elsewhere", "s1")).state == "succeeded"


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
def test_kcat_from_outside_gets_its_job_done(loop: Cluster) -> None:
    subprocess.run(
        ["kcat", "-P", "-b", loop.settings.bootstrap_servers, "-t", "media.requests", "-H", "ce_specversion=1.0",
         "-H", "ce_type=reelworks.UploadReceived", "-H", "ce_source=kcat", "-H", "ce_id=1"],
        input=b'{"key":"in/kcat.mov","title":"{}"}', check=True,
    )  # fmt: skip
    assert loop.end(envelope.derived_id("kcat", "1")).state == "succeeded"
