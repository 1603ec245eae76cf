"""What a broker says to somebody whom it does not let in, or not do something, in words."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from services.runtime.settings import Settings, kafka_properties
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
REPEAT_SECONDS: Final = 30.0
"""The client tries again several times a second, for ever. Each of its sentences is enough in so long."""
LIST: Final = "deploy/kafka-acls.yaml lists what each service needs, `reelworks topics acls` gives it"

_SIGN_IN: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})
_RIGHTS: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional id",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
}


class Denied(KafkaException):
    """The broker does not let us in, or not do what we must. Its text says who, what and what to do about it."""

    def __init__(self, error: KafkaError, words: str) -> None:
        super().__init__(error)
        self._words = words

    def __str__(self) -> str:
        return self._words


def user(access: Mapping[str, Any]) -> str:
    """Who signs in with these settings, as people call them."""
    if name := access.get("sasl.username"):
        return f"user {name}"
    if certificate := access.get("ssl.certificate.location"):
        return f"the owner of the certificate {certificate}"
    return "somebody without a name (sasl.username is not set)"


def explain(error: KafkaError, access: Mapping[str, Any], *, what: str = "") -> str:
    """The error in words; "" when it is not about signing in or rights. `what` was to be done: "Read on the topic x". Pure."""
    code, said = error.code(), _plain(error.str())
    if code in _SIGN_IN:
        return (
            f"the broker refuses the sign-in of {user(access)}: {said}. Check sasl.username, sasl.password and sasl.mechanism "
            "in the file that REELWORKS_KAFKA_CONFIG names"
        )
    if code == KafkaError._SSL:
        return f"no secure connection to the broker: {said}. Check ssl.* in the file that REELWORKS_KAFKA_CONFIG names"
    if code in _RIGHTS:
        return f"{user(access)} lacks {what or f'a right on a {_RIGHTS[code]} ({said})'}; {LIST}"
    return ""


def check(error: KafkaError | None, settings: Settings, *, what: str = "") -> None:
    """Raises Denied when the error is about signing in or rights. `what` as for `explain`."""
    if error is not None and error.code() in (*_SIGN_IN, *_RIGHTS, KafkaError._SSL):
        raise Denied(error, explain(error, kafka_properties(settings), what=what)) from None


def gave_up(error: KafkaError) -> bool:
    """Whether a consumer that says this does nothing any more. It says it once, and not by `fatal()` alone (seen with a right on the group
    that was taken away)."""
    return error.fatal() or error.code() == KafkaError._FATAL


class Complaints:
    """A client's `error_cb`: says in our log what the client says to itself, each sentence once in a while. Any thread may call it."""

    def __init__(self, access: Mapping[str, Any]) -> None:
        self._access = access

    def __call__(self, error: KafkaError) -> None:
        if (words := explain(error, self._access)) and _due(words):
            log.error("the broker refuses us; it is tried again", reason=words)
        elif not words and _due(_plain(error.str())):
            log.warning("the broker is not there, or is troubled; it is tried again", reason=_plain(error.str()))


_said: dict[str, float] = {}
_saying = threading.Lock()


def _due(sentence: str) -> bool:
    # Of the whole process: each of its clients would say the same.
    now = time.monotonic()
    with _saying:
        for old in [known for known, at in _said.items() if now - at > REPEAT_SECONDS]:
            del _said[old]
        return _said.setdefault(sentence, now) == now


def _plain(text: str) -> str:
    """Without the client's times, which make each sentence another."""
    return text.partition(" (after ")[0].rstrip(".")
