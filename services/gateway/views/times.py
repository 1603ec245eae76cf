"""Times as the API writes them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

LATEST_MS: Final = 253_402_300_799_999
"""The end of the year 9999: the last that `rfc3339` can write. What a record says beyond it is none of our times."""


def rfc3339(ms: int) -> str:
    """Milliseconds since 1970 as `2026-11-21T21:19:11.042Z`."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_or_none(ms: int) -> str | None:
    """The same; None for 0, which stands for "not yet"."""
    return rfc3339(ms) if ms else None
