"""The gateway as a process: what it is made of, how it starts, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable

from aiohttp import web

from services.gateway.archives.links import Links
from services.gateway.archives.sending import DownloadGate
from services.gateway.auth.playback import keys_of
from services.gateway.auth.token import Door, check_binding
from services.gateway.context import DELIVERY_SECONDS, GATEWAY, Gateway
from services.gateway.counters import GatewayCollector, registry
from services.gateway.fast import shortened
from services.gateway.guard import middleware
from services.gateway.pressure import GATE, Gate, accept, most_connections
from services.gateway.routes import archives, assets, events, folders, health, hls, jobs, media, pages, uploads, videos, zip
from services.gateway.uploads.receive import UploadGate
from services.gateway.views.store import View
from services.runtime.kafka.producer import EventProducer
from services.runtime.settings import Settings, SettingsError
from services.runtime.storage.factory import open_storage
from services.runtime.storage.signing_key import load_signing_key
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
SHUTDOWN_SECONDS = 10.0
"""Uploads that are under way get so long to end; long polls and event streams end at once."""
MAX_LINE = 16 * 1024
"""Of the request line and of each header: a file name of 4,096 characters, percent-encoded, fits."""


def application(gateway: Gateway, door: Door) -> web.Application:
    """The routes of a gateway."""
    settings = gateway.settings
    app = web.Application(middlewares=[middleware(door)], client_max_size=settings.body_limit_bytes)  # type: ignore[list-item]
    files = pages.Files()
    app[GATEWAY] = gateway
    app[GATE] = Gate(gateway.counters, settings.body_limit_bytes)
    app[uploads.GATE] = UploadGate(settings.upload_concurrency, gateway.counters)
    app[zip.QUOTA] = zip.Quota(settings.archive_max_jobs)
    app[archives.GATE] = DownloadGate(settings.archive_downloads, gateway.counters)
    app[archives.LINKS] = Links(keys_of(settings, gateway.signing_key), life_seconds=settings.signed_url_seconds)
    app[pages.PAGES] = pages.Pages(settings, files)
    app[health.REGISTRY] = registry(GatewayCollector(gateway.counters, _gauges(gateway)))
    for routes in (jobs, events, uploads, assets, folders, hls, media, archives, videos, zip, health):
        app.add_routes(routes.routes())
    app.add_routes(pages.routes(files))
    return app


def _gauges(gateway: Gateway) -> dict[str, tuple[str, Callable[[], float]]]:
    return {
        "ready": ("Whether the view has caught up.", lambda: float(gateway.caught_up.is_set())),
        "kafka_connected": ("Whether the log is being followed.", lambda: float(gateway.follower.connected)),
        "watchers": ("Long polls and event streams that wait.", lambda: float(len(gateway.watchers))),
        "unreadable_records": ("Records of the log that the view could not read.", lambda: float(gateway.follower.unreadable)),
        "jobs": ("Statuses in the view.", lambda: float(gateway.view.count("jobs"))),
        "assets": ("Assets in the view.", lambda: float(gateway.view.count("assets"))),
        "cache_hits": ("Polls answered from memory.", lambda: float(gateway.statuses.cache.hits)),
        "cache_misses": ("Polls that asked SQLite.", lambda: float(gateway.statuses.cache.misses)),
    }


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[tuple[Gateway, str]]:
    """A gateway that listens, and its URL; its view may still be catching up (`gateway.caught_up`).

    Raises SettingsError for an address that needs a token, a port that is taken, an unusable storage URL or data folder.
    """
    check_binding(settings)
    async with contextlib.AsyncExitStack() as stack:
        storage = open_storage(settings)
        stack.push_async_callback(storage.close)
        await zip.check_buckets(settings, storage)
        try:
            view = View(settings.data_path())
        except (OSError, sqlite3.OperationalError) as wrong:
            raise SettingsError(f"the data folder {settings.data_path()} cannot be used: {wrong} (REELWORKS_DATA_DIR)") from None
        stack.callback(view.close)
        producer = EventProducer(settings, delivery_seconds=DELIVERY_SECONDS)
        stack.push_async_callback(asyncio.to_thread, producer.close, DELIVERY_SECONDS)
        gateway = Gateway(settings, storage, view, producer, load_signing_key(settings))
        sock = _listen(settings)
        stack.callback(sock.close)
        door = Door(settings)
        runner = web.AppRunner(
            application(gateway, door),
            handle_signals=False,
            handler_cancellation=True,
            access_log=None,
            # aiohttp counts it while it waits for the header lines of the first and of each further request.
            keepalive_timeout=settings.header_timeout_seconds,
            shutdown_timeout=SHUTDOWN_SECONDS,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            auto_decompress=False,
        )
        await runner.setup()
        server = runner.server
        assert server is not None, "it was set up"
        server.request_handler = shortened(gateway, door, server.request_handler)
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(_let_uploads_end, gateway)
        stack.push_async_callback(_stop, gateway)
        gateway.fleet.start()
        gateway.announcements.start()
        gateway.follower.start()
        ticking = asyncio.create_task(gateway.tick())
        stack.callback(ticking.cancel)
        accepting = asyncio.create_task(accept(sock, server, most_connections()))
        stack.callback(accepting.cancel)
        host, port = sock.getsockname()[:2]
        yield gateway, f"http://{'[' + host + ']' if ':' in host else host}:{port}"


async def _stop(gateway: Gateway) -> None:
    gateway.watchers.close()
    gateway.playlists.close()
    await asyncio.gather(*(asyncio.to_thread(thread.stop) for thread in (gateway.follower, gateway.fleet, gateway.announcements)))


async def _let_uploads_end(gateway: Gateway) -> None:
    """aiohttp reads nothing more of any body from the moment it begins to close, so this comes before."""
    until = time.monotonic() + SHUTDOWN_SECONDS
    while gateway.counters.uploads_running and time.monotonic() < until:  # noqa: ASYNC110 (a counter; looked at for some seconds, once)
        await asyncio.sleep(0.05)


async def serve(settings: Settings, *, ready: Callable[[str], None] | None = None) -> None:
    """Run until SIGTERM, SIGINT or cancellation. `ready` is called with the URL once it listens and the view has caught up."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # not the main thread: it is cancelled instead
            loop.add_signal_handler(number, ended.set)
    async with running(settings) as (gateway, url):
        log.info("listening", url=url, view=str(gateway.view.path))
        caught_up, end = asyncio.create_task(gateway.caught_up.wait()), asyncio.create_task(ended.wait())
        try:
            await asyncio.wait((caught_up, end), return_when=asyncio.FIRST_COMPLETED)
            if caught_up.done():
                log.info("ready", url=url, jobs=gateway.view.count("jobs"), assets=gateway.view.count("assets"))
                if ready is not None:
                    ready(url)
            await end
        finally:
            caught_up.cancel()
            end.cancel()
        log.info("ending")


def run(settings: Settings, *, ready: Callable[[str], None] | None = None) -> None:
    """`serve` on uvloop where there is one."""
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ImportError:  # Windows
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(settings, ready=ready))


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host.strip("[]"), settings.port))
    except OSError as wrong:
        sock.close()
        raise SettingsError(
            f"the gateway cannot listen on {settings.host}:{settings.port}: {wrong.strerror}; "
            "choose another address with REELWORKS_HOST and REELWORKS_PORT"
        ) from None
    sock.listen(1024)
    sock.setblocking(False)
    return sock
