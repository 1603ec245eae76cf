"""/v1/archives: archives that are made while they are sent, over HTTP."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import time
import uuid
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from yarl import URL

from services.runtime.archives import checksums
from services.runtime.settings import Settings
from services.runtime.storage.base import ObjectStore
from services.runtime.storage.local import LocalStore
from tests import archives
from tests.servers.gateway import RunningGateway, rendition, run_gateway, settings_for, status
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.kafka
LARGE = os.urandom(1024) * 5000
FILES = {
    "Holi days/empty": b"",
    "Holi days/large.mp4": LARGE,
    "Holi days/small.txt": b"small",
    "Holi days/Ägypten 🎬.mp4": b"film " * 10_000,
}
"""In the order of their bytes."""
PREFIX = "/v1/archives?prefix=Holi%20days/"


async def fill(store: ObjectStore) -> bytes:
    """Store the files; what a straightforward writer makes of them."""
    out = io.BytesIO()
    files = [archives.File(key, body, (await store.put(key, body)).modified_ms) for key, body in FILES.items()]
    archives.write(out, files)
    return out.getvalue()


@pytest_asyncio.fixture
async def whole(gateway: RunningGateway) -> bytes:
    return await fill(gateway.gateway.storage.bucket())


async def fetch(gateway: RunningGateway, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.http.request(method, URL(path, encoded=True), headers=names) as answer:
        return answer.status, answer.headers, await answer.read()


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# ── The whole, and ranges ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_folder_as_an_archive(gateway: RunningGateway, whole: bytes, tmp_path: Path) -> None:
    code, headers, body = await fetch(gateway, f"{PREFIX}&name=%C3%84gypten.zip")
    assert (code, body) == (200, whole)
    assert (headers["Content-Type"], headers["Content-Length"]) == ("application/zip", str(len(whole)))
    assert (headers["Accept-Ranges"], headers["X-Content-Type-Options"]) == ("bytes", "nosniff")
    assert "Content-Encoding" not in headers
    assert headers["Content-Disposition"] == "attachment; filename=\"_gypten.zip\"; filename*=UTF-8''%C3%84gypten.zip"
    archive = tmp_path / "got.zip"
    archive.write_bytes(body)
    store = gateway.gateway.storage.bucket()
    files = [archives.File(key, content, (await store.head(key)).modified_ms) for key, content in FILES.items()]
    for reader in archives.READERS:
        if not reader.missing:
            archives.check(reader, archive, files, tmp_path)


async def test_head_and_304_read_no_object(gateway: RunningGateway, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*_: Any, **__: Any) -> Any:
        raise AssertionError("an object was read")

    monkeypatch.setattr(LocalStore, "get", unexpected)
    monkeypatch.setattr(LocalStore, "read", unexpected)
    code, headers, body = await fetch(gateway, PREFIX, "HEAD")
    assert (code, headers["Content-Length"], body) == (200, str(len(whole)), b"")
    for had in (headers["ETag"], f'"other", W/{headers["ETag"]}', "*"):
        code, again, body = await fetch(gateway, PREFIX, If_None_Match=had)
        assert (code, again["ETag"], body) == (304, headers["ETag"], b"")
    code, headers, body = await fetch(gateway, PREFIX, "HEAD", Range="bytes=10-19")
    assert (code, headers["Content-Range"], body) == (206, f"bytes 10-19/{len(whole)}", b"")


@pytest.mark.parametrize("header", ["bytes=0-0", "bytes=100-60000", "bytes=-30", "bytes=5100000-"])
async def test_ranges(gateway: RunningGateway, whole: bytes, header: str) -> None:
    first, _, last = header.removeprefix("bytes=").partition("-")
    start, end = (int(first), int(last) + 1 if last else len(whole)) if first else (len(whole) - int(last), len(whole))
    code, headers, body = await fetch(gateway, PREFIX, Range=header)
    assert (code, body) == (206, whole[start:end])
    assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(whole)}"
    assert headers["Content-Length"] == str(end - start)


async def test_a_range_behind_the_end_is_416_and_several_ranges_are_the_whole(gateway: RunningGateway, whole: bytes) -> None:
    code, headers, _ = await fetch(gateway, PREFIX, Range=f"bytes={len(whole)}-")
    assert (code, headers["Content-Range"]) == (416, f"bytes */{len(whole)}")
    code, headers, body = await fetch(gateway, PREFIX, Range="bytes=0-1,5-6")
    assert (code, body) == (200, whole)
    assert "Content-Range" not in headers


async def test_if_range_sends_the_whole_of_another_archive(gateway: RunningGateway, whole: bytes) -> None:
    etag = (await fetch(gateway, PREFIX, "HEAD"))[1]["ETag"]
    assert (await fetch(gateway, PREFIX, Range="bytes=5-9", If_Range=etag))[0] == 206
    for other in ('"other"', f"W/{etag}", "Mon, 01 Jan 2001 00:00:00 GMT"):
        assert (await fetch(gateway, PREFIX, Range="bytes=5-9", If_Range=other))[::2] == (200, whole)
    await gateway.gateway.storage.bucket().put("Holi days/small.txt", b"SMALL")
    code, headers, body = await fetch(gateway, PREFIX, Range="bytes=5-9", If_Range=etag)
    assert (code, headers["ETag"] != etag) == (200, True)
    with zipfile.ZipFile(io.BytesIO(body)) as opened:
        assert opened.read("Holi days/small.txt") == b"SMALL"


async def test_a_download_goes_on_at_another_gateway_that_shares_nothing_but_the_storage(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings(name: str) -> Settings:
        return settings_for(kafka, tmp_path, data_dir=str(tmp_path / name))

    async with run_gateway(settings("one")) as first:
        whole = await fill(first.gateway.storage.bucket())
        async with first.http.get(URL(PREFIX, encoded=True)) as answer:
            etag = answer.headers["ETag"]
            got = await answer.content.readexactly(4_000_000)
            answer.close()
        await until(lambda: not first.gateway.counters.archives_running)
    reads: list[tuple[str, int, int | None]] = []
    get = LocalStore.get

    def watched(self: LocalStore, key: str, *, start: int = 0, end: int | None = None, if_match: str = "") -> AsyncIterator[bytes]:
        reads.append((key, start, end))
        return get(self, key, start=start, end=end, if_match=if_match)

    monkeypatch.setattr(LocalStore, "get", watched)
    async with run_gateway(settings("two")) as second:
        code, headers, body = await fetch(second, PREFIX, Range=f"bytes={len(got)}-", If_Range=etag)
    assert (code, headers["ETag"]) == (206, etag)
    assert got + body == whole
    # Its checksum was kept, and of what was sent nothing is read again.
    assert [read for read in reads if read[0] == "Holi days/large.mp4"] == [
        ("Holi days/large.mp4", len(got) - whole.index(LARGE), len(LARGE))
    ]


# ── Selections ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_objects_one_by_one_in_their_order(gateway: RunningGateway, whole: bytes) -> None:
    entry = quote('{"key":"Holi days/Ägypten 🎬.mp4","name":"Egypt.mp4"}')
    code, _, body = await fetch(gateway, f"/v1/archives?key=Holi%20days/small.txt&entry={entry}&key=Holi%20days/empty")
    assert code == 200
    with zipfile.ZipFile(io.BytesIO(body)) as opened:
        assert opened.namelist() == ["Holi days/small.txt", "Egypt.mp4", "Holi days/empty"]
        assert opened.testzip() is None


async def test_a_selection_as_a_body_has_ranges_too(gateway: RunningGateway, whole: bytes) -> None:
    wish = {"entries": [{"key": "Holi days/small.txt"}, {"key": "Holi days/large.mp4", "name": "Ätna.mp4"}], "name": "Few"}
    async with gateway.http.post("/v1/archives/download", json=wish) as answer:
        assert (answer.status, answer.content_type) == (200, "application/zip")
        assert "Few.zip" in answer.headers["Content-Disposition"]
        body, etag = await answer.read(), answer.headers["ETag"]
    with zipfile.ZipFile(io.BytesIO(body)) as opened:
        assert (opened.read("Ätna.mp4"), opened.testzip()) == (LARGE, None)
    async with gateway.http.post("/v1/archives/download", json=wish, headers={"Range": "bytes=77-5000000", "If-Range": etag}) as answer:
        assert (answer.status, await answer.read()) == (206, body[77:5_000_001])


async def test_films_of_the_library_by_their_titles(gateway: RunningGateway) -> None:
    store, asset_id = gateway.gateway.storage.bucket(), f"film-{uuid.uuid4()}"
    for height in (360, 720):
        await store.put(f"assets/{asset_id}/{height}.mp4", b"%d" % height)
    outputs = tuple(rendition(store.bucket, f"assets/{asset_id}/{height}.mp4", height, size=3) for height in (360, 720))
    job = status(subject=asset_id, state="succeeded", title="Crete: a/b", outputs=outputs)
    await gateway.feed(job, job.job_id)
    await gateway.until(f"/v1/assets/{asset_id}", lambda asset: asset.get("renditions"))
    code, _, body = await fetch(gateway, f"/v1/archives?asset={asset_id}")
    assert code == 200
    with zipfile.ZipFile(io.BytesIO(body)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == {"Crete_ a_b.mp4": b"720"}
    for path in (f"/v1/archives?asset={asset_id}&asset=none", "/v1/archives?asset=none"):
        code, _, body = await fetch(gateway, path)
        assert (code, b"there is no such asset: none" in body) == (404, True)


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("", 400, "no objects were asked for"),
        ("prefix=", 400, "no objects were asked for"),
        ("prefix=None/", 400, "no object in bucket 'media' begins with 'None/'"),
        ("prefix=Holi&key=a", 400, "one by one and by the prefix"),
        ("bucket=other&prefix=a", 403, "bucket 'other' is not on the allow-list"),
        ("entry=%7B%22key%22:%22a%22,%22bucket%22:%22other%22%7D", 403, "bucket 'other' is not on the allow-list"),
        ("key=Holi%20days/small.txt&key=None&key=Neither", 404, "2 objects do not exist: 'None' in bucket 'media'; 'Neither'"),
        ("key=../a", 400, "the key '../a' cannot be used"),
        ("key=", 400, "this names no object"),
        ("entry=%7B%22key%22:%22Holi%20days/empty%22,%22name%22:%22../x%22%7D", 400, "'../x' (it has the segment '..')"),
        ("entry=%7B%22key%22:%22Holi%20days/empty%22,%22etag%22:%22x%22%7D", 409, "object has changed"),
        ("prefix=Holi&prefix=a", 400, "given more than once"),
    ],
)
async def test_selections_that_cannot_be(gateway: RunningGateway, whole: bytes, query: str, code: int, words: str) -> None:
    found, headers, body = await fetch(gateway, f"/v1/archives?{query}")
    assert (found, headers["Content-Type"]) == (code, "application/problem+json"), body
    assert words in msgspec.json.decode(body)["detail"]


async def test_limits_are_named_with_their_settings(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, archive_max_entries=3, archive_max_bytes=1_000_000)) as gateway:
        await fill(gateway.gateway.storage.bucket())
        for query, words, setting in (
            ("prefix=Holi", "4 objects were selected; an archive may have 3", "REELWORKS_ARCHIVE_MAX_ENTRIES"),
            ("key=Holi%20days/large.mp4", "5,120,000 bytes together; an archive may have 1,000,000", "REELWORKS_ARCHIVE_MAX_BYTES"),
        ):
            code, _, body = await fetch(gateway, f"/v1/archives?{query}")
            assert (code, words in body.decode(), setting in body.decode()) == (413, True, True)


async def test_seventy_thousand_objects(gateway: RunningGateway) -> None:
    root = Path(gateway.settings.storage_url.removeprefix("file://"))
    for n in range(70):
        folder = root / "many" / f"{n:02}"
        folder.mkdir(parents=True)
        for m in range(1000):
            os.close(os.open(folder / f"{m:03}", os.O_CREAT | os.O_WRONLY))
    code, headers, _ = await fetch(gateway, "/v1/archives?prefix=many/", "HEAD")
    assert code == 200
    # Each name, "many/00/000", twice; the ZIP64 records, since there are more than 65,534.
    size = 70_000 * (30 + 46 + 2 * (11 + 9)) + 56 + 20 + 22
    assert headers["Content-Length"] == str(size)
    code, _, body = await fetch(gateway, "/v1/archives?prefix=many/", Range="bytes=-98", If_Range=headers["ETag"])
    assert (code, body[:4], body[-22:-18]) == (206, b"PK\x06\x06", b"PK\x05\x06")


# ── Who may, and how many ──────────────────────────────────────────────────────────────────────────────────────────


@pytest_asyncio.fixture
async def guarded(kafka: str, tmp_path: Path) -> AsyncGenerator[tuple[RunningGateway, bytes]]:
    async with run_gateway(settings_for(kafka, tmp_path, api_token="correct horse", archive_downloads=1)) as gateway:
        yield gateway, await fill(gateway.gateway.storage.bucket())


async def anybody(url: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """A client without the API token."""
    async with aiohttp.ClientSession() as http, http.request(method, URL(url, encoded=True), headers=headers) as answer:
        return answer.status, answer.headers, await answer.read()


async def test_a_link_opens_one_selection_to_anybody(guarded: tuple[RunningGateway, bytes]) -> None:
    gateway, whole = guarded
    assert (await anybody(gateway.url + PREFIX))[0] == 401
    async with gateway.http.post("/v1/archives/links", json={"prefix": "Holi days/", "name": "Ferien"}) as answer:
        assert answer.status == 200
        link = await answer.json()
    assert (link["entries"], link["size"]) == (4, len(whole))
    assert abs(datetime.fromisoformat(link["expires_at"]).timestamp() - time.time() - gateway.settings.signed_url_seconds) < 60
    assert link["url"].startswith(f"{gateway.url}/v1/archives?")
    code, headers, body = await anybody(link["url"])
    assert (code, body) == (200, whole)
    assert "Ferien.zip" in headers["Content-Disposition"]
    assert (await anybody(link["url"], Range="bytes=-10"))[::2] == (206, whole[-10:])
    assert (await anybody(link["url"], "HEAD"))[0] == 200
    assert (await anybody(link["url"], "POST"))[0] == 401


async def test_a_link_that_was_changed_or_has_expired(guarded: tuple[RunningGateway, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, _ = guarded
    async with gateway.http.post("/v1/archives/links", json={"entries": [{"key": "Holi days/small.txt"}]}) as answer:
        link = await answer.json()
    for wrong in (link["url"].replace("small.txt", "large.mp4"), link["url"] + "0", link["url"] + "&key=Holi%20days/empty"):
        code, _, body = await anybody(wrong)
        assert (code, msgspec.json.decode(body)["type"]) == (403, "urn:reelworks:problem:link-refused")
        # With the API token too: who shows a link means that link.
        assert (await fetch(gateway, wrong.removeprefix(gateway.url)))[0] == 403
    monkeypatch.setattr("services.gateway.routes.archives.time.time", lambda: datetime.fromisoformat(link["expires_at"]).timestamp())
    code, headers, body = await anybody(link["url"])
    assert (code, "WWW-Authenticate" in headers) == (401, True)
    assert "has expired; ask for a new one" in msgspec.json.decode(body)["detail"]


async def test_a_selection_that_fits_into_no_link_is_told_where_to_go(guarded: tuple[RunningGateway, bytes]) -> None:
    gateway, _ = guarded
    wish = {"entries": [{"key": "Holi days/small.txt", "name": f"{n:03}.txt"} for n in range(200)]}
    async with gateway.http.post("/v1/archives/links", json=wish) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["type"]) == (413, "urn:reelworks:problem:link-too-long")
        assert "POST /v1/archives/download" in problem["accepted"]
    async with gateway.http.post("/v1/archives/download", json=wish) as answer:
        assert answer.status == 200
        with zipfile.ZipFile(io.BytesIO(await answer.read())) as opened:
            assert len(opened.namelist()) == 200
    async with gateway.http.post("/v1/archives/links", json={"entries": [{"key": "none"}]}) as answer:
        assert (answer.status, "does not exist" in await answer.text()) == (404, True)


async def test_more_downloads_than_there_are_places(guarded: tuple[RunningGateway, bytes]) -> None:
    gateway, _ = guarded
    counters = gateway.gateway.counters
    store = gateway.gateway.storage.bucket()
    await store.put("big", bytes(64 * 1024**2))
    async with gateway.http.get("/v1/archives?key=big") as answer:
        await answer.content.readexactly(1000)
        code, headers, body = await fetch(gateway, PREFIX)
        assert (code, headers["Retry-After"], b"REELWORKS_ARCHIVE_DOWNLOADS" in body) == (503, "5", True)
        assert (await fetch(gateway, PREFIX, "HEAD"))[0] == 200
        answer.close()
    await until(lambda: not counters.archives_running)
    assert (counters.archives_refused, counters.archives_broken_off) == (1, 1)
    assert (await fetch(gateway, PREFIX))[0] == 200
    code, _, metrics = await fetch(gateway, "/metrics")
    assert b"reelworks_gateway_archives_refused_total 1.0" in metrics


async def test_a_client_that_takes_nothing_any_more_gives_its_place_back(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, idle_timeout_seconds=0.3)) as gateway:
        await gateway.gateway.storage.bucket().put("big", bytes(64 * 1024**2))
        place = urlsplit(gateway.url)
        with socket.create_connection((place.hostname, place.port)) as client:
            client.sendall(b"GET /v1/archives?key=big HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: gateway.gateway.counters.archives_running)
            await until(lambda: gateway.gateway.counters.archives_broken_off)
            await until(lambda: not gateway.gateway.counters.archives_running)


# ── Objects that change ────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_object_that_changes_before_the_first_byte_is_an_error_in_words(
    gateway: RunningGateway, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = gateway.gateway.storage.bucket()
    load = checksums.load

    async def meanwhile(*arguments: Any) -> dict[str, int]:
        await store.put("Holi days/small.txt", b"other")
        return await load(*arguments)

    monkeypatch.setattr(checksums, "load", meanwhile)
    code, headers, body = await fetch(gateway, "/v1/archives?key=Holi%20days/small.txt")
    assert (code, headers["Content-Type"]) == (409, "application/problem+json")
    assert b"'Holi days/small.txt' in bucket 'media' has changed" in body


async def test_an_object_that_changes_later_cuts_the_connection(gateway: RunningGateway) -> None:
    store = gateway.gateway.storage.bucket()
    await store.put("p/1", bytes(64 * 1024**2))
    await store.put("p/2", bytes(3 * 1024**2))
    async with gateway.http.get("/v1/archives?prefix=p/") as answer:
        await answer.content.readexactly(1000)
        await store.put("p/2", b"other")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert (gateway.gateway.counters.archives_cut, gateway.gateway.counters.archives_running) == (1, 0)


# ── S3 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest_asyncio.fixture
async def on_s3(kafka: str, s3_server: S3Server, tmp_path: Path) -> AsyncGenerator[RunningGateway]:
    settings = s3_server.settings(s3_server.make_bucket())
    async with run_gateway(msgspec.structs.replace(settings, bootstrap_servers=kafka, data_dir=str(tmp_path), port=0)) as gateway:
        yield gateway


@pytest.mark.s3
async def test_from_s3_whole_and_gone_on_with(on_s3: RunningGateway) -> None:
    store = on_s3.gateway.storage.bucket()
    for key, body in FILES.items():
        await store.put(key, body)
    code, headers, body = await fetch(on_s3, PREFIX)
    assert (code, len(body)) == (200, int(headers["Content-Length"]))
    with zipfile.ZipFile(io.BytesIO(body)) as opened:
        assert opened.testzip() is None
        assert {info.filename: opened.read(info) for info in opened.infolist()} == FILES
    for start, end in ((1000, 2000), (50_000, 5_200_000 - 1), (len(body) - 300, len(body) - 1)):
        end = min(end, len(body) - 1)
        code, again, part = await fetch(on_s3, PREFIX, Range=f"bytes={start}-{end}", If_Range=headers["ETag"])
        assert (code, again["ETag"], part) == (206, headers["ETag"], body[start : end + 1])
    await store.put("Holi days/small.txt", b"SMALL")
    assert (await fetch(on_s3, PREFIX, Range="bytes=0-9", If_Range=headers["ETag"]))[0] == 200


@pytest.mark.s3
async def test_five_hundred_objects_of_s3_by_a_body(on_s3: RunningGateway) -> None:
    store = on_s3.gateway.storage.bucket()
    await asyncio.gather(*(store.put(f"n/{n:03}", b"%d" % n * 100) for n in range(500)))
    wish = {"entries": [{"key": f"n/{n:03}", "name": f"{n}.txt"} for n in reversed(range(500))]}
    async with on_s3.http.post("/v1/archives/download", json=wish) as answer:
        body = await answer.read()
        assert (answer.status, answer.content_length) == (200, len(body))
    with zipfile.ZipFile(io.BytesIO(body)) as opened:
        assert opened.testzip() is None
        assert [int(name.removesuffix(".txt")) for name in opened.namelist()] == [*reversed(range(500))]
