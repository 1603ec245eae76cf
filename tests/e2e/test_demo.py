"""The whole product as people and other systems meet it: `reelworks up`, a real film, a real browser, and what goes wrong.

One stack for the module; each test brings what it needs, the last two end it.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import m3u8
import psutil
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from schemas import envelope
from schemas.events import UploadReceived
from services.cli.sample import sample
from services.runtime.kafka.producer import EventProducer, record
from services.runtime.settings import Settings, child_environment
from tests import clips
from tests.servers.chromium import CHROMIUM, FLAGS, RECORD
from tests.servers.processes import alive
from tests.servers.up import REELWORKS, Answer, Up, until, up
from tests.servers.webhooks import SECRET, receiver

pytestmark = [pytest.mark.kafka, pytest.mark.browser]
TITLE = "Big Buck <b>Bunny</b> ünï"
SETTINGS = Settings(callback_allow=("127.0.0.1",), callback_allow_private=True, webhook_secret=SECRET)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("up"), SETTINGS) as made:
        yield made


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page on which any error of a script, of the content policy or of a request fails the module."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        made = browser.new_page()
        complaints: list[str] = []
        made.on("pageerror", lambda error: complaints.append(str(error)))
        made.on("console", lambda said: complaints.append(f"{said.location['url']}: {said.text}") if said.type == "error" else None)
        yield made
        browser.close()
    assert complaints == []


@dataclass(frozen=True)
class Sent:
    """An upload that was accepted."""

    asset_id: str
    job_id: str


def upload(stack: Up, film: Path, *, name: str = "", title: str = "") -> Sent:
    """As the README says: `curl -T film.mp4 …/v1/uploads/film.mp4`."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl")
    url = f"{stack.gateway}/v1/uploads/{urllib.parse.quote(name or film.name)}" + (f"?title={urllib.parse.quote(title)}" if title else "")
    done = subprocess.run([curl, "-sS", "--fail-with-body", "-T", str(film), url], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    accepted = json.loads(done.stdout)
    return Sent(accepted["asset_id"], accepted["job_id"])


def ranged(stack: Up, url: str) -> Answer:
    return stack.call("GET", url, headers={"Range": "bytes=0-99"})


# ── A film, from curl to the screen ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def film(stack: Up) -> Sent:
    return upload(stack, sample(Settings().cache_path()), title=TITLE)


@contextmanager
def held(stack: Up, film: Sent, seconds: float = 1.0) -> Generator[None]:
    """The encoders stand still as soon as so much of every rendition can be watched: nothing depends on how fast they are."""

    def watchable() -> bool:
        url = stack.get(f"/v1/assets/{film.asset_id}")["hls_url"]
        if url is None:
            return False
        master = m3u8.loads(stack.call("GET", url).body.decode(), uri=url)
        parts = [p.absolute_uri for p in master.playlists] + [m.absolute_uri for m in master.media if m.uri]
        lists = [m3u8.loads(stack.call("GET", part).body.decode()) for part in parts]
        return bool(lists) and all(sum(segment.duration or 0 for segment in each.segments) >= seconds for each in lists)

    until(watchable, 240, lambda: f"there is nothing to watch: {stack.get(f'/v1/jobs/{film.job_id}')}")
    encoders: list[psutil.Process] = []
    for child in psutil.Process(stack.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just done its chunk
            if "ffmpeg" in child.name():
                child.suspend()
                encoders.append(child)
    try:
        yield
    finally:
        for encoder in encoders:
            with contextlib.suppress(psutil.NoSuchProcess):
                encoder.resume()


def test_the_sample_plays_while_it_is_encoded_and_to_its_end_without_a_reload(stack: Up, page: Page, film: Sent) -> None:
    video = "document.querySelector('video')"
    page.add_init_script(RECORD)
    page.goto(f"{stack.gateway}/watch/{film.asset_id}")
    page.evaluate("window.marker = 'the same page'")
    expect(page.locator("h1")).to_have_text(TITLE)
    with held(stack, film):
        expect(page.locator("video")).to_be_visible()
        expect(page.locator("#state")).to_have_text("Still converting")
        page.click("media-play-button")
        until(lambda: page.evaluate(f"{video}.currentTime > 1 && {video}.videoWidth > 0"), 30)
        page.click("media-play-button")
        assert stack.get(f"/v1/jobs/{film.job_id}")["state"] == "running"
        assert page.evaluate(f"[{video}.streamType, {video}.duration < 50, {video}.error]") == ["live", True, None]
    assert stack.ended(film.job_id, 600)["state"] == "succeeded"
    until(lambda: page.evaluate(f"{video}.streamType === 'on-demand' && Math.abs({video}.duration - 55.1) < 0.2"), 120)
    expect(page.locator("#waiting")).to_be_hidden()
    page.evaluate(f"{video}.currentTime = {video}.duration - 2; {video}.play()")
    until(lambda: page.evaluate(f"{video}.ended"), 30)
    until(lambda: page.evaluate(f"{video}.querySelector('track[label=thumbnails]') !== null"), 30)
    assert page.evaluate("[window.marker, errors]") == ["the same page", []]


def test_the_library_shows_title_and_thumbnail(stack: Up, page: Page, film: Sent) -> None:
    assert stack.ended(film.job_id)["state"] == "succeeded"
    page.goto(stack.gateway)
    card = page.locator(f'.card[data-asset="{film.asset_id}"]')
    expect(card.locator(".name")).to_have_text(TITLE)
    expect(card).to_have_attribute("data-state", "succeeded")
    until(lambda: card.locator("img").evaluate("image => image.naturalWidth > 0 && image.naturalWidth <= 320"), 20)
    card.locator("a").click()
    expect(page.locator("video")).to_be_visible()


def test_the_assets_urls_can_be_fetched_and_the_films_are_sound(stack: Up, film: Sent, tmp_path: Path) -> None:
    assert stack.ended(film.job_id)["state"] == "succeeded"
    asset = stack.get(f"/v1/assets/{film.asset_id}")
    assert (asset["state"], asset["title"], asset["error"]) == ("succeeded", TITLE, None)
    assert [r["height"] for r in asset["renditions"]] == [720, 480, 360]
    assert abs(asset["duration_seconds"] - 55.1) < 0.1
    for rendition in asset["renditions"]:
        whole, part = stack.call("GET", rendition["url"]), ranged(stack, rendition["url"])
        assert (whole.status, whole.content_type, len(whole.body)) == (200, "video/mp4", rendition["size"])
        assert (part.status, part.content_type, part.body) == (206, "video/mp4", whole.body[:100])
        path = tmp_path / f"{rendition['name']}.mp4"
        path.write_bytes(whole.body)
        found = json.loads(clips.ffprobe(path, "-show_streams", "-show_format", "-of", "json"))
        video = next(s for s in found["streams"] if s["codec_type"] == "video")
        assert (video["codec_name"], video["width"], video["height"]) == ("h264", rendition["width"], rendition["height"])
        assert {s["codec_type"] for s in found["streams"]} == {"video", "audio"}
        assert clips.ffmpeg("-xerror", "-err_detect", "explode", "-i", str(path), "-f", "null", "-") == ""
    for url in (asset["poster_url"], asset["thumbnail_url"]):
        whole, part = stack.call("GET", url), ranged(stack, url)
        assert (whole.status, whole.content_type, whole.body[:3]) == (200, "image/jpeg", b"\xff\xd8\xff")
        assert (part.status, part.body) == (206, whole.body[:100])


def test_a_job_that_succeeded_leaves_nothing_of_its_own(stack: Up, film: Sent) -> None:
    assert stack.ended(film.job_id)["state"] == "succeeded"
    until(lambda: not stack.objects(f"jobs/{film.job_id}"), 30, lambda: str(stack.objects("jobs")))


# ── The wire of the old transcoder ─────────────────────────────────────────────────────────────────────────────────


def test_the_old_wire_calls_back_and_puts_the_outputs_beside_the_inputs(stack: Up) -> None:
    clip = clips.moving("640x360", "25", 2, codec=("-c:v", "mpeg4", "-q:v", "4"), suffix=".avi").read_bytes()
    inputs = {
        "media/private/foo.mov": clips.moving(seconds=2, suffix=".mov").read_bytes(),
        "media/private/foo.avi": clip,
        "media/private/Käse 電影.mp4": clips.moving(seconds=1).read_bytes(),
        "media/private/notes.mp4": b"no film, but words\n" * 50,
    }
    for key, data in inputs.items():
        path = stack.library / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with receiver() as hook:
        for key in (*inputs, "media/private/never-there.mov"):
            answer = stack.call("POST", "/videos", body={"inputObject": key, "webhook": hook.url})
            assert (answer.status, answer.content_type, answer.body) == (200, "application/json", b'{"status":"transcoding"}')
        came = [hook.next() for _ in range(len(inputs) + 1)]
        with pytest.raises(queue.Empty):  # nobody is told twice
            hook.next(1.0)
    assert [callback.genuine() for callback in came] == [True] * len(came)
    assert {callback.headers["content-type"] for callback in came} == {"application/json"}
    told = {callback.json()["inputObject"]: callback.json() for callback in came}
    for key in ("media/private/notes.mp4", "media/private/never-there.mov"):
        assert told[key] == {"status": "failure", "inputObject": key}
    outputs: set[str] = set()
    for key in ("media/private/foo.mov", "media/private/foo.avi", "media/private/Käse 電影.mp4"):
        assert sorted(told[key]) == ["inputObject", "outputObject", "status", "thumbnail"]
        made = told[key]["outputObject"], told[key]["thumbnail"]
        assert told[key]["status"] == "success"
        assert [str(Path(name).parent) for name in made] == ["media/private"] * 2
        assert [Path(name).suffix for name in made] == [".mp4", ".jpg"]
        outputs |= set(made)
        video = json.loads(clips.ffprobe(stack.library / made[0], "-show_streams", "-of", "json"))["streams"][0]
        assert (video["codec_name"], video["pix_fmt"]) == ("h264", "yuv420p")
        still = json.loads(clips.ffprobe(stack.library / made[1], "-show_streams", "-of", "json"))["streams"][0]
        assert (still["codec_name"], max(still["width"], still["height"])) == ("mjpeg", 320)
    assert len(outputs) == 6
    assert {key: (stack.library / key).read_bytes() for key in inputs} == inputs
    assert set(stack.objects("media/private")) == outputs | set(inputs)


def test_a_webhook_that_is_not_allowed_is_refused_at_once(stack: Up) -> None:
    for url in ("http://169.254.169.254/latest/meta-data", "https://elsewhere.example.org/callback"):
        answer = stack.call("POST", "/videos", body={"inputObject": "media/private/a.mov", "webhook": url})
        assert answer.status == 400
        assert urllib.parse.urlsplit(url).hostname in answer.json()["message"]


# ── Bad input ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _single_frame() -> Path:
    return clips.make("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-frames:v", "1", "-c:v", "libx264", "-pix_fmt", "yuv420p")


def _written(folder: Path, data: bytes) -> Path:
    path = folder / f"{uuid.uuid4()}.mp4"
    path.write_bytes(data)
    return path


REFUSED: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "text": (lambda folder: _written(folder, b"Dear all,\nthe film is on the other disk.\n" * 50), "not-a-video", "no video or audio"),
    "truncated": (lambda folder: _written(folder, clips.fetch("bigbuckbunny.mp4").read_bytes()[:600_000]), "truncated", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_used_fails_with_words_and_keeps_the_source(stack: Up, page: Page, case: str, tmp_path: Path) -> None:
    make, code, words = REFUSED[case]
    source = make(tmp_path)
    sent = upload(stack, source, name=f"{case}.mp4")
    job = stack.ended(sent.job_id)
    assert (job["state"], job["error"]["code"], job["attempt_count"]) == ("failed", code, 1)
    assert words in job["error"]["message"]
    assert job["error"]["message"]
    assert job["error"]["hint"]
    assert str(stack.data) not in json.dumps(job["error"])  # whoever uploads learns nothing of our folders
    asset = stack.get(f"/v1/assets/{sent.asset_id}")
    assert (asset["state"], asset["renditions"], asset["error"]) == ("failed", [], job["error"])
    [kept] = stack.objects(f"assets/{sent.asset_id}")
    assert (stack.library / kept).read_bytes() == source.read_bytes()
    page.goto(f"{stack.gateway}/watch/{sent.asset_id}")
    expect(page.locator("#message")).to_have_text(job["error"]["message"])
    expect(page.locator("#hint")).to_have_text(job["error"]["hint"])


def known(stack: Up, sent: Sent) -> Any:
    """An asset with what its film was found to be, which comes beside the word that the job has succeeded."""
    return until(lambda: (asset := stack.get(f"/v1/assets/{sent.asset_id}"))["has_audio"] is not None and asset, 30)


def streamed(stack: Up, asset_id: str) -> bool:
    """Whether the stream, which follows upon the film, is complete."""
    asset = stack.get(f"/v1/assets/{asset_id}")
    return asset["hls_url"] is not None and not asset["live"]


def test_a_single_frame_is_a_film_too(stack: Up) -> None:
    sent = upload(stack, _single_frame())
    assert stack.ended(sent.job_id)["state"] == "succeeded"
    asset = known(stack, sent)
    [rendition] = asset["renditions"]
    assert (rendition["width"], rendition["height"], asset["has_audio"]) == (320, 180, False)
    for url in (asset["poster_url"], asset["thumbnail_url"]):
        assert stack.call("GET", url).body.startswith(b"\xff\xd8\xff")
    until(lambda: not stack.objects(f"jobs/{sent.job_id}"), 30)


def test_sound_alone_is_taken_and_plays(stack: Up, page: Page) -> None:
    sound = clips.make("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=3", "-c:a", "aac")
    sent = upload(stack, sound, name="sound.mp4")
    assert stack.ended(sent.job_id)["state"] == "succeeded"
    asset = known(stack, sent)
    assert (asset["has_video"], asset["has_audio"], len(asset["renditions"])) == (False, True, 1)
    assert ranged(stack, asset["renditions"][0]["url"]).status == 206
    until(lambda: streamed(stack, sent.asset_id), 60)  # a page that is opened before that plays the file first
    page.goto(f"{stack.gateway}/watch/{sent.asset_id}")
    # The player may just be putting its own means in place of what the page came with, which ends the promise and nothing else.
    page.evaluate("document.querySelector('video').play().catch(() => {})")
    until(lambda: page.evaluate("document.querySelector('video').currentTime > 0.5"), 30)
    until(lambda: not stack.objects(f"jobs/{sent.job_id}"), 30)


def from_elsewhere(stack: Up, request: UploadReceived) -> str:
    """As another system asks: by Kafka. Answers the job's id."""
    event_id = str(uuid.uuid4())
    producer = EventProducer(Settings(bootstrap_servers=stack.bootstrap_servers))
    try:
        producer.send(record(request, request.key, source="elsewhere", event_id=event_id)).result(30)
    finally:
        producer.close()
    return envelope.derived_id("elsewhere", event_id)


def test_a_missing_object_is_named_and_the_service_goes_on(stack: Up) -> None:
    job = stack.ended(from_elsewhere(stack, UploadReceived(key="films/nowhere.mp4")))
    assert (job["state"], job["error"]["code"], job["attempt_count"]) == ("failed", "object-missing", 1)
    assert "films/nowhere.mp4" in job["error"]["message"]
    assert job["error"]["hint"]
    (stack.library / "films").mkdir(exist_ok=True)
    shutil.copy(clips.moving(seconds=1), stack.library / "films" / "here.mp4")
    job = stack.ended(from_elsewhere(stack, UploadReceived(key="films/here.mp4")))
    assert job["state"] == "succeeded"
    until(lambda: streamed(stack, job["subject"]), 60)


def test_an_unknown_bucket_fails_with_the_allow_list(stack: Up) -> None:
    job = stack.ended(from_elsewhere(stack, UploadReceived(key="films/a.mp4", bucket="of-others")))
    assert (job["state"], job["attempt_count"]) == ("failed", 1)
    assert "'of-others' is not on the allow-list; it has: library" in job["error"]["message"]
    assert job["error"]["code"]
    assert job["error"]["hint"]


# ── The end ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_deleting_removes_every_object_until_the_library_is_empty(stack: Up, page: Page, film: Sent) -> None:
    assert stack.ended(film.job_id)["state"] == "succeeded"
    assert len(stack.objects(f"assets/{film.asset_id}")) > 10
    page.goto(f"{stack.gateway}/watch/{film.asset_id}", wait_until="networkidle")  # what is deleted cannot be loaded, and says so
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#delete")
    page.wait_for_url(f"{stack.gateway}/")
    expect(page.locator(f'.card[data-asset="{film.asset_id}"]')).to_have_count(0)
    assert stack.call("GET", f"/v1/assets/{film.asset_id}").status == 404
    assert stack.objects(f"assets/{film.asset_id}") == []
    for asset in stack.get("/v1/assets")["assets"]:
        answer = stack.call("DELETE", f"/v1/assets/{asset['asset_id']}")
        assert answer.status == 200, (asset, answer)
    assert stack.get("/v1/assets")["assets"] == []
    page.goto(stack.gateway)
    expect(page.locator(".empty .big")).to_have_text("No films yet.")
    assert stack.objects("assets") == []
    # What others have put there is theirs, and none of our outputs is beside it any more.
    assert [key for key in stack.objects() if key.endswith((".mp4.jpg", ".mov.mp4", ".avi.mp4"))] == []


def test_sigterm_ends_everything_that_was_started(stack: Up) -> None:
    main = psutil.Process(stack.process.pid)
    started = [main, *main.children(recursive=True)]
    assert len(started) >= 6  # itself, the broker, the gateway, the coordinator, two workers
    ports = {c.laddr.port for p in started for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    wanted = {int(address.rpartition(":")[2]) for address in (stack.gateway, stack.bootstrap_servers)}
    assert wanted < ports
    began = time.monotonic()
    main.terminate()
    assert stack.process.wait(60) == 0, stack.errors.read_text()
    assert time.monotonic() - began < 30
    assert [p for p in started if alive(p)] == []
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"port {port} is still open"
    assert "Traceback" not in stack.errors.read_text()
    for log in (stack.data / "logs").glob("*.log"):
        assert "Traceback" not in log.read_text(), log


def test_the_demo_ends_when_its_film_is_playable_and_says_where_and_how_fast(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(REELWORKS), "demo", "--once", "--port", "0", "--data", str(tmp_path / "demo")],
        env=child_environment(Settings()), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.search(
        r"watched (?P<first>[\d.]+) s after .* all there after (?P<all>[\d.]+) s\.\n.*(?P<page>http://127\.0\.0\.1:\d+/watch/\S+)",
        done.stdout,
    )
    assert said is not None, done.stdout
    assert 0 < float(said["first"]) < float(said["all"])
    asset_id = said["page"].rpartition("/")[2]
    assert (tmp_path / "demo" / "library" / "assets" / asset_id / "thumbnail.jpg").is_file()
