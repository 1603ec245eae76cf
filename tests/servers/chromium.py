"""The browser of the tests: Debian's Chromium, which plays H.264, driven by Playwright."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from playwright import async_api, sync_api
from playwright.async_api import Page, ViewportSize

CHROMIUM: Final = Path("/usr/bin/chromium")
FLAGS: Final = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip
DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 900}
PHONE: Final[ViewportSize] = {"width": 360, "height": 740}
AXE: Final = Path(__file__).parents[1] / "vendor" / "axe.min.js"
RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
WAIT_SECONDS: Final = 30.0
RECORD: Final = """
    window.errors = [];
    addEventListener("DOMContentLoaded", () => {
        if (typeof Hls === "undefined") return;
        const load = Hls.prototype.loadSource;
        Hls.prototype.loadSource = function (url) {
            window.hls = this;
            this.on(Hls.Events.ERROR, (_, error) => {
                // It ended a load itself, as when the growing playlist has become the finished one; or a machine that was out of
                // breath let the picture stand for a second, and it went on.
                const { INTERNAL_ABORTED, BUFFER_STALLED_ERROR } = Hls.ErrorDetails;
                if (!error.fatal && [INTERNAL_ABORTED, BUFFER_STALLED_ERROR].includes(error.details)) return;
                errors.push(`${error.type} ${error.details} ${error.fatal}`);
            });
            return load.call(this, url);
        };
    }, { once: true, capture: true });
"""
"""Script for a page: `errors` gets every error that hls.js reports, also those that it mends itself, but not its own change of mind
and no mere stall."""

# A page that has nothing to do but to change shows it at once; on a busy machine that takes longer than Playwright's five seconds.
async_api.expect.set_options(timeout=WAIT_SECONDS * 1000)
sync_api.expect.set_options(timeout=WAIT_SECONDS * 1000)


async def comes_true(page: Page, expression: str) -> None:
    """Wait until a JavaScript expression holds. Playwright's own wait would need `unsafe-eval`, which our pages forbid."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not await page.evaluate(expression):
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS:g} s: {expression}"
        await asyncio.sleep(0.05)


async def violations(page: Page) -> list[Any]:
    """What axe-core finds against WCAG 2.2 A and AA: rule, target and what to do, for each."""
    if not await page.evaluate("'axe' in window"):
        # By the debugger and not as an element, so that the content policy stays as it is.
        await page.evaluate(AXE.read_text(encoding="utf-8"))
    return await page.evaluate(
        """async rules => (await axe.run(document, { runOnly: rules })).violations.flatMap(
            rule => rule.nodes.map(node => [rule.id, node.target, node.failureSummary]))""",
        RULES,
    )
