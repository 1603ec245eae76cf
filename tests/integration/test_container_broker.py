"""The loop on a broker in a container: the Kafka that people deploy, with the settings of the embedded one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from schemas import topics
from schemas.events import UploadReceived
from services.runtime.kafka import admin
from services.runtime.settings import Settings
from tests.servers.container_kafka import CLUSTER_ID, container_kafka, engine_fault
from tests.servers.processes import cluster

pytestmark = [pytest.mark.kafka, pytest.mark.engine]


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    if fault := engine_fault():
        pytest.skip(fault)
    with container_kafka() as bootstrap_servers:
        yield bootstrap_servers


def test_topics_are_applied_and_a_job_runs_through_coordinator_and_workers(broker: str, tmp_path: Path) -> None:
    assert AdminClient({"bootstrap.servers": broker}).describe_cluster().result(15).cluster_id == CLUSTER_ID
    settings = Settings(bootstrap_servers=broker)
    assert {made.topic for made in admin.apply(settings)} == {topic.name for topic in topics.TOPICS}
    assert admin.diff(settings) == []
    with cluster(broker, tmp_path, REELWORKS_SLOTS="2") as loop:
        for start in (loop.coordinator, loop.scripted, loop.scripted):
            start()
        request = UploadReceived(key="in/film.mov", title=json.dumps({"tasks": 8, "seconds": 0.1, "second": 2}))
        job = loop.end(loop.send(request, "container"))
        assert (job.state, job.progress, job.attempts) == ("succeeded", 1.0, [])
        assert [(s.name, s.total, s.done) for s in job.stages] == [("plan", 1, 1), ("work", 8, 8), ("second", 2, 2), ("finish", 1, 1)]
        assert json.loads((loop.library / job.outputs[0].key).read_bytes()) == list(range(8))
        completions = [r for r in loop.read(topics.COMPLETIONS) if r.key == f"{job.subject}:transcode".encode()]
        assert [json.loads(r.value or b"")["job_id"] for r in completions] == [job.job_id]
