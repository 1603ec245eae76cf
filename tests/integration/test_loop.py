"""The loop on real Kafka: request → coordinator → tasks → outcome, and what happens when any part of it dies."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import envelope, topics
from schemas.events import CancelRequested, FollowUp, JobStatus, RetryRequested, UploadReceived
from services.runtime.kafka import admin
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.producer import Record
from services.runtime.settings import Settings
from tests.servers.processes import Cluster, cluster

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker of this module's own: it is killed here."""
    with EmbeddedKafka(tmp_path_factory.mktemp("loop-kafka"), cache=Settings().cache_path()) as made:
        admin.apply(Settings(bootstrap_servers=made.bootstrap_servers))
        yield made


@pytest.fixture
def loop(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Cluster]:
    with cluster(broker.bootstrap_servers, tmp_path, REELWORKS_SLOTS="2") as made:
        yield made


def script(name: str, then: tuple[FollowUp, ...] = (), **what: Any) -> UploadReceived:
    return UploadReceived(key=f"in/{name}.mov", title=json.dumps(what), then=then)


def running(count: int) -> Any:
    """Whether so many tasks of the job are in slots."""
    return lambda job: sum(1 for o in job.outstanding if o.worker) >= count and job.state == "running"


def left_in_storage(loop: Cluster) -> list[str]:
    return sorted(str(p.relative_to(loop.library)) for p in (loop.library / "jobs").rglob("*") if p.is_file())


