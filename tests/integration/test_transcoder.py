"""Real films through the transcoder, without Kafka: what comes out is decoded strictly and compared with what went in."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from array import array
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from schemas.events import Output, Recipe, SegmentsReady, UploadReceived, Watermark
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Cancelled, Permanent, TaskError, Transient, classify
from services.runtime.media import cmaf, encode, presentation
from services.runtime.media.encryption import SegmentKey
from services.runtime.settings import Settings
from services.runtime.storage.base import StorageError
from services.runtime.testing import Done, JobEnvironment
from services.transcoder.handler import handler
from tests import clips
from tests.servers.faulty import UNAVAILABLE, Fault, faulty
from tests.servers.s3 import S3Server


@pytest.fixture
async def environment(tmp_path: Path) -> AsyncIterator[JobEnvironment]:
    async with JobEnvironment(handler(), tmp_path) as made:
        yield made


async def transcode(environment: JobEnvironment, clip: Path, *, key: str = "", **recipe: Any) -> Done:
    key = key or f"in/{clip.name}"
    await environment.put(key, clip)
    return await environment.run(UploadReceived(key=key, recipe=Recipe(**recipe)))


async def failure(environment: JobEnvironment, data: bytes | Path, name: str = "film.mp4") -> Permanent:
    """The failure of a bad input; nothing that readers look at may be there."""
    await environment.put(f"in/{name}", data)
    with pytest.raises(Permanent) as failed:
        await environment.run(UploadReceived(key=f"in/{name}", filename=name))
    visible = [k for k in await environment.keys() if not k.endswith((".m4s", "init.mp4"))]
    assert visible == [f"in/{name}"]
    assert not await environment.keys("jobs/")
    return failed.value


def path_of(environment: JobEnvironment, output: Output) -> Path:
    return environment.folder / output.bucket / output.key


def decode_strictly(path: Path) -> None:
    """Raises when a single packet is not as it should be."""
    assert clips.ffmpeg("-xerror", "-err_detect", "explode", "-i", str(path), "-f", "null", "-") == ""


def streams(path: Path) -> dict[str, dict[str, Any]]:
    """ffprobe's view by kind of stream; video frames counted by decoding."""
    report = json.loads(clips.ffprobe(path, "-show_streams", "-count_frames", "-of", "json"))
    return {s["codec_type"]: s for s in report["streams"]}


def check_rendition(environment: JobEnvironment, output: Output, *, frames: int, seconds: float) -> dict[str, dict[str, Any]]:
    """The laws of an MP4 that is handed out."""
    path = path_of(environment, output)
    decode_strictly(path)
    found = streams(path)
    video = found["video"]
    assert (video["width"], video["height"]) == (output.width, output.height)
    assert int(video["nb_read_frames"]) == frames
    frame = seconds / frames
    assert abs(float(video["duration"]) - seconds) <= frame
    assert abs(float(video["start_time"])) < 1e-6
    if "audio" in found:
        assert abs(float(found["audio"]["start_time"]) - float(video["start_time"])) < frame
    assert video.get("sample_aspect_ratio", "1:1") == "1:1"
    assert video["pix_fmt"] == "yuv420p"
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")
    whole = max(float(stream["duration"]) for stream in found.values())
    assert abs(output.bit_rate - path.stat().st_size * 8 / whole) < 0.01 * output.bit_rate
    return found


def joined(environment: JobEnvironment, init: Output) -> bytes:
    """Init segment and all segments of a rendition, as a player loads them."""
    first = path_of(environment, init)
    return first.read_bytes() + b"".join(p.read_bytes() for p in sorted(first.parent.glob("*.m4s")))


async def manifest(environment: JobEnvironment, done: Done) -> presentation.Presentation:
    folder = presentation.folder_of(done.job.subject, done.data["recipe"])
    return presentation.decode(await environment.storage.bucket().read(f"{folder}/{presentation.MANIFEST}"))


def two_languages(*pictures: str, seconds: float = 6, suffix: str = ".mp4") -> Path:
    """A low tone in English, a high one in German, which is the default."""
    tones = [("-f", "lavfi", "-i", f"sine=frequency={hertz}:sample_rate=44100:duration={seconds}") for hertz in (440, 1760)]
    named = ("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu", "-metadata:s:a:1", "title=Fassung des Regisseurs")
    first = 1 if pictures else 0
    return clips.make(
        *pictures, *tones[0], *tones[1], *(("-map", "0") if pictures else ()), "-map", str(first), "-map", str(first + 1),
        *named, "-disposition:a:0", "0", "-disposition:a:1", "default", "-ac", "1",
        "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", suffix=suffix,
    )  # fmt: skip


MOVING = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=6")


def pitch(path: Path) -> float:
    """Hertz of a file's tone: half of how often it crosses zero."""
    raw = path.with_suffix(".raw")
    clips.ffmpeg("-i", str(path), "-map", "a", "-ac", "1", "-ar", "48000", "-f", "s16le", str(raw))
    samples = array("h", raw.read_bytes())[48_000:96_000]
    return sum((a < 0) != (b < 0) for a, b in pairwise(samples)) / 2


def times(path: Path, stream: str) -> list[int]:
    """Presentation times in the order of presentation."""
    return sorted(int(t) for t in clips.ffprobe(path, "-select_streams", stream, "-show_entries", "packet=pts", "-of", "csv=p=0").split())


