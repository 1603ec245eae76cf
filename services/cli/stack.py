"""Everything on one machine: the embedded broker, the coordinator, the gateway and the workers under one supervisor."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, TextIO

import msgspec

from schemas import events
from services.cli.exits import CommandError, Exit, Refused, TimedOut, Unreachable
from services.cli.supervisor import Child, Spec, Supervisor, backoff
from services.runtime import settings as settings_module
from services.runtime.children import ReservedPort
from services.runtime.kafka import admin
from services.runtime.kafka.local import VERSION, EmbeddedKafka, KafkaUnavailable
from services.runtime.settings import Settings
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)

WORKERS: Final = tuple(sorted({kind.service for kind in events.KINDS.values() if kind.served}))
"""Services with workers that this version has."""
LIVE: Final = "streamer-live"
"""The process of `services/streamer/live.py`, which takes no tasks."""
START_SECONDS: Final = 120.0
"""A start takes about five; a long log to recover on a busy machine takes longer."""
DRAIN_SECONDS: Final = 3.0
"""Who ends everything does not want to wait; what was not finished begins again with the next start."""
GRACE_SECONDS: Final = 10.0
GIVE_UP_AFTER: Final = 6
"""Restarts in a row, while starting, after which something is plainly wrong."""


class Stopped(BaseException):
    """SIGTERM or Ctrl-C. Raised wherever the main thread is."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What `reelworks up --json` prints."""

    ready: bool = True
    gateway: str
    bootstrap_servers: str
    data: str


def stop_on_signals() -> None:
    """SIGTERM and Ctrl-C raise Stopped once; a second one ends the program at once (its children go with it)."""

    def first(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, second)
        raise Stopped

    def second(_number: int, _frame: FrameType | None) -> None:
        os._exit(Exit.INTERRUPTED)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, first)


