"""The pages in a real browser: what a person sees, and that films really play."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from schemas.events import ErrorInfo, Output, Outstanding, StageStatus, TranscodeCompleted
from services.runtime.media.binaries import find
from services.runtime.media.process import output_of
from services.runtime.settings import Settings
from tests.servers.chromium import CHROMIUM, FLAGS
from tests.servers.gateway import RunningGateway, rendition, status

pytestmark = [pytest.mark.browser, pytest.mark.kafka]
DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page on which any error of a script or of the content policy fails the test."""
    made = await browser.new_page(viewport=DESKTOP)  # pyright: ignore[reportArgumentType]
    complaints: list[str] = []
    made.on("pageerror", lambda error: complaints.append(str(error)))
    # Tests share one Kafka: the library also shows films of other tests, whose pictures lie in folders of their own.
    made.on(
        "console",
        lambda message: (
            complaints.append(message.text) if message.type == "error" and "/v1/media/" not in message.location["url"] else None
        ),
    )
    yield made
    assert complaints == []


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Six seconds of film at two heights, and a picture."""
    return asyncio.run(_make_clip(tmp_path_factory.mktemp("clip")))


async def _make_clip(folder: Path) -> dict[str, bytes]:
    ffmpeg = (await find(Settings())).ffmpeg
    base = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=6", "-f", "lavfi", "-i", "sine=440:d=6"]
    film = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart"]
    for height in (360, 180):
        await output_of([*base, *film, "-vf", f"scale=-2:{height}", str(folder / f"{height}.mp4")], timeout=60)
    await output_of([*base, "-frames:v", "1", "-map", "0:v", str(folder / "poster.jpg")], timeout=60)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def finish(gateway: RunningGateway, job_id: str, asset_id: str, clip: dict[str, bytes]) -> None:
    """Write what a transcode leaves behind."""
    store = gateway.gateway.storage.bucket()
    folder = f"assets/{asset_id}"
    for name, data in clip.items():
        await store.put(f"{folder}/{name}", data)
    outputs = (
        rendition("media", f"{folder}/360.mp4", 360, len(clip["360.mp4"])),
        rendition("media", f"{folder}/180.mp4", 180, len(clip["180.mp4"])),
        *(Output(role=role, bucket="media", key=f"{folder}/poster.jpg", content_type="image/jpeg") for role in ("poster", "thumbnail")),
    )
    done = TranscodeCompleted(
        job_id=job_id, subject=asset_id, kind="transcode", asset_id=asset_id, outputs=outputs, duration_seconds=6.0, width=640, height=360,
        finished_ms=int(time.time() * 1000),
    )  # fmt: skip
    await gateway.feed(done, f"{asset_id}:transcode")
    await gateway.feed(status(job_id, subject=asset_id, state="succeeded", progress=1.0, outputs=outputs), job_id)


async def comes_true(page: Page, expression: str) -> None:
    """Wait until a JavaScript expression holds. Playwright's own wait would need `unsafe-eval`, which our pages forbid."""
    deadline = time.monotonic() + 20
    while not await page.evaluate(expression):
        assert time.monotonic() < deadline, f"not within 20 s: {expression}"
        await asyncio.sleep(0.05)


async def upload(gateway: RunningGateway, title: str) -> tuple[str, str]:
    async with gateway.http.put("/v1/uploads/film.mp4", data=b"bytes of a film", params={"title": title}) as answer:
        assert answer.status == 202
        accepted = await answer.json()
    return accepted["job_id"], accepted["asset_id"]


