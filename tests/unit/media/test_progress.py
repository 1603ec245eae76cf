from __future__ import annotations

import asyncio

from services.runtime.media import progress


async def test_blocks_are_read_as_they_come_and_unknown_values_count_as_nothing() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"frame=12\nfps=3.1\nout_time_us=N/A\nprogress=continue\nframe=48\nout_time_us=2000000\nprogress=end\n")
    stream.feed_eof()
    seen = [block async for block in progress.follow(stream)]
    assert seen == [progress.Progress(12, 0.0, False), progress.Progress(48, 2.0, True)]
