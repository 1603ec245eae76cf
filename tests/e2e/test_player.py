"""The player in a real browser: films that grow, menus, keys, previews, outages, and what it does where something is lacking."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, expect

from schemas.events import ErrorInfo
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.media.encryption import random_key
from tests.e2e.conftest import listen
from tests.e2e.films import SECONDS, SEGMENTS, Clip, Film
from tests.servers.chromium import DESKTOP, PHONE, RECORD, WAIT_SECONDS, comes_true, violations
from tests.servers.gateway import RunningGateway, run_gateway, settings_for

pytestmark = [pytest.mark.browser, pytest.mark.kafka]
VIDEO = "document.querySelector('video')"
LAST_PLAYED = f"{VIDEO}.played.start({VIDEO}.played.length - 1)"
"""Since its source was set, where the video was last begun or sought to and played."""
NO_MEDIA_SOURCE = "delete window.MediaSource; delete window.ManagedMediaSource; delete window.WebKitMediaSource;"
NO_NATIVE_HLS = """
    const can = HTMLMediaElement.prototype.canPlayType;
    HTMLMediaElement.prototype.canPlayType = function (type) { return type.includes("mpegurl") ? "" : can.call(this, type); };
"""
NOTHING = NO_MEDIA_SOURCE + "HTMLMediaElement.prototype.canPlayType = () => '';"


async def watching(page: Page, film: Film) -> None:
    """Open the film's page; no reload goes unnoticed from here on."""
    await page.add_init_script(RECORD)
    await page.goto(film.url)
    await page.evaluate("window.marker = 'the same page'")


async def same_page(page: Page) -> bool:
    return await page.evaluate("window.marker") == "the same page"


async def whole(gateway: RunningGateway, page: Page, clip: Clip) -> Film:
    """A film that is all there, in the player, paused at its beginning."""
    film = await Film.uploaded(gateway, clip)
    await film.finish()
    await gateway.until(f"/v1/assets/{film.asset_id}", lambda asset: asset["hls_url"] and not asset["live"] and asset["renditions"])
    await watching(page, film)
    await comes_true(page, f"Math.abs({VIDEO}?.duration - {SECONDS}) < 0.2 && {VIDEO}.readyState >= 3")
    return film


async def growing(gateway: RunningGateway, page: Page, clip: Clip, segments: int = 3) -> Film:
    """A film of which the first segments are there, in the player."""
    film = await Film.uploaded(gateway, clip)
    await film.tell("running", 0.4, note="encoding")
    await film.publish(segments)
    await watching(page, film)
    await comes_true(page, f"{VIDEO}?.readyState >= 3")
    return film


async def fatal(page: Page) -> list[str]:
    """Errors that hls.js does not mend itself. That a buffer ran empty is one of the others."""
    return [error for error in await page.evaluate("errors") if error.endswith(" true")]


async def text_of(page: Page, menu: str) -> list[str]:
    return [text.strip() for text in await page.locator(f"{menu} media-chrome-menu-item").all_text_contents()]


# ── A film that is still being encoded ─────────────────────────────────────────────────────────────────────────────


