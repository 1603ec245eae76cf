"""What is refused before a film is planned, and what a media program of a task may use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent
from services.runtime.jobs.sources import confinement, refuse_long
from services.runtime.media.probe import AudioStream, Source, VideoStream
from services.runtime.settings import Settings
from services.runtime.storage.factory import open_storage

DAY = 24 * 3600.0


def source(*tracks: tuple[float, float], film: tuple[float, float] | None = None) -> Source:
    """Tracks of sound, and a film: when each begins and how long it is, in seconds."""
    video = VideoStream(
        index=0, codec="h264", width=64, height=64, coded_width=64, coded_height=64, rate_num=25, rate_den=1, constant=True,
        start_seconds=film[0], duration_seconds=film[1], frames=1, exact=True, own_duration=True, rotation=0, sample_aspect="1:1",
        pixel_format="yuv420p", transfer="", interlaced=False, bit_rate=1,
    ) if film else None  # fmt: skip
    audios = tuple(
        AudioStream(index=n, codec="aac", channels=2, sample_rate=48000, language="und", start_seconds=start, duration_seconds=length)
        for n, (start, length) in enumerate(tracks, 1)
    )
    return Source(container="mov", seekable=True, indexed=True, duration_seconds=0, video=video, audios=audios)


@pytest.mark.parametrize(
    "fine",
    [
        source(film=(0, DAY)),
        source((0, 10), film=(10, 0)),
        source((-0.02, 3600), (1800, 600), film=(0, 3600)),
        source((59, 1), film=(0, 1)),
        source((DAY, 10), film=(DAY, 10)),
    ],
)
def test_films_of_a_day_and_tracks_that_overlap_are_taken(fine: Source) -> None:
    refuse_long(fine, DAY)


@pytest.mark.parametrize(
    ("odd", "code", "words"),
    [
        (source(film=(0, DAY + 1)), "too-long", "24.0 hours"),
        (source((0, 1e15)), "too-long", "at most 24.0 hours"),
        (source((0, 10), film=(DAY, 10)), "too-long", "24.0 hours"),
        (source((0, 10), film=(3600, 10)), "clock", "3,600 s after another"),
        (source((3600, 10), (0, 10)), "clock", "3,600 s after another"),
    ],
)
def test_endless_films_and_tracks_of_another_time_are_refused_in_words(odd: Source, code: str, words: str) -> None:
    with pytest.raises(Permanent, match=words) as failed:
        refuse_long(odd, DAY)
    assert (failed.value.code, bool(failed.value.hint)) == (code, True)


async def emit(event: msgspec.Struct, key: str) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/library/a b.mp4", {"reads": ("/library/a b.mp4",), "port": 0}),
        ("http://store:9000/a?X-Amz-Signature=1", {"reads": (), "port": 9000}),
        ("https://store/a", {"reads": (), "port": 443}),
        ("", {"reads": (), "port": 0}),
    ],
)
async def test_a_media_program_may_use_the_source_and_the_scratch_folder_of_its_task(
    tmp_path: Path, location: str, expected: dict[str, Any]
) -> None:
    settings = Settings(storage_url=(tmp_path / "bucket").as_uri(), scratch_dir=str(tmp_path / "scratch"), scratch_quota_bytes=7)
    storage = open_storage(settings)
    ctx = TaskContext(storage=storage, settings=settings, emit=emit, job_id="j", attempt=1, label="plan")
    try:
        assert confinement(ctx, location).writes == ()
        folder = ctx.scratch()
        within = confinement(ctx, location)
        assert within.writes == (str(folder),)
        assert {name: getattr(within, name) for name in expected} == expected
        assert (within.memory, within.file_bytes, within.fenced) == (settings.media_memory_bytes, 7, True)
    finally:
        ctx.close()
        await storage.close()
