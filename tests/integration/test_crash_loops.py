"""Tasks that end or block their process: they fail after their limit, in words, and what runs beside them comes to its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.events import JobStatus
from services.runtime.jobs import worker
from services.runtime.kafka.local import EmbeddedKafka
from tests.servers.processes import Cluster, cluster, script

pytestmark = pytest.mark.kafka


@pytest.fixture
def loop(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Cluster]:
    with cluster(broker.bootstrap_servers, tmp_path, REELWORKS_SLOTS="2", REELWORKS_LEASE_SECONDS="6") as made:
        made.coordinator()
        yield made


def given_up(job: JobStatus, task: str) -> None:
    """It failed for the workers that it cost, and says what to do."""
    assert (job.state, [note.failure_class for note in job.attempts if note.task == task]) == ("failed", ["worker-lost"] * 3)
    assert job.error is not None
    assert (job.error.code, job.error.failure_class) == ("worker-lost", "worker-lost")
    assert job.error.message.startswith(f"{task} failed 3 times; the last time: the worker transcoder-")
    assert "its input is the likely cause" in job.error.hint


@pytest.mark.parametrize("way", ["exit", "oom"])
def test_the_only_worker_is_killed_by_one_task_again_and_again_and_its_neighbours_come_to_their_end(loop: Cluster, way: str) -> None:
    """Both jobs share the process, so each crash costs the good one its running task, too."""
    only = loop.scripted(keep=True)
    bad = loop.send(script(f"kills-{way}", tasks=1, **{way: [0]}), f"kills-{way}")
    good = loop.send(script(f"beside-{way}", tasks=4, seconds=4), f"beside-{way}")
    given_up(loop.end(bad, 180), "work")
    job = loop.end(good, 180)
    assert (job.state, job.stages[1].done) == ("succeeded", 4)
    assert only.starts >= 3


def test_a_task_that_blocks_its_whole_process_is_ended_with_it_and_fails_after_its_limit(loop: Cluster) -> None:
    """The loop that would end it at its deadline does not run any more: the thread beside it ends the process."""
    short = {"REELWORKS_TASK_TIMEOUT_SECONDS": "3", "HANG_SECONDS": "2"}
    blocked, other = (loop.scripted(keep=True, **short) for _ in range(2))
    bad = loop.send(script("blocks", tasks=1, block=[0]), "blocks")
    good = loop.send(script("beside-block", tasks=8, seconds=1), "beside-block")
    given_up(loop.end(bad, 180), "work")
    assert loop.end(good, 180).state == "succeeded"
    assert blocked.starts + other.starts >= 5
    told = [process.ends for process in (blocked, other)]
    assert {code for codes in told for code in codes} == {worker.EXIT_HANGING}