async def test_a_film_becomes_a_ladder_a_poster_and_a_thumbnail(environment: JobEnvironment) -> None:
    done = await transcode(environment, clips.moving("640x360", "25", 9.6), heights=(360, 180))
    assert [(o.role, o.name, o.width, o.height) for o in done.outputs] == [
        ("rendition", "360p", 640, 360), ("rendition", "180p", 320, 180), ("poster", "", 640, 360), ("thumbnail", "", 320, 180),
        ("init", "video-360", 640, 360), ("init", "video-180", 320, 180), ("init", "audio-und", 0, 0),
    ]  # fmt: skip
    for name in ("360p", "180p"):
        found = check_rendition(environment, done.output("rendition", name), frames=240, seconds=9.6)
        assert found["audio"]["codec_name"] == "aac"
        assert re.fullmatch(r"avc1\.64[0-9a-f]{4},mp4a\.40\.2", done.output("rendition", name).codecs)
    assert done.data == {
        "asset_id": done.job.subject, "bucket": "bucket", "key": done.job.request["key"], "title": done.job.request["key"][3:],
        "duration_seconds": 9.6, "width": 640, "height": 360, "frame_rate": 25.0, "frames": 240, "has_audio": True, "has_video": True,
        "recipe": done.data["recipe"],
    }  # fmt: skip
    folder = f"assets/{done.job.subject}/"
    assert await environment.keys(folder) == sorted(
        [
            *(f"{folder}{done.data['recipe']}/{name}" for name in ("180.mp4", "360.mp4", "manifest.json")),
            *(f"{folder}{done.data['recipe']}/{r}/{n:05d}.m4s" for r in ("audio-und", "video-180", "video-360") for n in range(3)),
            *(f"{folder}{done.data['recipe']}/{r}/init.mp4" for r in ("audio-und", "video-180", "video-360")),
            f"{folder}poster.jpg",
            f"{folder}thumbnail.jpg",
        ]
    )
    assert not await environment.keys("jobs/")


async def test_the_source_is_not_touched(environment: JobEnvironment) -> None:
    clip = clips.moving()
    await environment.put("in/a.mp4", clip)
    before = await environment.storage.bucket().head("in/a.mp4")
    await environment.run(UploadReceived(key="in/a.mp4"))
    assert await environment.storage.bucket().head("in/a.mp4") == before
    assert await environment.storage.bucket().read("in/a.mp4") == clip.read_bytes()


async def test_chunks_join_without_a_seam(environment: JobEnvironment) -> None:
    """Two pictures a second: many chunks, and little to encode."""
    clip = clips.moving("320x180", "2", 130, sound=False)
    done = await transcode(environment, clip)
    assert [len(s.tasks) for s in done.plan.stages] == [4, 2]
    check_rendition(environment, done.output("rendition"), frames=260, seconds=130)
    path = environment.folder / "joined.mp4"
    path.write_bytes(joined(environment, done.output("init")))
    decode_strictly(path)
    shown = times(path, "v:0")
    assert {b - a for a, b in pairwise(shown)} == {10_000}
    assert len(shown) == 260
    # What is shown is the same frame of the source all along, across the chunks' borders too.
    quality = clips.ffmpeg(
        "-v", "info", "-i", str(path_of(environment, done.output("rendition"))), "-i", str(clip),
        "-lavfi", "[0:v]setpts=N,settb=1[a];[1:v]setpts=N,settb=1[b];[a][b]psnr=stats_file=-", "-f", "null", "-",
    )  # fmt: skip
    lowest = re.search(r"min:([\d.]+)", quality)
    assert lowest is not None
    assert float(lowest[1]) > 25


async def test_segments_are_announced_as_they_come_and_cover_the_film_once(environment: JobEnvironment) -> None:
    done = await transcode(environment, clips.moving("320x180", "10", 50))
    ready = [e for _, e in done.events if isinstance(e, SegmentsReady)]
    assert {key for key, _ in done.events} == {done.job.subject}
    assert {e.renditions for e in ready} == {("video-180", "audio-und")}
    for rendition in ("video-180", "audio-und"):
        of = [e for e in ready if e.rendition == rendition]
        numbers = [s.number for e in of for s in e.segments]
        assert numbers == list(range(13))
        assert abs(sum(s.duration_seconds for e in of for s in e.segments) - 50) < 0.1
        for event in of:
            for segment in event.segments:
                assert (await environment.storage.bucket(event.bucket).head(segment.key)).size == segment.size
    assert {e.total for e in ready if e.rendition == "video-180"} == {13}
    assert {e.frame_rate for e in ready if e.rendition == "video-180"} == {10.0}


async def test_every_rendition_decodes_from_its_segments_alone(environment: JobEnvironment) -> None:
    done = await transcode(environment, clips.moving("640x360", "30000/1001", 6), heights=(360, 240))
    for output in (o for o in done.outputs if o.role == "init"):
        path = environment.folder / f"{output.name}.mp4"
        path.write_bytes(joined(environment, output))
        decode_strictly(path)
    # Keyframes of all rungs lie at the same places, so players can switch between them.
    starts = [
        [cmaf.decode_time(p.read_bytes()) for p in sorted(path_of(environment, o).parent.glob("*.m4s"))]
        for o in done.outputs
        if o.role == "init" and o.name.startswith("video")
    ]
    assert starts[0] == starts[1] == [0, 120 * 1001]


async def test_a_second_attempt_writes_the_same_bytes(environment: JobEnvironment) -> None:
    done = await transcode(environment, clips.moving("320x180", "25", 6))
    store = environment.storage.bucket()
    keys = [k for k in await environment.keys("assets/") if k.endswith((".m4s", "init.mp4", ".jpg"))]
    before = {k: await store.read(k) for k in keys}
    again = await environment.run(UploadReceived(key=done.job.request["key"]))
    assert {k: await store.read(k) for k in keys} == before
    assert [o.key for o in again.outputs] == [o.key for o in done.outputs]


async def test_tasks_may_run_side_by_side(tmp_path: Path) -> None:
    async with JobEnvironment(handler(), tmp_path, slots=3) as environment:
        done = await transcode(environment, clips.moving("320x180", "5", 70))
        check_rendition(environment, done.output("rendition"), frames=350, seconds=70)


