"""W3C trace context."""

import pytest

from services.runtime.telemetry import tracing

SOUND = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_sound_header_is_read_and_written_back():
    assert str(tracing.parse(SOUND)) == SOUND


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "nonsense",
        SOUND.upper(),
        SOUND + "-extra",
        SOUND.replace("00-0af", "ff-0af"),
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_malformed_headers_count_as_absent(text: str | None):
    assert tracing.parse(text) is None


def test_a_later_version_may_say_more():
    assert tracing.parse("01" + SOUND[2:] + "-what-the-future-brings") is not None


def test_a_child_stays_in_the_trace_and_keeps_the_sampling():
    parent = SOUND[:-2] + "00"
    child = tracing.child(parent)
    assert (child.trace_id, child.sampled) == ("0af7651916cd43dd8448eb211c80319c", False)
    assert child.span_id != "b7ad6b7169203331"


def test_without_a_parent_a_new_trace_begins():
    first, second = tracing.child(None), tracing.child("nonsense")
    assert first.trace_id != second.trace_id
    assert tracing.parse(str(first)) == first


def test_the_trace_id_for_log_lines():
    assert (tracing.trace_id(SOUND), tracing.trace_id("")) == ("0af7651916cd43dd8448eb211c80319c", "")
