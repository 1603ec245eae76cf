"""Archives with the whole product: films of the library in a browser, the old wire, a signed callback."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, expect

from schemas.events import CancelRequested, Outstanding, StageStatus
from services.runtime.settings import Settings
from tests import clips
from tests.e2e.conftest import listen
from tests.servers.chromium import PHONE, violations
from tests.servers.gateway import RunningGateway, rendition, requests_of, status
from tests.servers.up import Up, until, up
from tests.servers.webhooks import SECRET, receiver

pytestmark = [pytest.mark.browser, pytest.mark.kafka]
ZIP_SECRET = "a secret of old clients"
SETTINGS = Settings(callback_allow=("127.0.0.1",), callback_allow_private=True, webhook_secret=SECRET, zip_secret=ZIP_SECRET)
TITLES = ("../Mum: 80th / party", "Crete ünï 電影")
NAMES = ("_Mum_ 80th _ party.mp4", "Crete ünï 電影.mp4")
_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("archives"), SETTINGS) as made:
        yield made


def upload(stack: Up, film: bytes, title: str) -> dict[str, str]:
    """What the gateway accepted."""
    url = f"{stack.gateway}/v1/uploads/film.mp4?title={quote(title)}"
    with urllib.request.urlopen(urllib.request.Request(url, film, method="PUT"), timeout=60) as answer:
        accepted: dict[str, str] = json.load(answer)
    return accepted


@pytest.fixture(scope="module")
def films(stack: Up) -> dict[str, bytes]:
    """By the name that each has in an archive: its best MP4."""
    assets: list[str] = []
    for number, title in enumerate(TITLES):
        card = clips.make("-f", "lavfi", "-i", f"testsrc2=size=320x180:rate=25:duration={2 + number}", *_X264)
        accepted = upload(stack, card.read_bytes(), title)
        assert stack.ended(accepted["job_id"])["state"] == "succeeded"
        assets.append(accepted["asset_id"])
    shown = [until(lambda a=a: stack.get(f"/v1/assets/{a}")["renditions"], 30) for a in assets]
    return {name: stack.call("GET", renditions[0]["url"]).body for name, renditions in zip(NAMES, shown, strict=True)}


def box(page: Page, title: str) -> Any:
    return page.get_by_role("checkbox", name=f"Select {title}", exact=True)


def contents(archive: bytes) -> dict[str, bytes]:
    """Of a sound archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


async def saved(page: Page) -> tuple[str, bytes]:
    """What the link brings: the name that the browser chose, and the bytes."""
    async with page.expect_download() as coming:
        await page.locator("#archive-link").click()
    download = await coming.value
    return download.suggested_filename, Path(await download.path()).read_bytes()


async def test_films_are_selected_packed_and_downloaded(stack: Up, films: dict[str, bytes], page: Page) -> None:
    await page.goto(stack.gateway)
    await expect(page.locator("#pack")).to_be_disabled()
    assert await violations(page) == []
    # By keyboard: the box comes before its film.
    await box(page, TITLES[0]).focus()
    await page.keyboard.press("Space")
    size = sum(map(len, films.values()))
    await expect(page.locator("#picked")).to_have_text(re.compile(r"^1 selected, [\d.]+ KB$"))
    assert await page.locator("#all").evaluate("all => all.indeterminate")
    await page.get_by_label("Select all shown").check()
    await expect(box(page, TITLES[1])).to_be_checked()
    await expect(page.locator("#picked")).to_have_text(f"2 selected, {round(size / 1000)} KB")
    assert await violations(page) == []
    await page.get_by_role("button", name="Download as archive").click()

    await expect(page.locator("#archive-state")).to_have_text("The archive is ready.", timeout=60_000)
    await expect(page.get_by_role("heading", name="Archive: 2 films")).to_be_visible()
    await expect(page.locator("#archive-bar")).to_be_hidden()
    await expect(box(page, TITLES[0])).not_to_be_checked()
    assert await violations(page) == []
    name, archive = await saved(page)
    assert name == "2 films.zip"
    assert contents(archive) == films

    await page.reload()
    await expect(page.locator("#archive-link")).to_have_text(re.compile(r"^Download \([\d.]+ KB\)$"))
    assert contents((await saved(page))[1]) == films
    await page.set_viewport_size(PHONE)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    await page.get_by_role("button", name="Close").click()
    await expect(page.locator("#archive")).to_be_hidden()
    await page.reload()
    await expect(page.locator("#picking")).to_be_visible()
    await expect(page.locator("#archive")).to_be_hidden()


