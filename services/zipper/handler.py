"""The zipper as a service: objects become an archive."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.events import ZipRequested
from services.runtime.archives import manifest
from services.runtime.jobs import plan as plans
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.handler import Finished, Job, JobHandler, Results, Task
from services.runtime.jobs.plan import Plan
from services.runtime.storage.base import NotFound
from services.zipper import finishing, joining, moving, packing, planning, uploads
from services.zipper.archive import (
    Archive,
    HeadsWritten,
    JoinSlice,
    Made,
    MakePack,
    Moved,
    MoveRanges,
    RangesMoved,
    Sum,
    Work,
    WriteHeads,
)  # fmt: skip


class Zip:
    """ZipRequested → an archive at the target."""

    service = planning.SERVICE

    async def plan(self, job: Job, ctx: TaskContext) -> Plan:
        return await planning.plan(job, ctx)

    async def run(self, task: Task, ctx: TaskContext) -> Made:
        archive = msgspec.convert(task.data, Archive)
        work: Work = msgspec.convert(task.parameters, Work)
        match work:
            case MoveRanges():
                return await moving.ranges(work, archive, ctx)
            case MakePack():
                return await packing.pack(work, task.number, archive, ctx)
            case WriteHeads():
                return await packing.heads(work, archive, await self._sums(work, archive, task), ctx)
            case JoinSlice():
                moved = msgspec.convert(await task.earlier.of("move"), list[Moved])
                made = [*moved, *await task.earlier.of("heads", HeadsWritten)]
                parts = [part for m in made for part in m.parts if part.slice == work.slice]
                return await joining.join(work, archive, parts, ctx)

    async def finish(self, job: Job, data: Any, results: Results[Any], ctx: TaskContext) -> Finished:
        archive = msgspec.convert(data, Archive)
        return await finishing.finish(archive, planning.layout_of(archive), results, ctx)

    async def cleanup(self, job: Job, ctx: TaskContext) -> None:
        """Uploads that were not completed, and an archive that appeared though the job came to nothing. And the list of a job that nobody
        can try again."""
        request = job.typed(ZipRequested)
        target = planning.target_of(request, ctx)
        if request.manifest is not None and job.outcome == "succeeded":
            await manifest.discard(ctx.storage, request.manifest, job.job_id)
        if job.outcome in ("cancelled", "failed"):
            await finishing.withdraw(target, ctx)
        try:
            body = await ctx.storage.bucket("").read(plans.plan_key(job.job_id))
        except NotFound:
            await uploads.discard_claimed(target, job.job_id, ctx)
            return
        archive = msgspec.convert(plans.decode(body).data, Archive)
        await uploads.discard(archive, job.job_id, ctx)

    async def _sums(self, work: WriteHeads, archive: Archive, task: Task) -> list[Sum]:
        """Of the ranges of sources whose CRC is not known otherwise."""
        wanted = {head.source for head in work.heads if archive.sources[head.source].crc32 is None}
        moves = planning.layout_of(archive).moves
        numbers = [n for n, m in enumerate(moves) if isinstance(m, MoveRanges) and any(r.source in wanted for r in m.ranges)]
        moved = await task.earlier.of("move", RangesMoved, numbers=numbers)
        return [s for made in moved for s in made.sums if s.source in wanted]


def handler() -> JobHandler:
    """What the worker process runs."""
    return Zip()