# ── What is left for playlists ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_manifest_names_every_segment_as_it_is_stored(environment: JobEnvironment) -> None:
    done = await transcode(environment, clips.moving("320x180", "5", 70), heights=(180, 90))
    assert len(done.plan.stages[0].tasks) == 3
    made = await manifest(environment, done)
    assert (made.asset_id, made.recipe, made.encryption) == (done.job.subject, done.data["recipe"], None)
    assert [(r.name, r.kind, r.width, r.height, r.default, r.channels) for r in made.renditions] == [
        ("video-180", "video", 320, 180, False, 0), ("video-90", "video", 160, 90, False, 0), ("audio-und", "audio", 0, 0, True, 2),
    ]  # fmt: skip
    assert [o.codecs for o in done.outputs if o.role == "init"] == [r.codecs for r in made.renditions]
    assert {r.frame_rate for r in made.videos} == {5.0}
    assert [r.ceiling for r in made.renditions] == [*(r["max_rate"] for r in done.plan.data["rungs"]), encode.AUDIO_BITS]
    store = environment.storage.bucket()
    for rendition in made.renditions:
        init = cmaf.read_init(await store.read(presentation.init_key(made.folder, rendition.name)))
        assert (init.timescale, init.codecs) == (rendition.timescale, rendition.codecs)
        stored = [i async for i in store.list(f"{made.folder}/{rendition.name}/") if i.key.endswith(".m4s")]
        assert [(i.key, i.size) for i in stored] == [
            (presentation.segment_key(made.folder, rendition.name, n), s.size) for n, s in enumerate(rendition.segments)
        ]
        expected = 0
        for item, entry in zip(stored, rendition.segments, strict=True):
            body = await store.read(item.key)
            assert (cmaf.decode_time(body), cmaf.read_samples(body).duration) == (expected, entry.ticks)
            expected += entry.ticks
        assert abs(rendition.seconds - 70) < 0.1
        assert bool(rendition.segments[0].intra) == (rendition.kind == "video")


async def test_the_first_picture_of_a_segment_ends_where_the_manifest_says(environment: JobEnvironment) -> None:
    made = await manifest(environment, await transcode(environment, clips.moving("320x180", "25", 9)))
    (video,) = made.videos
    assert len(video.segments) == 3
    folder = environment.folder / "bucket" / made.folder / video.name
    for number, entry in enumerate(video.segments):
        path = environment.folder / f"{number}.mp4"
        segment = (folder / presentation.segment_name(number)).read_bytes()
        for length, whole in ((entry.intra, True), (entry.intra - 1, False)):
            path.write_bytes((folder / "init.mp4").read_bytes() + segment[:length])
            # Behind the first picture the file is cut off, which a reader notices when it asks for the next.
            packets = clips.ffprobe(path, "-show_entries", "packet=size,flags", "-of", "csv=p=0").split()
            pictures = [p for p in packets if p.split(",")[1].startswith("K") and "C" not in p.split(",")[1]]
            assert bool(pictures) == whole, packets


async def test_a_very_short_film_without_sound_is_one_segment(environment: JobEnvironment) -> None:
    made = await manifest(environment, await transcode(environment, clips.moving("320x180", "30000/1001", 1.2, sound=False)))
    (video,) = made.renditions
    assert (video.name, video.frame_rate, len(video.segments)) == ("video-180", 30000 / 1001, 1)
    assert abs(made.seconds - 1.2) < 1001 / 30000


async def test_the_manifest_is_the_same_after_a_second_attempt(environment: JobEnvironment) -> None:
    done = await transcode(environment, clips.moving("320x180", "25", 2))
    first = await manifest(environment, done)
    assert await manifest(environment, await environment.run(UploadReceived(key=done.job.request["key"]))) == first


# ── Several sound tracks ───────────────────────────────────────────────────────────────────────────────────────────


async def test_each_sound_track_is_a_rendition_and_the_mp4_holds_the_default_one(environment: JobEnvironment) -> None:
    done = await transcode(environment, two_languages(*MOVING))
    assert [t["do"] for t in done.plan.stages[0].tasks] == ["encode-audio", "encode-audio", "encode-video"]
    assert [o.name for o in done.outputs if o.role == "init"] == ["video-180", "audio-eng", "audio-deu"]
    english, german = (await manifest(environment, done)).audios
    assert (english.language, english.label, english.default, english.channels) == ("eng", "", False, 2)
    assert (german.language, german.label, german.default, german.channels) == ("deu", "Fassung des Regisseurs", True, 2)
    for name, hertz in (("audio-eng", 440), ("audio-deu", 1760)):
        path = environment.folder / f"{name}.mp4"
        path.write_bytes(joined(environment, done.output("init", name)))
        decode_strictly(path)
        assert abs(pitch(path) - hertz) < 5
    found = check_rendition(environment, done.output("rendition"), frames=150, seconds=6)
    assert len(found) == 2
    assert abs(pitch(path_of(environment, done.output("rendition"))) - 1760) < 5


async def test_sound_is_announced_with_its_language(environment: JobEnvironment) -> None:
    done = await transcode(environment, two_languages(*MOVING))
    ready = {e.rendition: e for _, e in done.events if isinstance(e, SegmentsReady)}
    assert {e.renditions for e in ready.values()} == {("video-180", "audio-eng", "audio-deu")}
    assert [(e.language, e.label, e.default, e.channels, e.ceiling) for e in (ready["audio-eng"], ready["audio-deu"])] == [
        ("eng", "", False, 2, encode.AUDIO_BITS), ("deu", "Fassung des Regisseurs", True, 2, encode.AUDIO_BITS),
    ]  # fmt: skip
    assert (ready["video-180"].ceiling, ready["video-180"].iv) == (done.plan.data["rungs"][0]["max_rate"], "")


async def test_sound_alone_may_have_two_languages(environment: JobEnvironment) -> None:
    done = await transcode(environment, two_languages(suffix=".mka"))
    assert [(o.role, o.name) for o in done.outputs] == [("rendition", "audio"), ("init", "audio-eng"), ("init", "audio-deu")]
    assert [round(a.seconds, 1) for a in (await manifest(environment, done)).audios] == [6.0, 6.0]
    assert abs(pitch(path_of(environment, done.output("rendition"))) - 1760) < 5


