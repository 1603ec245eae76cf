"""What ffmpeg says with `-progress pipe:1`: blocks of `name=value`, each ended by `progress=continue` or `progress=end`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

ARGUMENTS: tuple[str, ...] = ("-progress", "pipe:1", "-nostats")


class Progress(msgspec.Struct, frozen=True):
    """How far ffmpeg is."""

    frames: int = 0
    seconds: float = 0.0
    """Of output."""
    ended: bool = False


def parse(block: dict[str, str]) -> Progress:
    """A block. Values that are not known yet (`N/A`) count as 0."""
    return Progress(
        frames=int(block.get("frame", "0")) if block.get("frame", "").isdigit() else 0,
        seconds=int(block["out_time_us"]) / 1e6 if block.get("out_time_us", "").lstrip("-").isdigit() else 0.0,
        ended=block.get("progress") == "end",
    )


async def follow(stdout: asyncio.StreamReader) -> AsyncIterator[Progress]:
    """The blocks as they arrive, about two a second."""
    block: dict[str, str] = {}
    while line := await stdout.readline():
        name, _, value = line.decode("utf-8", "replace").strip().partition("=")
        block[name] = value.strip()
        if name == "progress":
            yield parse(block)
            block = {}