async def test_a_film_plays_while_it_is_encoded_and_becomes_whole_without_a_reload(
    gateway: RunningGateway, page: Page, clip: Clip, tmp_path: Path
) -> None:
    film = await Film.uploaded(gateway, clip)
    await watching(page, film)
    await film.tell("running", 0.1, note="encoding")
    await expect(page.locator("#state")).to_have_text("Converting")

    await film.publish(3)
    await expect(page.locator("video")).to_be_visible()
    await page.click("media-play-button")
    await comes_true(page, f"{VIDEO}.currentTime > 1 && {VIDEO}.videoWidth > 0")
    await page.click("media-play-button")
    await expect(page.locator("#state")).to_have_text("Still converting")
    await expect(page.locator("#words")).to_contain_text("10 %")
    await expect(page.locator(".live")).to_be_visible()
    assert await page.evaluate(f"Math.abs({VIDEO}.duration - 6) < 0.2 && {VIDEO}.played.start(0) < 0.5")
    await page.screenshot(path=tmp_path / "live.png")

    await film.publish(5)
    await comes_true(page, f"Math.abs({VIDEO}.duration - 10) < 0.2")
    assert (await gateway.json(f"/v1/jobs/{film.job_id}"))["state"] == "running"

    await film.finish()
    await comes_true(page, f"Math.abs({VIDEO}.duration - {SECONDS}) < 0.2 && {VIDEO}.streamType === 'on-demand'")
    await expect(page.locator(".live")).to_be_hidden()
    await expect(page.locator("#waiting")).to_be_hidden()
    await page.evaluate(f"{VIDEO}.currentTime = {VIDEO}.duration - 1; {VIDEO}.play()")
    await comes_true(page, f"{VIDEO}.ended")
    await comes_true(page, f"{VIDEO}.querySelector('track[label=thumbnails]') !== null")
    assert await page.evaluate("errors") == []
    assert await same_page(page)


async def test_who_waits_at_the_edge_stays_there(gateway: RunningGateway, page: Page, clip: Clip) -> None:
    """hls.js would bring a player that starves at the edge of a live stream back by three segments."""
    film = await growing(gateway, page, clip, 2)
    await page.evaluate(
        f"window.back = 0; let last = 0; {VIDEO}.addEventListener('seeking', () => {{ window.back += 1; }}); {VIDEO}.play()"
    )
    for segments in (3, 4):
        await comes_true(page, f"{VIDEO}.currentTime > {2 * (segments - 1)} - 0.5 && {VIDEO}.readyState < 3")
        await film.publish(segments)
    await comes_true(page, f"{VIDEO}.currentTime > 6.5")
    assert await page.evaluate("back") < 0.5


async def test_an_outage_is_a_stall(gateway: RunningGateway, page: Page, browser: Browser, clip: Clip) -> None:
    own = await browser.new_page(viewport=DESKTOP)  # its console does complain
    film = await growing(gateway, own, clip)

    async def broken(route: Route) -> None:
        await route.abort("connectionrefused")

    await own.route("**/hls/**", broken)
    await film.publish(SEGMENTS)
    await expect(own.locator("#problem")).to_have_text("The connection was lost; trying again.", timeout=40_000)
    assert await fatal(own) != []
    await own.unroute("**/hls/**")
    await comes_true(own, f"Math.abs({VIDEO}.duration - {SECONDS}) < 0.2")
    await own.evaluate(f"{VIDEO}.play()")
    await comes_true(own, f"{VIDEO}.currentTime > 7")
    await expect(own.locator("#problem")).to_be_hidden()
    assert await same_page(own)


async def test_a_permission_that_is_gone_is_asked_for_again(gateway: RunningGateway, browser: Browser, clip: Clip) -> None:
    own = await browser.new_page(viewport=DESKTOP)
    film = await growing(gateway, own, clip)
    await own.context.clear_cookies()
    await film.publish(SEGMENTS)
    await comes_true(own, f"Math.abs({VIDEO}.duration - {SECONDS}) < 0.2")
    assert await same_page(own)


async def test_a_restart_of_the_broker_is_at_most_a_stall(own_kafka: EmbeddedKafka, browser: Browser, clip: Clip, tmp_path: Path) -> None:
    page = await browser.new_page(viewport=DESKTOP)
    async with run_gateway(settings_for(own_kafka.bootstrap_servers, tmp_path)) as gateway:
        film = await growing(gateway, page, clip)
        own_kafka.kill()
        await page.evaluate(f"{VIDEO}.play()")
        await comes_true(page, f"{VIDEO}.currentTime > 3")
        own_kafka.start()
        await film.finish()
        await comes_true(page, f"{VIDEO}.streamType === 'on-demand' && Math.abs({VIDEO}.duration - {SECONDS}) < 0.2")
        await expect(page.locator("#waiting")).to_be_hidden()
        await comes_true(page, f"{VIDEO}.currentTime > 7")
        assert await fatal(page) == []
        assert await same_page(page)
        await page.close()


