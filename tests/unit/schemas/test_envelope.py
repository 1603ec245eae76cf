"""CloudEvents over Kafka: both modes in, binary out, and which requests are the same job."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import envelope
from schemas.events import UploadReceived

BINARY = [("ce_specversion", b"1.0"), ("ce_type", b"reelworks.UploadReceived"), ("ce_id", b"1"), ("ce_source", b"tests")]


def test_what_is_written_is_read_back() -> None:
    headers = envelope.headers_for("UploadReceived", source="tests", event_id="1", traceparent="00-a-b-01")
    found = envelope.read([(n, v if isinstance(v, bytes) else None) for n, v in headers], b'{"key":"a"}')
    assert (found.type, found.id, found.source, found.traceparent) == ("UploadReceived", "1", "tests", "00-a-b-01")
    assert envelope.decode_any(found) == UploadReceived(key="a")


def test_both_modes_are_the_same_event() -> None:
    structured = {"specversion": "1.0", "type": "reelworks.UploadReceived", "id": "1", "source": "tests", "data": {"key": "a"}}
    value = json.dumps(structured, separators=(",", ":")).encode()
    found = envelope.read([("Content-Type", b"application/cloudevents+json; charset=utf-8")], value)
    assert found == envelope.read(BINARY, b'{"key":"a"}')


def test_header_names_are_read_in_any_case_and_the_prefix_of_the_type_may_be_missing() -> None:
    headers = [("CE_Type", b"UploadReceived"), ("Ce_Id", b"1"), ("CE_SOURCE", b"tests")]
    assert envelope.read(headers, b"{}").type == "UploadReceived"


@pytest.mark.parametrize("missing", ["type", "id", "source"])
def test_a_missing_attribute_is_named_with_both_ways_to_send_it(missing: str) -> None:
    headers = [(n, v) for n, v in BINARY if n != f"ce_{missing}"]
    with pytest.raises(envelope.Unreadable, match=rf"'{missing}' is missing: send it as header ce_{missing} .*structured mode"):
        envelope.read(headers, b"{}")


@pytest.mark.parametrize(
    ("value", "said"),
    [(b"[]", "not a structured CloudEvent"), (b"\xff", "not a structured CloudEvent"), (b"{}", "under 'data'"), (None, "no value")],
)
def test_a_value_that_is_no_structured_event_is_refused_in_words(value: bytes | None, said: str) -> None:
    with pytest.raises(envelope.Unreadable, match=said):
        envelope.read([("content-type", b"application/cloudevents+json")], value)


def test_unknown_fields_are_ignored_and_wrong_ones_named() -> None:
    assert envelope.decode(b'{"key":"a","later":1}', UploadReceived) == UploadReceived(key="a")
    with pytest.raises(envelope.Unreadable, match=r"UploadReceived: .*\$\.key"):
        envelope.decode(b'{"key":1}', UploadReceived)
    with pytest.raises(envelope.Unreadable, match=r"UploadReceived"):
        envelope.decode(b"\xff\xfe", UploadReceived)


def test_an_unknown_type_is_refused_with_those_that_are_known() -> None:
    found = envelope.read([(n, b"other.Thing" if n == "ce_type" else v) for n, v in BINARY], b"{}")
    with pytest.raises(envelope.Unreadable, match=r"'other\.Thing'.*reelworks\.UploadReceived"):
        envelope.decode_any(found)


def test_the_same_source_and_id_are_the_same_job_and_no_others_are() -> None:
    one = envelope.read(BINARY, b'{"key":"a"}').job_id()
    assert one == envelope.read(BINARY, b'{"key":"b"}').job_id()
    assert one == "e23e9375-c9b5-5e56-a5d7-f982ce3d517d"


@given(st.lists(st.text(max_size=8), max_size=4), st.lists(st.text(max_size=8), max_size=4))
def test_different_parts_give_different_ids(one: list[str], other: list[str]) -> None:
    assert (one == other) == (envelope.derived_id(*one) == envelope.derived_id(*other))


@given(st.binary(max_size=64), st.lists(st.tuples(st.text(max_size=12), st.none() | st.binary(max_size=12)), max_size=4))
def test_any_record_is_an_event_or_unreadable_and_nothing_else(value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
    found = None
    with contextlib.suppress(envelope.Unreadable):
        found = envelope.decode_any(envelope.read([*headers, *BINARY], value))
    assert found is None or isinstance(found, tuple(envelope.events.BY_NAME.values()))
