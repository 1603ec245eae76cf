"""W3C Trace Context (level 1), `traceparent` only: `00-{32 hex trace id}-{16 hex parent id}-{2 hex flags}`. Pure.

Malformed values are treated as absent, as section 3.2.2.3 of the recommendation asks.
"""

from __future__ import annotations

import re
import secrets

import msgspec

_FORM = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$")


class TraceParent(msgspec.Struct, frozen=True):
    """Where a piece of work stands in a trace."""

    trace_id: str
    """32 lower-case hex digits, not all zero."""
    span_id: str
    """16 lower-case hex digits, not all zero: of the caller."""
    sampled: bool = True

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse(text: str | None) -> TraceParent | None:
    """The header's meaning, or None when it has none."""
    match = _FORM.match((text or "").strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & 1))


def make() -> TraceParent:
    """The root of a new trace."""
    return TraceParent(_hex(16), _hex(8))


def child(parent: TraceParent | str | None) -> TraceParent:
    """What to send on from here: the same trace, a new span. Without a sound parent, a new trace."""
    known = parse(parent) if isinstance(parent, str) else parent
    return make() if known is None else TraceParent(known.trace_id, _hex(8), known.sampled)


def trace_id(text: str | None) -> str:
    """For log lines; "" when there is none."""
    known = parse(text)
    return known.trace_id if known else ""


def _hex(count: int) -> str:
    while not (value := secrets.token_hex(count)).strip("0"):
        pass
    return value
