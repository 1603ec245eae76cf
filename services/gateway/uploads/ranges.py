"""The `Range` header (RFC 9110 §14). Pure."""

from __future__ import annotations

import re

_ONE = re.compile(r"^bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*$", re.IGNORECASE)


class Unsatisfiable(ValueError):
    """No byte of the object lies in the range: 416."""


def parse(header: str, size: int) -> tuple[int, int] | None:
    """The bytes [start, end) that are asked for; None to send the whole.

    A header that is malformed, of another unit, or asks for several ranges is ignored, as §14.2 allows.
    Raises Unsatisfiable when the range lies behind the end.
    """
    match = _ONE.match(header)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:  # the last so many bytes
        length = int(last)
        if length == 0 or size == 0:
            raise Unsatisfiable(header)
        return max(0, size - length), size
    start = int(first)
    if last and int(last) < start:
        return None  # §14.1.1: such a spec is invalid, and with it the header
    if start >= size:
        raise Unsatisfiable(header)
    return start, min(size, int(last) + 1) if last else size
