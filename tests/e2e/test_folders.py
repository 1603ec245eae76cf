"""Folders in a real browser: a flat stream and an MP4 file play as they lie there, and an AVI file becomes a film."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect

from tests import clips
from tests.servers.chromium import PHONE, comes_true, violations
from tests.servers.up import Up, up

pytestmark = [pytest.mark.browser, pytest.mark.kafka]
FOLDER, ODD = "Sömmer 98", "ünï #1 100%?.mp4"
_CARD = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=4")
_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "baseline", "-pix_fmt", "yuv420p", "-g", "25")
VIDEO = "document.querySelector('video')"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("folders")) as made:
        folder = made.library / FOLDER
        (folder / "Crete.hls").mkdir(parents=True)
        tone = ("-f", "lavfi", "-i", "sine=frequency=440:duration=4", "-c:a", "aac")
        playlist = str(folder / "Crete.hls/output.m3u8")
        clips.ffmpeg(*_CARD, *tone, *_X264, "-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod", playlist)
        clips.ffmpeg(*_CARD, *_X264, "-movflags", "+faststart", str(folder / "plain.mp4"))
        (folder / ODD).write_bytes((folder / "plain.mp4").read_bytes())
        clips.ffmpeg(*_CARD, "-c:v", "mpeg4", str(folder / "Old.AVI"))
        (folder / "broken.mp4").write_bytes(b"no film at all")
        yield made


async def test_a_stream_and_files_play_and_the_rest_is_offered_for_conversion(stack: Up, page: Page) -> None:
    await page.goto(stack.gateway)
    await page.get_by_role("link", name="Folders").click()
    await page.wait_for_url("**/folders")
    assert await violations(page) == []
    await page.get_by_role("link", name=FOLDER).click()
    await page.wait_for_url("**/folders/*")
    assert await page.locator(".titles .name").all_text_contents() == ["broken.mp4", "Crete", "Old.AVI", "plain.mp4", ODD]
    await expect(page.locator("#film")).to_be_hidden()

    for name, heard in (("Crete", True), (ODD, False), ("plain.mp4", False)):
        await page.locator(".titles a", has=page.get_by_text(name, exact=True)).click()
        await expect(page.locator("#title")).to_have_text(name)
        await comes_true(page, f"{VIDEO}.videoWidth === 320 && {VIDEO}.currentTime > 0.5 && Math.abs({VIDEO}.duration - 4) < 0.2")
        assert await page.evaluate(f"{VIDEO}.src.startsWith('blob:')") == heard
    await expect(page.locator("[aria-current]")).to_have_count(1)
    await expect(page.locator("#lack")).to_be_hidden()
    assert await violations(page) == []

    await page.locator(".titles a", has_text="broken.mp4").click()
    await expect(page.locator("#lack")).to_be_visible()
    await expect(page.locator("#convert")).to_be_visible()
    assert await violations(page) == []
    await page.set_viewport_size(PHONE)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


async def test_a_film_in_the_address_plays_after_a_reload(stack: Up, page: Page) -> None:
    await page.goto(f"{stack.gateway}/folders/{quote(FOLDER)}#{quote(ODD)}")
    await expect(page.locator("#title")).to_have_text(ODD)
    await comes_true(page, f"{VIDEO}.currentTime > 0.5")


async def test_an_avi_file_is_converted(stack: Up, page: Page) -> None:
    await page.goto(f"{stack.gateway}/folders/{quote(FOLDER)}#Old.AVI")
    await expect(page.locator("#stage")).to_be_hidden()
    await page.click("#convert")
    await page.wait_for_url("**/watch/*")
    await expect(page.locator("h1")).to_have_text("Old")
    assert "Old.AVI" in " ".join(stack.objects(FOLDER))


async def test_a_folder_that_is_not_there_says_so(stack: Up, page: Page) -> None:
    answer = stack.call("GET", "/folders/none")
    assert (answer.status, b"There is no such folder" in answer.body) == (404, True)
    await page.goto(f"{stack.gateway}/folders")
    await page.set_viewport_size(PHONE)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
