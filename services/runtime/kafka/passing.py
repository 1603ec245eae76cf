"""Errors of a broker that pass by themselves, waited out. The client repeats by itself what it reads and writes, but not a question
about offsets or topics; a process must not end because it asked in the second in which a leader changed."""

# confluent_kafka.admin documents these names, but its stubs do not list them as exported.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, TopicMetadata

T = TypeVar("T")

# What Apache Kafka's own list of errors calls retriable and can be said to such a question. A broker that has just started says
# several of them: its topics are known before it leads them, and clients may know a newer epoch than itself.
PASSING: Final = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError._TRANSPORT,
    }
)
PAUSE_SECONDS: Final = 0.05
ANSWER_SECONDS: Final = 15.0
"""What a question may take, with the troubles of the broker that it outlasts."""


def outlast(question: Callable[[], T], *, seconds: float = ANSWER_SECONDS) -> T:
    """The answer; asked again while an error passes, for so long. Raises the KafkaException that did not pass."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return question()
        except KafkaException as wrong:
            error = wrong.args[0]
            if not (error.retriable() or error.code() in PASSING) or time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)


def describe(client: Consumer | AdminClient, topic: str, *, seconds: float = ANSWER_SECONDS) -> TopicMetadata:
    """What the broker says of a topic. Its `error` is left to the caller when it does not pass by itself: no such topic, no right to it."""

    def described() -> TopicMetadata:
        found = client.list_topics(topic, timeout=seconds).topics[topic]
        if found.error is not None and found.error.code() in PASSING - {KafkaError.UNKNOWN_TOPIC_OR_PART}:
            raise KafkaException(found.error)
        return found

    return outlast(described, seconds=seconds)