async def test_beside_the_input_the_default_track_alone_is_encoded(environment: JobEnvironment) -> None:
    done = await transcode(environment, two_languages(*MOVING), layout="beside", heights=(90,))
    assert [t["do"] for t in done.plan.stages[0].tasks] == ["encode-audio", "encode-video"]
    assert abs(pitch(path_of(environment, done.output("rendition"))) - 1760) < 5


@pytest.mark.parametrize("default", [0, 1], ids=["of the default track", "of another track"])
async def test_a_track_without_sound_is_left_out(environment: JobEnvironment, default: int) -> None:
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:duration=6")
    clip = clips.make(
        *MOVING, *tone, *tone, "-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p",
        "-c:a", "pcm_s16le", "-bsf:a:0", "noise=drop=1", "-metadata:s:a:0", "language=fra", "-metadata:s:a:1", "language=ita",
        *(w for n in (0, 1) for w in (f"-disposition:a:{n}", "default" if n == default else "0")), suffix=".mov",
    )  # fmt: skip
    done = await transcode(environment, clip)
    assert [o.name for o in done.outputs if o.role == "init"] == ["video-180", "audio-ita"]
    assert abs(pitch(path_of(environment, done.output("rendition"))) - 440) < 5


async def test_a_further_track_that_cannot_be_decoded_does_not_lose_the_film(environment: JobEnvironment) -> None:
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:duration=6")
    clip = clips.make(
        *MOVING, *tone, *tone, "-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p",
        "-c:a:0", "aac", "-c:a:1", "flac", "-bsf:a:1", "noise=amount=1", suffix=".mkv",
    )  # fmt: skip
    done = await transcode(environment, clip)
    assert [o.name for o in done.outputs if o.role == "init"] == ["video-180", "audio-und"]


# ── Encryption ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_segments_are_encrypted_and_the_mp4_is_not(environment: JobEnvironment, capfd: pytest.CaptureFixture[str]) -> None:
    clear = await transcode(environment, clips.moving("320x180", "25", 6))
    done = await transcode(environment, clips.moving("320x180", "25", 6), encryption="aes-128")
    made = await manifest(environment, done)
    assert made.encryption is not None
    assert done.data["recipe"] != clear.data["recipe"]
    store = environment.storage.bucket()
    secret = SegmentKey(key=await store.read(f"{made.folder}/{presentation.KEY}"), iv=bytes.fromhex(made.encryption.iv))
    plain = await manifest(environment, clear)
    for rendition, same in zip(made.renditions, plain.renditions, strict=True):
        assert await store.read(presentation.init_key(made.folder, rendition.name)) == await store.read(
            presentation.init_key(plain.folder, same.name)
        )
        for number, entry in enumerate(rendition.segments):
            body = await store.read(presentation.segment_key(made.folder, rendition.name, number))
            assert (len(body), entry.intra) == (entry.size, 0)
            assert secret.decrypt(body) == await store.read(presentation.segment_key(plain.folder, same.name, number))
    assert {e.iv for _, e in done.events if isinstance(e, SegmentsReady)} == {made.encryption.iv}
    check_rendition(environment, done.output("rendition"), frames=150, seconds=6)
    # In the plan, where tasks find it, and beside the segments; nowhere else.
    said = "".join(capfd.readouterr()) + repr(done.outputs) + repr(done.data) + repr(done.events) + repr(done.results)
    assert not any(form in said for form in (secret.key.hex(), base64.b64encode(secret.key).decode(), repr(secret.key)))


async def test_the_key_is_there_before_the_first_segment_is_announced(tmp_path: Path) -> None:
    keys: list[list[Path]] = []

    def note(key: str, event: msgspec.Struct, ctx: TaskContext) -> None:
        keys.append(list(tmp_path.glob("bucket/assets/*/*/aes.key")))

    async with JobEnvironment(handler(), tmp_path, on_event=note) as environment:
        await transcode(environment, clips.moving(seconds=1), encryption="aes-128")
    assert [len(found) for found in keys] == [1, 1]


async def test_an_encrypted_film_plays_with_its_key(environment: JobEnvironment) -> None:
    """Read by ffmpeg's own HLS reader, by a playlist written here."""
    done = await transcode(environment, clips.moving("320x180", "25", 6), encryption="aes-128")
    made = await manifest(environment, done)
    assert made.encryption is not None
    (video,) = made.videos
    folder = environment.folder / "bucket" / made.folder / video.name
    entries = "".join(f"#EXTINF:{s},\n{presentation.segment_name(n)}\n" for n, s in enumerate(video.durations()))
    (folder / "test.m3u8").write_text(
        '#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI="init.mp4"\n'
        f'#EXT-X-KEY:METHOD=AES-128,URI="../aes.key",IV=0x{made.encryption.iv}\n{entries}#EXT-X-ENDLIST\n'
    )
    read = ("-allowed_extensions", "ALL", "-extension_picky", "0", "-protocol_whitelist", "file,crypto")
    hashed = environment.folder / "frames"
    clips.ffmpeg(*read, "-i", str(folder / "test.m3u8"), "-f", "framemd5", str(hashed))
    frames = [line for line in hashed.read_text().splitlines() if not line.startswith("#")]
    assert len(frames) == 150


async def test_each_job_has_another_key(environment: JobEnvironment) -> None:
    clip = clips.moving(seconds=1)
    await environment.put("in/a.mp4", clip)
    request = UploadReceived(key="in/a.mp4", asset_id="a", recipe=Recipe(encryption="aes-128"))
    first, second = [await environment.run(request, job_id=job) for job in ("one", "two")]
    assert first.data["recipe"] != second.data["recipe"]
    keys = [await environment.storage.bucket().read(f"assets/a/{d.data['recipe']}/aes.key") for d in (first, second)]
    assert [len(k) for k in keys] == [16, 16]
    assert keys[0] != keys[1]


