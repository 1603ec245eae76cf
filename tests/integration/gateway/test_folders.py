"""/v1/folders and /folders: what lies in the bucket's folders, and its flat streams."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import aiohttp
import pytest
from yarl import URL

from services.gateway.auth.playback import ANYBODY
from services.gateway.folders.names import stream_prefix
from tests.servers.gateway import RunningGateway, run_gateway, settings_for

pytestmark = pytest.mark.kafka
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\noutput0.ts\n#EXTINF:4,\noutput1.ts\n#EXT-X-ENDLIST\n"
SEGMENT = bytes(range(188)) * 100
ODD = "ünï #1 100%?.mp4"


async def fill(gateway: RunningGateway) -> None:
    store = gateway.gateway.storage.bucket()
    await store.put("Holi days/Crete.hls/output.m3u8", PLAYLIST)
    for number in range(2):
        await store.put(f"Holi days/Crete.hls/output{number}.ts", SEGMENT)
    for key in (f"Holi days/{ODD}", "Holi days/old.AVI", "Holi days/b.mov", "Holi days/Crete.hls/aes.key", "root.mp4", "assets/a/x.mp4"):
        await store.put(key, b"film")
    await store.put("Notes/x.txt", b"x")


async def fetch(url: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """By a player that keeps no cookies and has no API token."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        async with http.request(method, URL(url, encoded=True), headers=headers, allow_redirects=False) as answer:
            return answer.status, answer.headers, await answer.read()


async def titles(gateway: RunningGateway) -> dict[str, Any]:
    return {title["name"]: title for title in (await gateway.json("/v1/folders/Holi%20days"))["titles"]}


async def test_an_empty_bucket(gateway: RunningGateway) -> None:
    assert await gateway.json("/v1/folders") == {"folders": []}
    async with gateway.http.get("/folders") as answer:
        assert (answer.status, "No folders yet" in await answer.text()) == (200, True)


async def test_folders_and_titles(gateway: RunningGateway) -> None:
    await fill(gateway)
    assert await gateway.json("/v1/folders") == {"folders": [{"name": "Holi days"}, {"name": "Notes"}]}
    found = await titles(gateway)
    assert list(found) == ["b.mov", "Crete", "old.AVI", ODD]
    assert found["Crete"]["key"] == "Holi days/Crete.hls/output.m3u8"
    assert [(t["kind"], t["convertible"]) for t in found.values()] == [("file", True), ("hls", False), ("file", True), ("file", True)]
    assert found["old.AVI"]["play_url"] is None
    assert [found[name]["content_type"] for name in ("b.mov", "old.AVI", ODD)] == ["video/quicktime", "video/x-msvideo", "video/mp4"]
    assert (found[ODD]["size"], found[ODD]["modified_at"][-1]) == (4, "Z")
    assert (await gateway.json("/v1/folders/Notes"))["titles"] == []


@pytest.mark.parametrize(
    ("name", "status"), [("None", 404), ("assets", 404), (".reelworks", 404), ("a%2Fb", 400), ("a%5Cb", 400), ("a%0Ab", 400)]
)
async def test_what_is_no_folder(gateway: RunningGateway, name: str, status: int) -> None:
    await fill(gateway)
    for path in ("/v1/folders/", "/folders/"):
        found, headers, body = await fetch(f"{gateway.url}{path}{name}")
        assert found == status, body
        assert headers["Content-Type"].startswith("application/problem+json" if path.startswith("/v1") else "text/html")


async def test_a_file_of_any_name_is_played_with_ranges(gateway: RunningGateway) -> None:
    await fill(gateway)
    url = (await titles(gateway))[ODD]["play_url"]
    assert url.startswith(gateway.url)
    status, headers, body = await fetch(url, Range="bytes=1-2")
    assert (status, body, headers["Content-Type"]) == (206, b"il", "video/mp4")


async def test_a_stream_is_played_by_its_token_alone(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, api_token="correct horse")) as gateway:
        await fill(gateway)
        assert [(await fetch(gateway.url + path))[0] for path in ("/v1/folders", "/v1/folders/Notes", "/folders")] == [401] * 3
        url = (await titles(gateway))["Crete"]["play_url"]
        status, headers, body = await fetch(url)
        assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "application/vnd.apple.mpegurl", "no-cache")
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert (await fetch(url, **{"If-None-Match": headers["ETag"]}))[0] == 304
        segments = [line for line in body.decode().splitlines() if line and not line.startswith("#")]
        assert len(segments) == 2
        for segment in segments:
            status, headers, body = await fetch(urljoin(url, segment), Range="bytes=10-19")
            assert (status, headers["Content-Type"], body) == (206, "video/mp2t", SEGMENT[10:20])
            assert "immutable" not in headers["Cache-Control"]
        assert (await fetch(url, "OPTIONS"))[0] == 204


async def test_tokens_that_do_not_open_a_stream(gateway: RunningGateway) -> None:
    await fill(gateway)
    base = gateway.url + stream_prefix("Holi days", "Crete.hls")
    tokens = gateway.gateway.tokens
    other = tokens.issue_below(stream_prefix("Holi days", "Other.hls"), ANYBODY, time.time()).text
    late = tokens.issue_below(stream_prefix("Holi days", "Crete.hls"), ANYBODY, time.time() - 10 * gateway.settings.playback_seconds).text
    for file in ("output.m3u8", "output0.ts"):
        assert (await fetch(base + file))[0] == 401
        assert (await fetch(f"{base}{file}?token={late}"))[0] == 401
        assert (await fetch(f"{base}{file}?token={other}"))[0] == 403
        assert (await fetch(f"{base}{file}?token=nonsense"))[0] == 403


@pytest.mark.parametrize("file", ["aes.key", "none.ts", "none.m3u8", "..%2Fold.AVI", "..%2F..%2Froot.mp4", "a%2Fb.ts", "x.ts%0A"])
async def test_nothing_else_of_a_stream_is_served(gateway: RunningGateway, file: str) -> None:
    await fill(gateway)
    prefix = stream_prefix("Holi days", "Crete.hls")
    token = gateway.gateway.tokens.issue_below(prefix, ANYBODY, time.time()).text
    assert (await fetch(f"{gateway.url}{prefix}{file}?token={token}"))[0] == 404


async def test_pages_escape_names_and_name_every_film(gateway: RunningGateway) -> None:
    await fill(gateway)
    name = "<b>&\" 'x"
    await gateway.gateway.storage.bucket().put(f"{name}/<i>.mp4", b"x")
    _, _, body = await fetch(f"{gateway.url}/folders")
    assert (b"<b>" in body, quote(name).encode() in body) == (False, True)
    status, _, body = await fetch(f"{gateway.url}/folders/{quote(name)}")
    assert (status, b"<i>" in body, b"&lt;i&gt;.mp4" in body) == (200, False, True)
    _, _, body = await fetch(f"{gateway.url}/folders/Holi%20days")
    assert body.count(b"data-file=") == 4
    _, _, body = await fetch(f"{gateway.url}/folders/Notes")
    assert b"no films in this folder" in body
    _, _, body = await fetch(gateway.url)
    assert b'href="/folders"' in body
