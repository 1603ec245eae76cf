"""The loop itself, with tasks that do nothing: latency, throughput and what they cost, recovery."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from schemas import envelope, topics
from schemas.events import TERMINAL, TaskStarted, UploadReceived
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.producer import record
from services.runtime.kafka.reader import LogReader
from tests.servers.kafka import embedded
from tests.servers.processes import Cluster, cluster

COMMAND = "python -m benchmarks loop"
JOBS, TASKS, SLOTS = 100, 100, 32
REQUESTS = 300
RECOVERED = 10_000


def run() -> list[dict[str, Any]]:
    """Rows of the table."""
    folder = Path(tempfile.mkdtemp(prefix="reelworks-bench-"))
    try:
        with embedded(folder / "kafka") as broker:
            with cluster(broker.bootstrap_servers, folder, REELWORKS_SLOTS=str(SLOTS)) as made:
                return [*_running(made, broker), *_recovery(made)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _running(made: Cluster, broker: EmbeddedKafka) -> list[dict[str, Any]]:
    processes = [made.coordinator(), made.scripted(), made.scripted()]
    _rush(made, "warm", jobs=40)  # the JVM compiles what it uses, and everybody has joined
    times = _latency(made)
    watched = {"coordinator": processes[0].process.pid, "worker": processes[1].process.pid, "second worker": processes[2].process.pid,
               "broker": broker.pid}  # fmt: skip
    before = {name: _cpu(pid) for name, pid in watched.items()}
    seconds = _rush(made, "rush", jobs=JOBS)
    used = {name: _cpu(pid) - before[name] for name, pid in watched.items()}
    tasks = JOBS * (TASKS + 3)
    costs = ", ".join(f"{name} {1000 * spent / tasks:.2f}" for name, spent in used.items())
    for process in processes:
        process.stop()
    return [
        {"what": "request acknowledged → task started, idle: p50 / p99", "goal": "p99 < 100 ms", "command": COMMAND,
         "value": f"{statistics.median(times):.0f} / {statistics.quantiles(times, n=100)[98]:.0f} ms"},
        {"what": "tasks a second through the whole loop, one coordinator, two workers", "goal": "≥ 1,000", "command": COMMAND,
         "value": f"{tasks / seconds:,.0f}", "note": f"{tasks:,} tasks of {JOBS} jobs in {seconds:.1f} s; "
         f"CPU milliseconds a task: {costs}; {sum(used.values()) / seconds:.1f} processors were busy"},
    ]  # fmt: skip


def _latency(made: Cluster) -> list[float]:
    with closing(LogReader.from_end(made.settings, topics.JOB_EVENTS, back_seconds=1)) as reader:
        times: list[float] = []
        for n in range(REQUESTS):
            job_id = made.send(UploadReceived(key=f"in/{n}", title='{"empty": true}'), f"latency-{n}", source="bench")
            acknowledged = time.time()
            started = 0
            while not started:
                for received in reader.poll(1.0):
                    if received.key == job_id.encode() and envelope.read(received.headers, received.value).type == TaskStarted.__name__:
                        started = started or received.timestamp_ms
            times.append(max(0.0, started - acknowledged * 1000))
            _await(lambda job_id=job_id: made.jobs[job_id].cleanup == "done" if job_id in made.jobs else False)
    return times


def _rush(made: Cluster, name: str, jobs: int) -> float:
    title = json.dumps({"tasks": TASKS, "empty": True})
    ids = [envelope.derived_id("bench", f"{name}-{n}") for n in range(jobs)]
    began = time.monotonic()
    for n in range(jobs):
        event = UploadReceived(key=f"in/{name}-{n}", title=title)
        made.producer.send(record(event, str(n), source="bench", event_id=f"{name}-{n}"))
    made.producer.flush(30)
    _await(lambda: all(i in made.jobs and made.jobs[i].cleanup == "done" for i in ids), 300)
    return time.monotonic() - began


def _recovery(made: Cluster) -> list[dict[str, Any]]:
    coordinator = made.coordinator()
    for n in range(RECOVERED):
        event = UploadReceived(key=f"in/wait-{n}", title='{"tasks": 1}')
        made.producer.send(record(event, str(n), source="bench", event_id=f"wait-{n}"))
    made.producer.flush(60)
    _await(lambda: sum(1 for j in list(made.jobs.values()) if j.state not in TERMINAL) >= RECOVERED, 120)
    coordinator.kill()
    again = made.coordinator()
    took: list[float] = []
    _await(lambda: len(_recovered(again.tail(500), took)) >= topics.JOB_PARTITIONS, 60)
    again.stop()
    return [
        {"what": f"a coordinator reads back {RECOVERED:,} waiting jobs", "goal": "< 2 s", "command": COMMAND,
         "value": f"{max(took):.2f} s", "note": "the slowest partition, from its assignment to its state rebuilt"}
    ]  # fmt: skip


def _recovered(log: str, took: list[float]) -> list[float]:
    lines = [json.loads(line) for line in log.splitlines() if '"partition is ours"' in line]
    took[:] = [float(line["seconds"]) for line in lines]
    return took


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _await(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the loop did not do its work in time")
        time.sleep(0.01)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1, ensure_ascii=False) + "\n")
