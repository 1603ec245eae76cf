"""Which offset may be committed while tasks start out of order. Pure."""

from __future__ import annotations


class OpenOffsets:
    """Of one partition: everything below the lowest offset that is still open may be committed."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._next = -1
        self._committed = -1

    def open(self, offset: int) -> None:
        """A record was read."""
        self._open.add(offset)
        self._next = max(self._next, offset + 1)

    def close(self, offset: int) -> None:
        """Its task has started (acknowledged), or needs no start."""
        self._open.discard(offset)

    def committable(self) -> int | None:
        """The offset to commit, once; None when there is nothing new to say."""
        if self._next < 0:
            return None
        offset = min(self._open) if self._open else self._next
        if offset <= self._committed:
            return None
        self._committed = offset
        return offset