async def test_encryption_beside_the_input_is_refused(environment: JobEnvironment) -> None:
    with pytest.raises(Permanent, match="with the layout 'beside' there are none to play") as failed:
        await transcode(environment, clips.moving(seconds=1), layout="beside", encryption="aes-128")
    assert (failed.value.code, failed.value.hint) == ("encryption", "Leave out one of the two: 'encryption', or 'layout'.")
    assert await environment.keys() == [f"in/{clips.moving(seconds=1).name}"]


# ── Sources of all kinds ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "frames", "seconds", "size", "audio"),
    [
        ("quicktime.mp4", 149, 4.967, (190, 240), True),
        ("sample.mp4", 23, 0.959, (320, 180), True),
        ("bigbuckbunny.mp4", 132, 5.28, (320, 180), True),
        ("carphone_distorted.mp4", 120, 4.004, (192, 144), False),
        ("flashmob.mkv", 446, 17.84, (240, 180), True),
        ("10min.mkv", 600, 600.0, (240, 180), False),
        ("demo.gif", 120, 5.0, (176, 144), False),
        ("demo.webm", 1441, 60.042, (176, 144), True),
        ("demo.mpg", 1441, 60.042, (176, 144), True),
    ],
    ids=[
        "portrait with audio first",
        "sound before the picture",
        "5.1",
        "non-square pixels",
        "attached picture",
        "1 fps, long",
        "gif",
        "vp9",
        "mpeg",
    ],
)
async def test_real_files(environment: JobEnvironment, name: str, frames: int, seconds: float, size: tuple[int, int], audio: bool) -> None:
    done = await transcode(environment, clips.fetch(name), heights=(190 if name == "quicktime.mp4" else 180,))
    output = done.output("rendition")
    assert (output.width, output.height) == size
    found = check_rendition(environment, output, frames=frames, seconds=seconds)
    assert ("audio" in found, done.data["has_audio"]) == (audio, audio)
    if audio:
        assert found["audio"]["channels"] == 2


async def test_the_sample_of_the_demo(environment: JobEnvironment) -> None:
    done = await transcode(environment, clips.fetch("trailer_bbb.mp4"), heights=(240,))
    check_rendition(environment, done.output("rendition"), frames=1323, seconds=55.125)
    assert len(await environment.keys(f"assets/{done.job.subject}/{done.data['recipe']}/video-240/")) == 15


async def test_a_turned_picture_is_upright_and_marked_so_nowhere(environment: JobEnvironment) -> None:
    flat = clips.moving("320x180", "25", 1)
    turned = clips.make("-display_rotation", "90", "-i", str(flat), "-c", "copy")
    done = await transcode(environment, turned)
    output = done.output("rendition")
    assert (output.name, output.width, output.height) == ("180p", 180, 320)
    found = check_rendition(environment, output, frames=25, seconds=1)
    assert "side_data_list" not in found["video"]


async def test_odd_sizes_become_even(environment: JobEnvironment) -> None:
    clip = clips.moving("321x181", "25", 1, codec=("-c:v", "ffv1", "-pix_fmt", "yuv444p"), suffix=".mkv")
    done = await transcode(environment, clip)
    check_rendition(environment, done.output("rendition"), frames=25, seconds=1)
    assert (done.output("rendition").width, done.output("rendition").height) == (320, 180)


async def test_ten_pictures_a_second_stay_ten(environment: JobEnvironment) -> None:
    done = await transcode(environment, clips.moving("320x180", "10", 3))
    assert check_rendition(environment, done.output("rendition"), frames=30, seconds=3)["video"]["avg_frame_rate"] == "10/1"


async def test_a_varying_frame_rate_becomes_constant_and_keeps_its_time(environment: JobEnvironment) -> None:
    # 4 s at 30 fps, then one picture for 40 s, then 6 s more: a recorded screen. Chunks begin within the still part.
    clip = clips.make(
        "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=50", "-vf", "select='lt(t,4)+gte(t,44)'", "-fps_mode", "vfr",
        "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", suffix=".mkv",
    )  # fmt: skip
    done = await transcode(environment, clip)
    output = done.output("rendition")
    rate = done.data["frame_rate"]
    check_rendition(environment, output, frames=done.data["frames"], seconds=done.data["duration_seconds"])
    assert abs(done.data["duration_seconds"] - 50) < 0.1
    assert rate == 30.0
    # The picture at 47 s is the source's at 47 s, and at 30 s still the last one before the gap.
    for at, same in ((47.0, 47.0), (33.0, 3.96)):
        frames = [
            clips.ffmpeg("-v", "info", "-ss", str(at), "-i", str(path_of(environment, output)), "-ss", str(same), "-i", str(clip),
                         "-lavfi", "[0:v]trim=end_frame=1,setpts=0[a];[1:v]trim=end_frame=1,setpts=0[b];[a][b]psnr", "-f", "null", "-")
        ]  # fmt: skip
        found = re.search(r"average:([\d.]+|inf)", frames[0])
        assert found is not None
        assert float(found[1]) > 28, at


async def test_hdr_is_tone_mapped(environment: JobEnvironment) -> None:
    clip = clips.make(
        "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=1",
        "-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le",
        "-x265-params", "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc",
        "-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc", "-tag:v", "hvc1",
    )  # fmt: skip
    done = await transcode(environment, clip)
    video = check_rendition(environment, done.output("rendition"), frames=25, seconds=1)["video"]
    assert (video.get("color_transfer"), video.get("color_primaries"), video.get("color_space")) == ("bt709", "bt709", "bt709")


async def test_interlaced_pictures_keep_their_rate(environment: JobEnvironment) -> None:
    clip = clips.make(
        "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=50:duration=2", "-vf", "tinterlace=interleave_top,fieldorder=tff",
        "-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-q:v", "3", suffix=".mpg",
    )  # fmt: skip
    done = await transcode(environment, clip)
    assert done.data["frame_rate"] == 25.0
    check_rendition(environment, done.output("rendition"), frames=done.data["frames"], seconds=done.data["duration_seconds"])


