"""The pages in a real browser where what they play lies on another server, and where the permission to play it expires."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
from playwright.async_api import Browser, Page, Route, expect
from yarl import URL

from tests import clips
from tests.e2e.films import SECONDS, Clip, Film
from tests.servers.chromium import DESKTOP, RECORD, WAIT_SECONDS, comes_true
from tests.servers.gateway import RunningGateway, run_gateway, settings_for
from tests.servers.s3 import S3Server

pytestmark = [pytest.mark.browser, pytest.mark.kafka]
VIDEO = "document.querySelector('video')"
NO_HLS = """
    delete window.MediaSource; delete window.ManagedMediaSource; delete window.WebKitMediaSource;
    const can = HTMLMediaElement.prototype.canPlayType;
    HTMLMediaElement.prototype.canPlayType = function (type) { return type.includes("mpegurl") ? "" : can.call(this, type); };
"""
FOLDER = "Sömmer 98"
LIFE_SECONDS = 4
"""Of tokens and of signed URLs: less than the settings allow."""


@asynccontextmanager
async def redirecting(server: S3Server, kafka: str, folder: Path, **more: Any) -> AsyncGenerator[RunningGateway]:
    """A gateway over a bucket of S3 whose objects its pages may read."""
    if "cross-origin rules" in server.lacks:
        pytest.skip(server.lacks["cross-origin rules"])
    bucket = server.make_bucket()
    fields = {"bootstrap_servers": kafka, "data_dir": str(folder), "port": 0, "hls_delivery": "redirect", **more}
    async with run_gateway(msgspec.structs.replace(server.settings(bucket), **fields)) as gateway:
        server.let_read(bucket, gateway.url)
        yield gateway


# ── Films on S3 ────────────────────────────────────────────────────────────────────────────────────────────────────


async def whole(gateway: RunningGateway, clip: Clip) -> Film:
    film = await Film.uploaded(gateway, clip)
    await film.finish()
    await gateway.until(f"/v1/assets/{film.asset_id}", lambda asset: asset["hls_url"] and not asset["live"] and asset["renditions"])
    return film


@pytest.mark.s3
async def test_a_film_on_s3_plays_by_redirect_and_its_files_by_signed_urls(
    kafka: str, s3_server: S3Server, tmp_path: Path, page: Page, clip: Clip
) -> None:
    fetched: list[str] = []
    page.on("requestfinished", lambda request: fetched.append(request.url) if request.url.startswith(s3_server.endpoint) else None)
    async with redirecting(s3_server, kafka, tmp_path) as gateway:
        film = await whole(gateway, clip)
        await page.add_init_script(RECORD)
        await page.goto(film.url)
        await comes_true(page, f"Math.abs({VIDEO}?.duration - {SECONDS}) < 0.2 && {VIDEO}.readyState >= 3")
        await page.click("media-play-button")
        await comes_true(page, f"{VIDEO}.currentTime > 1 && {VIDEO}.videoWidth > 0")
        await page.evaluate(f"{VIDEO}.currentTime = 9")
        await comes_true(page, f"{VIDEO}.currentTime > 9.5")
        box = await page.locator("media-time-range").bounding_box()
        assert box is not None
        for part in (0.70, 0.71):
            await page.mouse.move(box["x"] + box["width"] * part, box["y"] + box["height"] / 2)
        picture = "document.querySelector('media-time-range').shadowRoot.querySelector('media-preview-thumbnail').shadowRoot"
        await comes_true(page, f"{picture}.querySelector('img').naturalWidth === 480")
        assert await page.evaluate("errors") == []
        names = {URL(url).name for url in fetched}
        assert {"poster.jpg", "storyboard.jpg", "init.mp4", "00000.m4s", "00005.m4s"} <= names
        assert not [name for name in names if name.endswith((".m3u8", ".vtt", ".key"))]

        # The MP4 files, which play where there is no HLS.
        await page.add_init_script(NO_HLS)
        await page.reload()
        await comes_true(page, f"{VIDEO}?.currentSrc.startsWith('{s3_server.endpoint}') && {VIDEO}.videoWidth === 640")
        await page.click("media-play-button")
        await comes_true(page, f"{VIDEO}.currentTime > 1")
        await page.evaluate(f"{VIDEO}.currentTime = 9")
        await comes_true(page, f"{VIDEO}.currentTime > 9.5")
        await page.close()


@pytest.mark.s3
async def test_a_player_of_another_site_needs_a_rule_for_every_origin(
    kafka: str, s3_server: S3Server, tmp_path: Path, browser: Browser, clip: Clip
) -> None:
    """After a redirect from one server to another a browser tells no origin (Fetch §3.1: `null`)."""
    page = await browser.new_page()
    async with redirecting(s3_server, kafka, tmp_path) as gateway:
        film = await whole(gateway, clip)
        asset = await gateway.json(f"/v1/assets/{film.asset_id}")
        segment = asset["hls_url"].replace("/master.m3u8", "/video-360/00000.m4s")
        await page.goto(f"{s3_server.endpoint}/_health")
        fetched = f"fetch({segment!r}).then(answer => answer.status, () => 'no answer')"
        assert await page.evaluate(fetched) == "no answer"
        s3_server.let_read(gateway.gateway.storage.default_bucket, "*")
        assert await page.evaluate(fetched) == 200
        await page.close()


# ── Folders, in which the permission to play expires ───────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A flat stream of six segments and a file, as another program would leave them in a bucket: by key."""
    made = tmp_path_factory.mktemp("films")
    (made / "Crete.hls").mkdir()
    card = ("-f", "lavfi", "-i", f"testsrc2=size=320x180:rate=25:duration={SECONDS}")
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "baseline", "-pix_fmt", "yuv420p", "-g", "50")
    clips.ffmpeg(*card, *x264, "-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod", str(made / "Crete.hls/output.m3u8"))
    clips.ffmpeg(*card, *x264, "-movflags", "+faststart", str(made / "plain.mp4"))
    return {f"{FOLDER}/{path.relative_to(made)}": path.read_bytes() for path in made.rglob("*") if path.is_file()}


