"""The live app: folds `media.segments` into a table, so that playlists grow while a film is being encoded. A Faust app.

Faust's part is small on purpose. Its agent only adds an event to the table and to the `Shelf`, which takes microseconds;
what is slow (`growing.py`: storage, the announcements) runs beside it and is not acknowledged by Faust. The table's
changelog is what a restart begins from: it is written before the offset of an event is committed. The table is in memory;
nothing is kept on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import faust
import uvloop
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaConnectionError
from aiokafka.record.memory_records import MemoryRecords
from faust.transport.drivers.aiokafka import Consumer, Transport

from schemas import envelope, topics
from schemas.events import SegmentsReady
from services.runtime.kafka import client
from services.runtime.kafka.admin import TopicError, partition_count
from services.runtime.kafka.producer import EventProducer
from services.runtime.settings import Settings, SettingsError
from services.runtime.storage.factory import open_storage
from services.runtime.telemetry import health, metrics
from services.runtime.telemetry.logging import get_logger
from services.streamer.growing import Growing
from services.streamer.shelf import Shelf, fault

TABLE: Final = "segments"
SWEEP_ROWS: Final = 200
"""Rows of films that are over that are removed with one event: few enough for milliseconds."""
TICK_SECONDS: Final = 0.5
HANG_SECONDS: Final = 30.0
"""The loop does nothing that takes so long."""
STUCK_SECONDS: Final = 30.0
"""Without partitions, or in a recovery that does not go on, for so long: a new process will do better. Seen when a broker was killed at
the end of a recovery."""
STOP_SECONDS: Final = 8.0
"""For a clean end; what is cut off is done again by whoever gets the partitions."""
REPEAT_SECONDS: Final = 10.0
EXIT_FAILED, EXIT_UNREACHABLE, EXIT_STUCK = 1, 3, 70
log = get_logger(__name__)


class Live:
    """One process of the app. Runs in the event loop that calls `run`."""

    def __init__(self, settings: Settings) -> None:
        self.app = make_app(settings)
        self._stopping = asyncio.Event()
        self._producer = EventProducer(settings)
        self._storage = open_storage(settings)
        self._growing = Growing(self._storage, self._producer.publish)
        self._shelf = Shelf()
        self._table: Any = self.app.Table(TABLE, key_type=bytes, value_type=bytes, on_recover=self._recovered)
        source = self.app.topic(topics.SEGMENTS, key_serializer="raw", value_serializer="raw", allow_empty=True)
        self.app.agent(source, name="fold")(self._fold)
        self._ticked = self._ready_at = time.monotonic()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()

    def alive(self) -> str:
        """For /healthz."""
        silent = time.monotonic() - self._ticked
        return f"the event loop hangs for {silent:.0f} s" if silent > HANG_SECONDS else ""

    def ready(self) -> str:
        """For /readyz: "" once there are partitions and their table is read back."""
        return "" if self._recovered_all() else "partitions are being assigned or read back"

    async def run(self) -> int:
        """Until `stop`, or until something is wrong that a restart mends. Answers the exit code."""
        starting = asyncio.create_task(self.app.start())
        code = EXIT_FAILED
        try:
            code = await self._watch(starting)
        finally:
            _end_within(STOP_SECONDS, code)
            await self._close(starting)
        return code

    async def _watch(self, starting: asyncio.Task[None]) -> int:
        left: dict[Any, int] = {}
        while not self._stopping.is_set():
            self._ticked = time.monotonic()
            if starting.done() and (wrong := starting.exception()) is not None:
                log.error("the app did not start", error=repr(wrong))
                return _code(wrong)
            if self.app.crash_reason is not None:
                log.error("the app ended", error=repr(self.app.crash_reason))
                return _code(self.app.crash_reason)
            before, left = left, self._left()
            if self._recovered_all() or left != before:
                self._ready_at = self._ticked
            elif self._ticked - self._ready_at > STUCK_SECONDS:
                log.error("the app got no partitions, or does not go on reading them back", seconds=STUCK_SECONDS)
                return EXIT_STUCK
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._stopping.wait()
        return 0

    async def _close(self, starting: asyncio.Task[None]) -> None:
        await self._growing.close()
        await self.app.stop()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await self._storage.close()
        await asyncio.to_thread(self._producer.close, 2.0)

    def _left(self) -> dict[Any, int]:
        """Changes of the table that are still to be read back, by partition."""
        tables: Any = self.app.tables
        return dict(tables.recovery.active_remaining())

    def _recovered_all(self) -> bool:
        return bool(self.app.tables.actives_ready) and not self.app.rebalancing

    # ── What Faust calls ──────────────────────────────────────────────────────────────────────────────────────────

    async def _fold(self, stream: Any) -> None:
        """Never raises: Faust would acknowledge the event all the same."""
        async for event in stream.events():
            try:
                outcome = self._take(event)
            except Exception:
                log.exception("an event of media.segments was passed over", offset=event.message.offset)
                outcome = "failed"
            metrics.LIVE_EVENTS.labels(outcome).inc()

    def _take(self, event: Any) -> str:
        message = event.message
        try:
            sent = envelope.read(event.headers.items(), message.value)
            told = envelope.decode(sent.data, SegmentsReady)
        except envelope.Unreadable as wrong:
            return _passed_over("unreadable", message, str(wrong))
        if wrong := fault(told):
            return _passed_over("refused", message, wrong)
        rows = self._shelf.take(told, message.partition, time.monotonic())
        for key, value in rows.items():
            self._table[key] = value
        for key in self._shelf.sweep(message.partition, SWEEP_ROWS):
            self._table.pop(key, None)
        if not rows:
            return "repeated"
        self._growing.changed(self._shelf.films[told.asset_id, told.recipe])
        return "taken"

    async def _recovered(self) -> None:
        """The table is as the changelog says: after the start, and after each rebalance."""
        owned = frozenset(tp.partition for tp in self.app.consumer.assignment() if tp.topic == topics.SEGMENTS)
        self._shelf = Shelf.load(self._table.items(), owned, time.monotonic())
        self._growing.replace(self._shelf)
        for key in [key for key in self._table if not self._shelf.holds(key)]:
            del self._table.data[key]  # of partitions that went to others: out of this memory, not out of the changelog
        log.info("the table was read back", partitions=sorted(owned), films=len(self._shelf.films))


def _end_within(seconds: float, code: int) -> None:
    """Faust's threads wait for a broker that is away, and keep the interpreter from ending."""

    def end() -> None:
        log.warning("the app is cut off: it did not end in time", seconds=seconds)
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _passed_over(outcome: str, message: Any, reason: str) -> str:
    log.error("an event of media.segments was passed over", partition=message.partition, offset=message.offset, reason=reason)
    return outcome


