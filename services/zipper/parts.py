"""Bytes that come as they come, written as parts of an upload."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from services.runtime.storage.base import MIN_PART_BYTES
from services.zipper.archive import Stored

AT_ONCE: Final = 2
"""Parts that are sent while the next one is filled."""

Send = Callable[[int, bytes], Awaitable[Stored]]
"""Stores a part of that number."""


class PartWriter:
    """Cuts a stream into parts none of which is shorter than MIN_PART_BYTES. Use as a context: leaving it waits for all parts.

    Memory: `AT_ONCE` + 2 parts. With `hold` the first part is kept until `finish`, which puts something in front of it. With a `count` of 0
    nothing is sent: all of it is what `finish` answers.
    """

    def __init__(self, send: Send, *, first: int, count: int, part_bytes: int, hold: bool = False) -> None:
        self._send, self._number, self._count, self._part_bytes = send, first, count, part_bytes
        self._end = first + count
        self._buffer = bytearray()
        self._held: bytes | None = None
        self._hold = hold
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._sending: list[asyncio.Task[Stored]] = []
        self.written = 0
        """Bytes so far, those in memory too."""

    async def __aenter__(self) -> PartWriter:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        for task in self._sending:
            if error is not None:
                task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        """Add bytes. Waits while too many parts are on their way; raises what sending an earlier one raised."""
        self._buffer += data
        self.written += len(data)
        # What stays behind is always enough for a part of its own.
        while self._count and len(self._buffer) >= self._part_bytes + MIN_PART_BYTES:
            part = bytes(memoryview(self._buffer)[: self._part_bytes])
            del self._buffer[: self._part_bytes]
            await self._part(part)

    async def finish(self, front: bytes = b"") -> tuple[list[Stored], bytes]:
        """Send the rest. Answers the parts, and the bytes that are too few for one (then there are no parts)."""
        self.written += len(front)
        rest = bytes(self._buffer)
        if self._held is not None:
            self._start(self._end - self._count, front + self._held)
        else:
            rest = front + rest
        if not self._count or (not self._sending and len(rest) < MIN_PART_BYTES):
            return [], rest
        if rest:
            await self._turn.acquire()
            self._start(self._number, rest, acquired=True)
        return [await task for task in self._sending], b""

    async def _part(self, data: bytes) -> None:
        number, self._number = self._number, self._number + 1
        if self._hold and self._held is None:
            self._held = data
            return
        await self._turn.acquire()
        for task in self._sending:
            if task.done() and not task.cancelled() and (wrong := task.exception()) is not None:
                self._turn.release()
                raise wrong
        self._start(number, data, acquired=True)

    def _start(self, number: int, data: bytes, *, acquired: bool = False) -> None:
        if not number < self._end:
            raise AssertionError(f"part {number} is beyond the {self._count} that were kept free")

        async def send() -> Stored:
            try:
                return await self._send(number, data)
            finally:
                if acquired:
                    self._turn.release()

        self._sending.append(asyncio.create_task(send()))
