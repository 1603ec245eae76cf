"""Takes the picture of the watch page that the README shows: a film that plays while it is still being encoded.

python -m tests.e2e.picture [file]    default: docs/pictures/watch.jpg

Starts everything, as `reelworks up` does, and ends it. The film is the demo's: (c) 2008 Blender Foundation, www.bigbuckbunny.org,
Creative Commons Attribution 3.0, so whoever shows the picture names it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from services.cli.sample import sample
from services.runtime.settings import Settings
from tests.e2e.test_demo import held, upload
from tests.servers.chromium import CHROMIUM, FLAGS
from tests.servers.up import Up, until, up

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "watch.jpg"
MOMENT, WATCHABLE_SECONDS = 22.4, 24.0
MOST_BYTES = 200_000


def take(stack: Up, path: Path) -> None:
    """Raises AssertionError when the film was ready before the picture was taken, or the picture is too large."""
    film = upload(stack, sample(Settings().cache_path()), title="Big Buck Bunny")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page(viewport={"width": 1120, "height": 820})
        page.goto(f"{stack.gateway}/watch/{film.asset_id}")
        with held(stack, film, WATCHABLE_SECONDS):
            video = "document.querySelector('video')"
            until(lambda: page.evaluate(f"{video}?.duration >= {WATCHABLE_SECONDS}"), 30)
            page.evaluate(f"{video}.currentTime = {MOMENT}; {video}.play()")
            until(lambda: page.evaluate(f"{video}.currentTime > {MOMENT} + 0.3 && {video}.videoHeight === 720"), 30)
            page.hover("media-time-display")
            until(lambda: page.evaluate("getComputedStyle(document.querySelector('media-control-bar.buttons')).opacity === '1'"), 5)
            assert stack.get(f"/v1/jobs/{film.job_id}")["state"] == "running"
            page.screenshot(path=path, type="jpeg", quality=80)
        browser.close()
    assert path.stat().st_size < MOST_BYTES, f"{path} has {path.stat().st_size} bytes"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.picture", description="Takes the README's picture of the watch page.")
    parser.add_argument("file", nargs="?", type=Path, default=PICTURE)
    path: Path = parser.parse_args().file
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, up(Path(folder)) as stack:
        take(stack, path)
    print(path)


if __name__ == "__main__":
    main()
