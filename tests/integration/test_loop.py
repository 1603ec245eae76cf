"""The loop on real Kafka: request → coordinator → tasks → outcome, and what happens when any part of it dies."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

from schemas import envelope, topics
from schemas.events import CancelRequested, JobStatus, RetryRequested
from services.runtime.kafka.local import EmbeddedKafka
from tests import trees
from tests.servers.kafka import gone
from tests.servers.processes import Cluster, script
from tests.servers.up import until

pytestmark = pytest.mark.kafka


def running(count: int) -> Any:
    """Whether so many tasks of the job are in slots."""
    return lambda job: sum(1 for o in job.outstanding if o.worker) >= count and job.state == "running"


def left_in_storage(loop: Cluster) -> list[str]:
    return [str(path.relative_to(loop.library)) for path in trees.files(loop.library / "jobs")]


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


def test_a_worker_that_is_started_again_under_its_name_owns_none_of_the_tasks_it_had(loop: Cluster) -> None:
    """As a container is: the same host, the same process id, the same settings."""
    loop.coordinator()
    victim = loop.scripted(REELWORKS_INSTANCE="the-only-one")
    job_id = loop.send(script("again", tasks=2, seconds=4), "again")
    loop.wait(job_id, running(2))
    victim.kill()
    loop.scripted(REELWORKS_INSTANCE="the-only-one")
    job = loop.end(job_id)
    assert (job.state, {n.failure_class for n in job.attempts}) == ("succeeded", {"worker-lost"})


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


def test_what_is_started_while_the_broker_is_away_works_when_it_is_back(loop: Cluster, broker: EmbeddedKafka) -> None:
    with gone(broker):
        coordinator, worker = loop.coordinator(keep=True), loop.scripted(keep=True)
        until(lambda: coordinator.starts > 1 and "the consumer begins again" in worker.tail(), 60, loop.tails)
        assert "no Kafka broker answers" in coordinator.tail()
    assert loop.end(loop.send(script("late-broker"), "late-broker"), 120).state == "succeeded"


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
