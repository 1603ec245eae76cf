"""SIGTERM on busy services: nothing new, what is under way is finished or handed back, exit code 0, nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime.jobs import slots
from services.runtime.kafka.local import EmbeddedKafka
from tests import trees
from tests.servers.busy import SERVICES, children
from tests.servers.kafka import gone, silent
from tests.servers.processes import Cluster, alive, cluster, script
from tests.servers.up import until

pytestmark = pytest.mark.kafka
SECONDS = 45.0
"""At most, from SIGTERM to the end: what the grace of a supervisor must allow."""


@pytest.fixture
def made(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Cluster]:
    with cluster(broker.bootstrap_servers, tmp_path, REELWORKS_SLOTS="2", REELWORKS_DRAIN_SECONDS="3") as running:
        yield running


@pytest.mark.parametrize("service", SERVICES)
def test_a_busy_service_that_is_told_to_stop_ends_in_order(made: Cluster, service: str) -> None:
    with SERVICES[service](made) as busy:
        started = children(busy.process)
        assert busy.process.process.poll() is None
        assert busy.process.stop(SECONDS) == 0, busy.process.tail()
        until(lambda: not any(map(alive, started)), 10)  # a grandchild dies a moment after its parent
        assert trees.files(made.folder / "scratch") == []
        busy.check()


@pytest.mark.parametrize(
    ("service", "how"),
    [("coordinator", "silent"), ("coordinator", "gone"), ("gateway", "silent"), ("scripted", "silent"), ("scripted", "gone"),
     ("streamer-live", "silent")],
)  # fmt: skip
def test_a_service_ends_though_its_broker_answers_nobody(made: Cluster, broker: EmbeddedKafka, service: str, how: str) -> None:
    coordinator = made.coordinator()
    worker = made.scripted()
    job_id = made.send(script(f"{how}-{service}", tasks=30, seconds=0.5), f"{how}-{service}")
    made.wait(job_id, lambda j: j.stage == 1 and j.stages[1].done >= 2)
    process = {"coordinator": lambda: coordinator, "scripted": lambda: worker, "gateway": lambda: made.gateway()[0]}.get(
        service, lambda: made.service(service)
    )()
    if service == "streamer-live":
        process.said("the table was read back")
    with silent(broker) if how == "silent" else gone(broker):
        code = process.stop(SECONDS)
    # A worker cannot hand back what it had, and says so by its exit code; its leases run out.
    assert code in ((0, slots.EXIT_UNDELIVERED) if service == "scripted" else (0,)), process.tail()
    if service == "coordinator":
        made.coordinator()
    if service == "scripted":
        made.scripted()
    assert made.end(job_id, 120).state == "succeeded"
