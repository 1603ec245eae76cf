"""Topics as they should be and as they are."""

# confluent_kafka.admin documents these names, but its stubs do not list them as exported.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from schemas.topics import TOPICS, Topic
from services.runtime.kafka import refusals
from services.runtime.kafka.client import Config, base
from services.runtime.kafka.passing import describe
from services.runtime.settings import Settings, SettingsError


class TopicError(RuntimeError):
    """A topic that cannot be brought into its declared form."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which the broker differs from the declaration."""

    topic: str
    what: str
    """`missing`, `partitions`, or the name of a setting."""
    actual: str
    expected: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} is {self.actual}, declared {self.expected}"


def answers(bootstrap_servers: str, access: Mapping[str, str] = {}, *, timeout: float) -> bool:
    """Whether a broker is there and serves metadata. Waits up to `timeout` seconds. `access`: how to sign in, if need be."""
    client = AdminClient(
        {
            **access,
            "bootstrap.servers": bootstrap_servers,
            "log_level": 0,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 100,
        },
        logger=_SILENT,
    )
    try:
        return bool(client.list_topics(timeout=timeout).brokers)
    except KafkaException:
        time.sleep(0.05)  # a refused connection answers at once
        return False


def unreachable(settings: Settings, *, timeout: float = 5.0) -> str:
    """ "" when the brokers of the settings answer us, else why they do not.

    Raises SettingsError when none are named or the settings of the client are unusable, refusals.Denied when they do not let us in.
    """
    said: list[KafkaError] = []
    config: Config = base(settings) | {"log_level": 0, "error_cb": said.append}
    try:
        client = AdminClient(config, logger=_SILENT)
    except KafkaException as wrong:
        raise SettingsError(f"REELWORKS_KAFKA_CONFIG={settings.kafka_config!r}: {wrong.args[0].str()}") from None
    deadline = time.monotonic() + timeout
    while True:
        try:
            client.list_topics(timeout=max(0.1, min(1.0, deadline - time.monotonic())))
        except KafkaException as wrong:
            client.poll(0)  # what the connections say comes here
            for error in said:
                refusals.check(error, settings)
            if time.monotonic() >= deadline:
                return f"no Kafka broker answers at {settings.bootstrap_servers} ({wrong.args[0].str()}){_hint(said)}"
        else:
            return ""


def _hint(said: Sequence[KafkaError]) -> str:
    # A listener that wants TLS or a sign-in closes connections that begin otherwise, without a word.
    if any(error.code() in (KafkaError._TRANSPORT, KafkaError._RESOLVE) for error in said):
        return ""
    return "; it takes connections and closes them: is security.protocol right?"


def diff(settings: Settings, topics: Sequence[Topic] = TOPICS) -> list[Difference]:
    """How the broker's topics differ from the declared ones; more partitions than declared are left alone.

    Raises refusals.Denied when we may not look.
    """
    client = AdminClient(base(settings))
    present = client.list_topics(timeout=15).topics
    found: list[Difference] = []
    there = [t for t in topics if t.name in present]
    resources = {t.name: ConfigResource(ConfigResource.Type.TOPIC, t.name) for t in there}
    described = _described(settings, client, list(resources.values()))
    hidden = TopicCollection([t.name for t in topics if t.name not in present])
    for name, future in client.describe_topics(hidden).items() if hidden.topic_names else ():
        error = future.exception()
        if isinstance(error, KafkaException):
            refusals.check(error.args[0], settings, what=f"Describe on the topic {name}")
    for topic in topics:
        if topic.name not in present:
            found.append(Difference(topic=topic.name, what="missing", actual="absent", expected=f"{topic.partitions} partitions"))
            continue
        count = len(present[topic.name].partitions)
        if count < topic.partitions:
            found.append(Difference(topic=topic.name, what="partitions", actual=str(count), expected=str(topic.partitions)))
        for name, value in topic.broker_config().items():
            actual = str(described[topic.name][name].value)
            if _normal(actual) != _normal(value):
                found.append(Difference(topic=topic.name, what=name, actual=actual, expected=value))
    return found


