"""What a released task becomes, without Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from schemas.events import FollowUp, TaskReleased
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.handler import Finished, Job, Results, Task
from services.runtime.jobs.perform import Performer
from services.runtime.jobs.plan import Plan
from services.runtime.settings import Settings
from services.runtime.storage.factory import open_storage


class AfterAnother:
    """Needs another job until it is told how that one ended."""

    service = "streamer"

    async def plan(self, job: Job, ctx: TaskContext) -> Plan:
        if "cause" not in job.request:
            return Plan(stages=[], needs=FollowUp(type="UploadReceived", data={"key": "film.mkv"}))
        return Plan(stages=[], data="planned")

    async def run(self, task: Task, ctx: TaskContext) -> Any:
        raise AssertionError

    async def finish(self, job: Job, data: Any, results: Results[Any], ctx: TaskContext) -> Finished:
        raise AssertionError

    async def cleanup(self, job: Job, ctx: TaskContext) -> None:
        raise AssertionError


async def test_a_plan_that_needs_another_job_leaves_none_behind(tmp_path: Path) -> None:
    settings = Settings(storage_url=(tmp_path / "films").as_uri(), data_dir=str(tmp_path / "data"))
    storage = open_storage(settings)

    async def emit(event: msgspec.Struct, key: str) -> None:
        raise AssertionError((event, key))

    ctx = TaskContext(storage=storage, settings=settings, emit=emit, job_id="j", attempt=1, label="plan")
    task = TaskReleased(
        job_id="j", kind="stream", role="plan", stage=0, number=0, attempt=1, subject="a", request_type="StreamRequested", request={}
    )
    performer = Performer(AfterAnother())
    first = await performer.perform(task, ctx, "w")
    assert first.needs == FollowUp(type="UploadReceived", data={"key": "film.mkv"})
    assert (first.plan_hash, first.stages) == ("", ())
    assert [item.key async for item in storage.bucket("").list("")] == []

    told = msgspec.structs.replace(task, attempt=2, request={"cause": {"state": "succeeded"}})
    second = await performer.perform(told, ctx, "w")
    assert second.needs is None
    assert second.plan_hash
    assert [item.key async for item in storage.bucket("").list("")] == ["jobs/j/plan.json"]
