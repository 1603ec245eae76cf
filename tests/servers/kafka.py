"""The Kafka of the tests: the one that KAFKA_BOOTSTRAP_SERVERS names, else the embedded broker, once for the session.

No coordinator may run on it: tests of the gateway write statuses as one would, and a real one would take them for its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.runtime.kafka import admin
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.settings import Settings
from tests.servers.processes import Cluster, cluster


@contextmanager
def embedded(folder: Path) -> Generator[EmbeddedKafka]:
    """An embedded broker with our topics."""
    with EmbeddedKafka(folder, cache=Settings().cache_path()) as made:
        admin.apply(Settings(bootstrap_servers=made.bootstrap_servers))
        yield made


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`bootstrap_servers` of a broker on which our topics are. Tests share it: keep to ids of your own."""
    if named := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        admin.apply(Settings(bootstrap_servers=named))
        yield named
        return
    with embedded(tmp_path_factory.mktemp("kafka")) as made:
        yield made.bootstrap_servers


@pytest.fixture
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """An embedded broker that a test may kill and start again."""
    with embedded(tmp_path_factory.mktemp("own-kafka")) as made:
        yield made


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One of the module's own: it may be stopped, and coordinators may run on it."""
    with embedded(tmp_path_factory.mktemp("module-kafka")) as made:
        yield made


@pytest.fixture
def loop(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Cluster]:
    """Processes on it, of which none has been started; workers have two slots."""
    with cluster(broker.bootstrap_servers, tmp_path, REELWORKS_SLOTS="2") as made:
        yield made


@contextmanager
def silent(broker: EmbeddedKafka) -> Iterator[None]:
    """A broker that holds its connections and answers nobody."""
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


@contextmanager
def gone(broker: EmbeddedKafka) -> Iterator[None]:
    """A broker that was killed, and is started again at the end."""
    broker.kill()
    try:
        yield
    finally:
        broker.start()
