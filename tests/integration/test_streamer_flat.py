"""The layout of old servers: what such a server would list is all there, plays, and nothing else is touched."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import m3u8
import pytest

from schemas.events import Recipe, StreamRequested
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent, TaskError
from services.runtime.settings import Settings
from services.runtime.testing import Done, JobEnvironment
from services.streamer import flat
from services.streamer.handler import handler
from tests import clips, hls, sync
from tests.streams import Streams, decode, frames, streams

TARGET = "Holidays/Crete.hls/"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Streams]:
    async with streams(tmp_path) as made:
        yield made


def short(seconds: float = 6, *, gop: int = 50, **more: Any) -> Path:
    """A film that is packaged as it is."""
    frames = ("-g", str(gop), "-keyint_min", str(gop), "-sc_threshold", "0")
    return clips.moving(seconds=seconds, codec=("-c:v", "libx264", "-crf", "32", "-pix_fmt", "yuv420p", "-bf", "2", *frames), **more)


async def flatten(place: Streams, clip: Path, target: str = TARGET, **more: Any) -> Done:
    return await place.stream(clip, layout="flat-ts", target=target, **more)


def listed(bucket: Path) -> list[str]:
    """What an old server shows: the files of each folder at the top; `NAME.hls/output.m3u8` is NAME, and what is beside it is hidden."""
    shown: list[str] = []
    for folder in sorted(p for p in bucket.iterdir() if p.is_dir() and not p.name.startswith(".")):
        shown += [f"{folder.name}/{p.name}" for p in folder.iterdir() if p.is_file()]
        shown += [f"{folder.name}/{p.name.removesuffix('.hls')}" for p in folder.glob("*.hls") if (p / "output.m3u8").is_file()]
    return shown


def check_flat(place: Streams, done: Done) -> Path:
    """Everything that the old server and its players rely on."""
    path = place.master(done)
    assert path.name == "output.m3u8"
    assert f"{path.parent.parent.name}/{path.parent.name.removesuffix('.hls')}" in listed(place.bucket)
    named = {"output.m3u8"}
    for playlist in hls.check_folder(path):
        made = hls.media(playlist.read_text())
        assert made.version == 3
        assert m3u8.load(str(playlist)).is_endlist
        assert all(0 < s.seconds <= 4.5 for s in made.segments)
        assert not any("/" in s.uri for s in made.segments)
        named |= {playlist.name, *(s.uri for s in made.segments)}
    assert named == {p.name for p in path.parent.iterdir()}
    assert sum("output.m3u8" in name for name in named) == 1
    return path


async def test_a_film_that_is_packaged_as_it_is(place: Streams) -> None:
    clip = sync.clip(20)
    done = await flatten(place, clip)
    assert not place.needed
    path = check_flat(place, done)
    decode(path)
    assert frames(path) == 500
    sync.of_file(path).check(20)
    assert done.data["master"] == TARGET + "output.m3u8"
    assert done.data["layout"] == "flat-ts"
    # What was made on the way is gone, and nothing else appeared.
    assert listed(place.bucket) == ["Holidays/Crete", f"in/{clip.name}"]
    assert not place.path("assets").exists()
    assert not list(place.path("jobs").rglob("*.m4s"))


async def test_a_film_that_is_transcoded_first_in_several_heights(place: Streams) -> None:
    done = await flatten(place, sync.clip(20), recipe=Recipe(heights=(180, 90, 1080)))
    path = check_flat(place, done)
    made = hls.master(path.read_text())
    assert [v.uri for v in made.variants] == ["180p.m3u8", "90p.m3u8"]
    assert [v.attributes["RESOLUTION"] for v in made.variants] == ["320x180", "160x90"]
    for name in ("180p.m3u8", "90p.m3u8"):
        assert frames(path.parent / name) == 500
        sync.of_file(path.parent / name).check(20)
    decode(path)


async def test_a_film_is_written_in_parts_that_join_without_a_seam(place: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "WINDOW_SECONDS", 8)
    done = await flatten(place, sync.clip(30))
    assert len(done.results["flat"]) == 4
    path = check_flat(place, done)
    decode(path)
    sync.of_file(path).check(30)
    for segment in path.parent.glob("*.ts"):
        # SDT, PAT, PMT.
        assert pids(segment)[:3] == [17, 0, 0x1000], f"{segment.name} does not begin with its tables (RFC 8216 §3.2)"
        assert len(pids(segment)) * 188 == segment.stat().st_size
    packets = {stream: packet_times(path, stream) for stream in ("v:0", "a:0")}
    # One clock throughout: no picture and no piece of sound is there twice, none is missing.
    assert len(packets["v:0"]) == 750
    assert_even(packets["v:0"], 1 / 25)
    assert_even(packets["a:0"], 1024 / 48000)


def pids(path: Path) -> list[int]:
    """Of the packets of a transport stream (ISO/IEC 13818-1 §2.4.3.2)."""
    data = path.read_bytes()
    assert set(data[::188]) == {0x47}
    return [int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF for at in range(0, len(data), 188)]


def packet_times(path: Path, stream: str) -> list[float]:
    said = clips.ffprobe(path, "-select_streams", stream, "-show_entries", "packet=pts_time", "-of", "csv=p=0")
    return sorted(float(line.strip(",")) for line in said.split())


def assert_even(times: list[float], step: float) -> None:
    for before, after in itertools.pairwise(times):
        assert after - before == pytest.approx(step, abs=0.0002), f"behind {before}"


async def test_a_film_without_sound_and_sound_without_a_film(place: Streams) -> None:
    path = check_flat(place, await flatten(place, short(sound=False)))
    assert frames(path) == 150
    tone = clips.make("-f", "lavfi", "-i", "sine=440:d=10", "-c:a", "aac", suffix=".m4a")
    path = check_flat(place, await flatten(place, tone, "Music/Tone.hls/"))
    assert len(hls.media(path.read_text()).segments) == 3
    assert_even(packet_times(path, "a:0"), 1024 / 44100)
    decode(path)


@pytest.mark.parametrize(("film", "tone"), [(6, 20), (20, 6)])
async def test_sound_and_film_of_different_lengths(place: Streams, monkeypatch: pytest.MonkeyPatch, film: int, tone: int) -> None:
    monkeypatch.setattr(flat, "WINDOW_SECONDS", 8)
    clip = clips.make(
        *("-f", "lavfi", "-i", f"testsrc2=s=320x180:r=25:d={film}", "-f", "lavfi", "-i", f"sine=440:d={tone}"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "50", "-keyint_min", "50", "-sc_threshold", "0", "-c:a", "aac"),
    )
    path = check_flat(place, await flatten(place, clip))
    decode(path)
    assert film * 25 == frames(path)
    heard = packet_times(path, "a:0")
    assert heard[-1] - heard[0] == pytest.approx(min(tone, film // 4 * 4 + 4.5), abs=0.1)


async def test_of_several_languages_the_default_one_is_taken(place: Streams, tmp_path: Path) -> None:
    clip = clips.make(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=4", "-f", "lavfi", "-i", "sine=440:d=4", "-f", "lavfi", "-i", "anullsrc=d=4"),
        *("-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac"),
        *("-disposition:a:1", "default", "-disposition:a:0", "0", "-t", "4"),
    )
    path = check_flat(place, await flatten(place, clip))
    clips.ffmpeg("-i", str(path), "-map", "0:a:0", "-f", "s16le", str(tmp_path / "heard"))
    assert max((tmp_path / "heard").read_bytes()) == 0


async def test_a_new_film_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    state: dict[str, Any] = {}

    def look(label: str, _: TaskContext) -> None:
        if label == "finish" and state:
            # Everything new is there, and the old playlist still plays.
            hls.check_folder(tmp_path / "bucket" / TARGET / "output.m3u8")
            assert len(list((tmp_path / "bucket" / TARGET).glob("*.ts"))) > state["segments"]

    async with JobEnvironment(handler(), tmp_path, before_task=look) as environment:
        await environment.put("in/first.mp4", short(6))
        await environment.put("in/second.mp4", short(10))
        await environment.run(StreamRequested(key="in/first.mp4", layout="flat-ts", target=TARGET))
        await environment.put(TARGET + "poster.jpg", b"somebody's")
        await environment.put(TARGET + "output0.ts", b"somebody's")
        await environment.put(TARGET + "360p.m3u8", b"of an older job with several heights")
        first = {p.name for p in (tmp_path / "bucket" / TARGET).glob("????????-*.ts")}
        state["segments"] = len(first)
        await environment.run(StreamRequested(key="in/second.mp4", layout="flat-ts", target=TARGET))
        names = {key.removeprefix(TARGET) for key in await environment.keys(TARGET)}
    assert not first & names
    assert {"poster.jpg", "output0.ts"} < names
    assert "360p.m3u8" not in names
    assert len(names) == 3 + 3
    hls.check_folder(tmp_path / "bucket" / TARGET / "output.m3u8")


async def test_a_job_that_fails_takes_back_what_it_wrote(tmp_path: Path) -> None:
    state: dict[str, bool] = {}

    def fail(label: str, _: TaskContext) -> None:
        if label == "finish" and state:
            raise Permanent("test", "the end")

    async with JobEnvironment(handler(), tmp_path, before_task=fail) as environment:
        await environment.put("in/film.mp4", short(6))
        await environment.run(StreamRequested(key="in/film.mp4", layout="flat-ts", target=TARGET), job_id="one")
        before = await environment.keys("Holidays/")
        state["fail"] = True
        with pytest.raises(Permanent):
            await environment.run(StreamRequested(key="in/film.mp4", layout="flat-ts", target=TARGET), job_id="two")
        assert before == await environment.keys("Holidays/")


async def test_an_asset_that_was_transcoded(place: Streams) -> None:
    cause = await place.transcode(short(6), heights=(180, 90))
    request = StreamRequested(asset_id=cause.subject, layout="flat-ts", target=TARGET)
    path = check_flat(place, await place.run(request))
    assert frames(path) == 150
    with pytest.raises(Permanent, match="no rendition of height 120; there are 180, 90") as caught:
        await place.run(StreamRequested(asset_id=cause.subject, layout="flat-ts", target=TARGET, recipe=Recipe(heights=(120,))))
    assert caught.value.code == "heights"


async def test_what_is_encrypted_is_not_laid_open(place: Streams) -> None:
    cause = await place.transcode(short(2), encryption="aes-128")
    with pytest.raises(Permanent, match="are encrypted") as caught:
        await place.run(StreamRequested(asset_id=cause.subject, layout="flat-ts", target=TARGET))
    assert caught.value.code == "encryption"
    with pytest.raises(Permanent, match="no encryption"):
        await flatten(place, short(2), recipe=Recipe(encryption="aes-128"))


async def test_a_film_of_a_picture_in_many_seconds_has_segments_that_old_players_expect(place: Streams) -> None:
    """Each is shown once a second: between two of them a segment could not end."""
    cause = await place.transcode(clips.moving(rate="2/5", seconds=20, sound=False))
    path = check_flat(place, await place.run(StreamRequested(asset_id=cause.subject, layout="flat-ts", target=TARGET)))
    assert frames(path) == 20


@pytest.mark.parametrize(
    "target",
    [
        "", "Crete.hls/", "Crete.hls", "Holidays/Crete.hls", "Holidays/Crete/", "A/B/Crete.hls/", "Holidays/Cr.ete.hls/",
        "Holidays/Cr#ete.hls/", "Holidays/Cr?ete.hls/", "Holidays/Cr%65te.hls/", "Holidays/.hls/", "/Crete.hls/", "../Crete.hls/",
        "jobs/Crete.hls/", "assets/Crete.hls/", "Holidays/Cr\nete.hls/", "Holidays/" + "x" * 300 + ".hls/",
    ],
)  # fmt: skip
async def test_targets_that_an_old_server_would_show_wrongly(place: Streams, target: str) -> None:
    with pytest.raises(TaskError) as caught:
        await flatten(place, short(2), target)
    assert caught.value.code == "target"
    assert re.search(r"cannot be a target", str(caught.value))
    assert "Holidays/Crete.hls/" in caught.value.hint


@pytest.mark.parametrize("target", ["Holidays/Crete.hls/", "Été 2024/Κρήτη & co.hls/", "a b/c d (1).hls/"])
async def test_targets_in_any_script(place: Streams, target: str) -> None:
    check_flat(place, await flatten(place, short(2), target))


async def test_a_name_is_there_once_in_a_bucket(place: Streams) -> None:
    await flatten(place, short(2), "Holidays/Crete.hls/")
    with pytest.raises(Permanent, match=re.escape("there is 'Holidays/Crete.hls/' already")):
        await flatten(place, short(2), "Films/Crete.hls/")
    await flatten(place, short(2), "Holidays/Crete.hls/")


async def test_a_film_is_not_read_out_of_its_own_target(place: Streams) -> None:
    await place.streamer.put(TARGET + "film.mp4", short(2))
    with pytest.raises(Permanent, match="lies in the target"):
        await place.run(StreamRequested(key=TARGET + "film.mp4", layout="flat-ts", target=TARGET))


async def test_a_target_without_the_layout_is_told(place: Streams) -> None:
    with pytest.raises(Permanent, match="the layout `asset` has none"):
        await place.stream(short(2), target=TARGET)


async def test_another_bucket(tmp_path: Path) -> None:
    settings = Settings(buckets=("movies",), storage_url=(tmp_path / "bucket").as_uri())
    async with streams(tmp_path, settings) as place:
        done = await flatten(place, short(2), target_bucket="movies")
        assert done.data["bucket"] == "movies"
        assert (tmp_path / "movies" / TARGET / "output.m3u8").is_file()
        with pytest.raises(Exception, match="elsewhere"):
            await flatten(place, short(2), target_bucket="elsewhere")