async def test_a_failure_while_playing_is_told_and_what_is_there_plays_on(gateway: RunningGateway, page: Page, clip: Clip) -> None:
    film = await growing(gateway, page, clip)
    await film.tell("failed", 0.5, error=ErrorInfo(code="defect", message="The encoder gave up.", hint="Try again later."))
    await expect(page.locator("#state")).to_have_text("The last conversion failed; this is what there is.")
    await expect(page.locator("#message")).to_have_text("The encoder gave up.")
    await expect(page.locator("#hint")).to_have_text("Try again later.")
    await expect(page.locator("#retry")).to_be_visible()
    await page.evaluate(f"{VIDEO}.play()")
    await comes_true(page, f"{VIDEO}.currentTime > 1")


async def test_an_encrypted_film_plays(gateway: RunningGateway, page: Page, clip: Clip) -> None:
    film = await Film.uploaded(gateway, clip)
    film.key = random_key()
    await film.publish(3)
    await film.tell("running", 0.4)
    await watching(page, film)
    await comes_true(page, f"{VIDEO}?.readyState >= 3")
    await film.finish()
    await comes_true(page, f"Math.abs({VIDEO}.duration - {SECONDS}) < 0.2")
    await page.evaluate(f"{VIDEO}.currentTime = 9; {VIDEO}.play()")
    await comes_true(page, f"{VIDEO}.currentTime > 9.5 && {VIDEO}.videoWidth > 0")
    assert await fatal(page) == []


# ── A film that is played while its means change ───────────────────────────────────────────────────────────────────


async def test_who_presses_play_while_the_file_gives_way_to_the_stream_goes_on_watching(
    gateway: RunningGateway, page: Page, clip: Clip
) -> None:
    asked, pressed = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        asked.set()
        await pressed.wait()
        await route.continue_()

    film = await Film.uploaded(gateway, clip)
    await film.transcoded()
    await gateway.until(f"/v1/assets/{film.asset_id}", lambda asset: asset["renditions"])
    await page.route("**/playback", hold)
    await watching(page, film)
    await comes_true(page, f"{VIDEO}?.currentSrc.includes('/360.mp4') && {VIDEO}.readyState >= 3")
    await film.finish()
    async with asyncio.timeout(WAIT_SECONDS):
        await asked.wait()
    await page.evaluate(f"{VIDEO}.currentTime = 5; {VIDEO}.playbackRate = 1.25")
    await page.click("media-play-button")
    await comes_true(page, f"{VIDEO}.currentTime > 5.2")
    pressed.set()
    await comes_true(page, f"{VIDEO}.src.startsWith('blob:') && {VIDEO}.currentTime > 6.5")
    assert await page.evaluate(f"[{VIDEO}.paused, {VIDEO}.playbackRate, {LAST_PLAYED} > 5]") == [False, 1.25, True]
    assert await page.evaluate("errors") == []
    assert await same_page(page)


async def test_who_presses_play_before_the_player_is_there_goes_on_watching(gateway: RunningGateway, page: Page, clip: Clip) -> None:
    pressed = asyncio.Event()

    async def hold(route: Route) -> None:
        await pressed.wait()
        await route.continue_()

    film = await Film.uploaded(gateway, clip)
    await film.finish()
    await gateway.until(f"/v1/assets/{film.asset_id}", lambda asset: asset["hls_url"] and asset["renditions"])
    await page.route("**/player.*", hold)
    await page.goto(film.url, wait_until="commit")
    await comes_true(page, f"{VIDEO}?.controls")
    await page.evaluate(f"{VIDEO}.play()")
    await comes_true(page, f"{VIDEO}.currentTime > 1")
    pressed.set()
    await comes_true(page, f"{VIDEO}.src.startsWith('blob:') && {VIDEO}.currentTime > 2")
    assert await page.evaluate(f"[{VIDEO}.paused, {LAST_PLAYED} > 0.9]") == [False, True]


