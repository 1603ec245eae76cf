"""Archives over Kafka: from the command line, from a topic, by the old wire; and a worker that is killed in the middle."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from schemas import envelope
from schemas.events import ObjectRef, ZipCompleted, ZipRequested
from services.runtime.kafka.producer import EventProducer, record
from services.runtime.settings import Settings, child_environment
from tests.servers.up import REELWORKS, Up, until, up

pytestmark = pytest.mark.kafka
SECRET = "the old service's secret"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("archives"), Settings(zip_secret=SECRET)) as made:
        yield made


def put(stack: Up, key: str, data: bytes = b"", *, size: int = 0) -> None:
    """An object that another program left in the bucket; a hole up to `size`."""
    path = stack.library / key
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        if size:
            file.truncate(size)


def contents(body: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(body)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def nothing_left(stack: Up) -> None:
    until(lambda: not stack.objects("jobs") and not stack.objects("uploads"), 30)
    folder = stack.library / ".reelworks" / "uploads"
    assert not folder.exists() or list(folder.iterdir()) == []


def test_the_command_line(stack: Up):
    put(stack, "cli/a.mp4", os.urandom(100_000))
    put(stack, "cli/b.srt", b"hello " * 1000)
    done = subprocess.run(
        [str(REELWORKS), "zip", "cli/", "--target", "archives/cli.zip", "--wait", "--gateway", stack.gateway],
        env=child_environment(Settings()), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdict, link = done.stdout.strip().splitlines()[-2:]
    assert verdict == "cli.zip: done"
    fetched = stack.call("GET", link)
    assert (fetched.status, fetched.content_type) == (200, "application/zip")
    assert contents(fetched.body) == {key: (stack.library / key).read_bytes() for key in ("cli/a.mp4", "cli/b.srt")}
    nothing_left(stack)


def test_a_topic(stack: Up):
    put(stack, "topic/a.mp4", b"film")
    producer = EventProducer(Settings(bootstrap_servers=stack.bootstrap_servers))
    request = ZipRequested(prefix="topic/", target=ObjectRef(key="archives/topic.zip"))
    sent = record(request, "any", source="other-system", event_id="42")
    producer.send(sent).result(30)
    producer.close(5)
    job = stack.ended(envelope.derived_id("other-system", "42"))
    assert (job["state"], job["title"]) == ("succeeded", "topic.zip")
    assert contents((stack.library / "archives" / "topic.zip").read_bytes()) == {"topic/a.mp4": b"film"}


def test_the_old_wire(stack: Up):
    put(stack, "old/a.mp4", b"film")
    headers = {"Authorization": f"bearer {SECRET}"}
    answer = stack.call("POST", "/zip", body={"files": ["old/a.mp4"], "target": "old.zip"}, headers=headers)
    assert answer.status == 202
    until(lambda: "old.zip" in stack.objects(), 60)
    assert contents((stack.library / "old.zip").read_bytes()) == {"old/a.mp4": b"film"}


def test_a_worker_that_is_killed_in_the_middle(stack: Up):
    for n in range(8):
        put(stack, f"large/{n}.mp4", bytes([n]) * 100, size=2 * 1024**3)
    request = {"prefix": "large/", "target": {"key": "archives/large.zip"}}
    accepted = stack.call("POST", "/v1/jobs", body={"type": "ZipRequested", "data": request}).json()
    job_id = accepted["job_id"]
    until(lambda: stack.get(f"/v1/jobs/{job_id}")["tasks"]["done"] > 1, 60, lambda: str(stack.get(f"/v1/jobs/{job_id}")))
    os.kill(_zipper(stack), signal.SIGKILL)
    began = time.monotonic()
    job = stack.ended(job_id, 180)
    assert job["state"] == "succeeded", job
    assert (stack.library / "archives" / "large.zip").stat().st_size == job["data"]["size"] > 16 * 1024**3
    with zipfile.ZipFile(stack.library / "archives" / "large.zip") as opened:
        assert [(i.filename, i.file_size) for i in opened.infolist()] == [(f"large/{n}.mp4", 2 * 1024**3) for n in range(8)]
        with opened.open("large/7.mp4") as film:
            assert film.read(101) == bytes([7]) * 100 + b"\0"
    assert ZipCompleted(job_id="", subject="", kind="", **job["data"] | {"target": None}).entries == 8
    print(f"ended {time.monotonic() - began:.1f} s after the kill")
    nothing_left(stack)


def test_a_job_that_is_cancelled_leaves_nothing(stack: Up):
    for n in range(8):
        put(stack, f"cancelled/{n}.mp4", bytes([n]) * 100, size=2 * 1024**3)
    request = {"prefix": "cancelled/", "target": {"key": "archives/cancelled.zip"}}
    job_id = stack.call("POST", "/v1/jobs", body={"type": "ZipRequested", "data": request}).json()["job_id"]
    until(lambda: stack.get(f"/v1/jobs/{job_id}")["state"] == "running", 60)
    assert stack.call("POST", f"/v1/jobs/{job_id}/cancel").status in (200, 202)
    assert stack.ended(job_id)["state"] == "cancelled"
    assert not (stack.library / "archives" / "cancelled.zip").exists()


def _zipper(stack: Up) -> int:
    for child in psutil.Process(stack.process.pid).children(recursive=True):
        words: list[Any] = child.cmdline()
        if "serve" in words and words[words.index("serve") + 1] == "zipper":
            return child.pid
    raise AssertionError("there is no zipper")
