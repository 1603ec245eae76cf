"""From nothing to ready with a long history in Kafka: a gateway without its view, one with it, a coordinator's partitions."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peak import peak_bytes
from schemas import envelope, topics
from schemas.events import Position
from services.coordinator.records import POSITION_KEY
from services.runtime.kafka.producer import EventProducer, Record
from services.runtime.settings import Settings, child_environment
from tests.lives import history
from tests.servers.kafka import embedded
from tests.servers.processes import SERVICE, Process

COMMAND = "python -m benchmarks rebuild"
JOBS = 100_000
STATUSES = 2
"""Of each job: compaction has not run."""
LONGEST_SECONDS = 300
MIB = 1024**2


def run() -> list[dict[str, Any]]:
    """Rows of the table."""
    folder = Path(tempfile.mkdtemp(prefix="reelworks-bench-"))
    try:
        with embedded(folder / "kafka") as broker:
            settings = Settings(
                bootstrap_servers=broker.bootstrap_servers, storage_url=(folder / "media").as_uri(), data_dir=str(folder / "data"), port=0,
                metrics_port=-1, log_format="json",
            )  # fmt: skip
            written = fill(settings, JOBS)
            size = sum(p.stat().st_size for p in (folder / "kafka").rglob("*.log"))
            without = _measured(settings, folder, "gateway", _gateway_is_ready)
            kept = _measured(settings, folder, "gateway", _gateway_is_ready)
            coordinator = _measured(settings, folder, "coordinator", _coordinator_is_ready)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    history_is = f"{written:,} records, {size / MIB:.0f} MiB in Kafka, not compacted"
    return [
        _row(f"a gateway without its view is ready, {JOBS:,} jobs", "< 30 s", without, history_is),
        _row("the same with its view", "", kept),
        _row(f"a coordinator reads {JOBS:,} jobs back, most of them ended", "", coordinator),
    ]


def fill(settings: Settings, jobs: int) -> int:
    """Write the history of so many jobs, and positions as a coordinator keeps them. Answers how many records it has."""
    producer = EventProducer(settings, delivery_seconds=120, linger_ms=20)
    written = 0
    try:
        for made in history(jobs, now_s=int(time.time()), statuses=STATUSES):
            producer.send(made)
            written += 1
            if written % 20_000 == 0:
                producer.flush(60)
        for partition in range(topics.JOB_PARTITIONS):
            value = envelope.encode_value(Position(next=0))
            producer.send(Record(topic=topics.JOBS, key=POSITION_KEY, value=value, partition=partition))
        if left := producer.flush(60):
            raise TimeoutError(f"{left} records were not acknowledged")
    finally:
        producer.close()
    return written


class Measured:
    """What a process took until it was ready."""

    def __init__(self, process: Process, seconds: float) -> None:
        self.seconds = seconds
        times = psutil.Process(process.process.pid).cpu_times()
        self.cpu_seconds = times.user + times.system
        self.peak_bytes = peak_bytes(process.process.pid)


def _measured(settings: Settings, folder: Path, service: str, is_ready: Callable[[str], bool]) -> Measured:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{service}-", suffix=".log", delete=False) as log:
        began = time.monotonic()
        process = Process([*SERVICE, service], child_environment(settings), Path(log.name))
    try:
        while not is_ready(process.tail(100_000)):  # jobs whose time is over while the log is read are told of, too
            if time.monotonic() - began > LONGEST_SECONDS or process.process.poll() is not None:
                raise TimeoutError(f"the {service} did not become ready:\n{process.tail()}")
            time.sleep(0.05)
        return Measured(process, time.monotonic() - began)
    finally:
        process.stop()


def _gateway_is_ready(log: str) -> bool:
    return '"event": "ready"' in log


def _coordinator_is_ready(log: str) -> bool:
    return log.count("partition is ours") >= topics.JOB_PARTITIONS


def _row(what: str, goal: str, measured: Measured, note: str = "") -> dict[str, Any]:
    value = f"{measured.seconds:.1f} s"
    spent = f"{measured.cpu_seconds:.1f} CPU s, at most {measured.peak_bytes / MIB:.0f} MiB"
    return {"what": what, "value": value, "goal": goal, "command": COMMAND, "note": f"{spent}; {note}" if note else spent}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1, ensure_ascii=False) + "\n")