@asynccontextmanager
async def short_lived(where: str, request: pytest.FixtureRequest, kafka: str, folder: Path) -> AsyncGenerator[RunningGateway]:
    """A gateway whose permissions are soon over, with the films in its bucket."""
    more = {"playback_seconds": LIFE_SECONDS, "signed_url_seconds": LIFE_SECONDS}
    if where == "s3":
        running = redirecting(request.getfixturevalue("s3_server"), kafka, folder, **more)
    else:
        running = run_gateway(settings_for(kafka, folder, **more))
    films: dict[str, bytes] = request.getfixturevalue("films")
    async with running as gateway:
        for key, data in films.items():
            await gateway.gateway.storage.bucket().put(key, data)
        yield gateway


async def expiry(url: str) -> None:
    """Wait until an address opens nothing any more."""
    deadline = time.monotonic() + WAIT_SECONDS
    async with aiohttp.ClientSession() as http:
        while True:
            async with http.get(URL(url, encoded=True)) as answer:
                if answer.status in (401, 403):
                    return
            assert time.monotonic() < deadline, f"still opens after {WAIT_SECONDS:g} s: {url}"
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("where", ["folder", pytest.param("s3", marks=pytest.mark.s3)])
async def test_a_stream_of_a_folder_plays_on_when_its_token_expires(
    where: str, request: pytest.FixtureRequest, kafka: str, tmp_path: Path, browser: Browser
) -> None:
    page = await browser.new_page(viewport=DESKTOP)  # its console does complain
    watched = asyncio.Event()
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(answer.url) if answer.status == 401 and watched.is_set() else None)

    async def hold(route: Route) -> None:
        await watched.wait()
        if not refused:
            await expiry(route.request.url)
        await route.continue_()

    async with short_lived(where, request, kafka, tmp_path) as gateway:
        await page.route("**/output3.ts?*", hold)
        await page.goto(f"{gateway.url}/folders/{quote(FOLDER)}#Crete.hls")
        await comes_true(page, f"{VIDEO}.currentTime > 1")
        await page.evaluate(
            f"""window.again = []; {VIDEO}.playbackRate = 1.25;
            {VIDEO}.addEventListener('emptied', () => {VIDEO}.addEventListener('playing', () => again.push({VIDEO}.currentTime)))"""
        )
        watched.set()
        await comes_true(page, f"{VIDEO}.ended")
        # hls.js asks for the segment again after a second, and six times in all; by the second the page has got a new address.
        assert 0 < len(refused) < 6
        again, rate = await page.evaluate(f"[again, {VIDEO}.playbackRate]")
        # On a busy machine the element may say `playing` before it has sought to where it was.
        assert (any(at > 1 for at in again), rate) == (True, 1.25), (again, rate)
        await expect(page.locator("#problem")).to_be_hidden()
        await expect(page.locator("#lack")).to_be_hidden()
        await page.close()


@pytest.mark.parametrize(("where", "file"), [("folder", "Crete.hls"), pytest.param("s3", "plain.mp4", marks=pytest.mark.s3)])
async def test_a_folder_that_was_left_open_plays_although_its_addresses_have_expired(
    where: str, file: str, request: pytest.FixtureRequest, kafka: str, tmp_path: Path, browser: Browser
) -> None:
    page = await browser.new_page(viewport=DESKTOP)
    async with short_lived(where, request, kafka, tmp_path) as gateway:
        await page.goto(f"{gateway.url}/folders/{quote(FOLDER)}")
        link = page.locator(f".titles a[data-file='{file}']")
        address = await link.get_attribute("data-url") or ""
        await expiry(str(URL(gateway.url).join(URL(address, encoded=True))))
        await link.click()
        await comes_true(page, f"{VIDEO}.currentTime > 1 && {VIDEO}.videoWidth === 320")
        await expect(page.locator("#problem")).to_be_hidden()
        await expect(page.locator("#lack")).to_be_hidden()
        await page.close()
