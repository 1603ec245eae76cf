"""The gateway's API, for the commands. Problem details become errors with their words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from types import TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import quote, urljoin

import aiohttp
import click
import msgspec

from schemas.api import Accepted, AssetView, JobPage, JobView, ProblemDetails
from schemas.events import TERMINAL
from services.cli.exits import Missing, Refused, TimedOut, Unreachable

T = TypeVar("T")
DEFAULT_GATEWAY: Final = "http://127.0.0.1:8080"
LONG_POLL_SECONDS: Final = 20
ANSWER_SECONDS: Final = 60.0
"""For anything but an upload."""
PATIENCE_SECONDS: Final = 60.0
"""A gateway that restarts while a job is followed is waited for."""
APART_SECONDS: Final = 0.2
"""Between two questions at least: an answer that comes at once would make following a busy loop."""

gateway_option = click.option("--gateway", default=DEFAULT_GATEWAY, show_default=True, help="Address of a running gateway.")


class Gateway:
    """`async with Gateway(url, token) as gateway:`. Methods raise Unreachable, Refused, Missing or TimedOut."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/") + "/"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Gateway:
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=ANSWER_SECONDS)
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def upload(
        self, filename: str, data: AsyncIterable[bytes], *, size: int | None, content_type: str, title: str, idempotency_key: str
    ) -> Accepted:
        """PUT the bytes as they come."""
        headers = {"Idempotency-Key": idempotency_key, "Content-Type": content_type or "application/octet-stream"}
        if size is not None:
            headers["Content-Length"] = str(size)
        params = {"title": title} if title else {}
        body, _ = await self._call("PUT", f"v1/uploads/{quote(filename, safe='')}", data=data, headers=headers, params=params)
        return _read(body, Accepted)

    async def submit(self, request_type: str, data: dict[str, Any], *, idempotency_key: str) -> Accepted:
        """POST /v1/jobs for objects that are in storage already."""
        body, _ = await self._call(
            "POST", "v1/jobs", json={"type": request_type, "data": data}, headers={"Idempotency-Key": idempotency_key}
        )
        return _read(body, Accepted)

    async def job(self, job_id: str) -> JobView:
        body, _ = await self._call("GET", _job(job_id))
        return _read(body, JobView)

    async def jobs(self, *, state: str = "", kind: str = "", cursor: str = "") -> JobPage:
        """One page, newest first."""
        params = {name: value for name, value in (("state", state), ("type", kind), ("cursor", cursor)) if value}
        body, _ = await self._call("GET", "v1/jobs", params=params)
        return _read(body, JobPage)

    async def cancel(self, job_id: str, reason: str = "") -> None:
        await self._call("POST", f"{_job(job_id)}/cancel", json={"reason": reason} if reason else {})

    async def retry(self, job_id: str) -> None:
        await self._call("POST", f"{_job(job_id)}/retry", json={})

    async def asset(self, asset_id: str) -> AssetView:
        body, _ = await self._call("GET", f"v1/assets/{quote(asset_id, safe='')}")
        return _read(body, AssetView)

    async def follow(self, job_id: str, *, seconds: float | None = None) -> AsyncIterator[JobView]:
        """The job's status at each change, until it has ended. Goes on when the gateway restarts.

        Raises TimedOut after `seconds`.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        etag, lost_since = "", 0.0
        while True:
            left = LONG_POLL_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimedOut(f"job {job_id} has not ended after {seconds:g} s; it goes on: reelworks jobs wait {job_id}")
            begun = time.monotonic()
            headers = {"If-None-Match": etag} if etag else {}
            try:
                body, etag = await self._call(
                    "GET", _job(job_id), params={"wait": str(max(1, min(LONG_POLL_SECONDS, int(left))))}, headers=headers
                )
                lost_since = 0.0
            except Unreachable:
                lost_since = lost_since or begun
                if time.monotonic() - lost_since > PATIENCE_SECONDS:
                    raise
                body = b""
            if body:
                job = _read(body, JobView)
                yield job
                if job.state in TERMINAL:
                    return
            await asyncio.sleep(max(0.0, APART_SECONDS - (time.monotonic() - begun)))

    async def first_bytes(self, url: str, count: int = 64) -> bytes:
        """The beginning of a playable object, as a browser would ask for it."""
        body, _ = await self._call("GET", url, headers={"Range": f"bytes=0-{count - 1}"})
        return body

    def absolute(self, url: str) -> str:
        """An address of an answer, for people."""
        return urljoin(self.url, url)

    async def _call(self, method: str, path: str, **options: Any) -> tuple[bytes, str]:
        """Body and ETag of a good answer; a 304 has no body."""
        if self._session is None:
            raise RuntimeError("Gateway is used outside of its block")
        try:
            async with self._session.request(method, self.absolute(path), **options) as answer:
                body = await answer.read()
                if answer.status >= 400:
                    raise _error(answer.status, body, self.url)
                return (b"" if answer.status == 304 else body), answer.headers.get("ETag", "")
        except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as wrong:
            raise Unreachable(
                f"no gateway answers at {self.url.rstrip('/')} ({wrong.__cause__ or wrong}); "
                "is `reelworks up` running? --gateway says where"
            ) from None
        except (aiohttp.InvalidURL, ValueError) as wrong:
            raise Refused(f"{self.url!r} is no address of a gateway ({wrong}); accepted is {DEFAULT_GATEWAY}, for example") from None
        except (aiohttp.ClientError, TimeoutError) as wrong:
            raise Unreachable(f"the gateway at {self.url.rstrip('/')} broke off: {wrong or type(wrong).__name__}") from None


def _job(job_id: str) -> str:
    return f"v1/jobs/{quote(job_id, safe='')}"


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise Unreachable(f"what answers is no gateway of this version: {wrong}; --gateway says where it is") from None


def _error(status: int, body: bytes, url: str) -> Exception:
    try:
        problem = msgspec.json.decode(body, type=ProblemDetails)
        words = problem.detail or problem.title
        if problem.value is not None and str(problem.value) not in words:
            words += f" (it was {problem.value!r})"
        if problem.accepted is not None:
            words += f" (accepted: {problem.accepted})"
    except (msgspec.DecodeError, UnicodeDecodeError):
        words = f"{url} answered {status}"
    if status == 401:
        words += "; set REELWORKS_API_TOKEN to the gateway's token"
    if status == 404:
        return Missing(words)
    return Unreachable(words) if status >= 500 or status == 429 else Refused(words)
