"""Uploads: what arrives whole is announced, and nothing else leaves a trace."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import pytest

from schemas import topics
from schemas.events import AssetChanged, UploadReceived
from tests import trees
from tests.servers.gateway import RunningGateway, events_about, requests_of, run_gateway, settings_for

pytestmark = pytest.mark.kafka
FILM = b"not really a film, but bytes " * 1000


async def events_of(gateway: RunningGateway) -> list[Any]:
    """Requests about objects of this gateway's own uploads with its test's marker in the title."""
    return await requests_of(gateway, lambda event: isinstance(event, UploadReceived))


async def put(gateway: RunningGateway, name: str, data: Any = FILM, **options: Any) -> tuple[int, Any, Any]:
    async with gateway.http.put(f"/v1/uploads/{name}", data=data, **options) as answer:
        return answer.status, await answer.json(content_type=None), answer.headers


async def test_an_upload_is_stored_announced_and_visible_at_once(gateway: RunningGateway) -> None:
    status, accepted, headers = await put(gateway, "Summer_1998.mov")
    assert status == 202
    assert headers["Location"] == f"/v1/jobs/{accepted['job_id']}"
    job = await gateway.json(headers["Location"])
    assert (job["state"], job["title"], job["type"]) == ("queued", "Summer 1998", "UploadReceived")
    key = f"assets/{accepted['asset_id']}/source/Summer_1998.mov"
    assert gateway.objects() == [key]
    assert await gateway.gateway.storage.bucket().read(key) == FILM
    [(envelope, event)] = await requests_of(gateway, lambda e: getattr(e, "job_id", "") == accepted["job_id"])
    assert (event.key, event.size, event.bucket, event.filename) == (key, len(FILM), "media", "Summer_1998.mov")
    assert envelope.job_id() == event.job_id
    assert envelope.traceparent.startswith("00-")
    [(_, asset)] = await asyncio.to_thread(
        events_about, gateway.settings, topics.ASSETS, lambda e: isinstance(e, AssetChanged) and e.asset_id == accepted["asset_id"]
    )
    assert (asset.title, asset.size, asset.key) == ("Summer 1998", len(FILM), key)
    shown = await gateway.json(f"/v1/assets/{accepted['asset_id']}")
    assert (shown["state"], shown["job_id"], shown["renditions"]) == ("queued", accepted["job_id"], [])


async def test_the_same_file_name_twice_never_overwrites(gateway: RunningGateway) -> None:
    _, one, _ = await put(gateway, "film.mp4", b"one")
    _, two, _ = await put(gateway, "film.mp4", b"two")
    assert one["asset_id"] != two["asset_id"]
    assert len(gateway.objects()) == 2


async def test_a_chunked_upload_without_a_length_is_taken(gateway: RunningGateway) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 1000

    status, accepted, _ = await put(gateway, "film.mp4", pieces())
    assert status == 202
    assert (await gateway.json(f"/v1/assets/{accepted['asset_id']}"))["size"] == 5000


async def test_title_and_owner_are_taken_from_the_query_or_a_header(gateway: RunningGateway) -> None:
    _, accepted, _ = await put(gateway, "x.mp4", params={"title": "Ein <b>Film</b>", "owner": "anna"})
    assert (await gateway.json(f"/v1/assets/{accepted['asset_id']}"))["title"] == "Ein <b>Film</b>"
    _, accepted, _ = await put(gateway, "x.mp4", headers={"X-Title": quote("Größe")})
    assert (await gateway.json(f"/v1/assets/{accepted['asset_id']}"))["title"] == "Größe"


@pytest.mark.parametrize(
    ("name", "segment", "title"),
    [
        ("%2e%2e%2f%2e%2e%2fetc%2fpasswd", "passwd", "passwd"),
        ("a%00b.mp4", "ab.mp4", "ab"),
        (quote("🎬 Ferien.mp4"), "Ferien.mp4", "🎬 Ferien"),
        ("x" * 300 + ".mp4", "x" * 196 + ".mp4", "x" * 300),
        (quote("a\nb.mp4"), "ab.mp4", "ab"),
    ],
)
async def test_any_name_gives_a_safe_key_and_a_title(gateway: RunningGateway, name: str, segment: str, title: str) -> None:
    head, body = await raw(
        gateway, f"PUT /v1/uploads/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc".encode()
    )
    assert head.startswith("HTTP/1.1 202"), (head, body)
    [key] = gateway.objects()
    assert key.split("/")[2:] == ["source", segment]
    assert (await gateway.json(f"/v1/assets/{key.split('/')[1]}"))["title"] == title


async def test_a_path_that_climbs_stays_inside(gateway: RunningGateway) -> None:
    head, _ = await raw(
        gateway, b"PUT /v1/uploads/../../../evil.mp4 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    )
    assert head.startswith(("HTTP/1.1 404", "HTTP/1.1 405", "HTTP/1.1 202"))
    root = Path(gateway.settings.storage_url.removeprefix("file://"))
    assert [p for p in trees.files(root.parent) if p.name == "evil.mp4" and root not in p.parents] == []


async def raw(gateway: RunningGateway, request: bytes) -> tuple[str, str]:
    """Send bytes as they are; answers head and body."""
    url = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(request)
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return head, body


async def nothing_was_kept(gateway: RunningGateway, before: int) -> None:
    """No object, no half of one, no event."""
    deadline = asyncio.get_running_loop().time() + 10
    root = Path(gateway.settings.storage_url.removeprefix("file://"))
    while left := trees.files(root):
        assert asyncio.get_running_loop().time() < deadline, left
        await asyncio.sleep(0.02)
    assert len(await events_of(gateway)) == before
    assert (await gateway.json("/v1/assets"))["assets"] == [] or before > 0


async def test_five_gigabytes_declared_and_one_megabyte_sent_leave_nothing(gateway: RunningGateway) -> None:
    before = len(await events_of(gateway))
    url = urlsplit(gateway.url)
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(b"PUT /v1/uploads/film.mp4 HTTP/1.1\r\nHost: x\r\nContent-Length: 5368709120\r\n\r\n" + b"x" * 1024**2)
    await writer.drain()
    await uploads_running(gateway, 1)
    writer.close()
    await writer.wait_closed()
    await uploads_running(gateway, 0)
    await nothing_was_kept(gateway, before)


async def test_an_upload_broken_off_in_the_middle_leaves_nothing(gateway: RunningGateway) -> None:
    before = len(await events_of(gateway))
    sent = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 200_000
        sent.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(put(gateway, "film.mp4", pieces()))
    await sent.wait()
    await uploads_running(gateway, 1)
    upload.cancel()
    await asyncio.wait([upload])
    await uploads_running(gateway, 0)
    await nothing_was_kept(gateway, before)


async def uploads_running(gateway: RunningGateway, count: int) -> None:
    """Wait until the gateway takes in so many uploads."""
    async with asyncio.timeout(10):
        while gateway.gateway.counters.uploads_running != count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("head", ["Content-Length: 0", "Transfer-Encoding: chunked"])
async def test_an_empty_upload_is_refused(gateway: RunningGateway, head: str) -> None:
    before = len(await events_of(gateway))
    ending = "0\r\n\r\n" if "chunked" in head else ""
    answer, body = await raw(
        gateway, f"PUT /v1/uploads/film.mp4 HTTP/1.1\r\nHost: x\r\n{head}\r\nConnection: close\r\n\r\n{ending}".encode()
    )
    assert answer.startswith("HTTP/1.1 400")
    assert "has no bytes" in body
    await nothing_was_kept(gateway, before)


async def test_a_client_that_falls_silent_is_cut_off(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, idle_timeout_seconds=0.3)) as gateway:
        before = len(await events_of(gateway))
        answer, body = await raw(gateway, b"PUT /v1/uploads/film.mp4 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        assert answer.startswith("HTTP/1.1 408")
        assert "nothing arrived for 0.3 s" in body
        await nothing_was_kept(gateway, before)


async def test_an_upload_beyond_the_limit_is_refused_before_or_while_it_comes(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, upload_limit_bytes=1000)) as gateway:
        before = len(await events_of(gateway))
        status, problem, _ = await put(gateway, "film.mp4", b"x" * 1001)
        assert (status, problem["value"]) == (413, 1001)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 100

        status, problem, _ = await put(gateway, "film.mp4", pieces())
        assert (status, problem["accepted"]) == (413, "at most 1000 bytes")
        await nothing_was_kept(gateway, before)


async def test_more_uploads_than_places_get_503(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, upload_concurrency=1)) as gateway:
        go_on = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"x"
            await go_on.wait()
            yield b"y"

        first = asyncio.create_task(put(gateway, "film.mp4", slow()))
        await uploads_running(gateway, 1)
        status, problem, headers = await put(gateway, "film.mp4")
        assert (status, headers["Retry-After"]) == (503, "5")
        assert "REELWORKS_UPLOAD_CONCURRENCY" in problem["detail"]
        go_on.set()
        assert (await first)[0] == 202
        assert (await put(gateway, "film.mp4"))[0] == 202


async def test_the_same_key_is_the_same_upload_on_any_gateway(kafka: str, tmp_path: Path) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first, second = settings_for(kafka, tmp_path), settings_for(kafka, tmp_path)
    async with run_gateway(first) as one, run_gateway(second) as two:
        assert one.gateway.view.path != two.gateway.view.path
        status, accepted, _ = await put(one, "film.mp4", headers=key)
        await two.until(f"/v1/jobs/{accepted['job_id']}", lambda job: job.get("state") == "queued")
        status, again, _ = await put(two, "film.mp4", headers=key)
        assert (status, again["job_id"], again["asset_id"]) == (202, accepted["job_id"], accepted["asset_id"])
        assert len(await requests_of(one, lambda e: getattr(e, "job_id", "") == accepted["job_id"])) == 1
        assert len(one.objects()) == 1
        status, problem, _ = await put(two, "film.mp4", FILM + b"more", headers=key)
        assert (status, problem["value"]) == (422, "size")
        status, problem, _ = await put(two, "other.mp4", headers=key)
        assert (status, problem["type"]) == (422, "urn:reelworks:problem:idempotency-conflict")
        assert len(one.objects()) == 1


# ── By way of a signed place in storage ────────────────────────────────────────────────────────────────────────────


async def begin(gateway: RunningGateway, **more: Any) -> tuple[int, Any]:
    body = {"filename": "film.mov", "size": len(FILM), "content_type": "video/quicktime"} | more
    async with gateway.http.post("/v1/uploads", json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def send(ticket: Any, data: bytes) -> int:
    upload = ticket["upload"]
    headers = {k: v for k, v in upload["headers"].items() if k != "Content-Length"}
    async with aiohttp.ClientSession() as http, http.request(upload["method"], upload["url"], data=data, headers=headers) as answer:
        return answer.status


async def complete(gateway: RunningGateway, ticket: Any) -> tuple[int, Any]:
    async with gateway.http.post(urlsplit(ticket["complete_url"]).path) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_signed_upload_is_announced_when_it_is_complete(gateway: RunningGateway) -> None:
    status, ticket = await begin(gateway, title="Two steps", recipe={"heights": [480]})
    assert status == 201
    status, problem = await complete(gateway, ticket)
    assert (status, problem["type"]) == (409, "urn:reelworks:problem:not-uploaded")
    assert await send(ticket, FILM) == 200
    status, accepted = await complete(gateway, ticket)
    assert (status, accepted["asset_id"]) == (202, ticket["asset_id"])
    assert (await complete(gateway, ticket))[1]["job_id"] == accepted["job_id"]
    [(_, event)] = await requests_of(gateway, lambda e: getattr(e, "job_id", "") == accepted["job_id"])
    assert (event.size, event.content_type, event.title, event.recipe.heights) == (len(FILM), "video/quicktime", "Two steps", (480,))
    assert event.etag == (await gateway.gateway.storage.bucket().head(event.key)).etag


async def test_another_gateway_can_complete_an_upload(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path)) as one, run_gateway(settings_for(kafka, tmp_path)) as two:
        _, ticket = await begin(one)
        assert await send(ticket, FILM) == 200
        assert (await complete(two, ticket))[0] == 202


async def test_a_signed_upload_takes_exactly_the_size_that_was_announced(gateway: RunningGateway) -> None:
    _, ticket = await begin(gateway)
    assert await send(ticket, FILM + b"more") == 403
    assert await send(ticket, FILM[:-1]) == 403
    assert [key for key in gateway.objects() if "/source/" in key] == []


async def test_an_object_of_another_size_is_not_announced(gateway: RunningGateway) -> None:
    _, ticket = await begin(gateway)
    key = f"assets/{ticket['asset_id']}/source/film.mov"
    await gateway.gateway.storage.bucket().put(key, b"short")
    status, problem = await complete(gateway, ticket)
    assert (status, problem["value"], problem["accepted"]) == (409, 5, len(FILM))
    assert await requests_of(gateway, lambda e: getattr(e, "asset_id", "") == ticket["asset_id"]) == []


@pytest.mark.parametrize("upload_id", ["nothing", "..%2f..%2fx", "%00"])
async def test_an_unknown_upload_is_404(gateway: RunningGateway, upload_id: str) -> None:
    answer, body = await raw(gateway, f"POST /v1/uploads/{upload_id}/complete HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith("HTTP/1.1 404")
    assert "no such upload" in body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"size": 1}, "filename"),
        ({"filename": "x.mp4"}, "size"),
        ({"filename": "x.mp4", "size": 0}, "size"),
        ({"filename": "x.mp4", "size": "1"}, "size"),
        ({"filename": "x.mp4", "size": 1, "recipe": {"heights": [1]}}, "heights"),
        ({"filename": "x.mp4", "size": 1, "callback": {"url": "https://nowhere.example"}}, "REELWORKS_CALLBACK_ALLOW"),
        ({"filename": "x.mp4", "size": 1, "recipe": {"watermark": {"key": "w.png", "bucket": "other"}}}, "allow-list"),
    ],
)
async def test_what_is_wrong_with_an_upload_is_said_before_it_begins(gateway: RunningGateway, body: Any, words: str) -> None:
    async with gateway.http.post("/v1/uploads", json=body) as answer:
        problem = await answer.json(content_type=None)
    assert answer.status in (400, 403)
    assert words in problem["detail"]
    assert gateway.objects() == []
