"""Writes the segments of one rendition where they belong, the moment they are whole.

    writer = SegmentWriter(store, folder, "video-720", longest_seconds=4.5, encrypted=key, on_segment=announce)
    made = await writer.take(running.outputs[0])
    made.init.codecs, made.init.timescale, made.segments        # what `presentation.Rendition` asks for

Several renditions that one ffmpeg makes are taken by `take_all`.

Names are `presentation`'s. What comes is fragmented MP4 of one track, as `encode` has ffmpeg write it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from services.runtime.media import cmaf, progress
from services.runtime.media.encryption import SegmentKey
from services.runtime.media.presentation import INIT_TYPE, KEY, SEGMENT_TYPE, SegmentEntry, init_key, segment_key
from services.runtime.media.process import Running
from services.runtime.storage.base import ObjectStore
from services.runtime.together import together


class StoredSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment that lies in storage."""

    number: int
    key: str
    seconds: float
    entry: SegmentEntry


class Packaged(msgspec.Struct, kw_only=True):
    """What a stream has become. It grows while the stream comes."""

    init: cmaf.Init | None = None
    """None: nothing came."""
    init_hash: str = ""
    """Of the init segment's bytes; parts of a rendition fit together where it is the same."""
    frames: int = 0
    """Samples; pictures, where it is film."""
    ticks: int = 0
    """In `init.timescale`."""
    size: int = 0
    """Bytes of the segments as stored."""
    reorder: int = 0
    """What `presentation.Rendition` says of it."""
    segments: list[SegmentEntry] = []

    @property
    def seconds(self) -> float:
        return self.ticks / self.init.timescale if self.init else 0.0


class SegmentWriter:
    """Segments of one rendition, out of one stream."""

    def __init__(
        self,
        store: ObjectStore,
        folder: str,
        rendition: str,
        *,
        first_segment: int = 0,
        first_tick: int | None = 0,
        longest_seconds: float = 0.0,
        encrypted: SegmentKey | None = None,
        on_segment: Callable[[StoredSegment], Awaitable[None]] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """`first_segment`: number of the first one; only the writer of segment 0 stores the init segment.

        `first_tick`: the decoding time at which the first one begins, the others follow upon each other; None: every fragment stays
        at the time that the stream gives it. `longest_seconds`: fragments are joined into one segment as long as it gets
        no longer than this; 0: each fragment is a segment. `encrypted`: segments are, the init segment is not;
        `store_key` must have been called before the first one is announced. `on_segment` is called after each segment is
        stored, in order, and awaited; `made` tells it what has come so far. `check` is called before each piece and may raise.
        """
        self._store, self._folder, self._rendition = store, folder, rendition
        self._first_segment, self._first_tick, self._longest_seconds = first_segment, first_tick, longest_seconds
        self._encrypted, self._on_segment, self._check = encrypted, on_segment, check
        self._fragments = 0
        self._pending: list[bytes] = []
        self._pending_ticks = 0
        self.made = Packaged()

    async def take(self, stream: asyncio.StreamReader) -> Packaged:
        """Everything that comes, up to the end of the stream.

        Raises StreamBroken, NotCmaf, and what storage, `on_segment` and `check` raise.
        """
        async for part in cmaf.fragments(stream):
            if self._check is not None:
                self._check()
            if self.made.init is None:
                await self._begin(part)
            else:
                await self._add(part, self.made.init)
        if self._pending:
            await self._flush()
        return self.made

    async def _begin(self, data: bytes) -> None:
        self.made.init = cmaf.read_init(data)
        self.made.init_hash = hashlib.sha256(data).hexdigest()[:16]
        if self._first_segment == 0:
            await self._store.put(init_key(self._folder, self._rendition), data, content_type=INIT_TYPE)

    async def _add(self, fragment: bytes, init: cmaf.Init) -> None:
        samples = cmaf.read_samples(fragment)
        if self._pending and self._pending_ticks + samples.duration > self._longest_seconds * init.timescale:
            await self._flush()
        time = cmaf.decode_time(fragment) if self._first_tick is None else self._first_tick + self.made.ticks
        self._pending.append(cmaf.place(fragment, number=self._first_segment + self._fragments + 1, decode_time=time))
        self._pending_ticks += samples.duration
        self._fragments += 1
        self.made.frames += samples.count
        self.made.reorder = max(self.made.reorder, -samples.earliest)
        self.made.ticks += samples.duration
        if not self._longest_seconds:
            await self._flush()

    async def _flush(self) -> None:
        """Store what is pending as one segment."""
        init, data, ticks = self.made.init, b"".join(self._pending), self._pending_ticks
        assert init is not None
        self._pending.clear()
        self._pending_ticks = 0
        intra = cmaf.intra_size(data) if init.video and self._encrypted is None else 0
        if self._encrypted is not None:
            data = self._encrypted.encrypt(data)
        number = self._first_segment + len(self.made.segments)
        key = segment_key(self._folder, self._rendition, number)
        await self._store.put(key, data, content_type=SEGMENT_TYPE)
        entry = SegmentEntry(ticks, len(data), intra)
        self.made.segments.append(entry)
        self.made.size += len(data)
        if self._on_segment is not None:
            await self._on_segment(StoredSegment(number=number, key=key, seconds=ticks / init.timescale, entry=entry))


class Taker(Protocol):
    """What takes one output of ffmpeg: a SegmentWriter, or what stands around one."""

    async def take(self, stream: asyncio.StreamReader) -> Packaged: ...


async def take_all(running: Running, takers: Sequence[Taker], on_progress: Callable[[progress.Progress], None]) -> list[Packaged]:
    """All outputs of an ffmpeg, one for each taker, side by side: it stands still as soon as one of its pipes is full.

    `on_progress` is called with what it says on standard output. Raises what the first of the takers raises.
    """

    async def follow() -> None:
        async for seen in progress.follow(running.stdout):
            on_progress(seen)

    return await together(*(taker.take(stream) for taker, stream in zip(takers, running.outputs, strict=True)), beside=follow())


async def store_key(store: ObjectStore, folder: str, key: SegmentKey) -> None:
    """Put the key where players are sent for it (`presentation.KEY`): 16 bytes. Repeating it changes nothing."""
    await store.put(f"{folder}/{KEY}", key.key, content_type="application/octet-stream")
