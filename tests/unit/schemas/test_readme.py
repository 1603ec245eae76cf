"""What `schemas/README.md` tells other systems is true. The producers in it run in tests/integration/test_other_producers.py."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import msgspec
import pytest

import schemas
from schemas import envelope, topics
from schemas.dead_letters import HEADERS
from schemas.events import BY_NAME, JobRequested
from services.coordinator.intake import dead_letter, interpret
from services.runtime.kafka.reader import Received

TEXT = (Path(schemas.__file__).parent / "README.md").read_text(encoding="utf-8")
SOURCE, ID = "https://cameras.example.org/gate-3", "2026-11-21/0042"
WORKED_EXAMPLE = "b57a0ebe-44d4-5eba-b905-feb111f3a458"


def blocks(language: str) -> list[str]:
    """The README's code in a language, in its order."""
    return [part.partition("\n```")[0] for part in TEXT.split(f"```{language}\n")[1:]]


def request(value: bytes, event_id: str = ID) -> Received:
    headers = [("ce_type", b"reelworks.UploadReceived"), ("ce_source", SOURCE.encode()), ("ce_id", event_id.encode())]
    return Received(topics.REQUESTS, 2, 41, 1_790_000_000_000, None, value, headers)


def test_the_worked_example_is_what_the_envelope_derives() -> None:
    assert envelope.derived_id(SOURCE, ID) == WORKED_EXAMPLE
    assert f"# {WORKED_EXAMPLE}" in TEXT
    assert "`" + "".join(f"{len(part)}:{part}" for part in (SOURCE, ID)) + "`" in TEXT


def test_the_code_that_derives_a_job_id_prints_it() -> None:
    (code,) = [block for block in blocks("python") if "def job_id" in block]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "README.md", "exec"), {})
    assert said.getvalue().strip() == WORKED_EXAMPLE


def test_every_producer_sends_the_same_source_and_id() -> None:
    producers = [*blocks("sh")[:1], *blocks("python")[:1], *blocks("java")]
    assert len(producers) == 3
    for code in producers:
        assert SOURCE in code
        assert ID in code


def test_the_request_with_follow_ups_is_accepted() -> None:
    (value,) = blocks("json")
    made = interpret(request(value.encode()))
    event = envelope.decode(made.value or b"", JobRequested)
    assert event.job_id == WORKED_EXAMPLE
    assert [follow["type"] for follow in event.request["then"]] == ["CallbackRequested"]
    assert event.request["otherwise"][0]["data"]["deadline_seconds"] == 3600


def test_a_mistake_in_a_follow_up_is_found_when_the_request_comes_in() -> None:
    (value,) = blocks("json")
    wrong = value.replace('"url"', '"link"', 1)
    with pytest.raises(envelope.Unreadable, match=r"then.*CallbackRequested.*url"):
        interpret(request(wrong.encode()))


def test_the_same_request_twice_is_one_job_and_another_id_is_another() -> None:
    first, again, other = (interpret(request(b'{"key":"incoming/gate-3.mp4"}', e)).key for e in (ID, ID, "2026-11-21/0043"))
    assert first == again == WORKED_EXAMPLE
    assert other != first


def test_the_headers_of_a_dead_letter_are_those_that_the_contract_names() -> None:
    received = request(b"\xff")
    made = dead_letter(received, "not JSON")
    added = dict(made.headers[len(received.headers) :])
    assert (made.key, made.value) == (received.key, received.value)
    of_replays = ("reelworks-repl", "reelworks-repaired")
    assert set(added) == {name for name in HEADERS if not name.startswith(of_replays) and "left-out" not in name}
    assert added["reelworks-origin-partition"] == b"2"
    assert added["reelworks-origin-offset"] == b"41"


def test_every_event_and_topic_that_it_names_exists() -> None:
    named = {word for word in TEXT.replace("`", " ").split() if word.startswith("media.")}
    known = {topic.name for topic in topics.TOPICS}
    assert {name.rstrip(".,:") for name in named} <= known
    for name in ("TranscodeCompleted", "JobFailed", "SegmentsReady", "JobStatus", "CancelRequested", "RetryRequested"):
        assert name in BY_NAME


def test_the_limit_that_it_names_is_the_one_in_force() -> None:
    assert topics.REQUEST_LIMIT_BYTES == 512 * 1024
    key = b'{"key":"' + b"a" * topics.REQUEST_LIMIT_BYTES + b'"}'
    with pytest.raises(envelope.Unreadable, match="at most 524288 are accepted"):
        interpret(request(key))


def test_the_generated_table_has_every_topic() -> None:
    for topic in topics.TOPICS:
        assert f"| `{topic.name}` | {topic.key} | {topic.partitions} |" in TEXT


def test_the_topics_for_other_programs_are_those_that_are_made() -> None:
    path = Path(schemas.__file__).parent / "generated" / "topics.json"
    assert msgspec.json.decode(path.read_bytes(), type=dict[str, topics.Topic]) == {topic.name: topic for topic in topics.TOPICS}
