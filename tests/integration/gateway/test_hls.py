"""/v1/assets/{id}/hls and /playback: tokens, playlists from memory, segments."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import m3u8
import pytest
from yarl import URL

from schemas.events import ErrorInfo, JobFailed, Output, PlaylistChanged, StreamReady
from services.gateway.auth.playback import ANYBODY, PlaybackKey, PlaybackTokens
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.producer import BrokerUnavailable
from services.runtime.storage.base import StorageError
from tests.servers.gateway import WAIT_SECONDS, RunningGateway, run_gateway, settings_for, status

pytestmark = pytest.mark.kafka
MASTER = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nvideo-360/index.m3u8\n"
SEGMENT = bytes(range(256)) * 400
RECIPE = "0123456789ab"
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"


def media(segments: int, *, ended: bool = True, key: bool = False) -> bytes:
    lines = ["#EXTM3U", '#EXT-X-MAP:URI="init.mp4"', *(['#EXT-X-KEY:METHOD=AES-128,URI="../aes.key",IV=0x00'] if key else [])]
    return "\n".join([*lines, *(f"#EXTINF:4,\n{n:05d}.m4s" for n in range(segments)), *(["#EXT-X-ENDLIST"] if ended else []), ""]).encode()


class Film:
    """An asset with a stream, as the transcoder, the streamer and the coordinator leave it."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway
        self.asset_id = f"film-{uuid.uuid4()}"
        self.folder = f"assets/{self.asset_id}/{RECIPE}"
        self.base = f"{gateway.url}/v1/assets/{self.asset_id}/hls/"
        self.index = f"{self.folder}/video-360/index.m3u8"
        self.job = status(subject=self.asset_id, state="running")

    @property
    def store(self) -> Any:
        return self.gateway.gateway.storage.bucket()

    @property
    def token(self) -> str:
        return self.gateway.gateway.tokens.issue(self.asset_id, ANYBODY, time.time()).text

    def url(self, path: str, token: str | None = None) -> str:
        """Of a path below the prefix, with a token in the query."""
        return f"{self.base}{path}?token={self.token if token is None else token}"

    async def write(self, segments: int, *, ended: bool, key: bool = False) -> None:
        await self.store.put(f"{self.folder}/master.m3u8", MASTER)
        await self.store.put(self.index, media(segments, ended=ended, key=key))
        await self.store.put(f"{self.folder}/video-360/init.mp4", b"init")
        await self.store.put(f"{self.folder}/video-360/00000.m4s", SEGMENT)

    async def announce(self, etag: str, *, ended: bool = False) -> None:
        await self.gateway.feed(
            PlaylistChanged(asset_id=self.asset_id, bucket=self.store.bucket, key=self.index, etag=etag, ended=ended), self.index
        )

    async def ready(self, *, progressive: bool = False, **more: Any) -> None:
        fields: dict[str, Any] = {
            "job_id": self.job.job_id, "subject": self.asset_id, "kind": "stream", "asset_id": self.asset_id, "recipe": RECIPE,
            "bucket": self.store.bucket, "master": f"{self.folder}/master.m3u8", "progressive": progressive,
            "finished_ms": int(time.time() * 1000),
        }  # fmt: skip
        await self.gateway.feed(StreamReady(**(fields | more)), f"{self.asset_id}:stream{':progressive' * progressive}")

    async def asset(self, condition: Any = lambda asset: asset.get("hls_url")) -> Any:
        return await self.gateway.until(f"/v1/assets/{self.asset_id}", condition)


async def whole(gateway: RunningGateway, *, key: bool = False, **more: Any) -> Film:
    """A film whose stream is there as a whole."""
    film = Film(gateway)
    await film.write(3, ended=True, key=key)
    await gateway.feed(film.job, film.job.job_id)
    await film.ready(**more)
    await film.asset()
    return film


async def growing(gateway: RunningGateway) -> Film:
    """A film that is still being encoded."""
    film = Film(gateway)
    await film.write(1, ended=False)
    await gateway.feed(film.job, film.job.job_id)
    await film.ready(progressive=True)
    await film.asset(lambda asset: asset.get("live"))
    return film