async def test_one_single_frame_is_a_film(environment: JobEnvironment) -> None:
    clip = clips.make("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-frames:v", "1", "-c:v", "libx264", "-pix_fmt", "yuv420p")
    done = await transcode(environment, clip)
    check_rendition(environment, done.output("rendition"), frames=1, seconds=0.04)
    assert done.output("thumbnail").width == 320
    decode_strictly(path_of(environment, done.output("poster")))


async def test_sound_alone_becomes_an_audio_rendition(environment: JobEnvironment) -> None:
    done = await transcode(environment, clips.fetch("mp4-with-audio.mp4"))
    assert [(o.role, o.name) for o in done.outputs] == [("rendition", "audio"), ("init", "audio-und")]
    assert done.output("rendition").key.endswith("/audio.m4a")
    assert (done.data["has_video"], done.data["has_audio"], done.data["frames"]) == (False, True, 0)
    decode_strictly(path_of(environment, done.output("rendition")))


async def test_a_recording_without_a_duration_is_measured(environment: JobEnvironment) -> None:
    """As browsers record: live Matroska, piped, nothing known at the beginning."""
    clip = clips.make("-i", str(clips.moving("320x180", "25", 3)), "-c", "copy", "-f", "matroska", "-live", "1", suffix=".webm")
    done = await transcode(environment, clip)
    check_rendition(environment, done.output("rendition"), frames=75, seconds=3)


async def test_a_film_may_end_long_before_its_music(environment: JobEnvironment) -> None:
    """FLV tells one duration for both; the last chunks are empty, and the still is asked for behind the last picture."""
    clip = clips.make(
        "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10:duration=40", "-f", "lavfi", "-i", "sine=sample_rate=44100:duration=100",
        "-c:v", "flv1", "-c:a", "mp3", suffix=".flv",
    )  # fmt: skip
    done = await transcode(environment, clip, thumbnail_at="90%")
    assert [r["frames"] for r in done.results["encode"] if r["made"] == "video"] == [320, 80, 0]
    check_rendition(environment, done.output("rendition"), frames=400, seconds=40)
    decode_strictly(path_of(environment, done.output("poster")))


async def test_sound_that_is_announced_and_not_there_is_left_out(environment: JobEnvironment) -> None:
    silent = clips.make(
        "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10:duration=2", "-f", "lavfi", "-t", "0.001", "-i", "anullsrc=r=8000",
        "-map", "0", "-map", "1", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le", "-bsf:a", "noise=drop=1", suffix=".mov",
    )  # fmt: skip
    done = await transcode(environment, silent)
    assert "audio" not in check_rendition(environment, done.output("rendition"), frames=20, seconds=2)
    assert done.data["has_audio"] is False


async def test_sound_and_picture_stay_together(environment: JobEnvironment) -> None:
    """A beep at the moment of a flash, after 20 s in 24 fps: in the first chunk's time and in the second's."""
    clip = clips.make(
        "-f", "lavfi", "-i", "color=black:size=160x90:rate=24:duration=45,drawbox=c=white:t=fill:enable='between(t,40,40.2)'",
        "-f", "lavfi", "-i", "aevalsrc='if(between(t,40,40.2),sin(880*2*PI*t),0)':sample_rate=48000:duration=45",
        "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le", suffix=".mov",
    )  # fmt: skip
    done = await transcode(environment, clip)
    path = path_of(environment, done.output("rendition"))
    flash = clips.ffmpeg("-v", "info", "-i", str(path), "-vf", "blackdetect=d=1:pix_th=0.5", "-an", "-f", "null", "-")
    beep = clips.ffmpeg("-v", "info", "-i", str(path), "-af", "silencedetect=n=-30dB:d=1", "-vn", "-f", "null", "-")
    seen, heard = re.search(r"black_end:([\d.]+)", flash), re.search(r"silence_end: ([\d.]+)", beep)
    assert seen is not None
    assert heard is not None
    assert abs(float(seen[1]) - 40) < 0.001
    assert abs(float(heard[1]) - 40) < 0.005


async def test_a_watermark_lies_where_the_recipe_says(environment: JobEnvironment) -> None:
    black = clips.make(
        "-f", "lavfi", "-i", "color=black:size=320x180:rate=10:duration=1", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"
    )
    await environment.put("marks/white.png", clips.make("-f", "lavfi", "-i", "color=white:size=80x40", "-frames:v", "1", suffix=".png"))
    mark = Watermark(key="marks/white.png", opacity=1, width=0.25, offset=60, position="top-right")
    done = await transcode(environment, black, watermark=mark)
    assert done.data["recipe"] != (await transcode(environment, black)).data["recipe"]
    # Offset 60 at a height of 1080 is 10 at 180; a quarter of 320 is 80 wide, 40 high: x 230 to 310, y 10 to 50.
    for area, expected in (("60:30:240:15", 235), ("200:180:0:0", 16), ("320:100:0:80", 16), ("320:6:0:0", 16)):
        said = clips.ffmpeg("-v", "info", "-i", str(path_of(environment, done.output("rendition"))), "-frames:v", "1",
                            "-vf", f"crop={area},signalstats,metadata=print:key=lavfi.signalstats.YAVG", "-f", "null", "-")  # fmt: skip
        found = re.search(r"YAVG=([\d.]+)", said)
        assert found is not None
        assert abs(float(found[1]) - expected) < 6, area


async def test_a_watermark_that_is_no_image_is_refused(environment: JobEnvironment) -> None:
    await environment.put("marks/evil.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>")
    with pytest.raises(Permanent, match="no PNG, JPEG or WebP"):
        await transcode(environment, clips.moving(seconds=1), watermark=Watermark(key="marks/evil.svg"))


