"""Reading whole topics without a group: how views, clocks and controls follow the log."""

from __future__ import annotations

import operator
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import msgspec
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.runtime.kafka import client, refusals
from services.runtime.kafka.partitioner import partition_of
from services.runtime.kafka.passing import ANSWER_SECONDS, describe, outlast
from services.runtime.settings import Settings

Place = tuple[str, int]
"""Topic and partition."""


class Received(msgspec.Struct, frozen=True, gc=False):
    """A record, decoupled from the client."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    fault: str = ""
    """What of the record the client could not hand over; its headers are left out then."""


# The client answers a result and leaves an exception behind it when a name is not UTF-8. A call that Python's interpreter has made
# quick does not look for that, and the exception appears some calls later, anywhere. This way of calling does: SystemError.
_headers_of = operator.methodcaller("headers")


def received(message: Message, *, with_headers: bool = True) -> Received:
    """Copy of a client's message. Never raises: a record that cannot be read must not stop those behind it."""
    fault = ""
    headers: list[tuple[str, bytes | None]] = []
    try:
        if with_headers:
            headers = cast(list[tuple[str, bytes | None]], _headers_of(message) or [])
    except SystemError:
        fault = "a header's name is not UTF-8"
    return Received(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
        headers,
        fault,
    )


def watermarks(consumer: Consumer, place: TopicPartition, *, seconds: float = ANSWER_SECONDS) -> tuple[int, int]:
    """First and next offset of a partition."""
    return outlast(lambda: consumer.get_watermark_offsets(place, timeout=seconds), seconds=seconds)


def _since(consumer: Consumer, places: Iterable[Place], at_ms: int) -> list[TopicPartition]:
    """Of each partition the first offset whose record is not older than `at_ms`; negative when there is none."""
    asked = [TopicPartition(topic, partition, at_ms) for topic, partition in places]

    def answered() -> list[TopicPartition]:
        found = consumer.offsets_for_times(asked, timeout=ANSWER_SECONDS)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return found

    return outlast(answered)


class LogReader:
    """Reads every partition of some topics, from given offsets, read committed. One thread uses it.

    `caught_up` is true once every partition was read to the end that it had when reading began; the end is taken from
    the EOF event, since transaction markers occupy offsets.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[str],
        start: Mapping[Place, int] | None = None,
        *,
        key: bytes | None = None,
        last: Sequence[str] = (),
        bare: Sequence[str] = (),
        fetch_wait_ms: int | None = None,
    ) -> None:
        """`key`: of each topic the partition alone in which producers put this key. `last`: of the topics, those that are
        read when the others have been read to the end that they had. `bare`: those whose headers are left out, which are a
        third of what a record costs. `fetch_wait_ms`: how long an empty fetch stands."""
        self._settings = settings
        waiting = {} if fetch_wait_ms is None else {"fetch.wait.max.ms": fetch_wait_ms}
        self._consumer = Consumer(client.reader(settings) | {"isolation.level": "read_committed"} | waiting)
        self.ends: dict[Place, int] = {}
        self.positions: dict[Place, int] = {}
        start = start or {}
        for topic in topics:
            described = describe(self._consumer, topic)
            refusals.check(described.error, settings, what=f"Read on the topic {topic}")
            partitions = list(described.partitions)
            for partition in partitions if key is None or not partitions else [partition_of(key, len(partitions))]:
                low, high = watermarks(self._consumer, TopicPartition(topic, partition))
                begin = start.get((topic, partition), low)
                begin = begin if low <= begin <= high else low  # a log that was made anew begins again
                self.ends[(topic, partition)], self.positions[(topic, partition)] = high, begin
        self._last, self._bare = frozenset(last), frozenset(bare)
        self._assign()

    @classmethod
    def from_end(cls, settings: Settings, topic: str, *, back_seconds: float = 0.0) -> LogReader:
        """Reads one topic from its end, or from the first record not older than `back_seconds`."""
        self = cls(settings, [topic])
        if not back_seconds:
            self._consumer.assign([TopicPartition(t, p, OFFSET_END) for t, p in self.ends])
            return self
        since = int((time.time() - back_seconds) * 1000)
        found = _since(self._consumer, self.ends, since)
        # "The end" is looked up later, when reading begins: what comes in between would be missed.
        self._consumer.assign(
            [TopicPartition(f.topic, f.partition, f.offset if f.offset >= 0 else self.ends[(f.topic, f.partition)]) for f in found]
        )
        return self

    @classmethod
    def since(cls, settings: Settings, topics: Sequence[str], at_ms: int, *, key: bytes | None = None) -> LogReader:
        """Reads to the present end, from the first record that is not older than `at_ms`; 0: from the beginning."""
        # The end of a partition is told by an empty fetch: who does not stay need not have it stand for long.
        self = cls(settings, topics, key=key, fetch_wait_ms=10)
        if at_ms > 0 and self.ends:
            for found in _since(self._consumer, self.ends, at_ms):
                place = (found.topic, found.partition)
                self.positions[place] = found.offset if found.offset >= 0 else self.ends[place]
        left = [TopicPartition(t, p, at) for (t, p), at in self.positions.items() if at < self.ends[(t, p)]]
        self._consumer.assign(left)
        return self

    def _assign(self) -> None:
        self._consumer.assign([TopicPartition(t, p, at) for (t, p), at in self.positions.items() if t not in self._last])

    @property
    def caught_up(self) -> bool:
        return not self._last and self._at_end

    @property
    def _at_end(self) -> bool:
        return all(self.positions[(topic, p)] >= end for (topic, p), end in self.ends.items() if topic not in self._last)

    def poll(self, seconds: float, most: int = 500) -> list[Received]:
        """Records that came, after at most `seconds`; [] when none did.

        Raises KafkaException when the client gave up, refusals.Denied when we may not read. Lost connections are not that:
        it goes on by itself.
        """
        got: list[Received] = []
        if self._last and self._at_end:
            self._last = frozenset[str]()
            self._assign()
        first = self._consumer.poll(seconds)
        if first is None:
            return got
        for message in (first, *self._consumer.consume(most, 0)):
            error = message.error()
            place = (message.topic() or "", message.partition() or 0)
            if error is None:
                got.append(received(message, with_headers=place[0] not in self._bare))
                self.positions[place] = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                self.positions[place] = max(self.positions.get(place, 0), message.offset() or 0)
            elif refusals.gave_up(error):
                raise KafkaException(error)
            elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                refusals.check(error, self._settings, what=f"Read on the topic {place[0]}")
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
