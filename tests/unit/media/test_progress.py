from __future__ import annotations

from services.runtime.media import progress
from tests.unit.media.streams import stream_of


async def test_blocks_are_read_as_they_come_and_unknown_values_count_as_nothing() -> None:
    stream = stream_of(b"frame=12\nfps=3.1\nout_time_us=N/A\nprogress=continue\nframe=48\nout_time_us=2000000\nprogress=end\n")
    seen = [block async for block in progress.follow(stream)]
    assert seen == [progress.Progress(12, 0.0, False), progress.Progress(48, 2.0, True)]
