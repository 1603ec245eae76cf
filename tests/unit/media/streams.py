"""What a program wrote, as it is read."""

from __future__ import annotations

import asyncio


def stream_of(data: bytes) -> asyncio.StreamReader:
    """A stream of these bytes that has ended behind them."""
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    return stream
