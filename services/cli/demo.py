"""`reelworks demo`: from nothing to a film that plays, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeVar

import click
import msgspec
from rich.console import Console

from schemas.api import Accepted, AssetView
from services.cli import following
from services.cli.client import Gateway
from services.cli.exits import CommandError, Missing, Unreachable
from services.cli.output import json_option, notes, print_json
from services.cli.picture import make_picture
from services.cli.sample import FILENAME, TITLE, sample
from services.cli.stack import Ready, Stack, Stopped, port_problem, stop_on_signals
from services.cli.submit import send
from services.cli.up import worker_counts, workers_option
from services.runtime import settings as settings_module
from services.runtime.settings import Settings
from services.runtime.telemetry import logging as telemetry

T = TypeVar("T")
DATA: Final = Path(".demo")
JOB_SECONDS: Final = 600.0
STREAM_SECONDS: Final = 120.0
"""The stream's final form is a job of its own, with a picture for every few seconds of the film: some seconds, on a busy machine more."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What `reelworks demo --json` prints when the film can be played."""

    playable: bool
    first_seconds: float
    """From the first byte of the upload until the film could be watched from its beginning."""
    seconds: float
    """Since the command was given, until the whole film was there."""
    job_seconds: float
    """From the first byte of the upload until the whole film was there."""
    gateway: str
    watch_url: str
    asset_id: str
    job_id: str


@click.command()
@click.option("--once", is_flag=True, help="End with 0 as soon as the whole film is there, instead of running on.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=DATA, show_default=True, help="Folder for everything.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the gateway. Default: 8080, or a free one when that is taken.")
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser as soon as the film can be watched.")
@workers_option
@json_option
def demo(once: bool, data: Path, port: int | None, open_page: bool, workers: tuple[str, ...], as_json: bool) -> None:
    """Start Kafka, coordinator, gateway and workers, take a real film in by an HTTP upload, and show where it plays.

    The film can be watched while it is still being encoded.
    Runs until Ctrl-C, which ends everything that it started. The first time, Kafka and the film are downloaded.
    """
    begun = time.monotonic()
    settings = settings_module.load(port=port)
    if port is None and port_problem(settings.host, settings.port):
        settings = msgspec.structs.replace(settings, port=0)
    telemetry.configure(msgspec.structs.replace(settings, log_level="error"), "demo")
    console = Console(quiet=True) if as_json else notes()
    counts = worker_counts(workers)
    stop_on_signals()
    try:
        with Stack(settings, data, workers=counts, echo=None) as stack:
            film = _beside(lambda: _film(settings, console))
            console.print(stack.announcement())
            ready = stack.start()
            console.print(f"Ready after {time.monotonic() - begun:.1f} s: {ready.gateway}  [dim](logs: {stack.data / 'logs'})[/dim]")
            shown = _shown(stack, ready, film, console, begun, open_page=open_page)
            _tell(shown, as_json=as_json, once=once)
            if not once:
                stack.watch()
    except Stopped:
        return


def _shown(stack: Stack, ready: Ready, film: Future[Path], console: Console, begun: float, *, open_page: bool) -> Shown:
    """Take the film in, in a thread, while this one keeps everything running (the kernel ties children to the thread)."""
    token = stack.settings.api_token
    result = _beside(lambda: asyncio.run(_take_in(ready, token, film.result(), console, begun, open_page=open_page)))
    while not result.done():
        stack.tick()
        with contextlib.suppress(TimeoutError):
            result.exception(timeout=0.1)
    return result.result()


def _beside(work: Callable[[], T]) -> Future[T]:
    """Do it in a thread that does not keep the program from ending."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as wrong:
            result.set_exception(wrong)

    threading.Thread(target=run, name="demo", daemon=True).start()
    return result


async def _take_in(ready: Ready, token: str, film: Path, console: Console, begun: float, *, open_page: bool) -> Shown:
    async with Gateway(ready.gateway, token) as gateway:
        with following.bars(console) as progress:
            started = time.monotonic()
            accepted = await send(gateway, str(film), title=TITLE if film.name == FILENAME else "Test picture", progress=progress)
            watching = asyncio.create_task(_watchable(gateway, accepted, console, started, open_page=open_page))
            job = await following.show(gateway.follow(accepted.job_id, seconds=JOB_SECONDS), progress)
        if job is None or job.state != "succeeded":
            raise CommandError(f"the film is not playable: {following.verdict(job) if job else 'its job has no status'}")
        first, asset = await watching, await _playable(gateway, accepted)
        now = time.monotonic()
        for rendition in asset.renditions:
            console.print(f"  {rendition.name:>6}  {rendition.width} × {rendition.height}, {rendition.bit_rate // 1000} kbit/s")
        return Shown(
            playable=True,
            first_seconds=round(first, 1),
            seconds=round(now - begun, 1),
            job_seconds=round(now - started, 1),
            gateway=ready.gateway,
            watch_url=gateway.absolute(asset.watch_url),
            asset_id=asset.asset_id,
            job_id=accepted.job_id,
        )


async def _watchable(gateway: Gateway, accepted: Accepted, console: Console, started: float, *, open_page: bool) -> float:
    """Say when there is a playlist that plays, and where. Answers the seconds since `started`."""
    while True:
        with contextlib.suppress(Missing, Unreachable):
            asset = await gateway.asset(accepted.asset_id)
            if asset.hls_url and (await gateway.first_bytes(asset.hls_url)).startswith(b"#EXTM3U"):
                break
        await asyncio.sleep(0.1)
    seconds = time.monotonic() - started
    page = gateway.absolute(asset.watch_url)
    rest = "; the rest is still being encoded" if asset.live else ""
    console.print(f"It can be watched after {seconds:.1f} s{rest}: {page}")
    if open_page and settings_module.graphical():
        click.launch(page)
    return seconds


async def _playable(gateway: Gateway, accepted: Accepted) -> AssetView:
    """The asset, once its stream is complete and its first rendition was seen to be an MP4. Raises Unreachable when it stays away."""
    deadline = time.monotonic() + STREAM_SECONDS
    while True:
        with contextlib.suppress(Missing):
            asset = await gateway.asset(accepted.asset_id)
            if (
                asset.hls_url
                and not asset.live
                and asset.renditions
                and (await gateway.first_bytes(asset.renditions[0].url))[4:8] == b"ftyp"
            ):
                return asset
        if time.monotonic() > deadline:
            raise Unreachable(
                f"the job has ended, but its stream is not complete after {STREAM_SECONDS:g} s more: asset {accepted.asset_id}"
            )
        await asyncio.sleep(0.1)


def _film(settings: Settings, console: Console) -> Path:
    try:
        return sample(settings.cache_path())
    except Unreachable as wrong:
        console.print(f"{wrong}. A test picture is made instead.")
        return asyncio.run(make_picture(settings, settings.cache_path() / "samples"))


def _tell(shown: Shown, *, as_json: bool, once: bool) -> None:
    if as_json:
        print_json(shown)
        return
    click.echo(f"It could be watched {shown.first_seconds} s after the upload began, and was all there after {shown.job_seconds} s.")
    click.echo(f"It plays here: {shown.watch_url}")
    if not once:
        click.echo("Ctrl-C ends everything.")