def wait_until(condition: Any, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_job_runs_on_two_workers_and_leaves_nothing_but_its_outputs(loop: Cluster, protocol: str) -> None:
    for start in (loop.coordinator, loop.scripted, loop.scripted):
        start(REELWORKS_GROUP_PROTOCOL=protocol)
    job_id = loop.send(script(f"plain-{protocol}", tasks=12, seconds=0.2, second=3), f"plain-{protocol}")
    job = loop.end(job_id)
    assert (job.state, job.progress, job.error) == ("succeeded", 1.0, None)
    assert [(s.name, s.total, s.done) for s in job.stages] == [("plan", 1, 1), ("work", 12, 12), ("second", 3, 3), ("finish", 1, 1)]
    assert json.loads((loop.library / job.outputs[0].key).read_bytes()) == list(range(12))
    loop.wait(job_id, lambda j: j.cleanup == "done")
    assert left_in_storage(loop) == []
    completions = [r for r in loop.read(topics.COMPLETIONS) if r.key == f"{job.subject}:transcode".encode()]
    assert len(completions) == 1
    assert json.loads(completions[0].value or b"")["job_id"] == job_id


def test_the_same_request_twice_is_one_job_with_one_outcome(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()
    job_id = loop.send(script("twice", tasks=2), "twice")
    loop.send(script("twice", tasks=2), "twice")
    loop.end(job_id)
    loop.send(script("twice", tasks=2), "twice")
    marker = loop.send(script("marker"), "after-twice")
    loop.wait(marker, lambda j: j.cleanup == "done")
    assert loop.jobs[job_id].runs == 1
    ended = [r for r in loop.read(topics.COMPLETIONS) if json.loads(r.value or b"{}").get("job_id") == job_id]
    assert len(ended) == 1


def test_kill_of_a_worker_in_mid_task_costs_seconds(loop: Cluster) -> None:
    loop.coordinator()
    victim = loop.scripted()
    job_id = loop.send(script("kill-worker", tasks=6, seconds=6), "kill-worker")
    loop.wait(job_id, running(2))
    loop.scripted()
    loop.wait(job_id, lambda j: any(o.progress for o in j.outstanding))
    victim.kill()
    lost = loop.wait(job_id, lambda j: any(n.failure_class == "worker-lost" for n in j.attempts), 20)
    assert lost.attempts[0].worker.startswith("transcoder-")
    job = loop.end(job_id)
    assert job.state == "succeeded"
    assert {n.failure_class for n in job.attempts} == {"worker-lost"}


def test_kill_of_the_coordinator_in_the_middle_loses_nothing(loop: Cluster) -> None:
    victim = loop.coordinator()
    loop.scripted()
    job_id = loop.send(script("kill-coordinator", tasks=10, seconds=0.7), "kill-coordinator")
    loop.wait(job_id, lambda j: j.stage == 1 and j.stages[1].done >= 2)
    victim.kill()
    loop.coordinator()
    job = loop.end(job_id)
    assert job.state == "succeeded"
    assert job.attempts == []


def test_another_coordinator_takes_over(loop: Cluster) -> None:
    first = loop.coordinator()
    loop.scripted()
    job_id = loop.send(script("two-coordinators", tasks=12, seconds=0.7), "two-coordinators")
    loop.wait(job_id, lambda j: j.stage == 1 and j.stages[1].done >= 1)
    loop.coordinator()
    loop.wait(job_id, lambda j: j.stages[1].done >= 4)
    first.kill()
    assert loop.end(job_id).state == "succeeded"


def test_kill_of_the_broker_in_the_middle_is_survived_by_all(loop: Cluster, broker: EmbeddedKafka) -> None:
    loop.coordinator()
    loop.scripted()
    job_id = loop.send(script("kill-broker", tasks=14, seconds=0.7), "kill-broker")
    loop.wait(job_id, lambda j: j.stage == 1 and j.stages[1].done >= 2)
    broker.kill()
    broker.start()
    job = loop.end(job_id, 120)
    assert job.state == "succeeded"
    assert all(p.process.poll() is None for p in loop.processes)


def test_a_task_that_ends_its_process_fails_as_worker_lost_and_the_others_go_on(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted(keep=True)
    bad = loop.send(script("exits", tasks=3, exit=[1]), "exits")
    job = loop.end(bad, 120)
    assert job.state == "failed"
    assert job.error is not None
    assert (job.error.failure_class, job.error.code) == ("worker-lost", "worker-lost")
    assert "work 2 of 3 failed 3 times" in job.error.message
    assert job.error.hint
    good = loop.send(script("goes-on", tasks=3), "goes-on")
    assert loop.end(good).state == "succeeded"
    letters = [r for r in loop.read(topics.DEAD_LETTERS) if r.key == bad.encode()]
    assert len(letters) == 1
    assert b"failed 3 times" in dict(letters[0].headers)["reelworks-reason"]  # type: ignore[operator]


def test_a_task_that_hangs_is_ended_at_its_deadline_and_a_slow_one_is_not(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted(REELWORKS_TASK_TIMEOUT_SECONDS="4")
    hangs = loop.send(script("hangs", tasks=2, hang=[0]), "hangs")
    slow = loop.send(script("slow", tasks=2, seconds=2.5), "slow")
    assert loop.end(slow).state == "succeeded"
    job = loop.end(hangs)
    assert job.state == "failed"
    assert job.error is not None
    assert (job.error.failure_class, job.error.code) == ("timed-out", "task-deadline")
    assert "did not end within 4 s" in job.error.message


def test_cancel_stops_the_work_and_frees_the_slot(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted(REELWORKS_SLOTS="1")
    job_id = loop.send(script("cancel", tasks=4, hang=[0, 1, 2, 3]), "cancel")
    loop.wait(job_id, running(1))
    loop.send(CancelRequested(job_id=job_id, reason="changed my mind"), "cancel-it")
    job = loop.end(job_id)
    cancelled = job
    assert job.state == "cancelled"
    assert job.error is not None
    assert job.error.message == "changed my mind"
    assert loop.end(loop.send(script("after-cancel"), "after-cancel"), 20).state == "succeeded"
    loop.send(RetryRequested(job_id=cancelled.job_id), "retry-cancelled")
    loop.wait(job_id, running(1))  # a retry's tasks are wanted again
    loop.send(CancelRequested(job_id=job_id), "cancel-again")
    loop.wait(job_id, lambda j: j.state == "cancelled" and j.runs == 2)


def test_a_worker_told_to_stop_hands_back_what_it_cannot_finish(loop: Cluster) -> None:
    loop.coordinator()
    leaving = loop.scripted(REELWORKS_DRAIN_SECONDS="1")
    job_id = loop.send(script("drain", tasks=4, seconds=6), "drain")
    loop.wait(job_id, running(2))
    loop.scripted()
    began = time.monotonic()
    assert leaving.stop() == 0
    assert time.monotonic() - began < 20
    job = loop.end(job_id)
    assert job.state == "succeeded"
    assert job.attempts == []


def test_a_worker_told_to_stop_finishes_what_ends_in_time(loop: Cluster) -> None:
    loop.coordinator()
    leaving = loop.scripted()
    job_id = loop.send(script("drain-in-time", tasks=2, seconds=2), "drain-in-time")
    loop.wait(job_id, running(2))
    assert leaving.stop() == 0
    loop.scripted()
    job = loop.end(job_id)
    assert (job.state, job.attempts) == ("succeeded", [])
    assert max(o for o in _attempts(loop, job_id)) == 1


def _attempts(loop: Cluster, job_id: str) -> list[int]:
    statuses = [envelope.decode(r.value or b"", JobStatus) for r in loop.history if r.key == job_id.encode()]
    return [o.attempt for s in statuses for o in s.outstanding]


def test_transient_failures_are_tried_again_and_told_of(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()
    job_id = loop.send(script("transient", tasks=3, fail={"1": ["transient", 2]}), "transient")
    job = loop.end(job_id)
    assert job.state == "succeeded"
    assert [(n.task, n.attempt, n.failure_class) for n in job.attempts] == [
        ("work 2 of 3", 1, "transient"),
        ("work 2 of 3", 2, "transient"),
    ]


def test_bad_input_fails_at_once_with_its_reason(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()
    job = loop.end(loop.send(script("permanent", plan="permanent"), "permanent"))
    assert job.state == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("bad-input", "the script wants it so")
    assert len(job.attempts) == 1


def test_a_retry_by_hand_does_only_what_is_missing(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()
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
    import base64

    return int.from_bytes(base64.b64decode(job.finished), "little")


def test_then_begins_another_job_with_the_cause(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()
    follow = FollowUp(type="UploadReceived", data={"key": "in/second.mov", "title": "{}"})
    first = loop.send(script("first", then=(follow,)), "chain")
    loop.end(first)
    second = envelope.derived_id("reelworks/coordinator", f"{first}/1/then/0")
    job = loop.end(second)
    assert job.state == "succeeded"
    assert job.request["cause"]["job_id"] == first
    assert job.request["cause"]["outputs"][0]["role"] == "numbers"


def test_what_cannot_be_read_becomes_a_dead_letter_byte_for_byte_and_the_service_goes_on(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()

    def sent(key: str, value: bytes | None, event_type: str) -> Record:
        headers = [("ce_specversion", b"1.0"), ("ce_source", b"poison"), ("ce_type", event_type.encode()), ("ce_id", key.encode())]
        return Record(topic=topics.REQUESTS, key=key, value=value, headers=headers)

    upload = "reelworks.UploadReceived"
    poison = {
        "garbage": sent("p1", b"\xff\xfe\x00 not json", upload),
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
    assert "malformed" in reasons["garbage"]
    assert "ce_type" in reasons["no-envelope"]
    assert "'NoSuchThing' is not a request; accepted are" in reasons["unknown"]
    assert "Expected `str`, got `int` - at `$.key`" in reasons["wrong-shape"]
    assert "not served by this version" in reasons["not-served"]
    assert "5000010 bytes, at most 524288 are accepted" in reasons["five-megabytes"]
    assert "no value" in reasons["tombstone"]


def test_a_request_with_an_unknown_field_and_a_structured_one_are_accepted(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()
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
    loop.coordinator()
    loop.scripted()
    subprocess.run(
        ["kcat", "-P", "-b", loop.settings.bootstrap_servers, "-t", "media.requests", "-H", "ce_specversion=1.0",
         "-H", "ce_type=reelworks.UploadReceived", "-H", "ce_source=kcat", "-H", "ce_id=1"],
        input=b'{"key":"in/kcat.mov","title":"{}"}', check=True,
    )  # fmt: skip
    assert loop.end(envelope.derived_id("kcat", "1")).state == "succeeded"


def test_a_worker_that_was_asleep_past_its_lease_changes_nothing(loop: Cluster) -> None:
    loop.coordinator()
    sleeper = loop.scripted(REELWORKS_SLOTS="1")
    job_id = loop.send(script("zombie", tasks=3, seconds=6), "zombie")
    loop.wait(job_id, lambda j: any(o.progress for o in j.outstanding))
    sleeper.signal(signal.SIGSTOP)
    loop.scripted()
    loop.wait(job_id, lambda j: any(n.failure_class == "worker-lost" for n in j.attempts), 25)
    sleeper.signal(signal.SIGCONT)
    job = loop.end(job_id)
    assert (job.state, job.stages[1].done) == ("succeeded", 3)
