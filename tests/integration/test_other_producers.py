"""The producers of `schemas/README.md` as they stand there, against a real broker: kcat, Python and Java ask for the same job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import envelope, topics
from schemas.events import JobRequested
from services.coordinator.intake import interpret
from services.runtime.kafka.reader import LogReader
from services.runtime.settings import Settings
from tests.unit.schemas.test_readme import ID, SOURCE, WORKED_EXAMPLE, blocks

pytestmark = pytest.mark.kafka
SECONDS = 120


def run(command: list[str], kafka: str, **more: str) -> None:
    done = subprocess.run(
        command, env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka, **more}, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def ends(kafka: str) -> dict[tuple[str, int], int]:
    reader = LogReader(Settings(bootstrap_servers=kafka), [topics.REQUESTS])
    reader.close()
    return dict(reader.ends)


def requested_since(kafka: str, start: dict[tuple[str, int], int]) -> list[JobRequested]:
    """What the intake makes of the README's requests that came after `start`."""
    reader = LogReader(Settings(bootstrap_servers=kafka), [topics.REQUESTS], start)
    try:
        found = [r for r in reader if SOURCE.encode() in (r.value or b"") or SOURCE.encode() in dict(r.headers).values()]
    finally:
        reader.close()
    return [envelope.decode(interpret(r).value or b"", JobRequested) for r in found]


def check(kafka: str, start: dict[tuple[str, int], int]) -> None:
    (job,) = requested_since(kafka, start)
    assert (job.job_id, job.source) == (WORKED_EXAMPLE, SOURCE)
    assert (job.kind, job.title, job.request["key"]) == ("transcode", "Gate 3, morning", "incoming/gate-3.mp4")


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
def test_kcat(kafka: str) -> None:
    start = ends(kafka)
    run(["bash", "-euo", "pipefail", "-c", blocks("sh")[0]], kafka)
    check(kafka, start)


def test_confluent_kafka(kafka: str) -> None:
    start = ends(kafka)
    run([sys.executable, "-c", blocks("python")[0]], kafka)
    check(kafka, start)


@pytest.mark.skipif(shutil.which("javac") is None, reason="there is no Java compiler")
def test_java(kafka: str, tmp_path: Path) -> None:
    from services.runtime.kafka.local import VERSION

    jars = Settings().cache_path() / f"kafka-{VERSION}" / "libs"
    if not jars.is_dir():
        pytest.skip("the broker is not ours, so Kafka's jars are not here")
    start = ends(kafka)
    (tmp_path / "SendUpload.java").write_text(blocks("java")[0])
    run(["javac", "-cp", f"{jars}/*", "-d", str(tmp_path), str(tmp_path / "SendUpload.java")], kafka)
    run(["java", "-Xmx64m", "-XX:TieredStopAtLevel=1", "-cp", f"{tmp_path}:{jars}/*", "SendUpload"], kafka)
    check(kafka, start)


def test_a_repetition_arrives_twice_and_is_one_job(kafka: str) -> None:
    start = ends(kafka)
    for _ in range(2):
        run([sys.executable, "-c", blocks("python")[0]], kafka)
    jobs = requested_since(kafka, start)
    assert [job.job_id for job in jobs] == [WORKED_EXAMPLE, WORKED_EXAMPLE]
    assert ID in blocks("python")[0]
