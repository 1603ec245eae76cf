"""One embedded broker, or three with every partition on all of them and two in sync at least."""

from __future__ import annotations

import base64
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from confluent_kafka.admin import AdminClient  # pyright: ignore[reportPrivateImportUsage] (its stubs do not export it)

from services.runtime.children import ReservedPort
from services.runtime.kafka.local import EmbeddedKafka, Security
from services.runtime.settings import Settings

_JOIN_SECONDS = 60.0

# In place of what one broker alone is given, see services/runtime/kafka/local.py.
_PROPERTIES = """\
node.id={node}
controller.quorum.voters={voters}
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
default.replication.factor=3
min.insync.replicas=2
# A broker that was killed is fenced, and its partitions have other leaders, after this time.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
replica.lag.time.max.ms=6000
"""


class Brokers:
    """Context manager. `count` is 1 or 3."""

    def __init__(self, folder: Path, count: int) -> None:
        self._held: list[ReservedPort] = []
        # A broker ends with the thread that started it (services/runtime/children.py): these live as long as we do.
        self._pool = ThreadPoolExecutor(count)
        cache = Settings().cache_path()
        self._nodes = [EmbeddedKafka(folder / "1", cache=cache)] if count == 1 else self._cluster(folder, cache, count)

    def _cluster(self, folder: Path, cache: Path, count: int) -> list[EmbeddedKafka]:
        self._held = [ReservedPort() for _ in range(2 * count)]
        ports = [held.number for held in self._held]
        listeners = list(zip(ports[:count], ports[count:], strict=True))
        voters = ",".join(f"{n}@127.0.0.1:{controller}" for n, (_, controller) in enumerate(listeners, 1))
        identity = "R" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        return [
            EmbeddedKafka(
                folder / str(node),
                cache=cache,
                port=port,
                security=Security(
                    properties=_PROPERTIES.format(node=node, voters=voters, port=port, controller=controller),
                    format_options=("-t", identity),
                    client={},
                ),
            )
            for node, (port, controller) in enumerate(listeners, 1)
        ]

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.bootstrap_servers for node in self._nodes)

    def kill(self, number: int) -> None:
        """kill -9."""
        self._nodes[number].kill()

    def start(self, number: int) -> None:
        """Start it again, and wait until it answers."""
        self._pool.submit(self._nodes[number].start).result()

    def alive(self, number: int) -> bool:
        return self._nodes[number].alive()

    def leads(self, topic: str) -> int:
        """The number of a broker that leads a partition of the topic. Raises KafkaException while no broker answers."""
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        leaders = [partition.leader for partition in client.list_topics(topic, timeout=10).topics[topic].partitions.values()]
        return max((leader for leader in leaders if leader > 0), default=1) - 1

    def __enter__(self) -> Brokers:
        # None of three answers before another one is there.
        list(self._pool.map(EmbeddedKafka.start, self._nodes))
        self._wait_for_all()
        return self

    def _wait_for_all(self) -> None:
        client, deadline = AdminClient({"bootstrap.servers": self.bootstrap_servers}), time.monotonic() + _JOIN_SECONDS
        while len(client.list_topics(timeout=10).brokers) < len(self._nodes):
            assert time.monotonic() < deadline, f"not all {len(self._nodes)} brokers have joined within {_JOIN_SECONDS:g} s"
            time.sleep(0.1)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        list(self._pool.map(EmbeddedKafka.stop, self._nodes))
        self._pool.shutdown()
        for held in self._held:
            held.close()
