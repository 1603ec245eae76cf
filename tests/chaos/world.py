"""The servers and processes of a run, and a supervisor that starts again what ended, as an orchestrator would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.runtime.children import ReservedPort, dies_with_parent
from services.runtime.kafka import admin
from services.runtime.settings import Settings, environment_for
from tests.chaos.schedule import SERVICES
from tests.servers.faulty import FaultyProxy, faulty
from tests.servers.kafka_cluster import Brokers
from tests.servers.s3 import S3Server, running_s3
from tests.servers.webhooks import SECRET, Receiver, receiver

MARK: Final = "CHAOS_RUN"
"""Environment variable by which a process is known as one of this run, and its children, too."""
PUBLIC_URL: Final = "http://reelworks.test"
"""What the gateways take for their address: their answers must not differ."""
ZIP_SECRET: Final = "the old wire's secret"
DRAIN_LIMIT: Final = 45.0
"""Seconds from SIGTERM to the end, whatever a service is doing."""
PRESENCE: Final = 0.5
"""Seconds until what ended is started again."""
OWN_EXITS: Final = (3, 70, 71)
"""Processes that end themselves because they cannot begin or go on: services/cli/exits.py, services/coordinator/watchdog.py,
services/runtime/jobs/worker.py."""
HOST: Final = "127.0.0.1"


@dataclass(frozen=True)
class Exit:
    """An end of a process."""

    service: str
    at: float
    code: int
    wanted: str
    """`kill`, `stop`, or "" when nobody asked."""
    seconds: float = 0.0
    """From the signal to the end."""
    age: float = 0.0
    """From its start to the signal, or to the end."""


@dataclass
class Service:
    """One process, started again whenever it ends, until it is told otherwise."""

    kind: str
    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    told: Callable[[str], None]
    url: str = ""
    """Of a gateway."""
    clock: Path = Path()
    exits: list[Exit] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    asleep: bool = False
    _wanted: str = ""
    _since: float = 0.0
    _on: bool = True
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._on = True
        self._task = asyncio.create_task(self._keep())

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self.process.pid if self.process is not None and self.process.returncode is None else 0

    def kill(self) -> int:
        """kill -9. Answers the process that is no more, 0 when there was none."""
        pid = self.pid
        if pid:
            self._signal(signal.SIGKILL, "kill")
        return pid

    def terminate(self) -> bool:
        """SIGTERM. Whether there was a process that can hear it."""
        if not self.pid or self.asleep or self._wanted:
            return False
        self._signal(signal.SIGTERM, "stop")
        return True

    def sleep(self) -> bool:
        """SIGSTOP. Whether there was a process."""
        if not self.pid or self.asleep or self._wanted:
            return False
        self.asleep = True
        self._signal(signal.SIGSTOP, "")
        return True

    def wake(self) -> None:
        """SIGCONT."""
        self.asleep = False
        if self.pid:
            self._signal(signal.SIGCONT, self._wanted)

    async def end(self) -> None:
        """SIGTERM, and no new start."""
        self._on = False
        self.wake()
        if not self._wanted:
            self.terminate()
        if self._task is not None:
            await self._task

    def _signal(self, number: int, wanted: str) -> None:
        assert self.process is not None
        self._wanted, self._since = wanted, time.time()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def _keep(self) -> None:
        while self._on:
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *self.command, env=self.environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                    preexec_fn=dies_with_parent(),
                )  # fmt: skip
            self._wanted, self.asleep, self._since = "", False, 0.0
            if not self._on:  # it was told to end while it was being started
                self.terminate()
            began = time.time()
            code = await self._ended()
            now = time.time()
            since = self._since if self._wanted else now
            self.exits.append(Exit(self.name, now, code, self._wanted, now - since, since - began))
            self.told(f"{self.name} ended with {code}{f' ({self._wanted})' if self._wanted else ''}")
            if self._on:
                await asyncio.sleep(PRESENCE)

    async def _ended(self) -> int:
        assert self.process is not None
        waiting = asyncio.ensure_future(self.process.wait())
        while not waiting.done():
            await asyncio.wait([waiting], timeout=1.0)
            if self._wanted == "stop" and not self.asleep and time.time() - self._since > DRAIN_LIMIT + 5:
                self.told(f"{self.name} does not end: {DRAIN_LIMIT:.0f} s after SIGTERM it is killed")
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
        return waiting.result()


class World:
    """Everything that runs. Times are of time.time()."""

    def __init__(self, folder: Path, brokers: Brokers, store: S3Server, bucket: str, proxy: FaultyProxy, callbacks: Receiver) -> None:
        self.folder, self.brokers, self.store, self.bucket, self.proxy, self.callbacks = folder, brokers, store, bucket, proxy, callbacks
        self.run = uuid.uuid4().hex
        self.services: list[Service] = []
        self.began = time.time()
        self.diary: list[tuple[float, str]] = []
        self.outages: list[tuple[float, float]] = []
        """When a broker was away, from and to."""
        self._ports: list[ReservedPort] = []
        self.settings = self._settings()

    def told(self, what: str) -> None:
        """Note what happened."""
        self.diary.append((time.time(), what))

    def away(self, since: float, until: float) -> bool:
        """Whether a broker was away at some moment between."""
        return any(begin <= until and end >= since for begin, end in self.outages)

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def _settings(self) -> Settings:
        """Of all services. The store is behind the proxy; what looks from outside goes to it directly."""
        return Settings(
            bootstrap_servers=self.brokers.bootstrap_servers,
            storage_url=f"s3://{self.bucket}",
            s3_endpoint=self.proxy.endpoint,
            s3_region=self.store.region,
            s3_app_key=self.store.key,
            s3_app_secret=self.store.secret,
            scratch_dir=str(self.scratch),
            metrics_port=-1,
            log_format="json",
            public_url=PUBLIC_URL,
            signing_key="the signing key of both gateways",
            playback_seconds=60,
            hls_delivery="proxy",
            zip_secret=ZIP_SECRET,
            webhook_secret=SECRET,
            callback_allow=(HOST,),
            callback_allow_private=True,
            topic_replication=len(self.brokers),
            drain_seconds=15,
            ffmpeg_threads=1,
            slots=2,
        )

    def add(self, kind: str, **changes: str) -> Service:
        """Start one more process of a service."""
        name = f"{kind}-{sum(s.kind == kind for s in self.services) + 1}"
        clock = self.folder / f"{name}.clock"
        clock.write_text("0")
        settings = self.settings
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("REELWORKS_", "AWS_", "KAFKA_"))}
        environment |= environment_for(settings) | {
            MARK: self.run,
            "REELWORKS_DATA_DIR": str(self.folder / name),
            "REELWORKS_INSTANCE": name,
            # Hundreds of starts: without bytecode each would compile everything again.
            "PYTHONPYCACHEPREFIX": str(self.folder.parent / "bytecode"),
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        url = ""
        if kind == "gateway":
            port = ReservedPort()
            self._ports.append(port)
            url = f"http://{HOST}:{port.number}"
            environment["REELWORKS_PORT"] = str(port.number)
        command = [sys.executable, "-m", "tests.programs.troubled", str(clock), "serve", kind]
        service = Service(kind, name, command, environment | changes, self.folder / f"{name}.log", self.told, url, clock)
        self.services.append(service)
        service.start()
        return service

    def of(self, kind: str) -> list[Service]:
        return [s for s in self.services if s.kind == kind]

    @property
    def gateways(self) -> list[str]:
        """Addresses."""
        return [s.url for s in self.of("gateway")]

    async def end(self) -> None:
        """End all services in order."""
        await asyncio.gather(*(service.end() for service in self.services))
        for port in self._ports:
            port.close()

    def processes(self) -> list[tuple[int, str]]:
        """Processes of this run that are alive, with their command lines: ours, and what ours have started."""
        found: list[tuple[int, str]] = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if f"{MARK}={self.run}".encode() in (entry / "environ").read_bytes():
                    found.append((int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")))
        return found


@asynccontextmanager
async def world(folder: Path, *, brokers: int = 1) -> AsyncGenerator[World]:
    """The servers, with our topics and a bucket; no service yet."""
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(Brokers(folder / "kafka", brokers))
        settings = Settings(bootstrap_servers=cluster.bootstrap_servers, topic_replication=brokers)
        await asyncio.to_thread(admin.apply, settings)
        store = stack.enter_context(running_s3())
        proxy = await stack.enter_async_context(faulty(store.endpoint))
        callbacks = stack.enter_context(receiver())
        made = World(folder, cluster, store, store.make_bucket(), proxy, callbacks)
        try:
            yield made
        finally:
            await made.end()


def start_all(made: World) -> None:
    """As many processes as the schedule says."""
    for kind, count in SERVICES.items():
        for _ in range(count):
            made.add(kind)
