"""One partition's transactional log: state and position in a compacted topic, written by exactly one live process.

Ownership is the transactional id: whoever last called `init_transactions()` with it owns the partition, and everybody
before is fenced. A consumer group only suggests who that should be.

Every method may raise KafkaException or Stuck; the one answer to any of them is to close the log and open a new one.
"""

# confluent_kafka.admin documents these names, but its stubs do not list them as exported.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from services.runtime.kafka import client, refusals
from services.runtime.kafka.producer import Record
from services.runtime.kafka.reader import Received, received, watermarks
from services.runtime.settings import Settings

TRANSACTION_TIMEOUT_MS = 60_000
"""Not less: a broker killed in mid-transaction can time it out while it starts and never write the marker, which
leaves the last stable offset where it was for ever. Within 60 s the new owner ends the transaction properly instead."""
CALL_SECONDS = 15.0
"""One librdkafka call of a transaction. It may block longer all the same, so callers need a watchdog."""
CLOSE_SECONDS = 2.0
HEAL_KEY = b"@heal"


class Stuck(RuntimeError):
    """The log did not come to the state it should have in time."""


TROUBLE = (KafkaException, Stuck)
"""What a broker's troubles look like. Anything else that stops an owner is a defect of its own."""


class PartitionLog:
    """Opened by `open`, read once by `read`, then written by `commit`.

    `topic` with `partition` holds the state. `guarded` are all places that transactions of this id may write to; they
    are touched when a transaction was left hanging. `alive` is called before every step that may block.
    """

    def __init__(self, settings: Settings, *, transactional_id: str, topic: str, partition: int, alive: Callable[[], None]) -> None:
        self._settings = settings
        self._id = transactional_id
        self._topic, self._partition = topic, partition
        self._alive = alive
        self._producer: Producer | None = None

    def open(self, only_ours: Sequence[tuple[str, int]], guarded: Sequence[tuple[str, int]]) -> bool:
        """Fence every former owner and end its transaction. Answers whether a hanging one had to be healed.

        `only_ours` are places that nobody else writes to: after the fence, a last stable offset below the high
        watermark there proves a hanging transaction.
        """
        config = client.producer(self._settings) | {
            "transactional.id": self._id,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "linger.ms": 0,
        }
        self._producer = producer = Producer(config)
        for attempt in range(20):
            self._alive()
            try:
                producer.init_transactions(CALL_SECONDS)
                break
            except KafkaException as wrong:
                refusals.check(wrong.args[0], self._settings, what=f"Write on the transactional id {self._id}")
                if not wrong.args[0].retriable() or attempt == 19:
                    raise
                time.sleep(0.05)  # the broker is still ending the former owner's transaction
        self._alive()
        if not self._hanging(only_ours):
            return False
        self._heal(producer, guarded)
        return True

    def read(self) -> Iterator[Received]:
        """All committed records of the partition, from its beginning to its present end."""
        config = client.reader(self._settings) | {"isolation.level": "read_committed"}
        consumer = Consumer(config)
        try:
            place = TopicPartition(self._topic, self._partition)
            low, high = watermarks(consumer, place, seconds=CALL_SECONDS)
            consumer.assign([TopicPartition(self._topic, self._partition, low)])
            deadline = time.monotonic() + 60.0
            while True:
                self._alive()
                for message in consumer.consume(2000, 0.2):
                    error = message.error()
                    if error is None:
                        yield received(message)
                        deadline = time.monotonic() + 60.0
                    elif error.code() == KafkaError._PARTITION_EOF:
                        # Neither position() nor the last offset + 1: transaction markers take offsets, too.
                        if (message.offset() or 0) >= high:
                            return
                    elif refusals.gave_up(error):
                        raise KafkaException(error)
                    elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                        refusals.check(error, self._settings, what=f"Read on the topic {self._topic}")
                if time.monotonic() > deadline:
                    raise Stuck(f"{self._topic}[{self._partition}] could not be read to its end {high}")
        finally:
            consumer.close()

    def commit(self, records: Sequence[Record]) -> None:
        """Write all records in one transaction, or none."""
        producer = self._producer
        if producer is None:
            raise Stuck("the log is not open")
        self._alive()
        producer.begin_transaction()
        for record in records:
            self._produce(producer, record)
        producer.commit_transaction(CALL_SECONDS)

    def close(self) -> None:
        """Let go of the client. Nothing is aborted: the next owner's fence does that.

        Answers that are under way are waited for: a fenced client that was freed while the broker refused another of its requests has
        ended the process (librdkafka 2.16).
        """
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaException, SystemError):
                producer.flush(CLOSE_SECONDS)

    def _produce(self, producer: Producer, record: Record) -> None:
        while True:
            try:
                producer.produce(record.topic, record.value, record.key, partition=record.partition, headers=list(record.headers))
                return
            except BufferError:
                self._alive()
                producer.poll(0.05)

    def _hanging(self, places: Sequence[tuple[str, int]]) -> bool:
        admin = AdminClient(client.base(self._settings))
        latest: dict[TopicPartition, OffsetSpec] = {TopicPartition(t, p): OffsetSpec.latest() for t, p in places}  # pyright: ignore[reportAssignmentType]
        stable = _offsets(admin, latest, IsolationLevel.READ_COMMITTED)
        high = _offsets(admin, latest, IsolationLevel.READ_UNCOMMITTED)
        return any(stable[place] < high[place] for place in high)

    def _heal(self, producer: Producer, places: Sequence[tuple[str, int]]) -> None:
        # A transaction over the same places, aborted: its markers end the hanging one with it, as aborted. Committing
        # would make the dead transaction's records appear.
        producer.begin_transaction()
        for topic, partition in places:
            self._produce(producer, Record(topic=topic, key=HEAL_KEY, value=None, partition=partition))
        self._alive()
        producer.flush(CALL_SECONDS)
        producer.abort_transaction(CALL_SECONDS)


def _offsets(admin: AdminClient, spec: dict[TopicPartition, OffsetSpec], level: IsolationLevel) -> dict[tuple[str, int], int]:
    futures = admin.list_offsets(spec, isolation_level=level, request_timeout=CALL_SECONDS)
    return {(place.topic, place.partition): future.result().offset for place, future in futures.items()}
