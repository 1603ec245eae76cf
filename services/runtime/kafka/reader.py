"""Reading whole topics without a group: how views, clocks and controls follow the log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import msgspec
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.runtime.kafka import client
from services.runtime.settings import Settings

Place = tuple[str, int]
"""Topic and partition."""


class Received(msgspec.Struct, frozen=True):
    """A record, decoupled from the client."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def received(message: Message) -> Received:
    """Copy of a client's message."""
    return Received(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
        cast(list[tuple[str, bytes | None]], message.headers() or []),
    )


def watermarks(consumer: Consumer, place: TopicPartition, *, seconds: float = 15.0) -> tuple[int, int]:
    """First and next offset of a partition. Waits out what passes: a topic just made has no leader yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return consumer.get_watermark_offsets(place, timeout=seconds)
        except KafkaException as wrong:
            if (not wrong.args[0].retriable() and wrong.args[0].code() not in _PASSING) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


_PASSING = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._TRANSPORT}


class LogReader:
    """Reads every partition of some topics, from given offsets, read committed. One thread uses it.

    `caught_up` is true once every partition was read to the end that it had when reading began; the end is taken from
    the EOF event, since transaction markers occupy offsets.
    """

    def __init__(self, settings: Settings, topics: Sequence[str], start: Mapping[Place, int] | None = None) -> None:
        self._consumer = Consumer(client.reader(settings) | {"isolation.level": "read_committed"})
        self.ends: dict[Place, int] = {}
        self.positions: dict[Place, int] = {}
        start = start or {}
        places: list[TopicPartition] = []
        for topic in topics:
            described = self._consumer.list_topics(topic, timeout=15).topics[topic]
            for partition in described.partitions:
                low, high = watermarks(self._consumer, TopicPartition(topic, partition))
                begin = start.get((topic, partition), low)
                begin = begin if low <= begin <= high else low  # a log that was made anew begins again
                self.ends[(topic, partition)], self.positions[(topic, partition)] = high, begin
                places.append(TopicPartition(topic, partition, begin))
        self._consumer.assign(places)

    @classmethod
    def from_end(cls, settings: Settings, topic: str, *, back_seconds: float = 0.0) -> LogReader:
        """Reads one topic from its end, or from the first record not older than `back_seconds`."""
        self = cls(settings, [topic])
        if not back_seconds:
            self._consumer.assign([TopicPartition(t, p, OFFSET_END) for t, p in self.ends])
            return self
        since = int((time.time() - back_seconds) * 1000)
        found = self._consumer.offsets_for_times([TopicPartition(t, p, since) for t, p in self.ends], timeout=15)
        # "The end" is looked up later, when reading begins: what comes in between would be missed.
        self._consumer.assign(
            [TopicPartition(f.topic, f.partition, f.offset if f.offset >= 0 else self.ends[(f.topic, f.partition)]) for f in found]
        )
        return self

    @property
    def caught_up(self) -> bool:
        return all(self.positions[place] >= end for place, end in self.ends.items())

    def poll(self, seconds: float, most: int = 500) -> list[Received]:
        """Records that came, after at most `seconds`; [] when none did.

        Raises KafkaException when the client gave up. Lost connections are not that: it goes on by itself.
        """
        got: list[Received] = []
        first = self._consumer.poll(seconds)
        if first is None:
            return got
        for message in (first, *self._consumer.consume(most, 0)):
            error = message.error()
            place = (message.topic() or "", message.partition() or 0)
            if error is None:
                got.append(received(message))
                self.positions[place] = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                self.positions[place] = max(self.positions.get(place, 0), message.offset() or 0)
            elif error.fatal():
                raise KafkaException(error)
        return got

    def reachable(self, seconds: float) -> bool:
        """Whether a broker answers within `seconds`. Lost connections are mended silently; this tells of them."""
        try:
            return bool(self._consumer.list_topics(next(iter(self.ends))[0], timeout=seconds).brokers)
        except KafkaException:
            return False

    def __iter__(self) -> Iterator[Received]:
        """Everything up to the end that the topics had when reading began."""
        while not self.caught_up:
            yield from self.poll(0.5)

    def close(self) -> None:
        self._consumer.close()