async def test_who_presses_play_while_a_file_that_broke_off_is_fetched_again_goes_on_watching(
    gateway: RunningGateway, browser: Browser, clip: Clip
) -> None:
    page = await lacking(gateway, browser, clip, blocked="**/hls.min.*")
    await comes_true(page, f"{VIDEO}?.currentSrc.includes('/360.mp4') && {VIDEO}.readyState >= 3")
    # All at once: the file is asked for again two seconds after it broke off.
    said = await page.evaluate(
        f"""(() => {{
            window.from = 0;
            {VIDEO}.currentTime = 5;
            {VIDEO}.addEventListener('loadedmetadata', () => {{ from = {VIDEO}.currentTime; }});
            {VIDEO}.dispatchEvent(new Event('error'));
            const said = document.querySelector('#problem').textContent;
            document.querySelector('media-play-button').click();
            return said;
        }})()"""
    )
    assert said == "The connection was lost; trying again."
    # Its server is still away at the first attempt; Chromium then pauses the video.
    await page.route("**/360.mp4*", lambda route: route.abort(), times=1)
    await comes_true(page, f"from > 5.1 && {VIDEO}.currentTime > from + 0.5")
    await expect(page.locator("#problem")).to_be_hidden()


# ── Menus, keys, previews ──────────────────────────────────────────────────────────────────────────────────────────


async def choose(page: Page, entry: str, menu: str, text: str) -> None:
    """By the settings menu, as people do. A choice leads back to the list of settings."""
    if await page.locator("#settings").get_attribute("hidden") is not None:
        await page.click("media-settings-menu-button")
    await page.click(f"media-settings-menu-item{entry}")
    await page.locator(f"{menu} media-chrome-menu-item", has_text=text).click()


async def test_the_menus_choose_quality_speed_and_language(gateway: RunningGateway, page: Page, clip: Clip) -> None:
    await whole(gateway, page, clip)
    assert await text_of(page, "media-rendition-menu") == ["360p", "180p", "Auto (360p)"]
    assert await text_of(page, "media-playback-rate-menu") == ["0.5x", "0.75x", "1x", "1.25x", "1.5x", "1.75x", "2x"]
    assert await text_of(page, "media-audio-track-menu") == ["English", "Deutsch"]
    await expect(page.locator("media-captions-button")).to_be_hidden()
    await page.evaluate(f"{VIDEO}.play()")
    await choose(page, ".quality", "media-rendition-menu", "180p")
    await comes_true(page, f"{VIDEO}.videoHeight === 180")
    await choose(page, ".speed", "media-playback-rate-menu", "1.75x")
    await comes_true(page, f"{VIDEO}.playbackRate === 1.75")
    await choose(page, ".languages", "media-audio-track-menu", "Deutsch")
    await comes_true(page, "hls.audioTrack === 1 && hls.audioTracks[1].lang === 'de'")
    await choose(page, ".quality", "media-rendition-menu", "Auto")
    await comes_true(page, "hls.autoLevelEnabled")
    assert await fatal(page) == []


async def test_captions_have_a_menu_and_a_key_where_there_are_any(gateway: RunningGateway, page: Page, clip: Clip) -> None:
    await whole(gateway, page, clip)
    await expect(page.locator("media-captions-button")).to_be_hidden()
    await page.evaluate(f"window.track = {VIDEO}.addTextTrack('subtitles', 'English', 'en'); track.addCue(new VTTCue(0, 9, 'Hello'))")
    await expect(page.locator("media-captions-button")).to_be_visible()
    await page.keyboard.press("c")
    await comes_true(page, "track.mode === 'showing'")
    await choose(page, ".captions", "media-captions-menu", "Off")
    await comes_true(page, "track.mode === 'disabled'")