def _described(settings: Settings, client: AdminClient, topics: list[ConfigResource]) -> dict[str, dict[str, ConfigEntry]]:
    found: dict[str, dict[str, ConfigEntry]] = {}
    for resource, future in client.describe_configs(topics).items() if topics else ():
        try:
            found[resource.name] = future.result()
        except KafkaException as wrong:
            refusals.check(wrong.args[0], settings, what=f"DescribeConfigs on the topic {resource.name}")
            raise
    return found


def apply(settings: Settings, topics: Sequence[Topic] = TOPICS) -> list[Difference]:
    """Make the broker's topics as declared, and answer what was changed. Nothing is ever deleted.

    Raises TopicError with the broker's words.
    """
    client = AdminClient(base(settings))
    differences = diff(settings, topics)
    by_name = {t.name: t for t in topics}
    missing = [by_name[d.topic] for d in differences if d.what == "missing"]
    grow = [by_name[d.topic] for d in differences if d.what == "partitions"]
    change: dict[str, list[ConfigEntry]] = {}
    for d in differences:
        if d.what not in ("missing", "partitions"):
            change.setdefault(d.topic, []).append(ConfigEntry(d.what, d.expected, incremental_operation=AlterConfigOpType.SET))
    futures = []
    if missing:
        new = [
            NewTopic(t.name, num_partitions=t.partitions, replication_factor=settings.topic_replication, config=t.broker_config())
            for t in missing
        ]
        futures += client.create_topics(new).items()
    if grow:
        futures += client.create_partitions([NewPartitions(t.name, t.partitions) for t in grow]).items()
    if change:
        entries = [ConfigResource(ConfigResource.Type.TOPIC, n, incremental_configs=e) for n, e in change.items()]
        futures += [(r.name, f) for r, f in client.incremental_alter_configs(entries).items()]
    for name, future in futures:
        try:
            future.result()
        except KafkaException as wrong:
            if wrong.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process applied at the same time
                refusals.check(wrong.args[0], settings, what=f"Create, Alter or AlterConfigs on the topic {name}")
                raise TopicError(f"{name}: {wrong.args[0].str()}") from None
    _wait_for_leaders(client, topics)
    return differences


def _wait_for_leaders(client: AdminClient, topics: Sequence[Topic], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        present = client.list_topics(timeout=10).topics
        if all(t.name in present and all(p.leader >= 0 for p in present[t.name].partitions.values()) for t in topics):
            return
        time.sleep(0.1)
    raise TopicError("the topics were made, but have no leader yet: is every broker running?")


def partition_count(settings: Settings, topic: str) -> int:
    """Partitions that the topic really has. Raises TopicError when it is absent."""
    described = describe(AdminClient(base(settings)), topic)
    refusals.check(described.error, settings, what=f"Describe on the topic {topic}")
    if described.error is not None or not described.partitions:
        raise TopicError(f"the topic {topic} does not exist: run `reelworks topics apply`")
    return len(described.partitions)


def low_watermark(settings: Settings, topic: str, partition: int, *, seconds: float = 15.0) -> int:
    """The oldest offset that a partition still has. Raises KafkaException when no broker answers in time."""
    client = AdminClient(base(settings))  # its calls end with it, and their futures never
    place = TopicPartition(topic, partition)
    spec: dict[TopicPartition, OffsetSpec] = {place: OffsetSpec.earliest()}  # pyright: ignore[reportAssignmentType]
    futures = client.list_offsets(spec, request_timeout=seconds)
    return int(futures[place].result().offset)


def identity(settings: Settings, topics: Sequence[str]) -> str:
    """Text that changes when the cluster or one of the topics is another, made anew under the same name.

    Raises TopicError when a topic is absent, KafkaException when no broker answers.
    """
    client = AdminClient(base(settings))
    cluster = client.describe_cluster(request_timeout=10).result().cluster_id
    ids: list[str] = []
    for name, future in client.describe_topics(TopicCollection(list(topics)), request_timeout=10).items():
        try:
            ids.append(f"{name}={future.result().topic_id}")
        except KafkaException as wrong:
            if wrong.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicError(f"the topic {name} does not exist: run `reelworks topics apply`") from None
            raise
    return " ".join([f"cluster={cluster}", *sorted(ids)])


def _normal(value: str) -> str:
    return ",".join(sorted(value.split(",")))


_SILENT = logging.getLogger("reelworks.silent")
"""While a broker starts, refused connections are expected and not worth a line."""
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