async def test_the_watch_page_goes_from_progress_to_playing_by_itself(
    gateway: RunningGateway, page: Page, clip: dict[str, bytes], tmp_path: Path
) -> None:
    job_id, asset_id = await upload(gateway, "Test pattern")
    await page.goto(f"{gateway.url}/watch/{asset_id}")
    await expect(page.locator("#state")).to_have_text("Waiting to start")
    await expect(page.locator("#words")).to_contain_text("transcoder")
    await page.screenshot(path=tmp_path / "waiting.png")

    now = int(time.time() * 1000)
    half = status(
        job_id, subject=asset_id, state="running", progress=0.42, note="encoding", started_ms=now - 21_000, updated_ms=now,
        stages=[StageStatus(name="encode", service="transcoder", total=10, done=4)], outstanding=[Outstanding(4, 1, 0, "worker-1", 0.2)],
    )  # fmt: skip
    await gateway.feed(half, job_id)
    await expect(page.locator("#state")).to_have_text("Converting")
    await expect(page.locator("#words")).to_have_text(re.compile(r"^encoding · 42 % · about \d+ s to go$"))
    await page.screenshot(path=tmp_path / "running.png")

    await finish(gateway, job_id, asset_id, clip)
    video = page.locator("video")
    await expect(video).to_be_visible(timeout=10_000)
    await page.evaluate("document.querySelector('video').play()")
    await comes_true(page, "document.querySelector('video').currentTime > 1 && document.querySelector('video').videoWidth > 0")
    assert await video.evaluate("v => [v.videoWidth, v.videoHeight]") == [640, 360]
    await page.screenshot(path=tmp_path / "playing.png")

    await page.select_option("#rendition", label="180p")
    await comes_true(page, "document.querySelector('video').videoHeight === 180 && document.querySelector('video').currentTime > 1")


async def test_a_film_that_is_ready_plays_at_once_and_can_be_sought(gateway: RunningGateway, page: Page, clip: dict[str, bytes]) -> None:
    job_id, asset_id = await upload(gateway, "Ready")
    await finish(gateway, job_id, asset_id, clip)
    await gateway.until(f"/v1/assets/{asset_id}", lambda asset: len(asset["renditions"]) == 2)
    await page.goto(f"{gateway.url}/watch/{asset_id}")
    await page.evaluate("document.querySelector('video').play()")
    await comes_true(page, "document.querySelector('video').videoWidth === 640")
    await page.evaluate("document.querySelector('video').currentTime = 4")
    await comes_true(page, "document.querySelector('video').currentTime > 4.3")


async def test_a_failure_is_shown_with_message_and_hint(gateway: RunningGateway, page: Page, tmp_path: Path) -> None:
    job_id, asset_id = await upload(gateway, "Broken <img src=x onerror=alert(1)>")
    await page.goto(f"{gateway.url}/watch/{asset_id}")
    await expect(page.locator("h1")).to_have_text("Broken <img src=x onerror=alert(1)>")
    error = ErrorInfo(code="not-a-video", message="film.mp4 is no video: <b>no streams</b>", hint="Send a file that a player opens.")
    await gateway.feed(status(job_id, subject=asset_id, state="failed", error=error), job_id)
    await expect(page.locator("#state")).to_have_text("This film could not be converted")
    await expect(page.locator("#message")).to_have_text("film.mp4 is no video: <b>no streams</b>")
    await expect(page.locator("#hint")).to_have_text("Send a file that a player opens.")
    await expect(page.locator("#retry")).to_be_visible()
    await page.screenshot(path=tmp_path / "failed.png")
    await page.set_viewport_size(PHONE)  # pyright: ignore[reportArgumentType]
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


async def test_the_library_shows_films_newest_first(gateway: RunningGateway, page: Page, clip: dict[str, bytes], tmp_path: Path) -> None:
    job_id, first = await upload(gateway, "The first")
    await finish(gateway, job_id, first, clip)
    _, second = await upload(gateway, "The second, whose title is so long that it does not fit in one line of the grid")
    job_id, third = await upload(gateway, "The third")
    error = ErrorInfo(code="not-a-video", message="no")
    await gateway.feed(status(job_id, subject=third, state="failed", error=error), job_id)
    await gateway.until(f"/v1/assets/{third}", lambda asset: asset["state"] == "failed")
    await gateway.until(f"/v1/assets/{first}", lambda asset: asset["thumbnail_url"])
    await page.goto(gateway.url)
    shown = await page.locator(".card").evaluate_all("cards => cards.map(card => card.dataset.asset)")
    assert [asset for asset in shown if asset in (first, second, third)] == [third, second, first]
    await comes_true(page, f"document.querySelector('.card[data-asset=\"{first}\"] img').naturalWidth > 0")
    await page.screenshot(path=tmp_path / "library.png", full_page=True)
    await page.set_viewport_size(PHONE)  # pyright: ignore[reportArgumentType]
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    await page.screenshot(path=tmp_path / "library-phone.png")
