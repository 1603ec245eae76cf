"""A job half-way through whose status a later version wrote: an older coordinator, workers and gateway go on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import topics
from schemas.events import FollowUp
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.producer import Record
from services.runtime.settings import Settings
from tests.servers.gateway import run_gateway
from tests.servers.processes import cluster, script

pytestmark = pytest.mark.kafka
ADDED = {"a": ["later", 1]}
TASKS = 8


def later(value: bytes) -> bytes:
    """A status with what a later version might add, at every level."""
    status: dict[str, Any] = json.loads(value)
    status["stages"] = [stage | {"later": ADDED} for stage in status["stages"]]
    status["outstanding"] = [[*task, *[0.0] * (5 - len(task)), "later"] for task in status.get("outstanding", [])]
    status["request"] |= {"later": ADDED}
    return msgspec.json.encode(status | {"later": ADDED})


async def test_a_job_of_a_later_version_is_brought_to_its_end(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with cluster(own_kafka.bootstrap_servers, tmp_path, REELWORKS_SLOTS="1") as made:
        coordinator, worker = made.coordinator(), made.scripted()
        then = FollowUp(type="UploadReceived", data={"key": "in/then.mov", "title": '{"tasks": 1}'})
        job_id = made.send(script("film", (then,), tasks=TASKS, seconds=0.4), "half-way")
        made.wait(job_id, lambda job: job.stage == 1 and job.stages[1].done >= 2)
        worker.kill()
        # In order: a transaction that a killed one leaves open hides whatever is written behind it for a minute.
        assert coordinator.stop() == 0
        last = [r for r in made.read(topics.JOBS) if r.key == job_id.encode()][-1]
        headers = [(name, value or b"") for name, value in last.headers]
        made.send_raw(Record(topic=topics.JOBS, key=job_id, value=later(last.value or b""), headers=[*headers], partition=last.partition))
        made.wait(job_id, lambda job: "later" in job.request)

        settings = Settings(
            bootstrap_servers=own_kafka.bootstrap_servers, storage_url=made.library.as_uri(), data_dir=str(tmp_path / "view"), port=0
        )
        async with run_gateway(settings) as gateway:
            shown = await gateway.json(f"/v1/jobs/{job_id}")
            assert (shown["state"], shown["tasks"]["total"]) == ("running", TASKS + 2)
            made.coordinator()
            made.scripted()
            job = made.end(job_id)
            assert job.state == "succeeded"
            assert [stage.done for stage in job.stages] == [1, TASKS, 1]
            assert (await gateway.until(f"/v1/jobs/{job_id}", lambda shown: shown["state"] == "succeeded"))["progress"] == 1.0
        [numbers] = [output.key for output in job.outputs]
        assert json.loads((made.library / numbers).read_bytes()) == list(range(TASKS))
        values = [json.loads(r.value or b"{}") for r in made.read(topics.JOBS) if r.key == job_id.encode()]
        written = [index for index, value in enumerate(values) if "later" in value]
        assert written, "the later version's status is in the log"
        # An older coordinator writes what it knows. The request is the sender's, and nobody takes anything out of it.
        assert all("later" not in value and "later" in value["request"] for value in values[written[-1] + 1 :])
        done = [r for r in made.read(topics.COMPLETIONS) if (r.key or b"") == f"{job.subject}:{job.kind}".encode()]
        assert len(done) == 1