KEYS: list[tuple[str, str]] = [
    ("k", "!v.paused"),
    ("Space", "v.paused"),
    ("l", f"Math.abs(v.currentTime - Math.min(from + 10, {SECONDS})) < 0.5"),
    ("j", "Math.abs(v.currentTime - from + 10) < 0.5"),
    ("ArrowRight", "Math.abs(v.currentTime - from - 5) < 0.5"),
    ("ArrowLeft", "Math.abs(v.currentTime - from + 5) < 0.5"),
    ("5", f"Math.abs(v.currentTime - {SECONDS / 2}) < 0.2"),
    ("0", "v.currentTime === 0"),
    ("m", "v.muted"),
    ("M", "!v.muted"),
    (">", "v.playbackRate === 1.25"),
    ("<", "v.playbackRate === 1"),
    ("f", "document.fullscreenElement !== null"),
    ("f", "document.fullscreenElement === null"),
]


async def test_the_keys_that_people_know_work_on_the_whole_page(gateway: RunningGateway, page: Page, clip: Clip) -> None:
    await whole(gateway, page, clip)
    for key, outcome in KEYS:
        await page.evaluate(f"window.v = {VIDEO}; window.from = v.currentTime")
        await page.keyboard.press(key)
        await comes_true(page, outcome)
    await page.evaluate("v.pause(); v.currentTime = 3; v.volume = 0.5")
    for key in ("End", "ArrowUp"):  # these scroll the page while the player has no focus
        await page.keyboard.press(key)
    assert await page.evaluate("[v.currentTime, v.volume]") == [3, 0.5]
    await page.focus("media-mute-button")
    for key, outcome in (("ArrowUp", "v.volume > 0.5"), ("ArrowDown", "v.volume === 0.5"), ("End", f"v.currentTime > {SECONDS} - 0.2")):
        await page.keyboard.press(key)
        await comes_true(page, outcome)
    await page.keyboard.press("Home")
    await comes_true(page, "v.currentTime === 0")


async def test_keys_leave_alone_what_needs_them_and_can_be_turned_off(gateway: RunningGateway, page: Page, clip: Clip) -> None:
    await whole(gateway, page, clip)
    await page.evaluate(f"window.v = {VIDEO}")
    await page.focus("media-mute-button")
    await page.keyboard.press("Space")
    await comes_true(page, "v.muted")  # the button, and nothing else
    assert await page.evaluate("v.paused")
    await page.click("#keys summary")
    await page.uncheck("#keys-on")
    await page.focus("h1 >> xpath=ancestor::body")
    await page.keyboard.press("k")
    await page.keyboard.press("5")
    assert await page.evaluate("[v.paused, v.currentTime]") == [True, 0]
    await page.reload()
    assert not await page.is_checked("#keys-on")


async def test_the_seek_bar_shows_pictures(gateway: RunningGateway, page: Page, clip: Clip) -> None:
    await whole(gateway, page, clip)
    await comes_true(page, f"[...{VIDEO}.textTracks].some(track => track.label === 'thumbnails' && track.cues?.length === 6)")
    box = await page.locator("media-time-range").bounding_box()
    assert box is not None
    for part in (0.70, 0.71):
        await page.mouse.move(box["x"] + box["width"] * part, box["y"] + box["height"] / 2)
    picture = "document.querySelector('media-time-range').shadowRoot.querySelector('media-preview-thumbnail')"
    await comes_true(page, f"getComputedStyle({picture}).visibility === 'visible'")
    await comes_true(page, f"{picture}.shadowRoot.querySelector('img').naturalWidth === 480")
    coordinates = await page.evaluate(f"{picture}.getAttribute('mediapreviewcoords')")
    assert coordinates == "160 90 160 90"  # 8 to 10 seconds


