"""Byte ranges [start, end). Pure."""

from __future__ import annotations

from services.runtime.storage.base import Refused


def check_range(key: str, start: int, end: int | None) -> None:
    """Raises Refused for a range that no object has."""
    if start < 0 or (end is not None and end < start):
        raise Refused(f"the bytes [{start}, {'end' if end is None else end}) of {key!r} cannot be read: a range counts upwards from 0")


def clip(key: str, start: int, end: int | None, size: int) -> tuple[int, int]:
    """The range as far as the object has it. Raises Refused when it begins beyond the object's end."""
    check_range(key, start, end)
    if start > size:
        raise Refused(f"the bytes of {key!r} from {start} on cannot be read: it has {size}")
    return start, size if end is None else min(end, size)
