"""librdkafka settings that all of our clients share, and why."""

from __future__ import annotations

from typing import Any

from schemas import acls
from services.runtime.kafka.refusals import Complaints
from services.runtime.settings import Settings, SettingsError, kafka_properties

Config = dict[str, Any]


def base(settings: Settings) -> Config:
    """Where the brokers are and how to sign in. Raises SettingsError when no broker is known, or the file with the rest is unusable."""
    if not settings.bootstrap_servers:
        raise SettingsError("KAFKA_BOOTSTRAP_SERVERS is not set: give `host:port`, or run `reelworks up`, which starts an embedded Kafka")
    further = kafka_properties(settings)
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": f"reelworks-{settings.instance_name()}",
        # A broker that restarts is found again at once, not after the default's ten seconds. The first back-off is the only
        # one: librdkafka 2.16 forgets the rest each time that it goes back to the bootstrap servers. With 50 ms a client tries
        # 38 times a second, and all clients of a machine together keep a broker that starts there from its processors.
        "reconnect.backoff.ms": 400,
        "reconnect.backoff.max.ms": 1000,
        "retry.backoff.ms": 10,
        "socket.keepalive.enable": True,
        # What is wrong with a connection is said by error_cb, in our log and in words.
        "log_level": 2,
        "error_cb": Complaints(further),
        **further,
    }


def producer(settings: Settings) -> Config:
    """Idempotent, acknowledged by all replicas in sync, partitioned as Java's clients partition.

    One request is under way at a time. A broker that knows nothing of a producer in a partition takes any sequence number: when the first
    of several requests is refused (the leader is not there yet) and the second is taken, the client counts the first as written, too,
    and reports its records as acknowledged though nobody has them (seen with librdkafka 2.16 and a broker that had just started).
    """
    return base(settings) | {
        "enable.idempotence": True,
        "max.in.flight.requests.per.connection": 1,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": 1,
        "message.max.bytes": 17 * 1024**2,
        "compression.type": "lz4",
    }


def consumer(settings: Settings, group: str) -> Config:
    """Offsets are committed by us only. A session of six seconds, see the embedded broker's settings."""
    config = base(settings) | {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        # A record that comes is delivered at once; this is how long an empty fetch stands, and so how long a partition
        # that was assigned or resumed meanwhile waits behind it. Shorter costs the broker CPU for nothing.
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 50,
        "max.poll.interval.ms": 60_000,
        "group.protocol": settings.group_protocol,
        # Else 64 MiB are queued for each partition.
        "queued.max.messages.kbytes": 16_384,
    }
    if settings.group_protocol == "classic":
        config |= {"session.timeout.ms": 6000, "heartbeat.interval.ms": 2000, "partition.assignment.strategy": "cooperative-sticky"}
    return config


def reader(settings: Settings) -> Config:
    """A consumer that assigns partitions itself and belongs to no group; librdkafka wants a group id all the same.

    It looks for that group's coordinator, too, which somebody without rights on the group is not told.
    """
    config = consumer(settings, acls.READERS) | {
        "enable.partition.eof": True,
        "group.protocol": "classic",
        "fetch.wait.max.ms": 500,
        # A view reads two dozen partitions at once: what is fetched ahead of all of them is in memory.
        "queued.max.messages.kbytes": 4096,
    }
    return {k: v for k, v in config.items() if k not in ("session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy")}
