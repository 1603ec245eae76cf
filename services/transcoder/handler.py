"""The transcoder as a service."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.events import Output
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Transient
from services.runtime.jobs.handler import Finished, Job, JobHandler, Results, Task
from services.runtime.jobs.plan import Plan
from services.runtime.jobs.sources import telling
from services.runtime.media import presentation
from services.transcoder import composing, encoding, layout, planning, renditions, verification
from services.transcoder.film import (
    AudioMade,
    ComposeMp4,
    CopyMp4,
    EncodeAudio,
    EncodeVideo,
    FileMade,
    Film,
    Made,
    MakeStills,
    StillsMade,
    VideoMade,
    Work,
)  # fmt: skip


class Transcode:
    """UploadReceived → renditions, poster and thumbnail."""

    service = planning.SERVICE

    async def plan(self, job: Job, ctx: TaskContext) -> Plan:
        with telling():
            return await planning.plan(job, ctx)

    async def run(self, task: Task, ctx: TaskContext) -> Made:
        film = msgspec.convert(task.data, Film)
        with telling():
            work: Work = msgspec.convert(task.parameters, Work)
            match work:
                case EncodeVideo():
                    return await encoding.video(work, film, ctx)
                case EncodeAudio():
                    return await encoding.audio(work, film, ctx)
                case ComposeMp4():
                    return await composing.mp4(work, film, ctx)
                case CopyMp4():
                    return await composing.copied(work, film, ctx)
                case MakeStills():
                    return await composing.stills(film, ctx)

    async def finish(self, job: Job, data: Any, results: Results[Any], ctx: TaskContext) -> Finished:
        film = msgspec.convert(data, Film)
        made = msgspec.convert([*results.of("encode"), *results.of("compose")], list[Made])
        audios = [m for m in made if isinstance(m, AudioMade)]
        videos = [m for m in made if isinstance(m, VideoMade)]
        files = [m for m in made if isinstance(m, FileMade)] + [f for m in made if isinstance(m, StillsMade) for f in m.files]
        total = film.frames if film.copied else verification.frames(film, videos, audios) if film.grid else 0
        for file in files:
            verification.file(film, file, total)
            if (await ctx.storage.bucket(file.bucket).head(file.key)).size != file.size:
                raise Transient("output", f"{file.key} is not the object that was written")
        outputs = [_output(f) for f in files]
        if not film.beside:
            outputs += await self._publish(renditions.presentation(film, layout.folder(film, ctx.job_id), videos, audios), ctx)
        rate = film.grid.rate if film.grid else None
        top = film.rungs[0] if film.rungs else None
        return Finished(
            outputs=tuple(outputs),
            data={
                "asset_id": film.asset_id,
                "bucket": film.bucket,
                "key": film.key,
                "title": film.title,
                "duration_seconds": round(float(total / rate) if rate else max((a.seconds for a in audios), default=0.0), 3),
                "width": top.width if top else 0,
                "height": top.height if top else 0,
                "frame_rate": round(float(rate), 6) if rate else 0.0,
                "frames": total,
                "has_audio": any(a.segments for a in audios) or (film.copied and film.source.audio is not None),
                "has_video": film.grid is not None,
                "recipe": film.recipe_hash,
            },
        )

    async def cleanup(self, job: Job, ctx: TaskContext) -> None:
        """Nothing: segments of a job whose results lie beside the input lie below `jobs/{job}/`; those of an asset stay: a retry uses
        them, players play them."""

    async def _publish(self, made: presentation.Presentation, ctx: TaskContext) -> list[Output]:
        """Store the manifest. Answers an output for each rendition: its init segment."""
        store = ctx.storage.bucket("")
        outputs: list[Output] = []
        for rendition in made.renditions:
            info = await store.head(presentation.init_key(made.folder, rendition.name))
            outputs.append(
                Output(
                    role="init", bucket=store.bucket, key=info.key, size=info.size, etag=info.etag, name=rendition.name,
                    content_type=presentation.INIT_TYPE, width=rendition.width, height=rendition.height, codecs=rendition.codecs,
                )
            )  # fmt: skip
        await store.put(f"{made.folder}/{presentation.MANIFEST}", presentation.encode(made), content_type="application/json")
        return outputs


def _output(file: FileMade) -> Output:
    return Output(
        role=file.role, bucket=file.bucket, key=file.key, size=file.size, content_type=file.content_type, name=file.name,
        width=file.width, height=file.height, bit_rate=file.bit_rate, codecs=file.codecs, etag=file.etag,
    )  # fmt: skip


def handler() -> JobHandler:
    """What the worker process runs."""
    return Transcode()