async def test_sound_without_a_picture_has_a_look_of_its_own(gateway: RunningGateway, page: Page, clip: Clip, tmp_path: Path) -> None:
    sound = dataclasses.replace(clip, renditions=tuple(r for r in clip.renditions if r.name == "audio-eng"))
    film = await Film.uploaded(gateway, sound, "A song")
    await film.finish(files=False)
    await gateway.until(f"/v1/assets/{film.asset_id}", lambda asset: asset["hls_url"])
    await watching(page, film)
    await expect(page.locator(".sound")).to_be_visible()
    await page.click("media-play-button")
    await comes_true(page, f"{VIDEO}.currentTime > 1")
    await page.screenshot(path=tmp_path / "sound.png")
    assert await violations(page) == []


# ── Where something is lacking ─────────────────────────────────────────────────────────────────────────────────────


async def lacking(gateway: RunningGateway, browser: Browser, clip: Clip, script: str = "", blocked: str = "") -> Page:
    """The page of a whole film in a browser that lacks something."""
    page = await browser.new_page(viewport=DESKTOP)
    film = await Film.uploaded(gateway, clip)
    await film.finish()
    await gateway.until(f"/v1/assets/{film.asset_id}", lambda asset: asset["hls_url"] and asset["renditions"])
    if script:
        await page.add_init_script(script)
    if blocked:
        await page.route(blocked, lambda route: route.abort())
    await page.goto(film.url)
    return page


@pytest.mark.parametrize(("script", "blocked"), [("", "**/hls.min.*"), (NO_MEDIA_SOURCE + NO_NATIVE_HLS, "")], ids=["script", "api"])
async def test_without_hls_the_mp4_files_play(gateway: RunningGateway, browser: Browser, clip: Clip, script: str, blocked: str) -> None:
    page = await lacking(gateway, browser, clip, script, blocked)
    await comes_true(page, f"{VIDEO}?.videoWidth === 640 && {VIDEO}.currentSrc.includes('/360.mp4')")
    await page.click("media-play-button")
    await comes_true(page, f"{VIDEO}.currentTime > 1")
    await choose(page, ".speed", "media-playback-rate-menu", "1.5x")
    await choose(page, ".quality", "media-rendition-menu", "180p")
    await comes_true(page, f"{VIDEO}.videoHeight === 180 && {VIDEO}.currentTime > 1 && {VIDEO}.playbackRate === 1.5")


async def test_segments_that_cannot_be_decoded_give_way_to_the_mp4_files(gateway: RunningGateway, browser: Browser, clip: Clip) -> None:
    page = await browser.new_page(viewport=DESKTOP)
    noise = {name: {n: (b"noise" * 2000 if n.endswith(".m4s") else d) for n, d in parts.items()} for name, parts in clip.parts.items()}
    film = await Film.uploaded(gateway, dataclasses.replace(clip, parts=noise))
    await film.finish()
    await gateway.until(f"/v1/assets/{film.asset_id}", lambda asset: asset["hls_url"] and asset["renditions"])
    await page.goto(film.url)
    await comes_true(page, f"{VIDEO}?.currentSrc.includes('/360.mp4') && {VIDEO}.videoWidth === 640")


async def test_without_the_controls_the_browsers_own_serve(gateway: RunningGateway, browser: Browser, clip: Clip) -> None:
    page = await lacking(gateway, browser, clip, blocked="**/media-chrome.*")
    await comes_true(page, f"{VIDEO}?.controls && {VIDEO}.readyState >= 3 && {VIDEO}.src.startsWith('blob:')")


async def test_a_browser_that_can_play_nothing_is_told_what_it_lacks(
    gateway: RunningGateway, browser: Browser, clip: Clip, tmp_path: Path
) -> None:
    page = await lacking(gateway, browser, clip, NOTHING)
    await expect(page.locator("#lack .big")).to_have_text("This browser cannot play the film.")
    await expect(page.locator("#lacking")).to_contain_text("neither Media Source Extensions nor HLS")
    await expect(page.locator("#lacking")).to_contain_text("H.264")
    assert await page.locator("#files a").all_text_contents() == ["360p", "180p"]
    answer = await page.request.get(await page.locator("#files a").first.get_attribute("href") or "")
    assert (answer.status, answer.headers["content-type"]) == (200, "video/mp4")
    await expect(page.locator("#stage")).to_be_hidden()
    await page.screenshot(path=tmp_path / "lacking.png")
    assert await violations(page) == []


