"""Services as real processes: started, killed, stopped, started again; and what the log says of their jobs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import KafkaException

from schemas import envelope, topics
from schemas.events import FollowUp, JobStatus, UploadReceived
from services.runtime.children import dies_with_parent
from services.runtime.kafka.producer import EventProducer, Record, record
from services.runtime.kafka.reader import LogReader, Received
from services.runtime.settings import Settings, load

SERVICE = [sys.executable, "-m", "services.cli.main", "serve"]
SCRIPTED = [sys.executable, "-m", "tests.programs.scripted_worker"]


class Process:
    """One service. `keep`: started again when it ends, as a supervisor would."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path, *, keep: bool = False) -> None:
        self._command, self._environment, self._log = command, environment, log
        self._keep = keep
        self.starts = 0
        self.ends: list[int] = []
        """Exit codes of a process that is kept."""
        self._start()
        if keep:
            threading.Thread(target=self._supervise, daemon=True).start()

    def _start(self) -> None:
        self.starts += 1
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=dies_with_parent()
            )

    def _supervise(self) -> None:
        while self._keep:
            code = self.process.wait()
            if self._keep:
                self.ends.append(code)
                self._start()

    def kill(self) -> None:
        """kill -9."""
        self._keep = False
        self.process.kill()
        self.process.wait()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, seconds: float = 45.0) -> int:
        """SIGTERM; answers the exit code."""
        self._keep = False
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self._command} did not end within {seconds} s of SIGTERM:\n{self.tail()}") from None

    def said(self, event: str, also: Callable[[dict[str, Any]], bool] = bool, seconds: float = 60.0) -> dict[str, Any]:
        """The first line of its log with this event, of which `also` is true, once it is there."""
        deadline = time.monotonic() + seconds
        while True:
            for line in self._log.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    told = json.loads(line)
                    if isinstance(told, dict) and told.get("event") == event and also(told):
                        return told
            assert time.monotonic() < deadline, f"{self._command} did not say {event!r} within {seconds} s:\n{self.tail()}"
            time.sleep(0.05)

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


class Cluster:
    """Processes on one broker and one folder, and a view of the log from outside."""

    def __init__(self, bootstrap_servers: str, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.library = folder / "library"
        self.library.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("REELWORKS_", "AWS_"))},
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "REELWORKS_STORAGE_URL": self.library.as_uri(),
            "REELWORKS_DATA_DIR": str(folder / "data"),
            "REELWORKS_SCRATCH_DIR": str(folder / "scratch"),
            "REELWORKS_METRICS_PORT": "-1",
            "REELWORKS_LOG_FORMAT": "json",
            **environment,
        }
        self.settings: Settings = load(self.environment)
        self.producer = EventProducer(self.settings)
        self.processes: list[Process] = []
        self.jobs: dict[str, JobStatus] = {}
        """As they are now."""
        self._told: dict[str, list[JobStatus]] = {}
        self.history: list[Received] = []
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def start(self, command: list[str], name: str, *, keep: bool = False, **environment: str) -> Process:
        made = Process(command, {**self.environment, **environment}, self.folder / f"{name}-{len(self.processes)}.log", keep=keep)
        self.processes.append(made)
        return made

    def coordinator(self, *, keep: bool = False, **environment: str) -> Process:
        return self.start([*SERVICE, "coordinator"], "coordinator", keep=keep, **environment)

    def gateway(self, **environment: str) -> tuple[Process, str]:
        """A gateway that has read the log, and its URL."""
        process = self.start([*SERVICE, "gateway"], "gateway", REELWORKS_PORT="0", **environment)
        return process, process.said("ready")["url"]

    def service(self, name: str, **environment: str) -> Process:
        return self.start([*SERVICE, name], name, **environment)

    def scripted(self, *, keep: bool = False, **environment: str) -> Process:
        return self.start(SCRIPTED, "worker", keep=keep, **environment)

    def send(self, event: Any, event_id: str, *, topic: str = topics.REQUESTS, source: str = "test") -> str:
        """Send a request; answers the job's id."""
        self.producer.send(record(event, event_id, source=source, event_id=event_id, topic=topic)).result(30)
        return envelope.derived_id(source, event_id)

    def send_raw(self, made: Record) -> None:
        self.producer.send(made).result(30)

    def wait(self, job_id: str, until: Callable[[JobStatus], bool], seconds: float = 60.0) -> JobStatus:
        """The first status that is as wanted, the present one included; fails with the last one and the ends of all logs.

        None is passed over: some last for milliseconds only.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            seen = max(0, len(self._told.get(job_id, ())) - 1)
            while True:
                told = self._told.get(job_id, [])
                for job in told[seen:]:
                    if until(job):
                        return job
                seen, left = len(told), deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"after {seconds} s the job is {self.jobs.get(job_id)}\n{self.tails()}")
                self._changed.wait(left)

    def end(self, job_id: str, seconds: float = 90.0) -> JobStatus:
        return self.wait(job_id, lambda j: j.state in ("succeeded", "failed", "cancelled"), seconds)

    def read(self, topic: str) -> list[Received]:
        """All committed records that a topic has now."""
        with contextlib.closing(LogReader(self.settings, [topic])) as reader:
            return list(reader)

    def tails(self) -> str:
        return "\n".join(f"── {p._log.name}\n{p.tail(12)}" for p in self.processes)

    def close(self) -> None:
        for process in self.processes:
            process._keep = False
        for process in self.processes:
            if process.process.poll() is None:
                process.signal(signal.SIGCONT)
                process.process.terminate()
        for process in self.processes:
            process.stop()
        self._ended.set()
        self._reader.join(10)
        self.producer.close()

    def _follow(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(KafkaException), contextlib.closing(LogReader(self.settings, [topics.JOBS])) as reader:
                self._read_statuses(reader)  # a broker that is away when the reading begins

    def _read_statuses(self, reader: LogReader) -> None:
        self.history.clear()
        while not self._ended.is_set():
            for received in reader.poll(0.1):
                if (job := status_of(received)) is None:
                    continue
                with self._changed:
                    self.history.append(received)
                    self.jobs[job.job_id] = job
                    self._told.setdefault(job.job_id, []).append(job)
                    self._changed.notify_all()


@contextlib.contextmanager
def cluster(bootstrap_servers: str, folder: Path, **environment: str) -> Iterator[Cluster]:
    made = Cluster(bootstrap_servers, folder, **environment)
    try:
        yield made
    finally:
        made.close()


def alive(process: psutil.Process) -> bool:
    """Whether it runs: one that has ended may be a zombie until its parent asks, or go while one looks."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def status_of(received: Received) -> JobStatus | None:
    """The status in a record of media.jobs; None for the coordinator's own records."""
    if received.value is None or (received.key or b"@").startswith(b"@"):
        return None
    return envelope.decode(received.value, JobStatus)


def script(name: str, then: tuple[FollowUp, ...] = (), **what: Any) -> UploadReceived:
    """A request for the scripted worker."""
    return UploadReceived(key=f"in/{name}.mov", title=json.dumps(what), then=then)
