"""`reelworks submit`: a film from a file, from the web or from storage."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import aiohttp
import click
from rich.progress import Progress

from schemas.api import Accepted
from services.cli import following
from services.cli.client import Gateway, gateway_option
from services.cli.exits import Exit, Missing, Refused, Unreachable
from services.cli.output import json_option, notes, print_json
from services.runtime import settings as settings_module

CHUNK: Final = 1024 * 1024
Begin = Callable[[Gateway, Progress | None], Awaitable[Accepted]]


@click.command()
@click.argument("what", metavar="FILE|URL|s3://BUCKET/KEY")
@click.option("--title", default="", help="Title in the library. Default: the file's name.")
@click.option("--wait", is_flag=True, help="Show the progress and wait for the end; exit code 1 when the job fails.")
@click.option("--timeout", type=float, help="Seconds to wait at most; exit code 4 after that, and the job goes on.")
@gateway_option
@json_option
def submit(what: str, title: str, wait: bool, timeout: float | None, gateway: str, as_json: bool) -> None:
    """Take a film in: a FILE is uploaded, an http(s) URL is fetched and uploaded as it comes, an object that is in
    storage already (s3://BUCKET/KEY) is used where it is.

    Prints job and asset; with --wait also how it ended.
    """

    def begin(client: Gateway, progress: Progress | None) -> Awaitable[Accepted]:
        return send(client, what, title=title, progress=progress)

    raise SystemExit(asyncio.run(begin_and_tell(begin, gateway, wait=wait, timeout=timeout, as_json=as_json)))


async def begin_and_tell(begin: Begin, url: str, *, wait: bool, timeout: float | None, as_json: bool) -> int:
    """Begin a job and say which it is, or with `wait` (or a `timeout` in seconds) how it ended. Answers the exit code."""
    console = notes()
    wait = wait or timeout is not None
    with following.bars(console) if not as_json else contextlib.nullcontext(None) as progress:
        async with Gateway(url, settings_module.load().api_token) as gateway:
            accepted = await begin(gateway, progress)
            if as_json:
                print_json(accepted)
            elif not wait:
                click.echo(
                    f"job {accepted.job_id}\nasset {accepted.asset_id}\n{gateway.absolute(accepted.watch_url or accepted.status_url)}"
                )
            if not wait:
                return Exit.OK
            jobs = gateway.follow(accepted.job_id, seconds=timeout)
            if progress is None:
                last = [job async for job in jobs][-1]
                print_json(last)
            else:
                last = await following.show(jobs, progress)
                assert last is not None
                progress.stop()
                archive = next((output.url for output in last.outputs if output.role == "archive"), "")
                click.echo(f"{following.verdict(last)}\n{gateway.absolute(archive or accepted.watch_url or accepted.status_url)}")
            return following.exit_code(last)


async def send(gateway: Gateway, what: str, *, title: str = "", progress: Progress | None = None) -> Accepted:
    """Upload or name it. Raises Missing, Refused or Unreachable."""
    key = str(uuid.uuid4())  # one for this call: a repeated PUT after a lost answer is the same upload
    scheme = urlsplit(what).scheme.lower()
    if scheme == "s3":
        return await gateway.submit("UploadReceived", object_named(what) | {"title": title}, idempotency_key=key)
    if scheme in ("http", "https"):
        return await _send_url(gateway, what, title, key, progress)
    path, size = _existing(what)
    data = _counted(_chunks(path), size, progress)
    kind = mimetypes.guess_type(path.name)[0] or ""
    return await gateway.upload(path.name, data, size=size, content_type=kind, title=title, idempotency_key=key)


def object_named(url: str) -> dict[str, str]:
    """Bucket and key of s3://BUCKET/KEY. Raises Refused for what names none."""
    parts = urlsplit(url, allow_fragments=False)
    name = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    if not parts.netloc or not name:
        raise Refused(f"{url!r} names no object; accepted is s3://BUCKET/KEY")
    return {"bucket": parts.netloc, "key": name}


def _existing(what: str) -> tuple[Path, int]:
    path = Path(what)
    if not path.is_file():
        raise Missing(f"there is no file {what!r}; accepted are a file, an http(s) URL and s3://BUCKET/KEY")
    return path, path.stat().st_size


async def _send_url(gateway: Gateway, url: str, title: str, key: str, progress: Progress | None) -> Accepted:
    name = unquote(urlsplit(url).path.rpartition("/")[2]) or "film"
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)) as session:
            async with session.get(url) as answer:
                if answer.status != 200:
                    raise Unreachable(f"{url} answered {answer.status}")
                size = None if answer.headers.get("Content-Encoding") else answer.content_length
                data = _counted(answer.content.iter_chunked(CHUNK), size, progress)
                return await gateway.upload(name, data, size=size, content_type=answer.content_type, title=title, idempotency_key=key)
    except (aiohttp.ClientError, TimeoutError) as wrong:
        raise Unreachable(f"{url} could not be fetched: {wrong or type(wrong).__name__}") from None


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


async def _counted(chunks: AsyncIterator[bytes], size: int | None, progress: Progress | None) -> AsyncIterator[bytes]:
    bar = progress.add_task("", total=size, label=f"{'upload':<10}", words="") if progress else None
    async for chunk in chunks:
        yield chunk
        if progress is not None and bar is not None:
            progress.advance(bar, len(chunk))
