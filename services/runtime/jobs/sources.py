"""What services that read films share: the source found again, looked at, and what media programs say of it as a task's failure."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator

from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent, Transient
from services.runtime.media import structure
from services.runtime.media.failures import BadMedia, MediaError
from services.runtime.media.probe import ACCEPTED, refused
from services.runtime.media.process import ProcessFailed
from services.runtime.storage.base import ObjectInfo, ObjectStore


def readable(ctx: TaskContext) -> int:
    """For how many seconds ffmpeg may read the source: a signed URL stands in its command line, so no longer than the task lives."""
    return math.ceil(ctx.settings.task_timeout_seconds)


async def locate(ctx: TaskContext, *, bucket: str, key: str, etag: str) -> str:
    """Where ffmpeg reads the source. Raises Permanent when it is another object than was planned."""
    store = ctx.storage.bucket(bucket)
    if (await store.head(key)).etag != etag:
        raise Permanent("object-changed", f"{key!r} was replaced while the job ran", "Send the request again for the object as it is now.")
    return await store.source_for(key, seconds=readable(ctx))


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


@contextlib.contextmanager
def telling() -> Generator[None]:
    """What goes wrong with ffmpeg in this block is raised as what the runtime understands: Permanent or Transient."""
    try:
        yield
    except (MediaError, ProcessFailed) as wrong:
        reason = refused(wrong) if isinstance(wrong, ProcessFailed) else wrong
        kind = Permanent if isinstance(reason, BadMedia) else Transient
        raise kind(reason.code, reason.message, reason.hint) from wrong
