"""Replaying a dead letter: what is sent, what is noted, and how two operators send it once. Pure.

Who replays first writes a *claim* beside the dead letter and looks whether somebody else's lies before it; then the record is
sent, then a *note* that it was. Of two that begin at the same time, the one whose claim lies first goes on. One that is killed
in between leaves a claim without a note: it is not known whether the record was sent, nobody sends it by chance, and `--again`
does. That does no harm either, since the record keeps its CloudEvents source and id, so that it is the same job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from schemas import envelope, topics
from schemas.events import JOB_EVENTS
from services.cli.exits import Refused
from services.coordinator.intake import interpret
from services.runtime.kafka.producer import Record
from services.runtime.kafka.reader import Received

OURS: Final = "reelworks-"
"""Prefix of the headers that a dead letter has beside those it came with (services/coordinator/intake.py)."""
REASON: Final = "reelworks-reason"
"""Every dead letter has it, and nothing that is noted of one."""
CLAIMED: Final = "reelworks-replaying"
"""Header of a claim: the id of the dead letter that is about to be sent again."""
REPLAYED: Final = "reelworks-replayed"
"""Header of a note: the id of the dead letter that was sent again."""
FROM, AT, BY, REPAIRED = "reelworks-replayed-from", "reelworks-replayed-at-ms", "reelworks-replayed-by", "reelworks-repaired"
LEFT_OUT: Final = "reelworks-left-out-bytes"
IDENTITY: Final = ("ce_source", "ce_id")
"""They decide the id of a job that names none."""


class DeadLetter(msgspec.Struct, kw_only=True):
    """A record of media.dead-letters and what its headers say."""

    id: str
    """`partition/offset` in media.dead-letters."""
    at: str
    topic: str
    """Where it came from."""
    origin: str
    """`partition/offset` there."""
    type: str
    reason: str
    size: int
    replayed_at: str | None = None
    begun_at: str | None = None
    """When a replay of it was begun last."""
    begun_by: str = ""
    record: Received

    @property
    def unsure(self) -> bool:
        """A replay was begun, and whether it came to its end is not known."""
        return self.begun_at is not None and self.replayed_at is None


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator puts in place of what was wrong."""

    value: bytes | None = None
    """None: as it came."""
    headers: Mapping[str, bytes] = {}
    """They replace those of the same name."""

    def words(self) -> str:
        return ", ".join([*(["value"] if self.value is not None else []), *self.headers])


UNCHANGED: Final = Repair()


def fold(records: Iterable[Received]) -> dict[str, DeadLetter]:
    """Dead letters by id, with the claims and notes on them. Of those from one place only the first."""
    found: dict[str, DeadLetter] = {}
    seen: set[tuple[str, str]] = set()
    for record in records:
        headers = _texts(record)
        if named := noted(headers):
            if (letter := found.get(named)) is not None:
                at = _time(int(headers.get(AT, "0") or 0))
                if CLAIMED in headers:
                    letter.begun_at, letter.begun_by = at, headers.get(BY, "")
                else:
                    letter.replayed_at = at
            continue
        origin = f"{headers.get('reelworks-origin-partition', '?')}/{headers.get('reelworks-origin-offset', '?')}"
        place = (headers.get("reelworks-origin-topic", ""), origin)
        if "?" not in origin and place in seen:
            continue  # the intake is at least once: one that was killed before it had committed puts the record aside again
        seen.add(place)
        identity = f"{record.partition}/{record.offset}"
        found[identity] = DeadLetter(
            id=identity,
            at=_time(record.timestamp_ms),
            topic=place[0],
            origin=origin,
            type=headers.get("ce_type", ""),
            reason=headers.get(REASON, ""),
            size=len(record.value or b""),
            record=record,
        )
    return found


def noted(headers: Mapping[str, str]) -> str:
    """Id of the dead letter that a record is a claim or a note of; "" for one that is a dead letter itself."""
    # What has a reason is one, though a stranger's record came with our header.
    return "" if REASON in headers else headers.get(CLAIMED) or headers.get(REPLAYED) or ""


