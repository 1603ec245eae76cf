"""/v1/media: signed, expiring, in ranges."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.servers.gateway import RunningGateway

pytestmark = pytest.mark.kafka
DATA = bytes(range(256)) * 10_000
KEY = "assets/ä b/film #1.mp4"


async def url(gateway: RunningGateway, **options: Any) -> str:
    store = gateway.gateway.storage.bucket()
    await store.put(KEY, DATA)
    return gateway.url + store.sign_get(KEY, expires_seconds=600, **options)


async def fetch(address: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as http, http.request(method, address, headers=names) as answer:
        return answer.status, answer.headers, await answer.read()


async def test_a_whole_object_with_its_type(gateway: RunningGateway) -> None:
    status, headers, body = await fetch(await url(gateway))
    assert (status, body) == (200, DATA)
    assert (headers["Content-Type"], headers["Accept-Ranges"], headers["X-Content-Type-Options"]) == ("video/mp4", "bytes", "nosniff")
    assert headers["Cache-Control"].startswith("private, max-age=")
    assert "Content-Disposition" not in headers


async def test_head_tells_the_same_without_a_body(gateway: RunningGateway) -> None:
    status, headers, body = await fetch(await url(gateway), "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(DATA)), b"")


@pytest.mark.parametrize(
    ("header", "start", "end"), [("bytes=0-9", 0, 10), ("bytes=1000-", 1000, len(DATA)), ("bytes=-5", len(DATA) - 5, len(DATA))]
)
async def test_a_range(gateway: RunningGateway, header: str, start: int, end: int) -> None:
    status, headers, body = await fetch(await url(gateway), Range=header)
    assert (status, body) == (206, DATA[start:end])
    assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(DATA)}"


async def test_a_range_behind_the_end_is_416(gateway: RunningGateway) -> None:
    status, headers, body = await fetch(await url(gateway), Range=f"bytes={len(DATA)}-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")
    assert b"none of them lies in the range" in body


async def test_if_range_sends_the_whole_of_another_object(gateway: RunningGateway) -> None:
    address = await url(gateway)
    _, headers, _ = await fetch(address, "HEAD")
    assert (await fetch(address, Range="bytes=0-9", If_Range=headers["ETag"]))[0] == 206
    assert (await fetch(address, Range="bytes=0-9", If_Range='"other"'))[0] == 200
    assert (await fetch(address, Range="bytes=0-9", If_Range=headers["Last-Modified"]))[0] == 206
    assert (await fetch(address, Range="bytes=0-9", If_Range="Mon, 01 Jan 2001 00:00:00 GMT"))[0] == 200
    assert (await fetch(address, If_None_Match=headers["ETag"]))[0] == 304


async def test_a_signed_file_name_makes_browsers_save_it(gateway: RunningGateway) -> None:
    _, headers, _ = await fetch(await url(gateway, filename='Grün "x".mp4'), "HEAD")
    assert headers["Content-Disposition"] == "attachment; filename=\"Gr_n _x_.mp4\"; filename*=UTF-8''Gr%C3%BCn%20%22x%22.mp4"


async def test_a_url_that_was_changed_or_has_expired_is_403_with_the_reason(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = await url(gateway)
    for wrong in (address.replace("film", "other"), address.replace("expires=1", "expires=9"), address.split("?")[0], address[:-3]):
        status, _, body = await fetch(wrong)
        assert status == 403
        assert b"signature" in body or b"not complete" in body
    late = float(address.split("expires=")[1].split("&")[0])
    monkeypatch.setattr("services.gateway.routes.media.time.time", lambda: late)
    status, _, body = await fetch(address)
    assert (status, b"has expired" in body) == (403, True)


async def test_a_signed_get_is_no_put(gateway: RunningGateway) -> None:
    address = await url(gateway)
    async with aiohttp.ClientSession() as http, http.put(address, data=b"x") as answer:
        assert answer.status == 403
    assert await gateway.gateway.storage.bucket().read(KEY) == DATA


async def test_an_object_that_is_gone_is_404(gateway: RunningGateway) -> None:
    address = await url(gateway)
    await gateway.gateway.storage.bucket().delete(KEY)
    status, headers, _ = await fetch(address)
    assert (status, headers["Content-Type"]) == (404, "application/problem+json")
    assert urlsplit(address).path.startswith("/v1/media/assets/")
