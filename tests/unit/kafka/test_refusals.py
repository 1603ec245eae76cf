"""What a broker refuses, in words."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import KafkaError, KafkaException

from services.runtime.kafka import refusals
from services.runtime.kafka.refusals import Complaints, Denied, check, explain, gave_up
from services.runtime.settings import Settings

ALICE = {"sasl.username": "alice", "sasl.password": "battery-staple"}


@pytest.fixture(autouse=True)
def _nothing_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_said", {})


@pytest.mark.parametrize(
    ("code", "access", "what", "words"),
    [
        (KafkaError._AUTHENTICATION, ALICE, "", "the broker refuses the sign-in of user alice: said. Check sasl.username, "),
        (KafkaError._SSL, ALICE, "", "no secure connection to the broker: said. Check ssl.* in the file that REELWORKS_KAFKA_CONFIG names"),
        (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            ALICE,
            "Write on the topic media.jobs",
            "user alice lacks Write on the topic media.jobs; deploy/kafka-acls.yaml lists ",
        ),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, ALICE, "", "user alice lacks a right on a group (said); "),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, {}, "", "somebody without a name (sasl.username is not set) lacks a right on a cluster"),
        (
            KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            {"ssl.certificate.location": "/a.pem"},
            "Write on the transactional id x",
            "the owner of the certificate /a.pem lacks Write on the transactional id x; ",
        ),
    ],
)
def test_it_is_said_who_what_and_what_to_do(code: int, access: dict[str, str], what: str, words: str) -> None:
    told = explain(KafkaError(code, "said (after 12ms in state AUTH_REQ)"), access, what=what)
    assert told.startswith(words)
    assert "battery-staple" not in told


def test_other_errors_are_not_about_that() -> None:
    error = KafkaError(KafkaError._TRANSPORT, "Connection refused")
    assert explain(error, ALICE) == ""
    check(error, Settings())
    check(None, Settings())


def test_a_refusal_is_an_error_of_the_client_with_words_of_ours() -> None:
    error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(Denied, match=r"lacks Read on the topic media\.jobs; ") as caught:
        check(error, Settings(), what="Read on the topic media.jobs")
    assert isinstance(caught.value, KafkaException)
    assert caught.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_what_a_client_repeats_is_said_once_whoever_says_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for complaints in (Complaints(ALICE), Complaints(ALICE)):
        for milliseconds in (301, 302):
            complaints(KafkaError(KafkaError._AUTHENTICATION, f"Authentication failed (after {milliseconds}ms in state AUTH_REQ)"))
            complaints(KafkaError(KafkaError._TRANSPORT, f"Connection refused (after {milliseconds}ms in state CONNECT)"))
    assert [(r.levelname, "alice" in r.getMessage()) for r in caplog.records] == [("ERROR", True), ("WARNING", False)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KafkaError(KafkaError._FATAL, "Fatal error: Broker: Group authorization failed"), True),
        (KafkaError(KafkaError._TRANSPORT, "x", True), True),
        (KafkaError(KafkaError._TRANSPORT, "x"), False),
        (KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED), False),
    ],
)
def test_a_client_that_gave_up_is_known_by_its_code_too(error: KafkaError, expected: bool) -> None:
    assert gave_up(error) is expected
