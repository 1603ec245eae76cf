"""`dead-letters replay` and `jobs retry` on real Kafka: what was set aside is put back, once; what failed goes on where it stopped."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import envelope, topics
from schemas.events import (
    ATTEMPTS_A_RUN,
    CLEANUP_STAGE,
    JobStatus,
    ObjectRef,
    RetryRequested,
    TaskFailed,
    TaskFinished,
    TaskStarted,
    ZipRequested,
)
from services.cli import timeline
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.producer import Record
from services.runtime.kafka.reader import Received
from tests.servers.processes import Cluster, cluster, script

pytestmark = pytest.mark.kafka
DEAD_LETTERS = [sys.executable, "-m", "services.cli.main", "dead-letters"]


@pytest.fixture
def loop(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Cluster]:
    with cluster(broker.bootstrap_servers, tmp_path, REELWORKS_SLOTS="2") as made:
        made.coordinator()
        made.scripted()
        yield made


def run(loop: Cluster, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*DEAD_LETTERS, *words], env=loop.environment, input=stdin, capture_output=True, timeout=90, check=False)


def poison(loop: Cluster, name: str, value: bytes) -> str:
    """Send a request that cannot be read; answers the id of the job that it would have been."""
    headers = envelope.headers_for("UploadReceived", source="another-system", event_id=name)
    loop.send_raw(Record(topic=topics.REQUESTS, key=b"\x00" + name.encode(), value=value, headers=[*headers, ("x-theirs", b"\xff")]))
    return envelope.derived_id("another-system", name)


def letter_of(loop: Cluster, reason: str, seconds: float = 30.0) -> dict[str, Any]:
    """The dead letter with these words in its reason, once it is there."""
    deadline = time.monotonic() + seconds
    while True:
        listed = run(loop, "list", "--all", "--json")
        assert listed.returncode == 0, listed.stderr
        found = [letter for line in listed.stdout.splitlines() if reason in (letter := json.loads(line))["reason"]]
        if found:
            return found[-1]
        assert time.monotonic() < deadline, listed.stdout


def requests(loop: Cluster, event_id: str) -> list[Received]:
    return [r for r in loop.read(topics.REQUESTS) if dict(r.headers).get("ce_id") == event_id.encode()]


def good(name: str, **what: Any) -> bytes:
    return envelope.encode_value(script(name, **what))


def test_poison_is_repaired_becomes_the_job_that_it_was_meant_to_be_and_cannot_be_replayed_twice(loop: Cluster, tmp_path: Path) -> None:
    job_id = poison(loop, "poison", b'{"kee":"in/a.mov"}')
    letter = letter_of(loop, "`key`")
    identity = letter["id"]

    still = run(loop, "replay", identity, "--value", "-", stdin=b'{"key":""}')
    assert still.returncode == 2
    assert b"is not repaired yet, and was not sent: UploadReceived: " in still.stderr
    assert len(requests(loop, "poison")) == 1

    repaired = tmp_path / "repaired.json"
    repaired.write_bytes(good("poison"))
    done = run(loop, "replay", identity, "--value", str(repaired), "--header", "x-mended=yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["job_id"] == job_id
    assert loop.end(job_id).state == "succeeded"

    first, second = sorted(requests(loop, "poison"), key=lambda r: r.timestamp_ms)
    headers = dict(second.headers)
    assert (second.key, second.value) == (first.key, repaired.read_bytes())
    assert {name: headers[name] for name, _ in first.headers} == dict(first.headers)
    assert headers["reelworks-replayed-from"] == f"{topics.DEAD_LETTERS}/{identity}".encode()
    assert headers["reelworks-repaired"] == b"value, x-mended"

    for words in (["replay", identity], ["replay", identity, "--value", str(repaired)]):
        twice = run(loop, *words)
        assert twice.returncode == 2
        assert b"was replayed at" in twice.stderr
    assert len(requests(loop, "poison")) == 2
    told = [e.what for e in timeline.of(loop.settings, job_id)]
    assert f"dead letter {identity} was sent again" in told
    assert f"UploadReceived, replayed from {topics.DEAD_LETTERS}/{identity}" in told


def test_an_unchanged_replay_is_byte_for_byte_what_came(loop: Cluster) -> None:
    poison(loop, "unchanged", b'\x00\xff{"key":')
    letter = letter_of(loop, "invalid")
    assert run(loop, "replay", letter["id"]).returncode == 0
    first, second = sorted(requests(loop, "unchanged"), key=lambda r: r.timestamp_ms)
    assert (second.key, second.value) == (first.key, first.value)
    assert second.headers[: len(first.headers)] == first.headers


def test_a_job_that_was_given_up_goes_on_when_its_dead_letter_is_replayed(loop: Cluster) -> None:
    job_id = loop.send(script("given-up", tasks=2, lack={"1": ["transient", "in/late.bin"]}), "given-up")
    assert loop.end(job_id, 120).state == "failed"
    late = loop.library / "in" / "late.bin"
    late.parent.mkdir(exist_ok=True)
    late.write_bytes(b"here")
    letter = letter_of(loop, "failed 6 times")
    assert letter["type"] == "reelworks.RetryRequested"
    assert run(loop, "replay", letter["id"]).returncode == 0
    assert loop.wait(job_id, lambda j: j.runs == 2 and j.state == "succeeded").error is None


def test_of_two_operators_one_sends_it(loop: Cluster) -> None:
    job_id = poison(loop, "two", b"[]")
    identity = letter_of(loop, "Expected `object`, got `array`")["id"]
    command = [*DEAD_LETTERS, "replay", identity, "--value", "-"]
    both = [
        subprocess.Popen(command, env=loop.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [operator.communicate(good("two"), timeout=90) for operator in both]
    assert sorted(operator.returncode for operator in both) == [0, 2], said
    refused = next(err for operator, (_, err) in zip(both, said, strict=True) if operator.returncode)
    assert any(words in refused for words in (b"who was quicker", b"was replayed at", b"it is not known whether it was sent")), refused
    assert len(requests(loop, "two")) == 2  # the poison, and one that is repaired
    assert loop.end(job_id).state == "succeeded"
    statuses = [envelope.decode(r.value or b"", JobStatus) for r in loop.read(topics.JOBS) if r.key == job_id.encode()]
    assert {status.runs for status in statuses} == {1}


# ── A retry by hand does only what is missing ──────────────────────────────────────────────────────────────────────


def done_and_begun_again(loop: Cluster, job_id: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(stage, number) of the tasks that had finished when the first run failed, and of those that the second run has started."""
    done: list[tuple[int, int]] = []
    begun: list[tuple[int, int]] = []
    failed = False
    for received in (r for r in loop.read(topics.JOB_EVENTS) if r.key == job_id.encode()):
        event = envelope.decode_any(envelope.read(received.headers, received.value))
        failed = failed or isinstance(event, TaskFailed)
        if isinstance(event, TaskFinished) and not failed:
            done.append((event.stage, event.number))
        elif isinstance(event, TaskStarted) and event.attempt > ATTEMPTS_A_RUN and event.stage != CLEANUP_STAGE:
            begun.append((event.stage, event.number))
    return done, begun