async def fetch(url: str | URL, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """By a player that keeps no cookies and has no API token."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        async with http.request(method, url, headers=names, allow_redirects=False) as answer:
            return answer.status, answer.headers, await answer.read()


# ── What may be watched, and by whom ───────────────────────────────────────────────────────────────────────────────


async def test_a_player_without_cookies_follows_the_token_through_every_playlist(gateway: RunningGateway) -> None:
    film = await whole(gateway, key=True, encrypted=True)
    await film.store.put(f"{film.folder}/aes.key", b"k" * 16)
    url = (await film.asset())["hls_url"]
    assert url.startswith(f"{film.base}{RECIPE}/master.m3u8?token=")
    code, headers, body = await fetch(url)
    assert (code, headers["Content-Type"], headers["X-Content-Type-Options"]) == (200, PLAYLIST_TYPE, "nosniff")
    [variant] = m3u8.loads(body.decode()).playlists
    url = urljoin(url, variant.uri)
    code, _, body = await fetch(url)
    read = m3u8.loads(body.decode())
    assert (code, len(read.segments)) == (200, 3)
    for uri, expected in (
        (read.segments[0].uri, SEGMENT),
        (read.segment_map[0].uri, b"init"),
        (next(k for k in read.keys if k).uri, b"k" * 16),
    ):
        code, _, body = await fetch(urljoin(url, uri))
        assert (code, body) == (200, expected)


async def test_a_browser_gets_a_cookie_for_this_film_alone_and_plain_playlists(gateway: RunningGateway) -> None:
    film, other = await whole(gateway), await whole(gateway)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.post(f"{gateway.url}/v1/assets/{film.asset_id}/playback") as answer:
            played, cookie, cache = await answer.json(), answer.headers["Set-Cookie"], answer.headers["Cache-Control"]
        assert (played["hls_url"], cache) == (f"{film.base}{RECIPE}/master.m3u8", "no-store")
        assert (played["live"], played["encrypted"], played["storyboard_url"]) == (False, False, None)
        assert played["expires_at"] > "2026"
        name, *attributes = cookie.split("; ")
        assert name.startswith("reelworks_play=")
        assert {a.lower() for a in attributes if not a.startswith("Max-Age")} == {
            f"path=/v1/assets/{film.asset_id}/hls/".lower(), "httponly", "samesite=lax",
        }  # fmt: skip
        assert 0 < int(next(a for a in attributes if a.startswith("Max-Age")).partition("=")[2]) <= gateway.settings.playback_seconds
        async with http.get(played["hls_url"]) as answer:
            assert (answer.status, await answer.read()) == (200, MASTER)
        async with http.get(other.base + f"{RECIPE}/master.m3u8") as answer:
            assert answer.status == 401
        async with http.get(played["hls_url"] + "?token=whatever") as answer:  # the cookie is enough
            assert (answer.status, await answer.read()) == (200, MASTER)


async def test_a_stale_cookie_does_not_spoil_a_good_token(gateway: RunningGateway) -> None:
    film = await whole(gateway)
    old = gateway.gateway.tokens.issue(film.asset_id, ANYBODY, time.time() - 10 * gateway.settings.playback_seconds)
    assert (await fetch(film.url(f"{RECIPE}/master.m3u8"), Cookie=f"reelworks_play={old.text}"))[0] == 200
    assert (await fetch(f"{film.base}{RECIPE}/master.m3u8", Cookie=f"reelworks_play={old.text}"))[0] == 401


@pytest.mark.parametrize("path", [f"{RECIPE}/master.m3u8", f"{RECIPE}/video-360/00000.m4s", f"{RECIPE}/aes.key", "master.m3u8", "nothing"])
async def test_without_a_token_with_an_expired_a_forged_or_another_films_nothing_is_shown(gateway: RunningGateway, path: str) -> None:
    film, other = await whole(gateway), await whole(gateway)
    await film.store.put(f"{film.folder}/aes.key", b"k" * 16)
    old = gateway.gateway.tokens.issue(film.asset_id, ANYBODY, time.time() - 10 * gateway.settings.playback_seconds).text
    foreign = PlaybackTokens([PlaybackKey("x", b"x" * 32)], life_seconds=3600).issue(film.asset_id, ANYBODY, time.time()).text
    forged = PlaybackTokens([PlaybackKey("0", b"x" * 32)], life_seconds=3600).issue(film.asset_id, ANYBODY, time.time()).text
    for url, code, name, word in (
        (film.base + path, 401, "playback-token", b"needs a playback token"),
        (film.url(path, old), 401, "playback-token-expired", b"has expired"),
        (film.url(path, ""), 403, "playback-token-refused", b"no playback token"),
        (film.url(path, other.token), 403, "playback-token-refused", b"another film"),
        (film.url(path, forged), 403, "playback-token-refused", b"another film, or changed"),
        (film.url(path, foreign), 403, "playback-token-refused", b"'x' of the playback token is not one"),
    ):
        for method in ("GET", "HEAD"):
            status_code, headers, body = await fetch(url, method)
            assert (status_code, headers["Content-Type"]) == (code, "application/problem+json")
            assert headers["Access-Control-Allow-Origin"] == "*"
            assert method == "HEAD" or (name.encode() in body and word in body), body
    assert gateway.gateway.counters.playback_refused == 12


async def test_the_api_token_is_another_matter(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, api_token="correct horse")) as gateway:
        film = await whole(gateway)
        assert (await fetch(film.url(f"{RECIPE}/master.m3u8")))[0] == 200
        assert (await fetch(film.url(f"{RECIPE}/master.m3u8", "correct horse")))[0] == 403
        for bearer in ({}, {"Authorization": "Bearer correct horse"}):
            assert (await fetch(f"{film.base}{RECIPE}/master.m3u8", **bearer))[0] == 401
        playback = f"{gateway.url}/v1/assets/{film.asset_id}/playback"
        assert (await fetch(playback, "POST"))[0] == 401
        assert (await fetch(playback, "POST", Authorization="Bearer correct horse"))[0] == 200
        assert (await fetch(playback, "POST", Authorization="Bearer correct horse", Origin="https://evil.example"))[0] == 403
        # What only looks like a stream after decoding, or does not lead to one, is none.
        for path in ("/v1/assets/x%2Fhls%2Fy", f"/v1/assets/{film.asset_id}/hls/../../../jobs", "/v1/jobs?/v1/assets/x/hls/y"):
            assert (await fetch(URL(gateway.url + path, encoded=True)))[0] == 401, path


async def test_keys_are_rotated_without_ending_what_is_being_watched(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, playback_keys="first:0123456789abcdef")) as gateway:
        film = await whole(gateway)
        before = film.url(f"{RECIPE}/master.m3u8")
        assert "token=first." in before
    for keys, code in (("second:fedcba9876543210,first:0123456789abcdef", 200), ("second:fedcba9876543210", 403)):
        async with run_gateway(settings_for(kafka, tmp_path, playback_keys=keys)) as gateway:
            asset = await gateway.json(f"/v1/assets/{film.asset_id}")
            assert "token=second." in asset["hls_url"]
            assert (await fetch(asset["hls_url"]))[0] == 200
            assert (await fetch(before.replace(film.gateway.url, gateway.url)))[0] == code


async def test_only_what_belongs_to_the_stream_is_served(gateway: RunningGateway) -> None:
    film = await whole(gateway)
    for path in ("source/film.mp4", "source/master.m3u8", f"{RECIPE}/manifest.json", f"{RECIPE}/720.mp4", "upload.json"):
        await film.store.put(f"assets/{film.asset_id}/{path}", b"not for players")
    for path in (
        "source/film.mp4", "source/master.m3u8", f"{RECIPE}/manifest.json", f"{RECIPE}/720.mp4", "upload.json",
        f"{RECIPE}/%2e%2e/source/master.m3u8", f"{RECIPE}%2Fvideo-360%2F..%2F..%2Fsource%2Fmaster.m3u8", f"{RECIPE}/video-360/00009.m4s",
        f"{RECIPE}/video-9/index.m3u8", "storyboard.vtt",
    ):  # fmt: skip
        code, headers, body = await fetch(film.url(path))
        assert (code, headers["Content-Type"]) == (404, "application/problem+json"), path
        assert b"not for players" not in body


async def test_other_methods_are_refused_with_what_is_possible(gateway: RunningGateway) -> None:
    film = await whole(gateway)
    for path in (f"{RECIPE}/master.m3u8", "master.m3u8"):
        code, headers, _ = await fetch(film.url(path), "POST")
        assert (code, headers["Allow"]) == (405, "GET,HEAD,OPTIONS")
    code, headers, _ = await fetch(f"{gateway.url}/v1/assets/{film.asset_id}/playback")
    assert (code, headers["Allow"]) == (405, "POST")


async def test_pages_of_other_sites_may_play_with_a_token(gateway: RunningGateway) -> None:
    film = await whole(gateway)
    for path in (f"{RECIPE}/video-360/00000.m4s", f"{RECIPE}/master.m3u8", "master.m3u8"):
        origin = {"Origin": "https://other.example"}
        code, headers, body = await fetch(
            film.base + path, "OPTIONS", **origin, Access_Control_Request_Method="GET", Access_Control_Request_Headers="range"
        )
        assert (code, body, headers["Access-Control-Allow-Origin"]) == (204, b"", "*")
        assert "Range" in headers["Access-Control-Allow-Headers"]
        assert "HEAD" in headers["Access-Control-Allow-Methods"]
        code, headers, _ = await fetch(film.url(path), **origin)
        assert (code in (200, 302), headers["Access-Control-Allow-Origin"]) == (True, "*")
        assert headers["Access-Control-Expose-Headers"] == "Content-Length, Content-Range, ETag"
        assert "Access-Control-Allow-Credentials" not in headers


# ── Playlists ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_present_stream_is_found_under_one_address(gateway: RunningGateway) -> None:
    film = await whole(gateway)
    code, headers, _ = await fetch(film.url("master.m3u8"))
    assert (code, headers["Location"], headers["Cache-Control"]) == (302, f"{RECIPE}/master.m3u8?token={film.token}", "no-store")
    assert (await fetch(urljoin(film.url("master.m3u8"), headers["Location"])))[0] == 200
    code, headers, _ = await fetch(f"{film.base}master.m3u8", Cookie=f"reelworks_play={film.token}")
    assert (code, headers["Location"]) == (302, f"{RECIPE}/master.m3u8")


async def test_a_film_without_a_stream_says_so(gateway: RunningGateway) -> None:
    film = Film(gateway)
    for url, method in ((f"{gateway.url}/v1/assets/{film.asset_id}/playback", "POST"), (film.url("master.m3u8"), "GET")):
        assert b"no-such-asset" in (await fetch(url, method))[2]
    await gateway.feed(film.job, film.job.job_id)
    asset = await film.asset(lambda asset: asset.get("state") == "running")
    assert (asset["hls_url"], asset["storyboard_url"], asset["live"]) == (None, None, False)
    for url, method in ((f"{gateway.url}/v1/assets/{film.asset_id}/playback", "POST"), (film.url("master.m3u8"), "GET")):
        code, _, body = await fetch(url, method)
        assert (code, b"no-stream" in body) == (404, True)


async def test_a_playlist_that_the_player_has_is_not_sent_again(gateway: RunningGateway) -> None:
    film = await whole(gateway)
    for url in (film.url(f"{RECIPE}/video-360/index.m3u8"), film.url(f"{RECIPE}/master.m3u8")):
        _, headers, body = await fetch(url)
        assert headers["Cache-Control"] == "private, max-age=60"
        code, again, nothing = await fetch(url, If_None_Match=headers["ETag"])
        assert (code, again["ETag"], nothing) == (304, headers["ETag"], b"")
        assert again["Access-Control-Allow-Origin"] == "*"
        code, again, nothing = await fetch(url, "HEAD")
        assert (code, again["ETag"], again["Content-Length"], nothing) == (200, headers["ETag"], str(len(body)), b"")


async def test_a_thousand_polls_cost_one_storage_request_for_each_version(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    film = await growing(gateway)
    await film.announce("v1")
    counters = gateway.gateway.counters
    url, index = film.url(f"{RECIPE}/video-360/index.m3u8"), film.index

    async def seen(segments: int) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while (await fetch(url))[2].count(b".m4s") != segments:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    await seen(1)
    await gateway_heard(gateway, film, "v1")
    await fetch(url)
    read: list[str] = []
    reading = film.store.read

    async def counted(key: str, **options: Any) -> bytes:
        read.append(key)
        return await reading(key, **options)

    monkeypatch.setattr(film.store, "read", counted)
    before = counters.playlist_reads
    async with aiohttp.ClientSession() as http:

        async def poll(times: int, **headers: str) -> set[tuple[int, int, str]]:
            answers: set[tuple[int, int, str]] = set()
            for _ in range(times):
                async with http.get(url, headers=headers) as answer:
                    answers.add((answer.status, (await answer.read()).count(b".m4s"), answer.headers["Cache-Control"]))
            return answers

        assert await poll(1000) == {(200, 1, "no-cache")}
        assert read == []
        for version in range(2, 5):
            await film.write(version, ended=False)
            await film.announce(f"v{version}")
            await seen(version)
            assert await poll(100) == {(200, version, "no-cache")}
            assert read == [index] * (version - 1)
        assert counters.playlist_reads - before == 3
        assert counters.playlist_hits >= 1300


async def gateway_heard(gateway: RunningGateway, film: Film, etag: str) -> None:
    """Wait until the gateway knows of a version."""
    deadline = time.monotonic() + WAIT_SECONDS
    films = gateway.gateway.playlists._films
    while film.asset_id not in films or film.index not in (known := films[film.asset_id].announced) or known[film.index].etag != etag:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_stream_that_grows_becomes_a_whole_one(gateway: RunningGateway) -> None:
    film = await growing(gateway)
    url = film.url(f"{RECIPE}/video-360/index.m3u8")
    assert (await fetch(url))[1]["Cache-Control"] == "no-cache"
    assert (await fetch(film.url(f"{RECIPE}/master.m3u8")))[1]["Cache-Control"] == "no-cache"
    async with gateway.http.post(f"/v1/assets/{film.asset_id}/playback") as answer:
        assert (await answer.json())["live"] is True
    await film.write(5, ended=True)
    await film.ready(encrypted=True)
    asset = await film.asset(lambda asset: not asset["live"])
    assert asset["hls_url"]
    _, headers, body = await fetch(url)
    assert (headers["Cache-Control"], body.count(b".m4s")) == ("private, max-age=60", 5)
    assert (await fetch(film.url(f"{RECIPE}/master.m3u8")))[1]["Cache-Control"] == "private, max-age=60"
    async with gateway.http.post(f"/v1/assets/{film.asset_id}/playback") as answer:
        assert {"live": False, "encrypted": True}.items() <= (await answer.json()).items()


async def test_a_film_that_cannot_be_encoded_to_its_end_is_not_offered_any_more(gateway: RunningGateway) -> None:
    film = await growing(gateway)
    error = ErrorInfo(code="not-a-video", message="no")
    failed = status(film.job.job_id, subject=film.asset_id, state="failed", error=error, created_ms=film.job.created_ms)
    await gateway.feed(failed, film.job.job_id)
    given_up = JobFailed(job_id=film.job.job_id, subject=film.asset_id, kind="transcode", state="failed", error=error)
    await gateway.feed(given_up, f"{film.asset_id}:transcode:failed")
    asset = await film.asset(lambda asset: asset["state"] == "failed" and not asset["live"])
    assert asset["hls_url"] is None


async def test_a_copy_bridges_a_storage_that_fails(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    film = await growing(gateway)
    url = film.url(f"{RECIPE}/video-360/index.m3u8")
    assert (await fetch(url))[0] == 200

    async def away(key: str, **options: Any) -> bytes:
        raise StorageError("the disk is gone")

    monkeypatch.setattr(film.store, "read", away)
    await film.announce("v2")
    await gateway_heard(gateway, film, "v2")
    assert (await fetch(url))[0] == 200
    assert gateway.gateway.counters.playlist_stale == 1
    code, headers, body = await fetch(film.url(f"{RECIPE}/video-720/index.m3u8"))
    assert (code, headers["Retry-After"], b"the disk is gone" in body) == (503, "5", True)
    code, headers, _ = await fetch(film.url(f"{RECIPE}/aes.key"))
    assert (code, headers["Retry-After"]) == (503, "5")


async def test_a_deleted_film_is_not_shown_from_memory(gateway: RunningGateway) -> None:
    film = await whole(gateway)
    url = film.url(f"{RECIPE}/master.m3u8")
    assert (await fetch(url))[0] == 200
    await gateway.feed(status(film.job.job_id, subject=film.asset_id, state="succeeded"), film.job.job_id)
    await film.asset(lambda asset: asset["state"] == "succeeded")
    async with gateway.http.delete(f"/v1/assets/{film.asset_id}") as answer:
        assert answer.status == 200
    assert (await fetch(url))[0] == 404
    async with gateway.http.post(f"/v1/assets/{film.asset_id}/playback") as answer:
        assert answer.status == 404


async def test_storyboard_and_captions(gateway: RunningGateway) -> None:
    film = Film(gateway)
    folder = f"assets/{film.asset_id}"
    board = b"WEBVTT\n\n00:00.000 --> 00:05.000\nstoryboard.jpg#xywh=0,0,160,90\n"
    await film.store.put(f"{folder}/storyboard.vtt", board)
    await film.store.put(f"{folder}/storyboard.jpg", b"picture")
    await film.store.put(f"{folder}/captions-de.vtt", b"WEBVTT\n")
    await film.write(3, ended=True)
    made = (Output(role="storyboard", bucket="media", key=f"{folder}/storyboard.vtt"),)
    await gateway.feed(status(film.job.job_id, subject=film.asset_id, state="succeeded", outputs=made), film.job.job_id)
    await film.ready()
    asset = await film.asset(lambda asset: asset["storyboard_url"])
    code, headers, body = await fetch(asset["storyboard_url"])
    assert (code, headers["Content-Type"], body.count(b"storyboard.jpg?token=")) == (200, "text/vtt; charset=utf-8", 1)
    picture = urljoin(asset["storyboard_url"], body.decode().split("\n")[3])
    code, headers, body = await fetch(picture)
    assert (code, headers["Content-Type"], headers["Cache-Control"], body) == (200, "image/jpeg", "private, max-age=60", b"picture")
    code, headers, body = await fetch(film.url("captions-de.vtt"))
    assert (code, headers["Content-Type"], body) == (200, "text/vtt; charset=utf-8", b"WEBVTT\n")
    async with gateway.http.post(f"/v1/assets/{film.asset_id}/playback") as answer:
        assert (await answer.json())["storyboard_url"] == f"{film.base}storyboard.vtt"


# ── Segments ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_segments_are_kept_by_players_for_ever_and_sent_in_ranges(gateway: RunningGateway) -> None:
    film = await whole(gateway)
    for path, kind, expected in (
        (f"{RECIPE}/video-360/00000.m4s", "video/iso.segment", SEGMENT),
        (f"{RECIPE}/video-360/init.mp4", "video/mp4", b"init"),
    ):
        url = film.url(path)
        code, headers, body = await fetch(url)
        assert (code, headers["Content-Type"], body) == (200, kind, expected)
        assert headers["Cache-Control"] == "private, max-age=31536000, immutable"
        assert (headers["Accept-Ranges"], headers["Access-Control-Allow-Origin"]) == ("bytes", "*")
        code, part, body = await fetch(url, Range="bytes=1-2")
        assert (code, part["Content-Range"], body) == (206, f"bytes 1-2/{len(expected)}", expected[1:3])
        assert (await fetch(url, Range="bytes=1-2", If_Range=headers["ETag"]))[0] == 206
        assert (await fetch(url, Range="bytes=1-2", If_Range='"other"'))[0] == 200
        code, same, body = await fetch(url, If_None_Match=headers["ETag"])
        assert (code, same["Cache-Control"], body) == (304, headers["Cache-Control"], b"")
        code, head, body = await fetch(url, "HEAD")
        assert (code, head["Content-Length"], body) == (200, str(len(expected)), b"")
        code, beyond, _ = await fetch(url, Range=f"bytes={len(expected)}-")
        assert (code, beyond["Content-Range"], beyond["Access-Control-Allow-Origin"]) == (416, f"bytes */{len(expected)}", "*")


@pytest.mark.parametrize("delivery", ["auto", "redirect"])
async def test_a_key_goes_through_the_gateway_and_is_kept_nowhere(kafka: str, tmp_path: Path, delivery: str) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, hls_delivery=delivery)) as gateway:
        film = await whole(gateway, key=True, encrypted=True)
        await film.store.put(f"{film.folder}/aes.key", b"0123456789abcdef")
        code, headers, body = await fetch(film.url(f"{RECIPE}/aes.key"))
        assert (code, body, headers["Content-Type"]) == (200, b"0123456789abcdef", "application/octet-stream")
        assert (headers["Cache-Control"], "ETag" in headers) == ("no-store", False)


async def test_segments_may_be_redirected_to_signed_urls(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, hls_delivery="redirect")) as gateway:
        film = await whole(gateway)
        url = film.url(f"{RECIPE}/video-360/00000.m4s")
        code, headers, _ = await fetch(url)
        assert (code, headers["Cache-Control"], headers["Access-Control-Allow-Origin"]) == (302, "private, max-age=150", "*")
        code, headers, body = await fetch(urljoin(url, headers["Location"]), Range="bytes=0-9")
        assert (code, body, headers["Content-Type"]) == (206, SEGMENT[:10], "video/iso.segment")
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert (await fetch(film.url(f"{RECIPE}/video-360/index.m3u8")))[0] == 200
        async with gateway.http.get("/metrics") as answer:
            text = await answer.text()
        assert "reelworks_gateway_segments_redirected_total 1.0" in text
        assert "reelworks_gateway_playlist_reads_total 1.0" in text


# ── Without Kafka ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_player_sees_at_most_a_stall_while_the_broker_restarts(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    async with run_gateway(settings_for(own_kafka.bootstrap_servers, tmp_path)) as gateway:
        film = await growing(gateway)
        await film.announce("v1")
        await gateway_heard(gateway, film, "v1")
        url = film.url(f"{RECIPE}/video-360/index.m3u8")
        seen: list[int] = []
        stop = asyncio.Event()

        async def poll() -> None:
            while not stop.is_set():
                code, _, body = await fetch(url)
                assert code == 200
                seen.append(body.count(b".m4s"))
                await asyncio.sleep(0.05)

        polling = asyncio.create_task(poll())
        own_kafka.kill()
        await film.write(2, ended=False)
        polls, deadline = len(seen), time.monotonic() + 60
        while len(seen) < polls + 20 and not polling.done():
            await asyncio.sleep(0.05)
        own_kafka.start()
        await film.write(3, ended=False)
        while True:
            try:
                await film.announce("v3")
                break
            except BrokerUnavailable:  # it is not back yet
                assert time.monotonic() < deadline
        while not polling.done() and (not seen or seen[-1] != 3):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        stop.set()
        await polling
        assert seen == sorted(seen)
        await film.write(4, ended=False)
        await film.announce("v4")
        while (await fetch(url))[2].count(b".m4s") != 4:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