async def test_a_film_without_an_mp4_cannot_be_selected_and_says_why(stack: Up, films: dict[str, bytes], page: Page) -> None:
    accepted = upload(stack, b"no film at all", "Broken")
    assert stack.ended(accepted["job_id"])["state"] == "failed"
    await page.goto(stack.gateway)
    await expect(box(page, "Broken")).to_be_disabled()
    await expect(box(page, "Broken")).to_have_accessible_description("No MP4")
    await page.get_by_label("Select all shown").check()
    await expect(page.locator("#picked")).to_contain_text("2 selected")
    assert await violations(page) == []
    await page.set_viewport_size(PHONE)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


async def test_what_goes_wrong_is_said_in_words(stack: Up, films: dict[str, bytes], browser: Browser) -> None:
    page = await browser.new_page(viewport=PHONE)
    complaints = listen(page)
    await page.goto(stack.gateway)
    # Deleted since the page was loaded.
    value = await box(page, TITLES[0]).input_value()
    await box(page, TITLES[0]).evaluate("box => { box.value = 'gone'; }")
    await box(page, TITLES[0]).check()
    await page.get_by_role("button", name="Download as archive").click()
    await expect(page.locator("#archive-state")).to_have_text("The archive was not begun.")
    await expect(page.locator("#archive-problem")).to_have_text("there is no such asset: gone")
    assert await violations(page) == []
    assert [c for c in complaints if "/v1/archives: " not in c] == []

    # The file itself is gone, which the job finds out.
    outputs = stack.get(f"/v1/jobs/{stack.get(f'/v1/assets/{value}')['job_id']}")["outputs"]
    path = stack.library / next(output["key"] for output in outputs if output["role"] == "rendition")
    hidden = path.rename(path.with_suffix(".away"))
    try:
        await box(page, TITLES[0]).evaluate("(box, value) => { box.value = value; }", value)
        await page.get_by_role("button", name="Download as archive").click()
        await expect(page.locator("#archive-state")).to_have_text("The archive could not be made.", timeout=60_000)
    finally:
        hidden.rename(path)
    await expect(page.locator("#archive-problem")).to_contain_text("object does not exist")
    await expect(page.locator("#archive-link")).to_be_hidden()
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert await violations(page) == []
    await page.reload()
    await expect(page.locator("#archive-problem")).to_contain_text("object does not exist")
    await page.close()


async def test_progress_is_told_survives_a_reload_and_can_be_cancelled(gateway: RunningGateway, page: Page) -> None:
    async with gateway.http.put("/v1/uploads/film.mov", data=b"film", params={"title": "Long film"}) as answer:
        accepted = await answer.json()
    files = (rendition("media", f"assets/{accepted['asset_id']}/360.mp4", 360, size=5_600_000_000),)
    film = status(accepted["job_id"], subject=accepted["asset_id"], state="succeeded", title="Long film", outputs=files)
    await gateway.feed(film, film.job_id)
    await gateway.until(f"/v1/assets/{accepted['asset_id']}", lambda asset: asset["renditions"])
    await page.goto(gateway.url)
    mine = page.locator(f"input[value='{accepted['asset_id']}']")
    await mine.check()
    await expect(page.locator("#picked")).to_have_text("1 selected, 5.6 GB")
    async with page.expect_response("**/v1/archives") as coming:
        await page.get_by_role("button", name="Download as archive").click()
    job_id = (await (await coming.value).json())["job_id"]
    await expect(page.locator("#archive-state")).to_have_text("Waiting to start")
    await expect(page.locator("#archive-words")).to_contain_text("zipper")

    now = int(time.time() * 1000)
    fields: dict[str, Any] = {"kind": "zip", "service": "zipper", "request_type": "ZipRequested", "subject": "x", "title": "Long film"}
    busy = status(
        job_id, state="running", progress=0.42, started_ms=now - 21_000, updated_ms=now,
        stages=[StageStatus(name="move", service="zipper", total=10, done=4)],
        outstanding=[Outstanding(4, 1, 0, "worker-1", 0.2)], **fields,
    )  # fmt: skip
    await gateway.feed(busy, job_id)
    for _ in range(2):
        await expect(page.locator("#archive-state")).to_have_text("Putting the archive together")
        await expect(page.locator("#archive-words")).to_have_text(re.compile(r"^42 % · about \d+ s to go$"))
        assert await page.locator("#archive-bar").evaluate("bar => bar.value") == 0.42
        await mine.check()
        await expect(page.locator("#pack")).to_be_disabled()  # one after the other
        assert await violations(page) == []
        await page.reload()

    await page.locator("#archive").get_by_role("button", name="Cancel").click()
    await cancel_was_asked(gateway, job_id)
    await gateway.feed(status(job_id, state="cancelled", **fields), job_id)
    await expect(page.locator("#archive-state")).to_have_text("Cancelled")
    await expect(page.locator("#archive-bar")).to_be_hidden()
    await mine.check()
    await expect(page.locator("#pack")).to_be_enabled()