def test_a_retry_on_the_command_line_runs_what_is_not_done_and_nothing_else(loop: Cluster) -> None:
    job_id = loop.send(script("missing", tasks=9, second=2, lack={"5": ["permanent", "in/mended"]}), "missing")
    failed = loop.end(job_id)
    assert (failed.state, failed.attempts[-1].task) == ("failed", "work 6 of 9")
    (loop.library / "in").mkdir(exist_ok=True)
    (loop.library / "in" / "mended").write_bytes(b"here")
    _, url = loop.gateway()
    asked = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "jobs", "retry", job_id, "--gateway", url],
        env=loop.environment,
        timeout=60,
        check=False,
    )
    assert asked.returncode == 0
    job = loop.wait(job_id, lambda j: j.runs == 2 and j.state == "succeeded")
    assert [(stage.name, stage.done) for stage in job.stages] == [("plan", 1), ("work", 9), ("second", 2), ("finish", 1)]
    done, begun_again = done_and_begun_again(loop, job_id)
    assert (0, 0) in done
    assert len(done) >= 3
    assert sorted([*done, *begun_again]) == [(0, 0), *((1, n) for n in range(9)), (2, 0), (2, 1), (3, 0)]


def test_the_retry_of_an_archive_only_completes_it_when_that_is_what_was_missing(loop: Cluster) -> None:
    folder, target = loop.library / "films", loop.library / "out" / "films.zip"
    for path in (folder, target.parent):
        path.mkdir(parents=True)
    for n in range(12):
        (folder / f"{n:02}.mp4").write_bytes(random.Random(n).randbytes(14 * 1024**2))
    zipper = loop.service("zipper", REELWORKS_SLOTS="1")
    job_id = loop.send(ZipRequested(prefix="films/", target=ObjectRef(key="out/films.zip")), "archive")
    loop.wait(job_id, lambda j: j.stage >= 1)
    zipper.signal(signal.SIGSTOP)
    target.write_bytes(b"somebody else's")  # while the archive is being made
    zipper.signal(signal.SIGCONT)
    failed = loop.end(job_id)
    assert (failed.state, failed.error and failed.error.code) == ("failed", "target-exists")
    assert target.read_bytes() == b"somebody else's"
    target.unlink()
    loop.send(RetryRequested(job_id=job_id), "archive-again")
    job = loop.wait(job_id, lambda j: j.runs == 2 and j.state == "succeeded")
    done, begun_again = done_and_begun_again(loop, job_id)
    assert [(stage.name, stage.done) for stage in job.stages] == [("plan", 1), ("move", 1), ("heads", 1), ("finish", 1)]
    assert (done, begun_again) == ([(0, 0), (1, 0), (2, 0)], [(3, 0)])
    with zipfile.ZipFile(target) as archive:
        assert len(archive.namelist()) == 12
        assert archive.testzip() is None
