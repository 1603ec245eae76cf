"""CPU seconds of HLS without encoding against the bare command: one ffmpeg that copies the film into fragmented MP4 segments.

    python -m benchmarks streaming

Ours goes through `JobEnvironment`: probe, key frames, packaging, every segment stored safely, manifest, playlists with I-frames. The
storyboard, which decodes a picture of each segment and which the bare command does not make, is told apart.
Both run after one another in one process, alternately, and count the CPU time of themselves and their children.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.ladder import cpu_of, cpu_seconds
from schemas.events import StreamRequested
from services.runtime.media import binaries
from services.runtime.media.process import output_of
from services.runtime.settings import Settings, load
from services.runtime.testing import JobEnvironment
from services.streamer.handler import handler

GOAL = 2.0
REPEAT = 5
_TIMEOUT_SECONDS = 600.0


def run(clip: Path | None = None, *, repeat: int = REPEAT) -> list[dict[str, Any]]:
    """Rows of the table."""
    # The loop that workers have.
    return uvloop.run(_run(clip or _sample(), repeat))


def _sample() -> Path:
    """About a minute of real film in 720p with key frames two seconds apart."""
    from tests import clips

    return clips.make(
        "-i", str(clips.fetch("trailer_bbb.mp4")),
        "-c:v", "libx264", "-preset", "veryfast", "-b:v", "3M", "-maxrate", "4M", "-bufsize", "8M",
        "-g", "48", "-keyint_min", "48", "-sc_threshold", "0", "-c:a", "aac", "-b:a", "128k",
    )  # fmt: skip


async def _run(clip: Path, repeat: int) -> list[dict[str, Any]]:
    settings = load()
    # Searched once in the life of a worker.
    await binaries.find(settings)
    ours: list[float] = []
    bare: list[float] = []
    drawing: list[float] = []
    with tempfile.TemporaryDirectory(prefix="reelworks-bench-") as folder:
        for number in range(repeat):
            bare.append(await cpu_of(lambda n=number: _copy(settings, clip, Path(folder) / f"bare-{n}")))
            whole, storyboard = await _ours(settings, clip, Path(folder) / str(number))
            ours.append(whole - storyboard)
            drawing.append(storyboard)
    return [
        {
            "what": f"CPU of HLS without encoding against a bare copy, {clip.stat().st_size / 1e6:.0f} MB in 55 s",
            "value": f"{min(ours) / min(bare):.2f} ×",
            "goal": f"≤ {GOAL:.0f} ×",
            "command": "python -m benchmarks streaming",
            "note": f"{min(ours):.3f} CPU s against {min(bare):.3f}, and {min(drawing):.3f} for the storyboard; "
            f"the least of {repeat} runs of each, in turn",
        }
    ]


async def _ours(settings: Settings, clip: Path, folder: Path) -> tuple[float, float]:
    """CPU time of a whole job, and of the storyboard in it."""
    marks: dict[str, float] = {}

    def mark(label: str, _: object) -> None:
        marks[label] = cpu_seconds()

    async with JobEnvironment(handler(), folder, settings=settings, before_task=mark) as environment:
        await environment.put("in/film.mp4", clip)
        await environment.run(StreamRequested(key="in/film.mp4"))
    return marks["cleanup"] - marks["plan"], marks["finish"] - marks["storyboard-0"]


async def _copy(settings: Settings, clip: Path, folder: Path) -> None:
    """The command a person would write."""
    programs = await binaries.find(settings)
    await asyncio.to_thread(folder.mkdir)
    argv = [
        programs.ffmpeg, "-v", "error", "-nostdin", "-i", str(clip), "-c", "copy",
        "-f", "hls", "-hls_time", "4", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4", str(folder / "index.m3u8"),
    ]  # fmt: skip
    await output_of(argv, timeout=_TIMEOUT_SECONDS)
