"""A browser, and pages on which any error of a script or of the content policy fails the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from tests.e2e.films import Clip, make_clip
from tests.servers.chromium import CHROMIUM, DESKTOP, FLAGS


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
    made = await browser.new_page(viewport=DESKTOP)
    complaints = listen(made)
    yield made
    assert complaints == []


def listen(page: Page) -> list[str]:
    """What the page complains of, from now on."""
    complaints: list[str] = []

    def said(message: ConsoleMessage) -> None:
        # Tests share one Kafka: the library also shows films of other tests, whose pictures lie in folders of their own.
        if message.type == "error" and "/v1/media/" not in message.location["url"]:
            complaints.append(f"{message.location['url']}: {message.text}")

    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", said)
    return complaints


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Twelve seconds of film: as MP4 files, and in segments."""
    folder: Path = tmp_path_factory.mktemp("clip")
    return make_clip(folder)
