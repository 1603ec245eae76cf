"""The pages in a real browser: what a person sees, and that films really play."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from schemas.events import ErrorInfo, Outstanding, StageStatus
from tests.e2e.films import Clip, Film
from tests.servers.chromium import PHONE, comes_true
from tests.servers.gateway import RunningGateway

pytestmark = [pytest.mark.browser, pytest.mark.kafka]


async def test_the_watch_page_goes_from_progress_to_playing_by_itself(
    gateway: RunningGateway, page: Page, clip: Clip, tmp_path: Path
) -> None:
    film = await Film.uploaded(gateway, clip, "Test pattern")
    await page.goto(film.url)
    await expect(page.locator("#state")).to_have_text("Waiting to start")
    await expect(page.locator("#words")).to_contain_text("transcoder")
    await page.screenshot(path=tmp_path / "waiting.png")

    now = int(time.time() * 1000)
    await film.tell(
        "running", 0.42, note="encoding", started_ms=now - 21_000, updated_ms=now,
        stages=[StageStatus(name="encode", service="transcoder", total=10, done=4)], outstanding=[Outstanding(4, 1, 0, "worker-1", 0.2)],
    )  # fmt: skip
    await expect(page.locator("#state")).to_have_text("Converting")
    await expect(page.locator("#words")).to_have_text(re.compile(r"^encoding · 42 % · about \d+ s to go$"))
    await page.screenshot(path=tmp_path / "running.png")

    await film.transcoded()
    video = page.locator("video")
    await expect(video).to_be_visible()
    await expect(page.locator("#waiting")).to_be_hidden()
    await page.evaluate("document.querySelector('video').play()")
    await comes_true(page, "document.querySelector('video').currentTime > 1 && document.querySelector('video').videoWidth > 0")
    assert await video.evaluate("v => [v.videoWidth, v.videoHeight]") == [640, 360]
    await page.screenshot(path=tmp_path / "playing.png")

    await page.click("media-settings-menu-button")
    await page.click("media-settings-menu-item.quality")
    await page.locator("media-rendition-menu media-chrome-menu-item", has_text="180p").click()
    await comes_true(page, "document.querySelector('video').videoHeight === 180 && document.querySelector('video').currentTime > 1")


async def test_a_film_that_is_ready_plays_at_once_and_can_be_sought(gateway: RunningGateway, page: Page, clip: Clip) -> None:
    film = await Film.uploaded(gateway, clip, "Ready")
    await film.transcoded()
    await gateway.until(f"/v1/assets/{film.asset_id}", lambda asset: len(asset["renditions"]) == 2)
    await page.goto(film.url)
    await comes_true(page, "document.querySelector('media-controller video')?.videoWidth === 640")
    await page.evaluate("document.querySelector('video').play()")
    await page.evaluate("document.querySelector('video').currentTime = 4")
    await comes_true(page, "document.querySelector('video').currentTime > 4.3")


async def test_a_failure_is_shown_with_message_and_hint(gateway: RunningGateway, page: Page, clip: Clip, tmp_path: Path) -> None:
    film = await Film.uploaded(gateway, clip, "Broken <img src=x onerror=alert(1)>")
    await page.goto(film.url)
    await expect(page.locator("h1")).to_have_text("Broken <img src=x onerror=alert(1)>")
    error = ErrorInfo(code="not-a-video", message="film.mp4 is no video: <b>no streams</b>", hint="Send a file that a player opens.")
    await film.tell("failed", error=error)
    await expect(page.locator("#state")).to_have_text("This film could not be converted")
    await expect(page.locator("#message")).to_have_text("film.mp4 is no video: <b>no streams</b>")
    await expect(page.locator("#hint")).to_have_text("Send a file that a player opens.")
    await expect(page.locator("#retry")).to_be_visible()
    await page.screenshot(path=tmp_path / "failed.png")
    await page.set_viewport_size(PHONE)
    await page.screenshot(path=tmp_path / "failed-phone.png")


async def test_the_upload_form_takes_a_file_and_leads_to_its_page(gateway: RunningGateway, page: Page, tmp_path: Path) -> None:
    film = tmp_path / "Summer_1998.mp4"
    film.write_bytes(b"x" * 3_400_000)
    await page.goto(gateway.url)
    await expect(page.locator("#send")).to_be_disabled()
    await page.set_input_files("#file", film)
    await expect(page.locator("#size")).to_have_text("Summer_1998.mp4, 3.4 MB")
    await expect(page.locator("#send")).to_be_enabled()
    await page.click("#send")
    await page.wait_for_url("**/watch/*")
    await expect(page.locator("h1")).to_have_text("Summer 1998")


async def test_the_library_shows_films_newest_first(gateway: RunningGateway, page: Page, clip: Clip, tmp_path: Path) -> None:
    first = await Film.uploaded(gateway, clip, "The first")
    await first.transcoded()
    second = await Film.uploaded(gateway, clip, "The second, whose title is so long that it does not fit in one line of the grid")
    third = await Film.uploaded(gateway, clip, "The third")
    await third.tell("failed", error=ErrorInfo(code="not-a-video", message="no"))
    await gateway.until(f"/v1/assets/{third.asset_id}", lambda asset: asset["state"] == "failed")
    await gateway.until(f"/v1/assets/{first.asset_id}", lambda asset: asset["thumbnail_url"])
    await page.goto(gateway.url)
    ours = [third.asset_id, second.asset_id, first.asset_id]
    shown = await page.locator(".card").evaluate_all("cards => cards.map(card => card.dataset.asset)")
    assert [asset for asset in shown if asset in ours] == ours
    await comes_true(page, f"document.querySelector('.card[data-asset=\"{first.asset_id}\"] img').naturalWidth > 0")
    await page.screenshot(path=tmp_path / "library.png", full_page=True)
    await page.set_viewport_size(PHONE)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    await page.screenshot(path=tmp_path / "library-phone.png")