# ── Beside the input (the old transcoder's layout) ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seconds", [0.2, 3.0])
async def test_beside_the_input_there_are_one_mp4_and_one_jpeg(environment: JobEnvironment, seconds: float) -> None:
    clip = clips.moving("640x360", "25", seconds, codec=("-c:v", "mpeg4", "-q:v", "4"), suffix=".mov")
    done = await transcode(environment, clip, key="media/private/Käse 🧀.avi", layout="beside")
    assert [(o.role, o.key) for o in done.outputs] == [
        ("rendition", "media/private/Käse 🧀.avi.mp4"), ("thumbnail", "media/private/Käse 🧀.avi.jpg"),
    ]  # fmt: skip
    check_rendition(environment, done.output("rendition"), frames=round(seconds * 25), seconds=seconds)
    assert (done.output("thumbnail").width, done.output("thumbnail").height) == (320, 180)
    assert len(await environment.keys()) == 3
    assert done.events == ()


async def test_names_that_differ_in_their_extension_only_do_not_collide(environment: JobEnvironment) -> None:
    clip = clips.moving(seconds=1)
    outputs = [
        o.key
        for name in ("foo.mov", "foo.avi", "foo.mp4")
        for o in (await transcode(environment, clip, key=f"v/{name}", layout="beside")).outputs
    ]
    assert len(set(outputs)) == 6
    assert not {"v/foo.mov", "v/foo.avi", "v/foo.mp4"} & set(outputs)


async def test_what_can_be_played_already_is_copied_not_encoded(environment: JobEnvironment) -> None:
    clip = clips.moving(
        "640x360", "25", 3, codec=("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-c:a", "aac", "-ac", "2")
    )
    done = await transcode(environment, clip, layout="beside")
    assert [[t["do"] for t in s.tasks] for s in done.plan.stages] == [["copy-mp4", "make-stills"]]
    check_rendition(environment, done.output("rendition"), frames=75, seconds=3)

    def packets(path: Path) -> str:
        return clips.ffprobe(
            path, "-show_entries", "packet=stream_index,data_hash,size", "-show_data_hash", "md5", "-select_streams", "v", "-of", "csv=p=0"
        )

    assert packets(path_of(environment, done.output("rendition"))) == packets(clip)


# ── Bad input ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_empty_file_is_refused(environment: JobEnvironment) -> None:
    failed = await failure(environment, b"")
    assert (failed.code, failed.message) == ("empty", "'film.mp4' is empty")
    assert failed.hint.startswith("Accepted are MP4")


async def test_text_named_mp4_is_refused(environment: JobEnvironment) -> None:
    failed = await failure(environment, b"Dear all,\nthe film is on the other disk.\n" * 50)
    assert failed.code == "not-a-video"
    assert failed.message == "this is no video or audio that can be read, whatever its name says"
    assert str(environment.folder) not in failed.message


@pytest.mark.parametrize("part", [0.3, 0.95])
@pytest.mark.parametrize("index_first", [True, False], ids=["index first", "index last"])
async def test_a_truncated_mp4_is_refused(environment: JobEnvironment, index_first: bool, part: float) -> None:
    whole = clips.make("-i", str(clips.moving(seconds=3)), "-c", "copy", *(("-movflags", "+faststart") if index_first else ())).read_bytes()
    failed = await failure(environment, whole[: int(len(whole) * part)])
    assert failed.code == "truncated"
    assert failed.hint == "Upload the whole file again."


@pytest.mark.parametrize("name", ["pentax_320x240.mov", "breakdance.flv"])
async def test_truncated_recordings_are_refused(environment: JobEnvironment, name: str) -> None:
    assert (await failure(environment, clips.fetch(name), name)).code == "truncated"


async def test_a_file_without_streams_is_refused(environment: JobEnvironment) -> None:
    assert (await failure(environment, clips.fetch("mpeg4.mp4"))).code == "no-streams"


async def test_what_cannot_be_decoded_is_refused(environment: JobEnvironment) -> None:
    assert (await failure(environment, clips.fetch("demo.ogv"), "demo.ogv")).code == "undecodable"


async def test_a_picture_over_the_limit_is_refused_with_size_and_limit(tmp_path: Path) -> None:
    async with JobEnvironment(handler(), tmp_path, settings=Settings(max_source_pixels=320 * 180 - 1)) as environment:
        failed = await failure(environment, clips.moving(seconds=1))
    assert failed.code == "too-large"
    assert failed.message == "the picture is 320×180 = 57600 pixels; at most 57599 are accepted"


async def test_a_missing_object_is_named(environment: JobEnvironment) -> None:
    with pytest.raises(Exception, match=r"in/nothing\.mp4") as failed:
        await environment.run(UploadReceived(key="in/nothing.mp4"))
    assert classify(failed.value).code == "object-missing"


@pytest.mark.parametrize(
    "evil",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:SECRET\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile 'SECRET'\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'><image href='SECRET' width='64' height='64'/></svg>",
        b"\n" * 5000 + b"#EXTM3U\n#EXTINF:10,\nfile:SECRET\n",
    ],
    ids=["hls", "concat", "svg", "hls behind blanks"],
)
async def test_a_file_that_names_another_file_does_not_get_at_it(environment: JobEnvironment, evil: bytes) -> None:
    secret = clips.moving(seconds=1)
    failed = await failure(environment, evil.replace(b"SECRET", str(secret).encode()))
    assert failed.code == "not-a-video"
    assert str(secret) not in failed.message


async def test_a_source_that_was_replaced_meanwhile_fails_the_job(tmp_path: Path) -> None:
    async def replace(label: str, ctx: TaskContext) -> None:
        if label == "encode-1":
            await ctx.storage.bucket().put("in/film.mp4", clips.moving("320x180", "10", 2).read_bytes())

    async with JobEnvironment(handler(), tmp_path, before_task=replace) as environment:
        await environment.put("in/film.mp4", clips.moving())
        with pytest.raises(Permanent, match="was replaced"):
            await environment.run(UploadReceived(key="in/film.mp4"))


