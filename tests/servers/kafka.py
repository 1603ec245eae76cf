"""The Kafka of the tests: the one that KAFKA_BOOTSTRAP_SERVERS names, else the embedded broker, once for the session.

No coordinator may run on it: tests of the gateway write statuses as one would, and a real one would take them for its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from services.runtime.kafka import admin
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.settings import Settings


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`bootstrap_servers` of a broker on which our topics are. Tests share it: keep to ids of your own."""
    if named := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        admin.apply(Settings(bootstrap_servers=named))
        yield named
        return
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), cache=Settings().cache_path()) as broker:
        admin.apply(Settings(bootstrap_servers=broker.bootstrap_servers))
        yield broker.bootstrap_servers


@pytest.fixture
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """An embedded broker that a test may kill and start again."""
    with EmbeddedKafka(tmp_path_factory.mktemp("own-kafka"), cache=Settings().cache_path()) as broker:
        admin.apply(Settings(bootstrap_servers=broker.bootstrap_servers))
        yield broker
