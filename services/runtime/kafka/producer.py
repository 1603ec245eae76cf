"""A producer that acknowledges: a record counts as sent when all replicas in sync have it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from typing import Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas import envelope, topics
from services.runtime.kafka import client
from services.runtime.settings import Settings
from services.runtime.telemetry import metrics
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
REPLACE_SECONDS: Final = 1.0
"""Between two clients of which the first gave up: the second may have the same to complain of."""

_GAVE_UP: Final = (KafkaException, SystemError)
"""What `poll` and `flush` raise when the client has given up for good; the second, when a report was due in the same call."""


class BrokerUnavailable(RuntimeError):
    """The broker did not acknowledge in time. The record may or may not be there: send it again with the same id."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent. `partition` -1: by the key's murmur2 hash, as Java's clients do."""

    topic: str
    key: str | bytes | None
    value: bytes | None
    headers: envelope.Headers = []
    partition: int = -1


TOPIC_OF: dict[str, str] = {
    name: topic.name
    for topic in topics.TOPICS
    for name in topic.carries
    if name not in ("CancelRequested", "RetryRequested", "TaskReleased")  # these have several homes
} | {"CancelRequested": topics.REQUESTS, "RetryRequested": topics.REQUESTS}


def record(event: msgspec.Struct, key: str, *, source: str, event_id: str | None = None, traceparent: str = "", topic: str = "") -> Record:
    """The record that carries `event` on its topic, in CloudEvents binary mode."""
    name = type(event).__name__
    headers = envelope.headers_for(name, source=source, event_id=event_id, traceparent=traceparent)
    return Record(topic=topic or TOPIC_OF[name], key=key, value=envelope.encode_value(event), headers=headers)


class EventProducer:
    """Thread-safe. One background thread serves delivery reports.

    A client that gives up for good (a right is missing; its records are gone from the broker) is replaced by a new one: what it had is
    not acknowledged, what comes later is sent.

    `delivery_seconds` bounds how long a record may wait for the broker before it is given up, `linger_ms` how long one
    waits for others to travel with it.
    """

    def __init__(self, settings: Settings, *, delivery_seconds: float = 30.0, linger_ms: int = 1) -> None:
        config = client.producer(settings) | {
            "delivery.timeout.ms": int(delivery_seconds * 1000),
            "request.timeout.ms": 10_000,
            "linger.ms": linger_ms,
        }
        self._config = config
        self._producer = Producer(config)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="producer-poll", daemon=True)
        self._thread.start()

    def send(self, record: Record) -> Future[int]:
        """Queue a record. The future answers its offset, or raises BrokerUnavailable."""
        done: Future[int] = Future()
        # From here on nobody can cancel it: a waiter that was cancelled must not break the thread that reports.
        done.set_running_or_notify_cancel()

        def report(error: KafkaError | None, message: Message) -> None:
            if error is None:
                done.set_result(message.offset() or 0)
            else:
                metrics.DELIVERY_ERRORS.labels(record.topic).inc()
                done.set_exception(BrokerUnavailable(f"{record.topic}: {error.str()}"))

        try:
            self._producer.produce(
                record.topic, record.value, record.key, partition=record.partition, on_delivery=report, headers=record.headers
            )
        except BufferError:
            done.set_exception(BrokerUnavailable(f"{record.topic}: too many records wait for the broker"))
        except KafkaException as wrong:  # larger than message.max.bytes, unknown partition
            done.set_exception(BrokerUnavailable(f"{record.topic}: {wrong.args[0].str()}"))
        return done

    async def publish(self, record: Record) -> int:
        """Send and wait for the acknowledgement. Answers the offset; raises BrokerUnavailable."""
        return await asyncio.wrap_future(self.send(record))

    def reachable(self, seconds: float) -> bool:
        """Whether a broker answers within `seconds`. Blocks."""
        try:
            return bool(self._producer.list_topics(topics.REQUESTS, timeout=seconds).brokers)
        except KafkaException:
            return False

    def flush(self, seconds: float) -> int:
        """Wait until everything is acknowledged or given up. Answers how many records still wait."""
        try:
            return self._producer.flush(seconds)
        except _GAVE_UP:
            return len(self._producer)

    def close(self, seconds: float = 10.0) -> None:
        """Flush and end the thread."""
        self.flush(seconds)
        self._closed.set()
        self._thread.join(seconds)
        self._producer.purge()  # what was not acknowledged in time
        self._producer.close()  # else its threads go on looking for the broker for as long as somebody holds this object

    def _serve(self) -> None:
        while not self._closed.is_set():
            try:
                self._producer.poll(0.05)
            except _GAVE_UP as wrong:
                log.error("the producer gave up and is replaced", reason=str(wrong.__cause__ or wrong))
                self._replace()
                self._closed.wait(REPLACE_SECONDS)

    def _replace(self) -> None:
        given_up, self._producer = self._producer, Producer(self._config)
        given_up.purge()
        with contextlib.suppress(*_GAVE_UP):  # it says so again
            given_up.flush(1.0)  # the reports of what was purged
        given_up.close()
