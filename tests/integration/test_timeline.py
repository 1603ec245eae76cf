"""`reelworks jobs timeline` on real Kafka: what all services said of a job, read from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from schemas import envelope, topics
from schemas.events import FollowUp, RetryRequested
from services.cli import job_records, timeline
from services.runtime.kafka.partitioner import partition_of
from services.runtime.kafka.producer import Record
from tests.servers.processes import Cluster, script

pytestmark = pytest.mark.kafka


def command(loop: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", "jobs", "timeline", *words], env=loop.environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_a_job_that_failed_and_was_retried_is_told_from_its_request_to_its_end(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()
    then = FollowUp(type="CallbackRequested", data={"url": "https://nobody.example.org/"})
    job_id = loop.send(script("told", then=(then,), tasks=2, fail={"1": ["permanent", 1]}), "told")
    assert loop.end(job_id).state == "failed"
    entries = timeline.of(loop.settings, job_id)
    text = timeline.render(entries)
    assert [e.event for e in entries if e.topic == topics.REQUESTS] == ["UploadReceived"], text
    assert [e.what for e in entries if e.event == "JobRequested"] == ["accepted UploadReceived as transcode"], text
    names = [e.what for e in entries if e.event == "TaskReleased"]
    assert names[:1] == ["plan released, attempt 1"], text
    assert set(names[1:]) >= {"work 1 of 2 released, attempt 1", "work 2 of 2 released, attempt 1"}, text
    assert [(e.what, e.failure_class) for e in entries if e.event == "TaskFailed"] == [
        ("work 2 of 2 failed, attempt 1: permanent, attempt 1 fails as scripted", "permanent")
    ], text
    assert [(e.state, e.reason) for e in entries if e.topic == topics.COMPLETIONS] == [("failed", "attempt 1 fails as scripted")], text
    assert timeline.missing(entries, int(time.time() * 1000)) == [], text
    assert all(e.who.startswith("transcoder-") for e in entries if e.event == "TaskStarted"), text


def test_every_job_event_status_and_task_of_a_job_is_in_it_in_the_order_of_its_log(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()
    job_id = loop.send(script("whole", tasks=12, second=3), "whole")
    loop.wait(job_id, lambda j: j.cleanup == "done")
    loop.end(loop.send(script("another", tasks=3), "another"))
    entries = timeline.of(loop.settings, job_id)
    told = {(e.topic, e.partition, e.offset) for e in entries}
    key = job_id.encode()
    wanted = {(r.topic, r.partition, r.offset) for topic in (topics.JOB_EVENTS, topics.CONTROL) for r in loop.read(topic) if r.key == key}
    wanted |= {(r.topic, r.partition, r.offset) for r in loop.read(topics.tasks("transcoder")) if (r.key or b"").startswith(key)}
    assert wanted <= told
    assert {e.topic for e in entries} == {
        topics.REQUESTS, topics.JOB_EVENTS, topics.JOBS, topics.tasks("transcoder"), topics.COMPLETIONS,
    }  # fmt: skip
    for place in {(e.topic, e.partition) for e in entries}:
        offsets = [e.offset for e in entries if (e.topic, e.partition) == place]
        assert offsets == sorted(offsets)
    assert entries[-1].what == "succeeded: tidied up"


def test_the_jobs_that_follow_are_told_with_it(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()
    then = FollowUp(type="UploadReceived", data=json.loads(envelope.encode_value(script("the-second", tasks=1))))
    job_id = loop.send(script("the-first", then=(then,), tasks=1), "the-first")
    child = envelope.derived_id(job_records.COORDINATOR, f"{job_id}/1/then/0")
    loop.end(job_id)
    loop.end(child)
    alone, both = timeline.of(loop.settings, job_id), timeline.of(loop.settings, job_id, children=True)
    assert {e.job_id for e in alone} == {job_id}
    assert child in {e.asks_for for e in alone}
    assert {job_id, child} <= {e.job_id for e in both}
    assert next(e.asked_by for e in both if e.job_id == child) == job_id


def test_the_command_needs_no_gateway_and_says_when_there_is_no_such_job(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()
    job_id = loop.send(script("shown"), "shown")
    loop.end(job_id)
    shown = command(loop, job_id)
    assert (shown.returncode, shown.stderr) == (0, "")
    first, *_, last = shown.stdout.splitlines()
    assert first.split()[1:5] == ["+0.000", "s", "test", "UploadReceived"]
    assert last.split()[-1].startswith("media.")
    lines = [json.loads(line) for line in command(loop, job_id, "--json").stdout.splitlines()]
    assert {"at_ms", "after_seconds", "job_id", "who", "event", "what", "topic", "partition", "offset"} <= set(lines[0])
    unknown = command(loop, "no-such-job")
    assert unknown.returncode == 5
    assert unknown.stderr.startswith("reelworks: no topic has a record of a job 'no-such-job'")


def test_a_key_lies_where_the_reader_looks_for_it(loop: Cluster) -> None:
    keys = [f"key-{n}".encode() for n in range(40)]
    for key in keys:
        loop.send_raw(Record(topic=topics.SEGMENTS, key=key, value=b"{}"))
    assert {r.key: r.partition for r in loop.read(topics.SEGMENTS) if r.key in keys} == {key: partition_of(key, 6) for key in keys}


def test_a_retry_is_a_second_run_of_the_same_timeline(loop: Cluster) -> None:
    loop.coordinator()
    loop.scripted()
    job_id = loop.send(script("again", tasks=2, fail={"1": ["permanent", 1]}), "again")
    loop.end(job_id)
    loop.send(RetryRequested(job_id=job_id), "again-please")
    loop.wait(job_id, lambda j: j.runs == 2 and j.state == "failed")
    entries = timeline.of(loop.settings, job_id)
    assert [e.event for e in entries if e.topic == topics.REQUESTS] == ["UploadReceived", "RetryRequested"]
    assert [e.what for e in entries if e.event == "TaskFailed"][-1].startswith("work 2 of 2 failed, attempt 1 of run 2: permanent")
    assert [e.state for e in entries if e.topic == topics.COMPLETIONS] == ["failed", "failed"]
