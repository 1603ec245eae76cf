"""Dead letters: what is read from the topic, what a replay sends, and how it happens once."""

from typing import Any

import msgspec
import pytest

from schemas import envelope, topics
from services.cli import replaying
from services.cli.exits import Refused
from services.cli.replaying import UNCHANGED, DeadLetter, Repair, fold
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
    sent = [*HEADERS, *ORIGIN[:3], ("reelworks-origin-offset", str(12 + offset).encode())] if headers is None else headers
    return Received(topics.DEAD_LETTERS, 0, offset, 1_700_000_000_000, b"\x00key", b"\xfe\x00not json", sent)


def as_received(record: Record, offset: int) -> Received:
    key = record.key.encode() if isinstance(record.key, str) else record.key
    headers = [(name, value.encode() if isinstance(value, str) else value) for name, value in record.headers]
    return Received(record.topic, 0, offset, 0, key, record.value, headers)


def one(**changes: Any) -> DeadLetter:
    return fold([msgspec.structs.replace(letter(), **changes)])["0/5"]


def identified(**more: bytes) -> DeadLetter:
    """A request that says which job it is, and lacks its key."""
    sent = [("ce_type", b"reelworks.UploadReceived"), ("ce_source", b"test"), ("ce_id", b"7"), *more.items()]
    return one(headers=[*sent, *ORIGIN], value=b"{}")


def claim(by: str, offset: int, of: DeadLetter | None = None) -> Received:
    return as_received(replaying.claim(of or one(), by, 1_700_000_001_000), offset)


def test_a_dead_letter_says_where_it_came_from_and_why():
    found = one()
    assert (found.topic, found.origin, found.type, found.reason, found.size, found.at, found.replayed_at) == (
        "media.requests", "3/17", "reelworks.UploadReceived", "the key is missing", 10, "2023-11-14T22:13:20.000Z", None,
    )  # fmt: skip


def test_a_record_that_was_put_aside_twice_is_one_dead_letter():
    assert list(fold([letter(5), letter(6, [*HEADERS, *ORIGIN])])) == ["0/5"]
    assert list(fold([letter(5), letter(6), letter(7, [*HEADERS]), letter(8, [*HEADERS])])) == ["0/5", "0/6", "0/7", "0/8"]


def test_a_replay_is_the_record_as_it_came_with_its_provenance():
    again = replaying.again(one(), UNCHANGED, "me", 42)
    assert (again.topic, again.key, again.value, again.partition) == ("media.requests", b"\x00key", b"\xfe\x00not json", -1)
    assert again.headers == [
        *HEADERS,
        ("reelworks-replayed-from", b"media.dead-letters/0/5"),
        ("reelworks-replayed-at-ms", b"42"),
        ("reelworks-replayed-by", b"me"),
    ]


def test_a_record_without_an_origin_cannot_be_replayed():
    with pytest.raises(Refused, match="does not say which topic"):
        replaying.again(one(headers=[]), UNCHANGED, "me", 1)


def test_what_was_too_large_to_be_kept_can_only_be_sent_repaired():
    found = one(value=None, headers=[*ORIGIN, ("reelworks-left-out-bytes", b"99999999")])
    with pytest.raises(Refused, match="too large to be kept: it lies at media"):
        replaying.again(found, UNCHANGED, "me", 1)
    assert replaying.again(found, Repair(value=b"{}"), "me", 1).value == b"{}"


# ── Once ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_replay_is_noted_so_that_it_happens_once():
    note = replaying.note(one(), UNCHANGED, "me", 1_700_000_001_000)
    assert (note.topic, note.value) == (topics.DEAD_LETTERS, None)
    folded = fold([letter(5), letter(6), claim("me", 7), as_received(note, 8)])
    assert {identity: found.replayed_at for identity, found in folded.items()} == {"0/5": "2023-11-14T22:13:21.000Z", "0/6": None}
    with pytest.raises(Refused, match=r"was replayed at 2023-11-14T22:13:21.000Z; --again"):
        replaying.refuse_twice(folded["0/5"])
    replaying.refuse_twice(folded["0/6"])