async def cancel_was_asked(gateway: RunningGateway, job_id: str) -> None:
    """Wait until the wish to cancel lies on the topic."""
    async with asyncio.timeout(15):
        while not await requests_of(gateway, lambda e: isinstance(e, CancelRequested) and e.job_id == job_id):
            await asyncio.sleep(0.05)


def test_the_old_curl_line_makes_an_archive_and_replaces_it(stack: Up) -> None:
    for name in ("one.txt", "zwei é.txt"):
        (stack.library / "letters").mkdir(exist_ok=True)
        (stack.library / "letters" / name).write_bytes(name.encode() * 1000)
    files = ["letters/zwei é.txt", "letters/one.txt"]
    for _ in range(2):
        answer = stack.call(
            "POST", "/zip", body={"files": files, "target": "letters.zip"}, headers={"Authorization": f"bearer {ZIP_SECRET}"}
        )
        assert (answer.status, answer.body) == (202, b"")
    path = stack.library / "letters.zip"
    assert contents(until(lambda: path.is_file() and path.read_bytes(), 60)) == {
        f: f.removeprefix("letters/").encode() * 1000 for f in files
    }


def test_a_long_list_goes_its_way_beside_the_event_and_is_removed_with_the_job(stack: Up) -> None:
    folder = stack.library / "many"
    folder.mkdir()
    files = [f"many/{n:05}-{'x' * 100}.txt" for n in range(1000)]
    for file in files:
        (stack.library / file).write_bytes(file.encode())
    headers = {"Authorization": f"Bearer {ZIP_SECRET}"}
    assert stack.call("POST", "/", body={"files": files, "target": "many.zip"}, headers=headers).status == 202
    path = stack.library / "many.zip"
    assert contents(until(lambda: path.is_file() and path.read_bytes(), 60)) == {f: f.encode() for f in files}
    until(lambda: not stack.objects("archives/manifests"), 30, lambda: str(stack.objects("archives/manifests")))


def test_a_signed_callback_carries_how_it_ended(stack: Up) -> None:
    (stack.library / "notes").mkdir()
    (stack.library / "notes" / "a.txt").write_bytes(b"a" * 5000)
    with receiver() as hook:
        for prefix, target in (("notes/", "notes.zip"), ("never-there/", "never.zip")):
            body = {"type": "ZipRequested", "data": {"prefix": prefix, "target": {"key": target}}, "callback": {"url": hook.url}}
            assert stack.call("POST", "/v1/jobs", body=body).status == 202
        came = [hook.next(), hook.next()]
    assert [callback.genuine() for callback in came] == [True, True]
    told = {callback.json()["state"]: callback.json() for callback in came}
    assert told["succeeded"]["data"]["entries"] == 1
    assert [output["key"] for output in told["succeeded"]["outputs"]] == ["notes.zip"]
    assert told["failed"]["error"]["code"] == "nothing-selected"
    assert not (stack.library / "never.zip").exists()
