"""What a released task becomes, without Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.events import PLAN_MISSING, FollowUp, TaskReleased
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Cancelled, Permanent
from services.runtime.jobs.handler import Finished, Job, Results, Task
from services.runtime.jobs.perform import Performer
from services.runtime.jobs.plan import Plan, Stage
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


class Tidied:
    """Plans one task, during which the job ends and is tidied up by another worker."""

    service = "transcoder"

    def __init__(self) -> None:
        self.meanwhile = False

    async def plan(self, job: Job, ctx: TaskContext) -> Plan:
        return Plan(stages=[Stage(name="work", service=self.service, tasks=[{}])])

    async def run(self, task: Task, ctx: TaskContext) -> Any:
        await ctx.storage.bucket().put("jobs/j/segments/0.m4s", b"of this job alone")
        if self.meanwhile:
            await Performer(self).perform(released("cleanup", stage=-1), ctx, "other")
            await ctx.storage.bucket().put("jobs/j/segments/1.m4s", b"written after that")
            await ctx.storage.bucket().put("shows/1.ts", b"that only the handler knows")
        return {"n": 0}

    async def finish(self, job: Job, data: Any, results: Results[Any], ctx: TaskContext) -> Finished:
        raise AssertionError

    async def cleanup(self, job: Job, ctx: TaskContext) -> None:
        await ctx.storage.bucket().delete(f"shows/{job.request['key']}")


def released(role: Any, *, stage: int, plan_hash: str = "") -> TaskReleased:
    return TaskReleased(
        job_id="j", kind="transcode", role=role, stage=stage, number=0, attempt=1, subject="a", request_type="UploadReceived",
        # As the coordinator does: the plan has the request for the others.
        request={} if role == "run" else {"key": "1.ts"}, plan_hash=plan_hash,
    )  # fmt: skip


async def test_a_task_that_ends_after_its_job_was_tidied_up_leaves_nothing_behind(tmp_path: Path) -> None:
    settings = Settings(storage_url=(tmp_path / "films").as_uri(), data_dir=str(tmp_path / "data"))
    storage = open_storage(settings)

    async def emit(event: msgspec.Struct, key: str) -> None:
        raise AssertionError((event, key))

    ctx = TaskContext(storage=storage, settings=settings, emit=emit, job_id="j", attempt=1, label="work-0")
    handler = Tidied()
    performer = Performer(handler)
    planned = await performer.perform(released("plan", stage=0), ctx, "w")
    work = released("run", stage=1, plan_hash=planned.plan_hash)
    await performer.perform(work, ctx, "w")
    assert [item.key async for item in storage.bucket().list("")] == [
        "jobs/j/plan.json", "jobs/j/results/1-000000.json", "jobs/j/segments/0.m4s",
    ]  # fmt: skip
    handler.meanwhile = True
    with pytest.raises(Cancelled, match="tidied up"):
        await performer.perform(work, ctx, "w")
    assert [item.key async for item in storage.bucket().list("")] == []


async def test_a_task_whose_plan_is_gone_says_what_helps(tmp_path: Path) -> None:
    settings = Settings(storage_url=(tmp_path / "films").as_uri(), data_dir=str(tmp_path / "data"))

    async def emit(event: msgspec.Struct, key: str) -> None:
        raise AssertionError((event, key))

    ctx = TaskContext(storage=open_storage(settings), settings=settings, emit=emit, job_id="j", attempt=1, label="work-0")
    with pytest.raises(Permanent) as failed:
        await Performer(Tidied()).perform(released("run", stage=1, plan_hash="h"), ctx, "w")
    assert failed.value.code == PLAN_MISSING
    assert "Retry the job" in failed.value.hint