def test_a_replay_that_was_begun_and_did_not_end_is_not_repeated_by_chance():
    found = fold([letter(5), claim("host-17", 7)])["0/5"]
    assert found.unsure
    with pytest.raises(Refused, match=r"begun at 2023-11-14T22:13:21.000Z by host-17, and it is not known"):
        replaying.refuse_twice(found)


def test_of_two_that_begin_at_the_same_time_the_first_claim_goes_on():
    since = [claim("first", 7), claim("second", 8)]
    assert (replaying.overtaken(one(), since, 7), replaying.overtaken(one(), since, 8)) == ("", "first")
    assert replaying.overtaken(one(), [claim("another", 7, of=fold([letter(6)])["0/6"])], 8) == ""


@pytest.mark.parametrize("name", [replaying.CLAIMED, replaying.REPLAYED])
def test_a_strangers_header_is_no_claim_and_no_note(name: str):
    folded = fold([letter(5), letter(6, [*HEADERS, (name, b"0/5"), *ORIGIN[:3], ("reelworks-origin-offset", b"18")])])
    assert [(found.replayed_at, found.begun_at) for found in folded.values()] == [(None, None)] * 2


def test_a_note_on_a_record_that_has_expired_is_passed_over():
    assert fold([as_received(replaying.note(one(), UNCHANGED, "me", 1), 7)]) == {}


# ── Repaired ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_repaired_record_is_the_job_that_it_was():
    found = identified()
    repaired = replaying.again(found, Repair(value=b'{"key":"a.mp4"}'), "me", 42)
    assert repaired.value == b'{"key":"a.mp4"}'
    assert ("ce_id", b"7") in repaired.headers
    assert ("reelworks-repaired", b"value") in repaired.headers
    assert replaying.check(found, repaired, "bucket") == envelope.derived_id("test", "7")


def test_a_header_replaces_that_of_its_name():
    repaired = replaying.again(identified(), Repair(value=b"{}", headers={"ce_type": b"reelworks.Z", "x": b"1"}), "me", 1)
    assert [value for name, value in repaired.headers if name == "ce_type"] == [b"reelworks.Z"]
    assert ("reelworks-repaired", b"value, ce_type, x") in repaired.headers


def test_what_is_still_wrong_is_said_and_nothing_is_sent():
    found = identified()
    with pytest.raises(Refused, match=r"0/5 is not repaired yet, and was not sent: UploadReceived: .*`key`"):
        replaying.check(found, replaying.again(found, Repair(value=b'{"kee":1}'), "me", 1), "bucket")


@pytest.mark.parametrize(("name", "words"), [("ce_id", "which job this is"), ("ce_source", "which job this is"), ("reelworks-x", "own")])
def test_headers_that_say_which_job_it_is_stay_as_they_came(name: str, words: str):
    with pytest.raises(Refused, match=words):
        replaying.again(identified(), Repair(headers={name: b"8"}), "me", 1)


def test_a_record_that_said_not_which_job_it_is_may_be_told():
    found = one(value=b'{"key":"a.mp4"}')
    repaired = replaying.again(found, Repair(headers={"ce_id": b"7", "ce_source": b"test"}), "me", 1)
    assert replaying.check(found, repaired, "bucket") == envelope.derived_id("test", "7")


def test_an_event_of_a_job_is_checked_as_one():
    origin = [(name, b"media.job-events" if name.endswith("topic") else value) for name, value in ORIGIN]
    sent = [("ce_type", b"reelworks.TaskStarted"), ("ce_source", b"w"), ("ce_id", b"1")]
    found = one(headers=[*sent, *origin], key=b"job", value=b"{}")
    with pytest.raises(Refused, match="TaskStarted: "):
        replaying.check(found, replaying.again(found, Repair(value=b"[]"), "me", 1), "")
    other = replaying.again(found, Repair(value=b'{"worker":"w","service":"s"}', headers={"ce_type": b"reelworks.WorkerSeen"}), "me", 1)
    with pytest.raises(Refused, match="WorkerSeen does not belong on media"):
        replaying.check(found, other, "")
    good = replaying.again(found, Repair(value=b'{"job_id":"job","stage":0,"number":0,"attempt":1,"worker":"w"}'), "me", 1)
    assert replaying.check(found, good, "") == "job"
