"""Processes that sleep past their time and wake again, and brokers that fall silent without dying: nothing that is decided is undone."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import Any

import aiohttp
import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas import envelope, topics
from schemas.events import JobStatus, TaskFailed, TaskFinished, TaskReturned
from services.coordinator import watchdog
from services.runtime.kafka import client
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.reader import Received, received
from tests import trees
from tests.servers.kafka import silent
from tests.servers.processes import Cluster, Process, script

pytestmark = pytest.mark.kafka
SESSION_SECONDS = 6.0
"""Of the broker's groups (services/runtime/kafka/local.py)."""
LEASE_SECONDS = 8.0


def uncommitted(loop: Cluster, topic: str) -> list[Received]:
    """Every record that a topic has, those of aborted transactions too."""
    consumer = Consumer(client.reader(loop.settings) | {"isolation.level": "read_uncommitted"})
    try:
        left = set(consumer.list_topics(topic, timeout=15).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        found: list[Received] = []
        while left:
            for message in consumer.consume(1000, 1.0):
                error = message.error()
                if error is None:
                    found.append(received(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
        return found
    finally:
        consumer.close()


def completions(loop: Cluster, job: JobStatus) -> list[dict[str, Any]]:
    """What was said of how a job ended; those that were taken back, too."""
    said = [json.loads(r.value or b"null") for r in uncommitted(loop, topics.COMPLETIONS) if b":transcode" in (r.key or b"")]
    return [outcome for outcome in said if outcome and outcome["job_id"] == job.job_id]


def said_by(loop: Cluster, job_id: str, worker: str) -> list[Any]:
    """Events of a job from one worker."""
    of_job = [r for r in loop.read(topics.JOB_EVENTS) if r.key == job_id.encode()]
    events = [envelope.decode_any(envelope.read(r.headers, r.value)) for r in of_job]
    return [event for event in events if getattr(event, "worker", "") == worker]


def until(condition: Any, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s: {what}"
        time.sleep(0.1)


# ── Workers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def sleeper_of(job: JobStatus) -> str:
    return next(o.worker for o in job.outstanding if o.worker)


@pytest.mark.parametrize(("name", "slow"), [("run", {"seconds": 5.0}), ("finish", {"finish_seconds": 8.0})])
def test_a_worker_that_wakes_after_its_job_has_ended_leaves_it_as_it_is(loop: Cluster, name: str, slow: dict[str, float]) -> None:
    loop.coordinator()
    zombie = loop.scripted(REELWORKS_SLOTS="1")
    job_id = loop.send(script(f"wakes-{name}", tasks=2, **slow), f"wakes-{name}")
    stage = 1 if name == "run" else 2
    held = loop.wait(job_id, lambda j: j.stage == stage and any(o.worker and (o.progress or stage == 2) for o in j.outstanding))
    zombie.signal(signal.SIGSTOP)
    asleep = sleeper_of(held)
    loop.scripted()
    ended = loop.end(job_id)
    assert (ended.state, {note.failure_class for note in ended.attempts}) == ("succeeded", {"worker-lost"})
    output = loop.library / ended.outputs[0].key
    before = (output.read_bytes(), ended.outputs)
    loop.wait(job_id, lambda j: j.cleanup == "done")
    lease = said_by(loop, job_id, asleep)

    zombie.signal(signal.SIGCONT)
    late = (TaskFinished, TaskFailed, TaskReturned)
    until(
        lambda: any(isinstance(e, late) for e in said_by(loop, job_id, asleep)[len(lease) :]), "the one that woke says how its task ended"
    )
    after = loop.end(loop.send(script(f"after-{name}"), f"after-{name}"))  # the coordinator has read what it said
    assert after.state == "succeeded"
    loop.wait(after.job_id, lambda j: j.cleanup == "done")  # else its own plan may still be there below
    now = loop.jobs[job_id]
    assert (now.state, now.runs, now.outputs, now.finished_ms) == ("succeeded", 1, ended.outputs, ended.finished_ms)
    assert (output.read_bytes(), ended.outputs) == before
    assert len(completions(loop, ended)) == 1
    assert trees.files(loop.library / "jobs") == []


# ── Coordinators ───────────────────────────────────────────────────────────────────────────────────────────────────


def writers(loop: Cluster) -> dict[int, list[int]]:
    """By partition of media.jobs: where the numbers of each owner's statuses begin, in the order of the log.

    Those of aborted transactions are among them. An owner numbers its statuses upwards from a random beginning.
    """
    made: dict[int, list[int]] = {}
    last: dict[int, int] = {}
    for record in sorted(uncommitted(loop, topics.JOBS), key=lambda r: (r.partition, r.offset)):
        identity = dict(record.headers).get("ce_id")
        if identity is None or record.value is None:
            continue
        number = int(identity.decode().rpartition("/")[2])
        if not 0 <= number - last.get(record.partition, -1) < 100_000:
            made.setdefault(record.partition, []).append(number)
        last[record.partition] = number
    return made


def test_a_coordinator_that_wakes_after_its_session_commits_nothing_and_the_other_ones_word_stands(loop: Cluster) -> None:
    zombie = loop.coordinator()
    loop.scripted(REELWORKS_SLOTS="4")
    jobs = [loop.send(script(f"fenced-{n}", tasks=60, seconds=0.3), f"fenced-{n}") for n in range(6)]
    for job_id in jobs:
        loop.wait(job_id, lambda j: j.stage == 1)
    zombie.signal(signal.SIGSTOP)
    other = loop.coordinator()
    for partition in range(topics.JOB_PARTITIONS):
        other.said("partition is ours", lambda line, p=partition: line["partition"] == p)
    moved = {job_id: loop.jobs[job_id].stages[1].done for job_id in jobs}
    loop.wait(jobs[0], lambda j: j.stages[1].done > moved[jobs[0]] + 2)

    zombie.signal(signal.SIGCONT)
    ended = [loop.end(job_id, 150) for job_id in jobs]
    assert {job.state for job in ended} == {"succeeded"}
    assert {job.stages[1].done for job in ended} == {60}
    assert [len(completions(loop, job)) for job in ended] == [1] * 6
    # Whoever was followed by another never writes again, not even what is taken back later. After it woke, some partitions may have
    # become the first one's anew: that is another writer, which has read everything.
    for partition, numbers in writers(loop).items():
        assert len(numbers) == len(set(numbers)), f"two wrote partition {partition} in turn"
    assert zombie.process.poll() is None
    assert all(j.attempts == [] for j in ended)


def test_the_watchdog_ends_a_coordinator_that_hangs_in_a_transaction_and_another_goes_on(loop: Cluster, broker: EmbeddedKafka) -> None:
    hanging = impatient(loop, 5.0)
    loop.scripted()
    job_id = loop.send(script("hangs-in-commit", tasks=40, seconds=0.2), "hangs-in-commit")
    loop.wait(job_id, lambda j: j.stage == 1 and j.stages[1].done >= 3)
    # Its deadline passes while the broker is silent, so there is something to be committed then.
    due = loop.send(msgspec.structs.replace(script("due", tasks=1, hang=[0]), deadline_seconds=10), "due")
    loop.wait(due, lambda _: True)
    with silent(broker):
        # A commit waits for the broker for 15 s, longer than this watchdog does.
        assert hanging.process.wait(60) == watchdog.EXIT_CODE
    assert hanging.said("a thread hangs; the process ends and is started again")["thread"]
    loop.coordinator()
    job = loop.end(job_id)
    assert (job.state, job.attempts) == ("succeeded", [])
    assert len(completions(loop, job)) == 1
    expired = loop.end(due)
    assert (expired.state, expired.error and expired.error.code) == ("failed", "deadline")


def test_the_watchdog_spares_a_process_that_was_itself_stopped(loop: Cluster) -> None:
    stopped = impatient(loop, 12.0)
    loop.scripted()
    job_id = loop.send(script("was-stopped", tasks=6, seconds=0.5), "was-stopped")
    loop.wait(job_id, lambda j: j.stage == 1)
    stopped.signal(signal.SIGSTOP)
    time.sleep(watchdog.STOPPED_SECONDS + 12.0)  # longer than its term: what is tested is that this time does not count
    stopped.signal(signal.SIGCONT)
    assert loop.end(job_id).state == "succeeded"
    assert stopped.process.poll() is None


def impatient(loop: Cluster, seconds: float) -> Process:
    return loop.start([sys.executable, "-m", "tests.programs.impatient_coordinator"], "impatient", HANG_SECONDS=str(seconds))


# ── A broker that answers nobody ───────────────────────────────────────────────────────────────────────────────────


async def test_a_gateway_whose_broker_falls_silent_says_so_goes_on_answering_polls_and_recovers(
    loop: Cluster, broker: EmbeddedKafka
) -> None:
    process, url = loop.gateway()
    film = loop.library / "in" / "film.mp4"
    film.parent.mkdir()
    film.write_bytes(b"film")
    async with aiohttp.ClientSession(url) as http, asyncio.timeout(150):

        async def upload() -> tuple[int, dict[str, Any]]:
            async with http.put("/v1/uploads/film.mp4", data=b"film") as answer:
                return answer.status, await answer.json()

        async def request() -> tuple[int, dict[str, Any]]:
            data = {"type": "StreamRequested", "data": {"key": "in/film.mp4"}}
            async with http.post("/v1/jobs", json=data) as answer:
                return answer.status, await answer.json()

        status, accepted = await upload()
        assert status == 202
        with silent(broker):
            answers = [asyncio.create_task(ask()) for ask in (upload, request, upload, request)]
            polls = 0
            while not all(answer.done() for answer in answers):
                async with asyncio.timeout(10), http.get(f"/v1/jobs/{accepted['job_id']}") as poll:
                    assert poll.status == 200
                polls += 1
                await asyncio.sleep(0.05)
            for answer in answers:
                status, problem = answer.result()
                assert (status, "Kafka" in problem["detail"]) == (503, True), problem
            assert polls > 3  # those that waited for the broker would be two at the most
        while (await upload())[0] != 202:
            await asyncio.sleep(0.2)
        assert (await request())[0] == 202
    assert process.process.poll() is None
