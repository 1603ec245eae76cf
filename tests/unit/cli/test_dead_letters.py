"""Dead letters: what is read from the topic, what a replay sends."""

import pytest

from schemas import topics
from services.cli.dead_letters import DeadLetter, fold, replay_records
from services.cli.exits import Refused
from services.runtime.kafka.producer import Record
from services.runtime.kafka.reader import Received

HEADERS = [("ce_type", b"reelworks.UploadReceived"), ("x", None), ("y", b"\xff")]
ORIGIN = [
    ("reelworks-reason", b"the key is missing"),
    ("reelworks-origin-topic", b"media.requests"),
    ("reelworks-origin-partition", b"3"),
    ("reelworks-origin-offset", b"17"),
]


def letter(offset: int = 5, headers: list[tuple[str, bytes | None]] | None = None) -> Received:
    sent = [*HEADERS, *ORIGIN] if headers is None else headers
    return Received(topics.DEAD_LETTERS, 0, offset, 1_700_000_000_000, b"\x00key", b"\xfe\x00not json", sent)


def as_received(record: Record, offset: int) -> Received:
    key = record.key.encode() if isinstance(record.key, str) else record.key
    headers = [(name, value.encode() if isinstance(value, str) else value) for name, value in record.headers]
    return Received(record.topic, 0, offset, 0, key, record.value, headers)


def one() -> DeadLetter:
    return fold([letter()])["0/5"]


def test_a_dead_letter_says_where_it_came_from_and_why():
    found = one()
    assert (found.topic, found.origin, found.type, found.reason, found.size, found.at, found.replayed_at) == (
        "media.requests", "3/17", "reelworks.UploadReceived", "the key is missing", 10, "2023-11-14T22:13:20.000Z", None,
    )  # fmt: skip


def test_a_replay_is_the_record_as_it_came_with_its_provenance():
    again, _ = replay_records(one(), 42)
    assert (again.topic, again.key, again.value, again.partition) == ("media.requests", b"\x00key", b"\xfe\x00not json", -1)
    assert again.headers == [*HEADERS, ("reelworks-replayed-from", b"media.dead-letters/0/5"), ("reelworks-replayed-at-ms", b"42")]


def test_a_replay_is_noted_so_that_it_happens_once():
    _, note = replay_records(one(), 1_700_000_001_000)
    assert note.topic == topics.DEAD_LETTERS
    folded = fold([letter(5), letter(6), as_received(note, 7)])
    assert {identity: found.replayed_at for identity, found in folded.items()} == {"0/5": "2023-11-14T22:13:21.000Z", "0/6": None}


def test_a_note_on_a_record_that_has_expired_is_passed_over():
    _, note = replay_records(one(), 1)
    assert fold([as_received(note, 7)]) == {}


def test_a_record_without_an_origin_cannot_be_replayed():
    with pytest.raises(Refused, match="does not say which topic"):
        replay_records(fold([letter(headers=[])])["0/5"], 1)
