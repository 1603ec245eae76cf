"""What services that read films share: the source found again, looked at, and what media programs say of it as a task's failure."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator

from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent, Transient
from services.runtime.media import sandbox, structure
from services.runtime.media.confinement import Confinement
from services.runtime.media.failures import BadMedia, MediaError
from services.runtime.media.probe import ACCEPTED, Source, refused
from services.runtime.media.process import ProcessFailed
from services.runtime.storage.base import ObjectInfo, ObjectStore

_LATEST_SECONDS = 60.0
"""So much later than the others a track may begin in any film."""


def readable(ctx: TaskContext) -> int:
    """For how many seconds ffmpeg may read the source: a signed URL stands in its command line, so no longer than the task lives."""
    return math.ceil(ctx.settings.task_timeout_seconds)


async def locate(ctx: TaskContext, *, bucket: str, key: str, etag: str) -> str:
    """Where ffmpeg reads the source. Raises Permanent when it is another object than was planned."""
    store = ctx.storage.bucket(bucket)
    if (await store.head(key)).etag != etag:
        raise Permanent("object-changed", f"{key!r} was replaced while the job ran", "Send the request again for the object as it is now.")
    return await store.source_for(key, seconds=readable(ctx))


def confinement(ctx: TaskContext, location: str = "") -> Confinement:
    """What a media program of this task may use: its scratch folder where it has one, and the source when it reads that.

    `location`: of `locate`.
    """
    settings, scratch = ctx.settings, ctx.scratch_in_use
    remote = location.startswith(("http://", "https://"))
    return Confinement(
        reads=(location,) if location and not remote else (),
        writes=(str(scratch),) if scratch is not None else (),
        port=sandbox.port(location) if remote else 0,
        memory=settings.media_memory_bytes,
        file_bytes=settings.scratch_quota_bytes,
        fenced=settings.media_confinement == "full",
    )


def reader(store: ObjectStore, info: ObjectInfo) -> structure.Read:
    """Reads ranges of this very object."""

    async def read(start: int, end: int) -> bytes:
        return b"".join([chunk async for chunk in store.get(info.key, start=start, end=end, if_match=info.etag)])

    return read


def refuse_empty(info: ObjectInfo, name: str) -> None:
    """Raises Permanent for an object without bytes."""
    if info.size == 0:
        raise Permanent("empty", f"{name!r} is empty", ACCEPTED)


def refuse_incomplete(found: structure.Structure, name: str) -> None:
    """Raises Permanent for what is no media, or not all of it."""
    if found.playlist:
        raise Permanent("not-a-video", f"{name!r} is {found.playlist}: it only names media that lie elsewhere", ACCEPTED)
    if found.truncated:
        raise Permanent("truncated", f"{name!r} is not complete: {found.truncated}", "Upload the whole file again.")


def refuse_long(source: Source, longest: float) -> None:
    """Raises Permanent for films of more than `longest` seconds, and for tracks that are not of one time.

    What is missing of a track is filled, with the picture before or with silence, so a file's clock decides how much is made of it.
    """
    tracks = [(t.start_seconds, t.duration_seconds) for t in (*([source.video] if source.video else []), *source.audios)]
    begin = min(start for start, _ in tracks)
    seconds = max(start + length for start, length in tracks) - begin
    if seconds > longest:
        raise too_long(longest, f"the film is said to last {_words(seconds)}")
    late = max(start for start, _ in tracks) - begin
    if late > max(_LATEST_SECONDS, *(length for _, length in tracks)):
        raise Permanent(
            "clock",
            f"one of its tracks begins {late:,.0f} s after another, when that has long ended: its time stamps are broken",
            "Does it play on your machine? Convert it there first.",
        )


def too_long(longest: float, why: str = "the film goes on and on, by its time stamps") -> Permanent:
    """For a film of more than `longest` seconds."""
    return Permanent(
        "too-long",
        f"{why}; at most {_words(longest)} are accepted",
        "Cut it, or raise REELWORKS_MAX_SOURCE_SECONDS. If it is not that long, its time stamps are broken: convert it first.",
    )


def _words(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds:,.0f} seconds"


@contextlib.contextmanager
def telling() -> Generator[None]:
    """What goes wrong with ffmpeg in this block is raised as what the runtime understands: Permanent or Transient."""
    try:
        yield
    except (MediaError, ProcessFailed) as wrong:
        reason = refused(wrong) if isinstance(wrong, ProcessFailed) else wrong
        kind = Permanent if isinstance(reason, BadMedia) else Transient
        raise kind(reason.code, reason.message, reason.hint) from wrong