async def test_a_browser_without_hls_waits_for_the_mp4_files(gateway: RunningGateway, browser: Browser, clip: Clip) -> None:
    page = await browser.new_page(viewport=DESKTOP)
    await page.add_init_script(NO_MEDIA_SOURCE + NO_NATIVE_HLS)
    film = await Film.uploaded(gateway, clip)
    await film.tell("running", 0.4)
    await film.publish(3)
    await page.goto(film.url)
    await expect(page.locator("#lacking")).to_contain_text("When the conversion is over")
    await film.finish()
    await comes_true(page, f"{VIDEO}?.videoWidth === 640 && {VIDEO}.currentSrc.includes('/360.mp4')")
    await expect(page.locator("#lack")).to_be_hidden()


async def test_without_scripts_the_best_file_plays(gateway: RunningGateway, browser: Browser, clip: Clip) -> None:
    context = await browser.new_context(java_script_enabled=False, viewport=DESKTOP)
    page = await context.new_page()
    film = await Film.uploaded(gateway, clip)
    await film.finish()
    await gateway.until(f"/v1/assets/{film.asset_id}", lambda asset: asset["hls_url"] and asset["renditions"])
    await page.goto(film.url)
    await expect(page.locator("video[controls] source").first).to_have_attribute("type", "video/mp4")
    await expect(page.locator("video")).to_be_visible()


# ── For everybody ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_no_state_of_the_pages_violates_wcag(
    gateway: RunningGateway, browser: Browser, clip: Clip, scheme: Any, size: Any, tmp_path: Path
) -> None:
    context = await browser.new_context(viewport=size, color_scheme=scheme)
    page = await context.new_page()
    complaints = listen(page)

    async def check(state: str) -> None:
        await page.screenshot(path=tmp_path / f"{state}.png")
        assert await violations(page) == [], state
        assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), state

    film = await Film.uploaded(gateway, clip, "A title that is so long that it does not fit into one line of a telephone")
    await film.tell("running", 0.2, note="encoding")
    await watching(page, film)
    await expect(page.locator("#words")).to_contain_text("20 %")
    await check("working")

    await film.publish(3)
    await comes_true(page, f"{VIDEO}?.readyState >= 3")
    await page.evaluate(f"{VIDEO}.play()")
    await comes_true(page, f"{VIDEO}.currentTime > 0.2")
    await page.hover("media-time-display")  # else the controls fade
    await comes_true(page, "getComputedStyle(document.querySelector('media-control-bar.buttons')).opacity === '1'")
    await check("live")
    await page.click("media-settings-menu-button")
    await check("menu")
    for entry in await page.locator("media-settings-menu-item:visible").all():
        await entry.click()
        await entry.locator("media-chrome-menu-item").first.hover()  # when it has come to rest
        await check(f"menu-{(await entry.text_content() or '').split()[0]}")
        await page.keyboard.press("Escape")
    await page.keyboard.press("Escape")

    await film.finish()
    await comes_true(page, f"{VIDEO}.streamType === 'on-demand'")
    await page.click("#keys summary")
    await check("whole")

    other = await Film.uploaded(gateway, clip)
    await other.tell("failed", error=ErrorInfo(code="not-a-video", message="film.mp4 is no video.", hint="Send a film."))
    await page.goto(other.url)
    await expect(page.locator("#message")).to_have_text("film.mp4 is no video.")
    await check("failed")
    await page.goto(gateway.url)
    await check("library")
    await page.goto(f"{gateway.url}/watch/never-there")
    await check("unknown")
    assert [c for c in complaints if "never-there" not in c] == []
