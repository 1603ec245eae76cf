"""The streamer as a service: a film in segments becomes HLS."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.events import StreamRequested
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent, Transient
from services.runtime.jobs.handler import Finished, Job, JobHandler, Results, Task
from services.runtime.jobs.plan import Plan
from services.runtime.jobs.sources import telling
from services.runtime.media.failures import BadMedia, MediaError
from services.runtime.media.probe import refused
from services.runtime.media.process import ProcessFailed
from services.streamer import drawing, flattening, packaging, planning, publishing
from services.streamer.film import Film, FlatMade, Made, MakeStoryboard, PackageOriginal, StoryboardMade, Work


class Stream:
    """StreamRequested → playlists, and segments where they are not there yet."""

    service = planning.SERVICE

    async def plan(self, job: Job, ctx: TaskContext) -> Plan:
        with telling():
            return await planning.plan(job, ctx)

    async def run(self, task: Task, ctx: TaskContext) -> Made:
        film = msgspec.convert(task.data, Film)
        work: Work = msgspec.convert(task.parameters, Work)
        if isinstance(work, PackageOriginal):
            with telling():
                return await packaging.package(film, ctx)
        try:
            return await (drawing.draw(film, ctx) if isinstance(work, MakeStoryboard) else flattening.write(work, film, ctx))
        except (MediaError, ProcessFailed) as wrong:
            reason = refused(wrong) if isinstance(wrong, ProcessFailed) else wrong
            if film.original is not None and isinstance(reason, BadMedia):
                # It was packaged as it is, damages and all.
                raise Permanent(
                    "undecodable",
                    "parts of its pictures or of its sound are damaged, and cannot be read",
                    "Transcode the film (upload it), which passes over what cannot be decoded.",
                ) from wrong
            # What was encoded by us is well: it is not the source that is at fault.
            raise Transient("media", str(wrong)) from wrong

    async def finish(self, job: Job, data: Any, results: Results[Any], ctx: TaskContext) -> Finished:
        film = msgspec.convert(data, Film)
        if film.layout == "flat-ts":
            return await publishing.flattened(film, results.of("flat", FlatMade), ctx)
        return await publishing.asset(film, next(iter(results.of("storyboard", StoryboardMade)), None), ctx)

    async def cleanup(self, job: Job, ctx: TaskContext) -> None:
        """Of a flat layout that came to nothing: its segments, which no playlist names. An asset's stay: a retry writes the same."""
        request = job.typed(StreamRequested)
        if request.layout != "flat-ts" or job.outcome == "succeeded":
            return
        await flattening.discard(request, job.job_id, ctx)


def handler() -> JobHandler:
    """What the worker process runs."""
    return Stream()