# ── Faults ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def children() -> Iterator[str]:
    """Command lines of ffmpeg processes below this one."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
            command = (entry.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == __import__("os").getpid() and "ffmpeg" in command and fields[0] != "Z":
            yield command


async def test_cancelling_in_the_middle_of_a_chunk_ends_ffmpeg_and_publishes_nothing(tmp_path: Path) -> None:
    def cancel(key: str, event: msgspec.Struct, ctx: TaskContext) -> None:
        if isinstance(event, SegmentsReady) and event.rendition.startswith("video"):
            ctx.cancel()

    async with JobEnvironment(handler(), tmp_path, on_event=cancel) as environment:
        await environment.put("in/film.mp4", clips.moving("640x360", "25", 20))
        with pytest.raises(Cancelled):
            await environment.run(UploadReceived(key="in/film.mp4"))
        assert not [k for k in await environment.keys("assets/") if k.endswith((".jpg", "60.mp4"))]
        assert not list(children())
        assert not list(tmp_path.glob("scratch/*"))


async def test_a_task_that_is_killed_leaves_no_process_and_the_next_attempt_succeeds(tmp_path: Path) -> None:
    started = asyncio.Event()

    def note(key: str, event: msgspec.Struct, ctx: TaskContext) -> None:
        if isinstance(event, SegmentsReady) and event.rendition.startswith("video"):
            started.set()

    async with JobEnvironment(handler(), tmp_path, on_event=note) as environment:
        await environment.put("in/film.mp4", clips.moving("640x360", "25", 20))
        attempt = asyncio.create_task(environment.run(UploadReceived(key="in/film.mp4")))
        await asyncio.wait_for(started.wait(), 120)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        assert not list(children())
        done = await environment.run(UploadReceived(key="in/film.mp4"))
        check_rendition(environment, done.output("rendition"), frames=500, seconds=20)


async def test_a_store_that_fails_in_the_middle_ends_ffmpeg_and_is_worth_another_attempt(tmp_path: Path) -> None:
    def fail(key: str, event: msgspec.Struct, ctx: TaskContext) -> None:
        if isinstance(event, SegmentsReady) and event.rendition.startswith("video"):
            raise Transient("storage", "the disk is gone")

    async with JobEnvironment(handler(), tmp_path, on_event=fail) as environment:
        await environment.put("in/film.mp4", clips.moving("640x360", "25", 20))
        with pytest.raises(TaskError, match="the disk is gone"):
            await environment.run(UploadReceived(key="in/film.mp4"))
        assert not list(children())


async def test_a_task_that_takes_too_long_is_ended_and_says_which_setting(tmp_path: Path) -> None:
    async with JobEnvironment(handler(), tmp_path, settings=Settings(task_timeout_seconds=0.3)) as environment:
        await environment.put("in/film.mp4", clips.moving("1280x720", "30", 20))
        with pytest.raises(Transient, match="was ended after") as failed:
            await environment.run(UploadReceived(key="in/film.mp4"))
        assert "REELWORKS_TASK_TIMEOUT_SECONDS" in failed.value.hint
        assert not list(children())


# ── Where it runs ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.s3
async def test_a_film_in_one_s3_bucket_is_read_by_signed_url_and_written_to_another(tmp_path: Path, s3_server: S3Server) -> None:
    ours, theirs = s3_server.make_bucket(), s3_server.make_bucket()
    async with JobEnvironment(handler(), tmp_path, settings=s3_server.settings(ours, theirs)) as environment:
        prefix = f"in-{tmp_path.name}"
        await environment.put(f"{prefix}/Käse & Brot?.mp4", clips.moving("320x180", "5", 60), bucket=theirs)
        request = UploadReceived(key=f"{prefix}/Käse & Brot?.mp4", bucket=theirs, asset_id=f"asset-{tmp_path.name}")
        done = await environment.run(request)
        output = done.output("rendition")
        assert (done.data["bucket"], output.bucket, done.data["frames"]) == (theirs, ours, 300)
        path = tmp_path / "film.mp4"
        path.write_bytes(await environment.storage.bucket(ours).read(output.key))
        decode_strictly(path)
        assert len(times(path, "v:0")) == 300


def test_it_works_on_uvloop_as_services_run_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with JobEnvironment(handler(), tmp_path) as environment:
            done = await transcode(environment, clips.moving("320x180", "25", 3))
            check_rendition(environment, done.output("rendition"), frames=75, seconds=3)

    uvloop.run(work())


@pytest.mark.s3
@pytest.mark.parametrize("after", [5, 6, 7])
@pytest.mark.parametrize("fault", [UNAVAILABLE, Fault(answer_bytes=700, reset=True)], ids=["unavailable", "cut"])
async def test_a_store_in_trouble_does_not_make_a_film_incomplete(tmp_path: Path, s3_server: S3Server, fault: Fault, after: int) -> None:
    """Its index is at the end: what looks for it and gets an error finds none."""
    film = clips.make(
        "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=4", "-c:v", "libx264", "-preset", "ultrafast", "-b:v", "4M"
    )
    async with faulty(s3_server.endpoint) as proxy:
        settings = msgspec.structs.replace(s3_server.settings(s3_server.make_bucket()), s3_endpoint=proxy.endpoint)
        async with JobEnvironment(handler(), tmp_path, settings=settings) as environment:
            await environment.put("in/film.mp4", film)
            job = environment.job(UploadReceived(key="in/film.mp4", recipe=Recipe(heights=(180,))))
            proxy.faults = [replace(fault, operation="GetObject", after=after)]
            assert (await environment.plan(job)).stages
            proxy.faults = [replace(fault, operation="GetObject", after=after, times=1000)]
            classes = set[str]()
            try:
                await environment.plan(job)
            except (TaskError, StorageError) as wrong:
                classes.add(classify(wrong).failure_class)
            # What is cut again and again comes in the end.
            assert classes == ({"transient"} if fault.reply else set())