def port_problem(host: str, port: int) -> str:
    """Why the gateway could not listen there, or ""."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
            probe.bind((host, port))
    except OSError as wrong:
        what = "is taken" if wrong.errno == errno.EADDRINUSE else f"cannot be opened ({wrong.strerror})"
        return f"port {port} on {host} {what}"
    return ""


class Stack:
    """`with Stack(…) as stack: stack.start(); stack.watch()`."""

    def __init__(self, settings: Settings, data: Path, *, workers: Mapping[str, int], echo: TextIO | None) -> None:
        self.data = data.absolute()
        self.workers = dict(workers)
        self.broker: EmbeddedKafka | None = None
        self.supervisor: Supervisor | None = None
        self._echo = echo
        self._port: ReservedPort | None = None
        self.settings = self._settled(settings)
        self._lock: Any = None
        self._broker_restarts = 0
        self._broker_due = 0.0

    @property
    def gateway(self) -> str:
        """Its address from this machine."""
        host = "127.0.0.1" if self.settings.host in ("0.0.0.0", "::", "localhost") else self.settings.host  # noqa: S104 (compared with, not bound to)  # nosec B104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.settings.port}"

    def announcement(self) -> str:
        """What is going to happen, for people."""
        first = not self.settings.bootstrap_servers and not any((self.settings.cache_path() / f"kafka-{VERSION}").glob("start-*.aot"))
        wait = " The first time, Kafka is downloaded and made ready: a minute or two." if first else ""
        return f"Starting Apache Kafka, coordinator, gateway and workers …{wait}"

    def describe(self) -> Ready:
        return Ready(gateway=self.gateway, bootstrap_servers=self.settings.bootstrap_servers, data=str(self.data))

    def start(self) -> Ready:
        """Start everything and answer when all of it is ready.

        Raises KafkaUnavailable, Unreachable, Refused or CommandError with the end of the log that tells why.
        """
        self._take_folder()
        shutil.rmtree(self.data / "scratch", ignore_errors=True)  # of workers that were killed
        if problem := port_problem(self.settings.host, self.settings.port):
            raise Refused(f"{problem}; give another one with --port (0: any free one)")
        if not self.settings.bootstrap_servers:
            self.broker = EmbeddedKafka(self.data / "kafka", cache=self.settings.cache_path()).start()
            self.settings = msgspec.structs.replace(self.settings, bootstrap_servers=self.broker.bootstrap_servers)
        elif reason := admin.unreachable(self.settings, timeout=10.0):
            raise Unreachable(f"{reason}. Check KAFKA_BOOTSTRAP_SERVERS, or unset it to use the embedded Kafka.")
        admin.apply(self.settings)
        self.supervisor = Supervisor(self.data, echo=self._echo)
        for spec in self._specs(self.supervisor.run):
            self.supervisor.add(spec)
        self._until_ready(self.supervisor)
        return self.describe()

    def tick(self) -> None:
        """Start again what ended. Call it several times a second, from the thread that called `start`."""
        if self.broker is not None and not self.broker.alive():
            self._restart_broker(self.broker)
        if self.supervisor is not None:
            self.supervisor.tick()

    def watch(self) -> None:
        """Keep everything running until Stopped is raised."""
        while True:
            self.tick()
            time.sleep(0.1)

    def stop(self) -> None:
        """End the services, then the broker they still need while they end."""
        if self.supervisor is not None:
            self.supervisor.stop(self.settings.drain_seconds + GRACE_SECONDS)
        if self.broker is not None:
            self.broker.stop()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._port is not None:
            self._port.close()
            self._port = None

    def _settled(self, settings: Settings) -> Settings:
        """The settings of the services: every folder below `data`, every port known, so that a restart finds it again."""
        changes: dict[str, Any] = {"data_dir": str(self.data), "run_dir": str(self.data / "run")}
        changes["drain_seconds"] = min(settings.drain_seconds, DRAIN_SECONDS)
        if not settings.scratch_dir:
            changes["scratch_dir"] = str(self.data / "scratch")
        if not settings.storage_url:
            library = self.data / "library"
            library.mkdir(parents=True, exist_ok=True)
            changes["storage_url"] = library.as_uri()
        if not settings.port:
            # Ours until we end: the gateway listens beside it some seconds later, and again when it is started again.
            self._port = ReservedPort(host=settings.host)
            changes["port"] = self._port.number
        if settings.metrics_port > 0:  # one port cannot serve several processes
            changes["metrics_port"] = 0
        if settings.log_format == "auto" and self._echo is not None and self._echo.isatty():
            changes["log_format"] = "console"
        return msgspec.structs.replace(settings, **changes)

    def _specs(self, run: Path) -> list[Spec]:
        def spec(name: str, service: str, ready_url: str = "", **changes: Any) -> Spec:
            settings = msgspec.structs.replace(self.settings, **changes)
            command = [sys.executable, "-m", "services.cli.main", "serve", service]
            return Spec(name=name, command=command, environment=settings_module.child_environment(settings), ready_url=ready_url)

        specs = [spec("coordinator", "coordinator"), spec("gateway", "gateway", f"{self.gateway}/readyz"), spec(LIVE, LIVE)]
        for service, count in self.workers.items():
            specs += [spec(f"{service}-{n}" if count > 1 else service, service) for n in range(1, count + 1)]
        return specs

    def _until_ready(self, supervisor: Supervisor) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.tick()
            waiting = supervisor.not_ready()
            if not waiting:
                return
            for child in waiting:
                if child.last_code == Exit.USAGE:  # a setting is wrong: trying again would not help
                    said = child.log_tail() or ["it gave no reason"]
                    raise Refused(f"the {child.spec.name} cannot start: {said[-1].removeprefix('reelworks: ')}")
                if child.restarts >= GIVE_UP_AFTER:
                    raise CommandError(_why(child, f"ended with {child.last_code} again and again"))
            if time.monotonic() > deadline:
                raise TimedOut(_why(waiting[0], f"is not ready after {START_SECONDS:.0f} s"))
            time.sleep(0.05)

    def _restart_broker(self, broker: EmbeddedKafka) -> None:
        now = time.monotonic()
        if now < self._broker_due:
            return
        self._broker_restarts += 1
        log.warning("the broker ended and is started again", log=broker.log_tail(3))
        try:
            broker.start()  # on the port it had
            self._broker_restarts = 0
        except KafkaUnavailable as wrong:
            log.error("the broker does not start", error=str(wrong))
        self._broker_due = time.monotonic() + backoff(self._broker_restarts + 1)

    def _take_folder(self) -> None:
        """Two of us on one folder would write each other's files."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            self._lock = (self.data / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another `reelworks up` or `demo` uses {self.data}: end it, or give another folder with --data") from None
        except OSError as wrong:
            raise Refused(f"the data folder {self.data} cannot be used: {wrong.strerror}") from None

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def _why(child: Child, what: str) -> str:
    return "\n".join([f"the {child.spec.name} {what}; its log ends so:", *(child.log_tail() or ["(nothing was logged)"])])