def refuse_twice(letter: DeadLetter) -> None:
    """Raises Refused when it was replayed, or when that is not known."""
    if letter.replayed_at is not None:
        raise Refused(f"dead letter {letter.id} was replayed at {letter.replayed_at}; --again sends it once more")
    if letter.begun_at is not None:
        raise Refused(
            f"a replay of dead letter {letter.id} was begun at {letter.begun_at} by {letter.begun_by or 'somebody'}, and it is not known "
            "whether it was sent; --again sends it once more, and a request that was sent already stays the same job"
        )


def again(letter: DeadLetter, repair: Repair, by: str, now_ms: int) -> Record:
    """The record as it came, or repaired, with its provenance. Raises Refused where it cannot be sent."""
    if not letter.topic:
        raise Refused(f"dead letter {letter.id} does not say which topic it came from; it cannot be replayed")
    came = letter.record
    if repair.value is None and any(name == LEFT_OUT for name, _ in came.headers):
        raise Refused(f"dead letter {letter.id} was too large to be kept: it lies at {letter.topic} {letter.origin}; --value gives another")
    for name in repair.headers:
        if name.startswith(OURS):
            raise Refused(f"--header {name}: headers that begin with {OURS!r} are Reelworks' own")
        if name in IDENTITY and any(there == name and value for there, value in came.headers):
            raise Refused(f"--header {name}: it decides which job this is, so it stays as it came; a new request is for `reelworks submit`")
    kept: envelope.Headers = [(n, v) for n, v in came.headers if not n.startswith(OURS) and n not in repair.headers]
    provenance = _provenance(by, now_ms, repair)
    return Record(
        topic=letter.topic,
        key=came.key,
        value=came.value if repair.value is None else repair.value,
        headers=[*kept, *repair.headers.items(), (FROM, f"{topics.DEAD_LETTERS}/{letter.id}".encode()), *provenance],
    )


def check(letter: DeadLetter, record: Record, default_bucket: str) -> str:
    """Id of the job that a repaired record is about. Raises Refused with what is still wrong with it."""
    headers = [(name, value.encode() if isinstance(value, str) else value) for name, value in record.headers]
    key = record.key.encode() if isinstance(record.key, str) else record.key
    made = Received(record.topic, 0, 0, 0, key, record.value, headers)
    try:
        if record.topic == topics.REQUESTS:
            return str(interpret(made, default_bucket).key)
        event = envelope.decode_any(envelope.read(headers, record.value))
        if not isinstance(event, JOB_EVENTS):
            raise envelope.Unreadable(f"{type(event).__name__} does not belong on {topics.JOB_EVENTS}")
        return (key or b"").decode("utf-8", "replace")
    except envelope.Unreadable as wrong:
        raise Refused(f"dead letter {letter.id} is not repaired yet, and was not sent: {wrong}") from None


def claim(letter: DeadLetter, by: str, now_ms: int) -> Record:
    """That somebody is about to send it."""
    return _beside(letter, CLAIMED, _provenance(by, now_ms, UNCHANGED))


def note(letter: DeadLetter, repair: Repair, by: str, now_ms: int) -> Record:
    """That it was sent."""
    return _beside(letter, REPLAYED, _provenance(by, now_ms, repair))


def overtaken(letter: DeadLetter, records: Iterable[Received], ours: int) -> str:
    """Whose claim lies before ours, among the records since the dead letters were looked at; "" when ours, at this offset, is the first."""
    for record in records:
        headers = _texts(record)
        if (
            record.offset < ours
            and record.partition == letter.record.partition
            and headers.get(CLAIMED) == letter.id
            and REASON not in headers
        ):
            return headers.get(BY, "") or "somebody"
    return ""


def _beside(letter: DeadLetter, what: str, provenance: envelope.Headers) -> Record:
    headers: envelope.Headers = [(what, letter.id.encode()), *provenance]
    return Record(topic=topics.DEAD_LETTERS, key=letter.record.key, value=None, headers=headers, partition=letter.record.partition)


def _provenance(by: str, now_ms: int, repair: Repair) -> envelope.Headers:
    repaired: envelope.Headers = [(REPAIRED, repair.words().encode())] if repair.words() else []
    return [(AT, str(now_ms).encode()), (BY, by.encode()), *repaired]


def _texts(record: Received) -> dict[str, str]:
    return {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
