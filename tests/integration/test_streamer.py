"""Real films through the streamer, without Kafka: what players would load is read strictly, decoded strictly, and measured."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import m3u8
import pytest

from schemas.events import ErrorInfo, Outcome, Recipe, StreamRequested
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Cancelled, Permanent, TaskError
from services.runtime.media import presentation
from services.runtime.testing import Done, JobEnvironment, Needed
from services.streamer.handler import handler
from tests import clips, hls, sync, trees
from tests.servers.s3 import S3Server
from tests.streams import Streams, decode, frames, streams


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Streams]:
    async with streams(tmp_path) as made:
        yield made


def short(name: str = "", *, gop: int = 50, seconds: float = 6, rate: str = "25", video: tuple[str, ...] = (), **more: Any) -> Path:
    """A film that is packaged as it is: key frames two seconds apart."""
    codec = (
        "-c:v",
        "libx264",
        "-crf",
        "32",
        "-pix_fmt",
        "yuv420p",
        "-bf",
        "2",
        "-g",
        str(gop),
        "-keyint_min",
        str(gop),
        "-sc_threshold",
        "0",
    )
    return clips.moving(rate=rate, seconds=seconds, codec=(*codec, *video), **more)


def rendition(place: Streams, done: Done, name: str) -> presentation.Rendition:
    body = place.path(f"assets/{done.data['asset_id']}/{done.data['recipe']}/manifest.json").read_bytes()
    return next(r for r in presentation.decode(body).renditions if r.name == name)


def check_third_party(master: Path) -> None:
    """What another reader of playlists makes of them."""
    read = m3u8.load(str(master))
    ours = hls.master(master.read_text())
    assert read.is_variant
    assert [p.uri for p in read.playlists] == [v.uri for v in ours.variants]
    for variant in ours.variants:
        media = m3u8.load(str(master.parent / variant.uri))
        own = hls.media((master.parent / variant.uri).read_text())
        assert media.is_endlist
        assert media.playlist_type == "vod"
        assert [s.uri for s in media.segments] == [s.uri for s in own.segments]
        assert media.segment_map[0].uri == "init.mp4"


# ── Packaged as it is ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_film_with_short_gops_is_packaged_without_encoding(place: Streams, tmp_path: Path) -> None:
    clip = sync.clip(20)
    done = await place.stream(clip, title="Beeps")
    assert not place.needed
    master = place.master(done)
    check_third_party(master)
    decode(master)
    assert 500 == frames(master) == frames(clip)
    assert done.data["duration_seconds"] == 20.0
    assert not done.data["progressive"]
    assert {o.role for o in done.outputs} == {"playlist", "poster", "thumbnail", "storyboard", "storyboard-vtt"}
    for role, size in (("poster", (320, 180)), ("thumbnail", (320, 180))):
        still = done.output(role)
        assert (still.width, still.height) == size == size_of(place.path(still.key))
    assert done.output("playlist").key == done.data["master"]
    assert done.output("playlist").content_type == "application/vnd.apple.mpegurl"
    # The very pictures of the source, not made again.
    for path, name in ((clip, "source"), (master, "made")):
        clips.ffmpeg("-i", str(path), "-map", "0:v:0", "-c", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "md5", str(tmp_path / name))
    assert (tmp_path / "source").read_text() == (tmp_path / "made").read_text()


async def test_sound_and_picture_of_a_packaged_film_lie_together(place: Streams) -> None:
    done = await place.stream(sync.clip(20))
    events = sync.of_segments(place.master(done).parent, "video-180", "audio-und")
    events.check(20)
    assert events.flashes[0] == 0.0
    assert events.frames == 500


@pytest.mark.parametrize(
    ("options", "suffix", "later"),
    [
        pytest.param((), ".mkv", 0.0, id="matroska: times in milliseconds, no index"),
        pytest.param(("-movflags", "+frag_keyframe+empty_moov"), ".mp4", 0.0, id="fragments: no index"),
        # Two reordered pictures of delay, and a piece of priming, that nothing takes away: such a file is 59 ms off from the beginning.
        pytest.param(("-use_editlist", "0", "-avoid_negative_ts", "make_non_negative"), ".mp4", -0.059, id="no edit list: starts after 0"),
    ],
)
async def test_other_ways_to_tell_times_make_the_same_film(place: Streams, options: tuple[str, ...], suffix: str, later: float) -> None:
    done = await place.stream(sync.clip(10, suffix=suffix, options=options))
    assert not place.needed
    made = sync.of_segments(place.master(done).parent, "video-180", "audio-und")
    assert made.frames == 250
    assert made.flashes == pytest.approx([0, 5], abs=0.002)
    assert made.beeps[-1] - made.flashes[-1] == pytest.approx(later, abs=0.002)


async def test_sound_that_begins_before_the_picture_is_cut(place: Streams) -> None:
    whole = sync.clip(10)
    early = clips.make("-itsoffset", "0.3", "-i", str(whole), "-i", str(whole), "-map", "0:v", "-map", "1:a", "-c", "copy")
    done = await place.stream(early)
    assert not place.needed
    folder = place.master(done).parent
    heard, shown = sync.shown_at(folder / "audio-und"), sync.shown_at(folder / "video-180")
    assert min(shown) == 0
    assert 0 <= heard[0] < 0.022
    events = sync.of_segments(folder, "video-180", "audio-und")
    # The picture came .3 s later than the sound, and still does.
    assert [round(f - b, 1) for f, b in zip(events.flashes[1:], events.beeps[-1:], strict=True)] == [0.3]


async def test_groups_of_pictures_are_joined_to_segments_of_four_seconds(place: Streams) -> None:
    for gop, expected in ((10, 4.0), (25, 4.0), (50, 4.0), (63, 2.52), (112, 4.48)):
        done = await place.stream(short(gop=gop, seconds=10))
        made = rendition(place, done, "video-180")
        assert not place.needed
        assert made.durations()[0] == pytest.approx(expected, abs=0.001)
        assert max(made.durations()) <= 4.5
        assert made.seconds == pytest.approx(10)


async def test_one_job_twice_writes_the_same(place: Streams) -> None:
    first = await place.stream(short())
    before = {p: p.read_bytes() for p in trees.files(place.path("assets"))}
    assert (await place.run(StreamRequested(key=first.job.request["key"]))).data == first.data
    assert before == {p: p.read_bytes() for p in trees.files(place.path("assets"))}


async def test_iframe_playlists_show_the_first_picture_of_each_segment(place: Streams, tmp_path: Path) -> None:
    master = place.master(await place.stream(short(seconds=10)))
    playlist = hls.media((master.parent / "video-180/iframes.m3u8").read_text())
    assert len(playlist.segments) == 3
    for segment in playlist.segments:
        assert segment.byte_range is not None
        path = master.parent / "video-180" / segment.uri
        pictures: set[str] = set()
        for length in (segment.byte_range.length, path.stat().st_size):
            init = (master.parent / "video-180/init.mp4").read_bytes()
            (tmp_path / "part.mp4").write_bytes(init + path.read_bytes()[:length])
            clips.ffmpeg("-i", str(tmp_path / "part.mp4"), "-frames:v", "1", "-f", "framemd5", str(tmp_path / "sum"))
            pictures.add((tmp_path / "sum").read_text().split()[-1])
        assert len(pictures) == 1
        assert segment.byte_range.length < path.stat().st_size / 2


async def test_the_storyboard_shows_what_is_to_be_seen_then(place: Streams, tmp_path: Path) -> None:
    colors = ("red", "lime", "blue")
    inputs = [word for color in colors for word in ("-f", "lavfi", "-i", f"color={color}:s=320x180:r=25:d=4")]
    clip = clips.make(
        *inputs, "-filter_complex", "[0][1][2]concat=n=3", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "100", "-keyint_min", "100"
    )
    done = await place.stream(clip)
    assert not place.needed
    text = place.path(done.output("storyboard-vtt").key).read_text()
    assert text.startswith("WEBVTT\n\n")
    cues = re.findall(r"(\S+) --> (\S+)\nstoryboard\.jpg#xywh=(\d+),(\d+),(\d+),(\d+)\n", text)
    assert [c[0] for c in cues] == ["00:00:00.000", "00:00:04.000", "00:00:08.000"]
    assert cues[-1][1] == "00:00:12.000"
    picture = place.path(done.output("storyboard").key)
    assert (480, 90) == (done.output("storyboard").width, done.output("storyboard").height) == size_of(picture)
    for (_, _, x, y, w, h), (strong, channel) in zip(cues, (("red", 0), ("lime", 1), ("blue", 2)), strict=True):
        crop = tmp_path / f"{strong}.rgb"
        clips.ffmpeg("-i", str(picture), "-vf", f"crop={w}:{h}:{x}:{y},scale=1:1", "-pix_fmt", "rgb24", "-f", "rawvideo", str(crop))
        assert max(range(3), key=lambda c: crop.read_bytes()[c]) == channel


def size_of(picture: Path) -> tuple[int, int]:
    width, height = clips.ffprobe(picture, "-show_entries", "stream=width,height", "-of", "csv=p=0").strip().split(",")
    return int(width), int(height)


async def test_two_languages_are_two_renditions(place: Streams) -> None:
    clip = clips.make(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=6", "-f", "lavfi", "-i", "sine=440:d=6", "-f", "lavfi", "-i", "sine=880:d=6"),
        *("-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac"),
        *("-metadata:s:a:0", "language=deu", "-metadata:s:a:1", "language=eng", "-disposition:a:1", "default", "-disposition:a:0", "0"),
    )
    done = await place.stream(clip)
    assert not place.needed
    made = hls.master(place.master(done).read_text())
    assert [(m["NAME"], m["LANGUAGE"], m["DEFAULT"]) for m in made.media] == [("Deutsch", "de", "NO"), ("English", "en", "YES")]
    assert {m["URI"] for m in made.media} == {"audio-deu/index.m3u8", "audio-eng/index.m3u8"}
    decode(place.master(done))


async def test_a_film_without_sound(place: Streams) -> None:
    done = await place.stream(short(sound=False))
    assert not place.needed
    made = hls.master(place.master(done).read_text())
    assert not made.media
    assert made.variants[0].codecs == ["avc1.4d400c"]


async def test_sound_alone_in_aac_is_packaged_as_it_is(place: Streams) -> None:
    clip = clips.make("-f", "lavfi", "-i", "sine=440:d=10", "-c:a", "aac", suffix=".m4a")
    done = await place.stream(clip)
    assert not place.needed
    master = place.master(done)
    made = hls.master(master.read_text())
    assert [v.codecs for v in made.variants] == [["mp4a.40.2"]]
    assert "RESOLUTION" not in made.variants[0].attributes
    assert {o.role for o in done.outputs} == {"playlist"}
    decode(master)
    assert done.data["duration_seconds"] == pytest.approx(10, abs=0.05)


async def test_a_clip_of_a_second_is_one_segment(place: Streams) -> None:
    done = await place.stream(short(seconds=1.2))
    master = place.master(done)
    assert len(hls.media((master.parent / "video-180/index.m3u8").read_text()).segments) == 1
    assert frames(master) == 30


async def test_three_hours(place: Streams, tmp_path: Path) -> None:
    minute = clips.make(
        *("-f", "lavfi", "-i", "testsrc2=s=64x36:r=5:d=60", "-f", "lavfi", "-i", "sine=440:sample_rate=8000:d=60"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "20", "-keyint_min", "20", "-sc_threshold", "0", "-bf", "0"),
        *("-c:a", "aac", "-b:a", "16k"), suffix=".mkv",
    )  # fmt: skip
    film = tmp_path / "long.mp4"
    clips.ffmpeg("-stream_loop", "179", "-i", str(minute), "-c", "copy", str(film))
    done = await place.stream(film)
    assert not place.needed
    master = place.master(done)
    assert done.data["duration_seconds"] == pytest.approx(3 * 3600, abs=30)
    assert frames(master) == 3 * 3600 * 5
    assert len(hls.media((master.parent / "video-36/index.m3u8").read_text()).segments) == pytest.approx(2700, abs=2)
    cues = place.path(done.output("storyboard-vtt").key).read_text().count("-->")
    assert 90 <= cues <= 100


async def test_a_packaged_film_can_be_encrypted(place: Streams, tmp_path: Path) -> None:
    clip = short(seconds=10)
    done = await place.stream(clip, recipe=Recipe(encryption="aes-128"))
    assert not place.needed
    master = place.master(done)
    assert done.data["encrypted"]
    playlist = hls.media((master.parent / "video-180/index.m3u8").read_text())
    assert {s.key for s in playlist.segments} == {
        hls.Key("AES-128", "../aes.key", playlist.segments[0].key.iv if playlist.segments[0].key else "")
    }
    assert not hls.master(master.read_text()).iframes
    assert not (master.parent / "video-180/iframes.m3u8").exists()
    decode(master)
    assert frames(master) == 250
    assert size_of(place.path(done.output("storyboard").key)) == (480, 90)
    # Another job has another key, and another folder.
    again = await place.streamer.run(StreamRequested(key=f"in/{clip.name}", recipe=Recipe(encryption="aes-128")), job_id="another")
    assert again.data["recipe"] != done.data["recipe"]


# ── Transcoded first ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_film_that_cannot_be_cut_is_transcoded_first(place: Streams) -> None:
    clip = short(gop=250, seconds=6)
    done = await place.stream(clip, title="Long")
    (needed,) = place.needed
    assert needed.type == "UploadReceived"
    assert needed.data["recipe"]["hls"] is False
    assert needed.data["title"] == "Long"
    assert needed.data["asset_id"] == done.data["asset_id"]
    master = place.master(done)
    check_third_party(master)
    decode(master)
    assert frames(master) == 150


async def test_sound_and_picture_of_a_transcoded_film_lie_together(place: Streams) -> None:
    done = await place.stream(sync.clip(20), recipe=Recipe(heights=(180, 90)))
    assert place.needed
    folder = place.master(done).parent
    for video in ("video-180", "video-90"):
        sync.of_segments(folder, video, "audio-und").check(20)
    made = hls.master((folder / "master.m3u8").read_text())
    assert [v.attributes["RESOLUTION"] for v in made.variants] == ["320x180", "160x90"]
    assert len(made.iframes) == 2


@pytest.mark.parametrize(
    ("clip", "why"),
    [
        (lambda: clips.moving(rate="25", seconds=2, codec=("-c:v", "mpeg4")), "MPEG-4"),
        (lambda: short(video=("-pix_fmt", "yuv422p")), "4:2:2"),
        (lambda: short(video=("-c:a", "libmp3lame"), suffix=".mkv"), "MP3"),
        (lambda: short(video=("-crf", "1")), "rate"),
        (lambda: short(video=("-x264-params", "open-gop=1:keyint=50:min-keyint=50:scenecut=0")), "open groups"),
        (lambda: clips.make("-ss", "1.3", "-i", str(short()), "-c", "copy"), "edited"),
        (lambda: clips.make("-f", "lavfi", "-i", "sine=440:d=3", "-c:a", "libmp3lame", suffix=".mp3"), "sound alone, not AAC"),
        (lambda: clips.moving(size="321x181", seconds=2, codec=("-c:v", "ffv1"), suffix=".mkv"), "odd sizes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_not_packaged_as_it_is(place: Streams, clip: Any, why: str) -> None:
    done = await place.stream(clip())
    assert len(place.needed) == 1
    decode(place.master(done))


@pytest.mark.parametrize("reordered", [False, True])
async def test_a_varying_frame_rate(place: Streams, reordered: bool) -> None:
    clip = clips.make(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=8", "-vf", "select='if(lt(t,4),not(mod(n,3)),1)'", "-fps_mode", "vfr"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "2" if reordered else "0", "-force_key_frames", "expr:gte(t,n_forced*2)"),
    )
    done = await place.stream(clip)
    master = place.master(done)
    decode(master)
    assert done.data["duration_seconds"] == pytest.approx(8, abs=0.05)
    shown = sorted(sync.shown_at(master.parent / "video-180"))
    distances = (shown[1] - shown[0], shown[-1] - shown[-2])
    if reordered:
        # Its segments would not be as long as the pictures in them are shown: the transcoder gives it one rate.
        assert place.needed
        assert distances == pytest.approx((1 / 30, 1 / 30), abs=0.001)
    else:
        assert not place.needed
        assert frames(master) == frames(clip)
        assert distances == pytest.approx((1 / 10, 1 / 30), abs=0.001)


# ── Which film ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_transcode_that_it_follows_upon_is_streamed(place: Streams) -> None:
    cause = await place.transcode(short(seconds=2), heights=(90,))
    done = await place.run(StreamRequested(asset_id=cause.subject, cause=cause))
    assert done.data["recipe"] == cause.data["recipe"]
    assert [v.uri for v in hls.master(place.master(done).read_text()).variants] == ["video-90/index.m3u8"]


async def test_an_asset_by_its_id_is_its_newest_transcode(place: Streams) -> None:
    await place.transcode(short(seconds=2), heights=(90,))
    newest = await place.transcode(short(seconds=2), heights=(120,))
    done = await place.run(StreamRequested(asset_id=newest.subject))
    assert done.data["recipe"] == newest.data["recipe"]


async def test_an_asset_that_was_never_transcoded_is_streamed_from_its_source(place: Streams) -> None:
    await place.streamer.put("assets/a1/source/film.mp4", short())
    done = await place.run(StreamRequested(asset_id="a1"))
    assert not place.needed
    assert done.data["master"].startswith("assets/a1/")
    place.master(done)


async def test_encryption_of_an_asset_that_has_none_begins_with_its_source(place: Streams) -> None:
    await place.streamer.put("assets/a1/source/film.mp4", short())
    await place.run(StreamRequested(asset_id="a1"))
    done = await place.run(StreamRequested(asset_id="a1", recipe=Recipe(encryption="aes-128")))
    assert done.data["encrypted"]
    decode(place.master(done))


async def failure(place: Streams, request: StreamRequested) -> Permanent:
    with pytest.raises(Permanent) as caught:
        await place.run(request)
    return caught.value


async def test_a_transcode_that_failed_fails_the_stream_with_its_words(place: Streams) -> None:
    error = ErrorInfo(code="truncated", message="the film is said to last 3 s", hint="Upload it again.")
    cause = Outcome(job_id="t", kind="transcode", subject="a1", state="failed", error=error)
    wrong = await failure(place, StreamRequested(asset_id="a1", cause=cause))
    assert (wrong.code, str(wrong), wrong.hint) == ("truncated", error.message, error.hint)


async def test_what_cannot_be_found_is_named(place: Streams) -> None:
    assert (await failure(place, StreamRequested())).code == "nothing-named"
    assert "'a9'" in str(await failure(place, StreamRequested(asset_id="a9")))
    cause = Outcome(job_id="t1", kind="transcode", subject="a1", state="succeeded", data={"asset_id": "a1", "recipe": "r1"})
    assert "t1 left no segments in assets/a1/r1" in str(await failure(place, StreamRequested(asset_id="a1", cause=cause)))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"#EXTM3U\n", "not-a-video"),
        (b"no film at all" * 100, "not-a-video"),
        (b"<?xml version='1.0'?><svg/>", "not-a-video"),
    ],
)
async def test_what_is_no_film_is_refused_with_words(place: Streams, data: bytes, code: str) -> None:
    await place.streamer.put("in/film.mp4", data)
    assert (await failure(place, StreamRequested(key="in/film.mp4"))).code == code


async def test_a_film_that_is_cut_off_is_refused(place: Streams) -> None:
    whole = short().read_bytes()
    await place.streamer.put("in/film.mp4", whole[: len(whole) * 2 // 3])
    assert (await failure(place, StreamRequested(key="in/film.mp4"))).code == "truncated"


async def test_a_film_whose_end_is_missing_behind_its_index_is_refused(place: Streams, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mkv"
    whole = clips.make("-i", str(short(seconds=20)), "-c", "copy", "-f", "matroska", "-live", "1", suffix=".mkv").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    await place.streamer.put("in/cut.mkv", cut)
    done = await place.run(StreamRequested(key="in/cut.mkv"))
    # Nothing in such a recording tells how long it was: what there is becomes a film.
    decode(place.master(done))


# ── Faults ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_source_that_is_replaced_meanwhile_fails_the_job(tmp_path: Path) -> None:
    async def replace(label: str, ctx: TaskContext) -> None:
        if label == "package-0":
            await ctx.storage.bucket("").put("in/film.mp4", short(seconds=2).read_bytes())

    async with JobEnvironment(handler(), tmp_path, before_task=replace) as environment:
        await environment.put("in/film.mp4", short())
        with pytest.raises(Permanent) as caught:
            await environment.run(StreamRequested(key="in/film.mp4"))
    assert caught.value.code == "object-changed"


@pytest.mark.parametrize("label", ["package-0", "storyboard-0"])
async def test_a_cancelled_job_stops(tmp_path: Path, label: str) -> None:
    def cancel(running: str, ctx: TaskContext) -> None:
        if running == label:
            ctx.cancel()

    async with JobEnvironment(handler(), tmp_path, before_task=cancel) as environment:
        await environment.put("in/film.mp4", short())
        with pytest.raises(Cancelled):
            await environment.run(StreamRequested(key="in/film.mp4"))
        assert not [k for k in await environment.keys() if k.endswith(".m3u8")]


@pytest.mark.parametrize(
    ("victim", "words"),
    [("video-180/00001.m4s", "is missing"), ("audio-und/init.mp4", "is missing"), ("aes.key", "without it nothing can be played")],
)
async def test_nothing_is_published_of_a_film_with_a_hole(tmp_path: Path, victim: str, words: str) -> None:
    async def remove(label: str, ctx: TaskContext) -> None:
        if label == "finish":
            store = ctx.storage.bucket("")
            (key,) = [item.key async for item in store.list("assets/") if item.key.endswith(victim)]
            await store.delete(key)

    async with JobEnvironment(handler(), tmp_path, before_task=remove) as environment:
        await environment.put("in/film.mp4", short())
        with pytest.raises(Permanent, match=words):
            await environment.run(StreamRequested(key="in/film.mp4", recipe=Recipe(encryption="aes-128")))
        assert not [k for k in await environment.keys() if k.endswith(".m3u8")]


async def test_a_segment_of_another_size_is_told(tmp_path: Path) -> None:
    async def replace(label: str, ctx: TaskContext) -> None:
        if label == "finish":
            store = ctx.storage.bucket("")
            (key,) = [item.key async for item in store.list("assets/") if item.key.endswith("video-180/00000.m4s")]
            await store.put(key, b"short")

    async with JobEnvironment(handler(), tmp_path, before_task=replace) as environment:
        await environment.put("in/film.mp4", short())
        with pytest.raises(TaskError, match="has 5 bytes instead of") as caught:
            await environment.run(StreamRequested(key="in/film.mp4"))
    assert caught.value.code == "segments"


async def test_segments_of_another_key_are_told(tmp_path: Path) -> None:
    async def replace(label: str, ctx: TaskContext) -> None:
        if label == "storyboard-0":
            store = ctx.storage.bucket("")
            (key,) = [item.key async for item in store.list("assets/") if item.key.endswith("aes.key")]
            await store.put(key, b"another key of 16"[:16])

    async with JobEnvironment(handler(), tmp_path, before_task=replace) as environment:
        await environment.put("in/film.mp4", short())
        with pytest.raises(Permanent, match="cannot be decrypted") as caught:
            await environment.run(StreamRequested(key="in/film.mp4", recipe=Recipe(encryption="aes-128")))
    assert caught.value.code == "segments"


@pytest.mark.s3
async def test_a_film_in_one_s3_bucket_becomes_hls_in_others(tmp_path: Path, s3_server: S3Server) -> None:
    ours, theirs = s3_server.make_bucket(), s3_server.make_bucket()
    async with JobEnvironment(handler(), tmp_path, settings=s3_server.settings(ours, theirs)) as environment:
        await environment.put("in/film.mp4", short(), bucket=theirs)
        done = await environment.run(StreamRequested(key="in/film.mp4", bucket=theirs))
        assert done.data["bucket"] == ours
        store = environment.storage.bucket()
        assert len(hls.master((await store.read(done.data["master"])).decode()).variants) == 1
        assert (await store.head(done.data["master"])).content_type == "application/vnd.apple.mpegurl"
        flat = StreamRequested(key="in/film.mp4", bucket=theirs, layout="flat-ts", target="Holidays/Crete.hls/")
        done = await environment.run(flat)
        assert done.data["bucket"] == theirs
        names = {key.removeprefix("Holidays/Crete.hls/") for key in await environment.keys("Holidays/", bucket=theirs)}
        text = (await environment.storage.bucket(theirs).read(done.data["master"])).decode()
        assert names == {"output.m3u8", *(s.uri for s in hls.media(text).segments)}


async def test_the_plan_says_which_transcode_is_needed(tmp_path: Path) -> None:
    async with JobEnvironment(handler(), tmp_path) as environment:
        await environment.put("in/film.mp4", short(gop=250))
        with pytest.raises(Needed) as caught:
            await environment.run(StreamRequested(key="in/film.mp4", asset_id="a1", recipe=Recipe(heights=(90,), layout="beside")))
    data = caught.value.request.data
    assert (data["key"], data["asset_id"], data["bucket"]) == ("in/film.mp4", "a1", "bucket")
    assert data["recipe"] == {"heights": (90,), "hls": False}
