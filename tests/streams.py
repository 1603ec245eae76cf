"""Stream jobs without Kafka, in a folder: what the coordinator does between two jobs is done here."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from schemas.events import BY_NAME, FollowUp, Outcome, Recipe, StreamReady, StreamRequested, UploadReceived
from services.runtime.settings import Settings
from services.runtime.testing import Done, JobEnvironment, Needed
from services.streamer import handler as streamer
from services.transcoder import handler as transcoder
from tests import clips, hls


class Streams:
    """A bucket, and both services in it."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder = folder
        self.bucket = folder / "bucket"
        self.streamer = JobEnvironment(streamer.handler(), folder, settings=settings)
        self.transcoder = JobEnvironment(transcoder.handler(), folder, settings=settings, storage=self.streamer.storage)
        self.needed: list[FollowUp] = []
        """What the streamer wanted first, in order."""

    async def run(self, request: StreamRequested, *, job_id: str = "") -> Done:
        """The job, with the transcode that it may need. Raises what either raises."""
        try:
            return await self.streamer.run(request, job_id=job_id)
        except Needed as needed:
            self.needed.append(needed.request)
            upload = msgspec.convert(needed.request.data, BY_NAME[needed.request.type])
            cause = outcome(await self.transcoder.run(upload))
            return await self.streamer.run(msgspec.structs.replace(request, cause=cause), job_id=job_id)

    async def stream(self, clip: Path, **request: Any) -> Done:
        """HLS of a clip."""
        await self.streamer.put(f"in/{clip.name}", clip)
        return await self.run(StreamRequested(key=f"in/{clip.name}", **request))

    async def transcode(self, clip: Path, **recipe: Any) -> Outcome:
        """How a transcode of a clip ended."""
        await self.streamer.put(f"in/{clip.name}", clip)
        return outcome(await self.transcoder.run(UploadReceived(key=f"in/{clip.name}", recipe=Recipe(**recipe))))

    def path(self, key: str) -> Path:
        return self.bucket / key

    def master(self, done: Done) -> Path:
        """The playlist to open, everything that it names checked; the completion is what the coordinator would send."""
        ready = msgspec.convert({"job_id": done.job.job_id, "subject": done.job.subject, "kind": "stream", **done.data}, StreamReady)
        path = self.path(ready.master)
        flat = ready.layout == "flat-ts"
        hls.check_folder(path, root=path.parent if flat else self.bucket / "assets" / ready.asset_id / ready.recipe)
        return path


@asynccontextmanager
async def streams(folder: Path, settings: Settings | None = None) -> AsyncGenerator[Streams]:
    made = Streams(folder, settings)
    try:
        yield made
    finally:
        await made.streamer.storage.close()


def outcome(done: Done) -> Outcome:
    """As the coordinator tells it to what follows."""
    return Outcome(
        job_id=done.job.job_id, kind=done.job.kind, subject=done.job.subject, state="succeeded", outputs=done.outputs, data=done.data
    )


def decode(playlist: Path) -> None:
    """Every picture and every sound of all streams, strictly. Raises AssertionError for the first complaint."""
    said = clips.ffmpeg(
        *("-xerror", "-err_detect", "explode", "-allowed_extensions", "ALL", "-i", str(playlist), "-map", "0"),
        # The clock of an output without a container is its frame rate, which a varying one does not keep.
        *("-fps_mode", "passthrough", "-enc_time_base:v", "1:90000", "-f", "null", "-"),
    )
    assert not said, said


def frames(playlist: Path, stream: str = "v:0") -> int:
    """How many packets a stream of the whole presentation has."""
    argv = ("-allowed_extensions", "ALL", "-count_packets", "-select_streams", stream, "-show_entries", "stream=nb_read_packets")
    return int(clips.ffprobe(playlist, *argv, "-of", "csv=p=0").split()[0].strip(","))