def make_app(settings: Settings) -> faust.App:
    """A Faust app that takes nothing from the environment, makes no topics and opens no port. Raises SettingsError."""
    config = client.base(settings)
    app = _App(
        topics.LIVE_APP,
        env={},
        broker=[f"kafka://{server.strip()}" for server in settings.bootstrap_servers.split(",")],
        broker_client_id=str(config["client.id"]),
        broker_credentials=credentials(config),
        # A process that was killed is noticed after ten seconds instead of a minute. Requests must outlast a session.
        broker_session_timeout=10,
        broker_heartbeat_interval=2,
        broker_request_timeout=15,
        consumer_auto_offset_reset="earliest",
        processing_guarantee="at_least_once",
        store="memory://",
        # Topics are declared in schemas/topics.py.
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )
    app.transport = _Transport(app.conf.broker_consumer, app)
    return app


def _code(wrong: BaseException) -> int:
    """How the process ends."""
    return EXIT_UNREACHABLE if isinstance(wrong, KafkaConnectionError) else EXIT_FAILED


class _App(faust.App):
    logger = logging.getLogger("faust.app")
    """Else its words would pass for ours: mode names loggers after the module of a class."""

    def _create_directories(self) -> None:
        """None: the table is in memory."""

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        """An agent that failed is not reliably started again (seen): end the process instead."""
        await self.crash(exc)


class _Consumer(Consumer):
    logger = logging.getLogger("faust.consumer")

    async def perform_seek(self) -> None:
        """At the end of a recovery: back to the committed offsets, so that what Faust dropped meanwhile comes again.

        Without the two additions events were lost (seen). Faust empties the queues of its agents a moment after this, with
        what was read by then: so nothing is read until it lets the flow go on, right behind that. And a partition of which
        nothing was committed yet would stay where it is, behind what was dropped.
        """
        if self.flow_active:
            self.stop_flow()
        await super().perform_seek()
        begin = {tp: 0 for tp in self.assignment() if tp.topic == topics.SEGMENTS and self._committed_offset[tp] is None}
        if begin:
            await self.seek_wait(begin)


class _Transport(Transport):
    Consumer = _Consumer


