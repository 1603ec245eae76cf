"""One partition's transactional log on real Kafka: fencing, what a former owner left open, and healing."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import KafkaException, Producer

from schemas.topics import Topic
from services.runtime.kafka import admin, client
from services.runtime.kafka.partition_log import TROUBLE, PartitionLog
from services.runtime.kafka.producer import Record
from services.runtime.settings import Settings

pytestmark = pytest.mark.kafka


@pytest.fixture
def topic(kafka: str) -> str:
    made = Topic(name=f"test.log-{uuid.uuid4()}", partitions=1, key="any", cleanup="compact")
    admin.apply(Settings(bootstrap_servers=kafka), [made])
    return made.name


def opened(kafka: str, topic: str) -> tuple[PartitionLog, bool]:
    """A log of the topic's only partition, and whether it had to be healed."""
    log = PartitionLog(
        Settings(bootstrap_servers=kafka), transactional_id=f"owner-of-{topic}", topic=topic, partition=0, alive=lambda: None
    )
    return log, log.open([(topic, 0)], [(topic, 0)])


def said(topic: str, value: bytes) -> Record:
    return Record(topic=topic, key=value, value=value, partition=0)


def left_open(kafka: str, topic: str, transactional_id: str) -> Producer:
    """A producer that died, or sleeps, in the middle of a transaction."""
    config = client.producer(Settings(bootstrap_servers=kafka)) | {"transactional.id": transactional_id}
    producer = Producer(config)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"dead", b"dead", partition=0)
    assert producer.flush(30) == 0
    return producer


def test_who_opens_it_last_owns_it(kafka: str, topic: str) -> None:
    first, _ = opened(kafka, topic)
    first.commit([said(topic, b"first")])
    second, _ = opened(kafka, topic)
    with pytest.raises(KafkaException):
        first.commit([said(topic, b"too late")])
    second.commit([said(topic, b"second"), said(topic, b"third")])
    assert [r.value for r in second.read()] == [b"first", b"second", b"third"]


def test_what_a_former_owner_left_open_is_ended_and_never_seen(kafka: str, topic: str) -> None:
    former = left_open(kafka, topic, f"owner-of-{topic}")
    log, healed = opened(kafka, topic)
    assert not healed
    log.commit([said(topic, b"alive")])
    assert [r.value for r in log.read()] == [b"alive"]
    with pytest.raises(TROUBLE):
        former.commit_transaction(10)


def test_a_transaction_that_stands_in_the_way_is_noticed_and_healing_leaves_no_trace(kafka: str, topic: str) -> None:
    hanging = left_open(kafka, topic, f"somebody-else-of-{topic}")
    log, healed = opened(kafka, topic)
    assert healed
    hanging.abort_transaction(30)
    log.commit([said(topic, b"alive")])
    assert [r.value for r in log.read()] == [b"alive"]
    again, healed = opened(kafka, topic)
    assert not healed
    assert [r.value for r in again.read()] == [b"alive"]
