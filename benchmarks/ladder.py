"""CPU seconds of our ladder against the bare cascade: one ffmpeg for the whole film, each rung scaled from the one above.

    python -m benchmarks ladder

Ours goes through `JobEnvironment`: probe, chunks, segments split, stamped and stored, sound, MP4s composed, poster and
thumbnail, verification. The bare command makes the same rungs and sound with the same settings, and MP4 files only.
Both run after one another in one process, alternately, and count the CPU time of themselves and their children.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from schemas.events import UploadReceived
from services.runtime.media import binaries, encode, probe, sandbox
from services.runtime.media.process import output_of
from services.runtime.settings import Settings, load
from services.runtime.testing import JobEnvironment
from services.transcoder import ladder, segments
from services.transcoder.handler import handler

GOAL = 1.05
REPEAT = 2
_TIMEOUT_SECONDS = 3600.0


def run(clip: Path | None = None, *, repeat: int = REPEAT) -> list[dict[str, Any]]:
    """Rows of the table."""
    return asyncio.run(_run(clip or _sample(), repeat))


def _sample() -> Path:
    from tests import clips

    return clips.fetch("trailer_bbb.mp4")


async def _run(clip: Path, repeat: int) -> list[dict[str, Any]]:
    settings = load()
    ours: list[float] = []
    bare: list[float] = []
    share: list[float] = []
    with tempfile.TemporaryDirectory(prefix="reelworks-bench-") as folder:
        for number in range(repeat):
            bare.append(await cpu_of(lambda: _cascade(settings, clip, Path(folder))))
            encoding: list[float] = []
            ours.append(await cpu_of(lambda n=number, e=encoding: _ours(settings, clip, Path(folder) / str(n), e)))
            share.append(encoding[0])
    return [
        {
            "what": f"CPU of our ladder against the bare cascade, {clip.name}",
            "value": f"{min(ours) / min(bare):.3f} ×",
            "goal": f"≤ {GOAL} ×",
            "command": "python -m benchmarks ladder",
            "note": f"{min(ours):.1f} CPU s for everything ({min(share):.1f} up to the last segment) against {min(bare):.1f}; "
            f"the least of {repeat} runs of each, in turn",
        }
    ]


async def cpu_of(work: Callable[[], Awaitable[None]]) -> float:
    before = cpu_seconds()
    await work()
    return cpu_seconds() - before


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


async def _ours(settings: Settings, clip: Path, folder: Path, encoding: list[float]) -> None:
    """A whole job; the CPU time up to the beginning of the second stage goes to `encoding`."""
    started = cpu_seconds()

    def note(label: str, _: object) -> None:
        if label == "compose-0":
            encoding.append(cpu_seconds() - started)

    async with JobEnvironment(handler(), folder, settings=settings, before_task=note) as environment:
        await environment.put(f"in/{clip.name}", clip)
        started = cpu_seconds()
        await environment.run(UploadReceived(key=f"in/{clip.name}"))


async def _cascade(settings: Settings, clip: Path, folder: Path) -> None:
    """The command a person would write, with the same rungs, ceilings and encoder settings."""
    programs = await binaries.find(settings)
    source = await probe.probe(programs.ffprobe, str(clip))
    video = source.video
    assert video is not None
    rungs = ladder.choose(video.width, video.height, frame_rate=float(video.rate))
    cut = segments.grid(video.rate)
    graph: list[str] = []
    outputs: list[str] = []
    # The sound once, as ours does; the other files are without.
    sound = ("-map", f"0:{source.audio.index}", "-c:a", "aac", "-b:a", str(encode.AUDIO_BITS), "-ac", "2") if source.audio else ()
    above = f"[0:{video.index}]fps={video.rate},format=yuv420p"
    for number, rung in enumerate(rungs):
        scale = f",scale={rung.width}:{rung.height}" if number else ""
        last = number + 1 == len(rungs)
        graph.append(f"{above}{scale}" + (f"[v{number}]" if last else f",split[v{number}][n{number}]"))
        above = f"[n{number}]null"
        outputs += [
            "-map", f"[v{number}]", *(sound if not number else ()),
            "-c:v", "libx264", "-preset", encode.PRESET, "-profile:v", "high", "-crf", str(encode.CRF), "-maxrate", str(rung.max_rate),
            "-bufsize", str(2 * rung.max_rate), "-g", str(cut.segment_frames), "-keyint_min", str(cut.segment_frames), "-sc_threshold", "0",
            "-movflags", "+faststart", str(folder / f"bare-{rung.side}.mp4"),
        ]  # fmt: skip
    argv = [programs.ffmpeg, "-v", "error", "-y", "-nostdin", "-i", sandbox.as_url(str(clip)), "-filter_complex", ";".join(graph), *outputs]
    await output_of(argv, timeout=_TIMEOUT_SECONDS)