class _Batches:
    """What a fetch brought. A batch in which a header's name is not UTF-8 ends there: the client raises for it, each time it is fetched
    again, and nobody behind it would be heard. All of a batch is by one producer, and none of ours writes such headers."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> Any:
        return _Batch(self._records.next_batch())


class _Batch:
    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._batch
        except UnicodeDecodeError as wrong:
            log.error("records were passed over: the name of a header is no text", below_offset=self._batch.next_offset, reason=str(wrong))
            metrics.LIVE_EVENTS.labels("unreadable").inc()


fetcher.MemoryRecords = _Batches


_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_TRANSLATED: Final = frozenset(
    {
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.endpoint.identification.algorithm",
    }
)
"""Of librdkafka's settings `sasl.*` and `ssl.*`, those that `credentials` hands on."""


def credentials(config: Mapping[str, Any]) -> faust.SSLCredentials | faust.SASLCredentials | None:
    """librdkafka's security settings (`REELWORKS_KAFKA_CONFIG`) as Faust takes them; None for none.

    Raises SettingsError for what Faust cannot do: nothing about security is passed over.
    """
    strange = sorted(name for name in config if name.startswith(("sasl.", "ssl.")) and name not in _TRANSLATED)
    if strange:
        raise SettingsError(
            f"the streamer's live app has a Kafka client of its own, which cannot use {', '.join(strange)} "
            f"(REELWORKS_KAFKA_CONFIG); it can use {', '.join(sorted(_TRANSLATED))}"
        )
    protocol = str(config.get("security.protocol", "plaintext")).upper()
    context = _tls(config) if protocol in ("SSL", "SASL_SSL") else None
    match protocol:
        case "PLAINTEXT":
            return None
        case "SSL":
            return faust.SSLCredentials(context)
        case "SASL_PLAINTEXT" | "SASL_SSL":
            mechanism = str(config.get("sasl.mechanism") or config.get("sasl.mechanisms") or "").upper()
            if mechanism not in _MECHANISMS:
                raise SettingsError(f"sasl.mechanism={mechanism}: the streamer's live app can use {', '.join(_MECHANISMS)}")
            return faust.SASLCredentials(
                username=config.get("sasl.username"), password=config.get("sasl.password"), ssl_context=context, mechanism=mechanism
            )
        case _:
            raise SettingsError(f"security.protocol={protocol}: accepted are plaintext, ssl, sasl_plaintext, sasl_ssl")


def _tls(config: Mapping[str, Any]) -> ssl.SSLContext:
    try:
        authorities = config.get("ssl.ca.location") or None
        folder = authorities is not None and os.path.isdir(authorities)
        context = ssl.create_default_context(
            cafile=None if folder else authorities, capath=authorities if folder else None, cadata=config.get("ssl.ca.pem") or None
        )
        if certificate := config.get("ssl.certificate.location"):
            context.load_cert_chain(certificate, config.get("ssl.key.location") or None, config.get("ssl.key.password") or None)
    except (OSError, ssl.SSLError) as wrong:
        raise SettingsError(f"the certificates that the Kafka settings name (ssl.*) cannot be read: {wrong}") from None
    if str(config.get("ssl.endpoint.identification.algorithm", "https")).lower() == "none":
        context.check_hostname = False
    if str(config.get("enable.ssl.certificate.verification", "true")).lower() in ("false", "f", "0"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Seldom(logging.Filter):
    """While a broker is away, aiokafka says so fifty times a second. Each of its sentences is enough in ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        now, sentence = time.monotonic(), (record.name, str(record.msg))
        if now - self._said.get(sentence, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        self._said[sentence] = now
        return True


def check_topics(settings: Settings) -> None:
    """Raises TopicError when a topic is missing or the two do not fit together, KafkaException when no broker answers."""
    source, table = partition_count(settings, topics.SEGMENTS), partition_count(settings, topics.LIVE_TABLE)
    if source != table:
        raise TopicError(f"{topics.SEGMENTS} has {source} partitions and {topics.LIVE_TABLE} {table}: they must have as many")


def serve(settings: Settings) -> int:
    """Run the live app until SIGTERM or SIGINT. Answers the exit code."""
    check_topics(settings)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Seldom())
    return uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    live = Live(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, live.stop)
    server = health.start(settings, {"loop": live.alive}, ready={"partitions": live.ready}, service="streamer-live")
    log.info("live app runs", name=settings.instance_name())
    try:
        code = await live.run()
    finally:
        server.close()
    log.info("live app ended", code=code)
    return code
