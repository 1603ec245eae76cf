"""The headers that a record on `media.dead-letters` has beside those it came with."""

from __future__ import annotations

from typing import Final

HEADERS: Final[dict[str, str]] = {
    "reelworks-reason": "What was wrong and what is accepted, or why the job was given up.",
    "reelworks-origin-topic": "Where it came from; a replay sends it there again.",
    "reelworks-origin-partition": "Partition there. Not with a job that was given up.",
    "reelworks-origin-offset": "Offset there. Not with a job that was given up.",
    "reelworks-origin-timestamp-ms": "Timestamp there, in milliseconds since 1970-01-01T00:00:00Z. Not with a job that was given up.",
    "reelworks-left-out-bytes": "Only with a record that is larger than any may be: its bytes. Key, value and headers are left out.",
    "reelworks-replaying": "Only on a claim: `partition/offset` of the dead letter that is about to be sent again. The first one counts.",
    "reelworks-replayed": "Only on a note: `partition/offset` of the dead letter that was sent again. The note has no value.",
    "reelworks-replayed-at-ms": "Only on a claim or a note: when.",
    "reelworks-replayed-by": "Only on a claim or a note: the process that did it.",
    "reelworks-repaired": "Only on a note: what was put in place of what came: `value`, names of headers.",
}
