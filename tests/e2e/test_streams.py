"""Streams over Kafka, as people and other systems ask for them: the growing one, `reelworks stream`, a topic."""

from __future__ import annotations

import json
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from schemas import envelope
from schemas.events import StreamRequested
from services.runtime.kafka.producer import EventProducer, record
from services.runtime.settings import Settings, child_environment
from tests import clips, hls, sync
from tests.servers.up import REELWORKS, Up, until, up

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("streams")) as made:
        yield made


def put(stack: Up, key: str, film: Path) -> str:
    """An object that another program left in the bucket."""
    path = stack.library / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(film.read_bytes())
    return f"s3://library/{key}"


def stream(stack: Up, *arguments: str) -> tuple[int, dict[str, Any]]:
    """`reelworks stream … --wait --json`: the exit code, and the job at its end."""
    done = subprocess.run(
        [str(REELWORKS), "stream", *arguments, "--wait", "--json", "--gateway", stack.gateway],
        env=child_environment(Settings()), capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    said, decoder = done.stdout.strip(), json.JSONDecoder()
    assert said, done.stderr
    _, end = decoder.raw_decode(said)  # what was accepted
    job: dict[str, Any] = json.loads(said[end:])
    return done.returncode, job


def playlist(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def pictures(url: str) -> int:
    """Straight off its address, as a player without cookies has it."""
    wanted = ("-count_packets", "-select_streams", "v:0", "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0")
    return int(clips.ffprobe(url, *wanted).split()[0])


def whole(stack: Up, asset_id: str) -> dict[str, Any]:
    """The asset, when its stream is."""

    def look() -> dict[str, Any] | None:
        answer = stack.call("GET", f"/v1/assets/{asset_id}")
        return answer.json() if answer.status == 200 and answer.json()["hls_url"] and not answer.json()["live"] else None

    return until(look, 60, lambda: str(stack.call("GET", f"/v1/assets/{asset_id}").body))


def test_an_upload_can_be_watched_before_it_is_encoded_and_its_playlists_only_grow(stack: Up) -> None:
    # Long enough that its first segments are there a good while before its last ones.
    film = clips.make("-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30:duration=40", "-c:v", "mpeg4", "-q:v", "4", suffix=".mp4")
    with film.open("rb") as body:
        request = urllib.request.Request(
            f"{stack.gateway}/v1/uploads/film.mp4", body, {"Content-Length": str(film.stat().st_size)}, method="PUT"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            sent = json.load(answer)
    asset_path = f"/v1/assets/{sent['asset_id']}"
    live = until(lambda: stack.get(asset_path)["hls_url"], 60)
    assert stack.get(asset_path)["live"]
    assert stack.get(f"/v1/jobs/{sent['job_id']}")["state"] in ("running", "finishing")
    master = playlist(live)
    variant = next(line for line in master.splitlines() if line.startswith("video-720/"))
    seen = [playlist(urljoin(live, variant))]
    while not seen[-1].rstrip().endswith("#EXT-X-ENDLIST"):
        until(lambda: playlist(urljoin(live, variant)) != seen[-1], 60)
        seen.append(playlist(urljoin(live, variant)))
        assert seen[-1].count("#EXTINF") >= seen[-2].count("#EXTINF")
    assert len(seen) > 2
    assert "EVENT" in seen[0]
    asset = whole(stack, sent["asset_id"])
    assert asset["hls_url"].partition("?")[0] == live.partition("?")[0]  # players need not be told another address
    assert (asset["state"], asset["duration_seconds"]) == ("succeeded", 40.0)
    made = hls.check_folder(stack.library / "assets" / sent["asset_id"] / asset["hls_url"].split("/")[-2] / "master.m3u8")
    assert len(made) == 6  # a playlist and one of key frames for each of three heights


def test_what_can_be_taken_as_it_is_is_ready_at_once_and_in_the_library(stack: Up) -> None:
    code, job = stream(stack, put(stack, "films/beeps.mp4", sync.clip(20)))
    assert (code, job["state"], job["kind"]) == (0, "succeeded", "stream")
    asset = whole(stack, job["subject"])
    assert (asset["title"], asset["state"], asset["duration_seconds"], asset["renditions"]) == ("beeps", "succeeded", 20.0, [])
    for url in (asset["poster_url"], asset["thumbnail_url"]):
        assert stack.call("GET", url).body.startswith(b"\xff\xd8\xff")
    assert "storyboard.jpg" in playlist(asset["storyboard_url"])
    assert stack.get("/v1/assets")["assets"][0]["asset_id"] == job["subject"]
    assert pictures(asset["hls_url"]) == 500


def test_what_needs_the_transcoder_gets_it_and_the_flat_folder_plays(stack: Up) -> None:
    film = clips.moving("320x240", "25", 9, codec=("-c:v", "mpeg4", "-q:v", "4"), suffix=".avi")
    code, job = stream(stack, put(stack, "films/old.avi", film), "--flat", "Old films/Summer 1999.hls/")
    assert (code, job["state"], job["error"]) == (0, "succeeded", None)
    first = [j for j in stack.get("/v1/jobs?limit=200")["jobs"] if j["kind"] == "transcode" and j["title"] == "old.avi"]
    assert [j["state"] for j in first] == ["succeeded"]
    folder = stack.library / "Old films" / "Summer 1999.hls"
    assert clips.ffmpeg("-xerror", "-err_detect", "explode", "-i", str(folder / "output.m3u8"), "-f", "null", "-") == ""
    listed = [line for line in (folder / "output.m3u8").read_text().splitlines() if not line.startswith("#")]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*listed, "output.m3u8"])


def test_another_system_asks_by_kafka_and_reads_why_it_failed(stack: Up) -> None:
    event_id = str(uuid.uuid4())
    text = stack.library / "films" / "letter.mkv"
    text.parent.mkdir(exist_ok=True)
    text.write_bytes(b"Dear all,\nthe film is on the other disk.\n" * 50)
    producer = EventProducer(Settings(bootstrap_servers=stack.bootstrap_servers))
    try:
        producer.send(record(StreamRequested(key="films/letter.mkv"), "any", source="elsewhere", event_id=event_id)).result(30)
    finally:
        producer.close()
    job = stack.ended(envelope.derived_id("elsewhere", event_id))
    assert (job["kind"], job["state"], job["error"]["code"]) == ("stream", "failed", "not-a-video")
    assert job["error"]["message"]


def test_an_encrypted_film_is_encrypted_and_plays_with_its_token_only(stack: Up) -> None:
    code, job = stream(stack, put(stack, "films/secret.mp4", sync.clip(20)), "--encrypt")
    assert (code, job["state"]) == (0, "succeeded")
    asset = whole(stack, job["subject"])
    path, _, token = asset["hls_url"].partition("?")
    folder = path.rpartition("/")[0]
    assert stack.call("GET", f"{folder}/aes.key").status == 401
    key = stack.call("GET", f"{folder}/aes.key?{token}")
    assert (key.status, len(key.body)) == (200, 16)
    segment = stack.call("GET", f"{folder}/video-180/00000.m4s?{token}").body
    assert b"moof" not in segment[:64]
    assert pictures(asset["hls_url"]) == 500
