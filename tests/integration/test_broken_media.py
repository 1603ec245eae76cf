"""Files of strangers through the real handlers: each becomes a film or is refused in words, and none gets at what is not its own."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from schemas.events import Recipe, StreamRequested, UploadReceived, Watermark
from services.gateway.uploads import names
from services.runtime.jobs.failures import Permanent
from services.runtime.jobs.handler import JobHandler
from services.runtime.settings import Settings
from services.runtime.storage import keys
from services.runtime.testing import Done, JobEnvironment, Needed
from services.streamer.handler import handler as streamer
from services.transcoder.handler import handler as transcoder
from tests import broken_media, clips, containers, trees
from tests.broken_media import Broken, Traps, broken

MEMORY: Final = 1024**3
SETTINGS: Final = Settings(task_timeout_seconds=120.0, max_source_seconds=600.0, media_memory_bytes=MEMORY, ffmpeg_threads=1)
MARK: Final = b"pumpkin-4711-velocipede"
"""Stands in the file that must not be read."""
_AT_ONCE: Final = 2

FILM: Final = frozenset(
    """
    rubbish-behind-the-end fragments-without-duration mkv-live-without-duration one-group-without-end mkv-attachments
    mkv-cyclic-chapters tags-with-control-characters tags-that-are-not-utf-8 title-of-60-KB said-to-be-0x0 said-to-be-8192x4352
    said-to-last-a-year mkv-said-to-last-for-ages mkv-said-to-last-nan mkv-said-to-last-a-year box-of-size-0
    """.split()  # noqa: SIM905
)
"""Odd, and well: what is in them is to be played, for as long as they really last."""
EITHER: Final = frozenset(
    """
    ts-begins-anywhere inner-box-beyond-the-end stts-of-2^31 stss-wild no-key-frame ctts-wild codec-tags-unknown codec-tags-wrong
    edits-wild edits-of-centuries time-scale-0 time-stands time-runs-back 2^31-ticks-a-second said-to-last-for-ages
    said-to-be-65535x65535 size-changes 100000-pictures-a-second 255-channels sound-said-to-be-4-GB sound-of-1-Hz avi-index-of-noise
    flv-of-noise flips-few flips-some flips-many flips-in-the-index flips-in-the-pictures flips-mkv flips-ts media-of-noise media-zeroed
    mkv-many-tracks begins-without-key-frame mkv-of-noise png-as-a-film box-of-size-1 box-of-size-7 stsz-claims-2^31-entries
    dref-of-a-file dref-of-an-address stsc-wild decoder-record-of-noise film-behind-rubbish
    """.split()  # noqa: SIM905
)
"""What can still be seen of them is for the decoder to say, and releases differ."""
_NAMES: Final = tuple(k for k in broken_media.kinds() if k.startswith("name-"))
NAMED: Final = tuple(k for k in _NAMES if not keys.key_fault(f"in/{broken(k).filename}"))
"""Names that a store takes: none with control characters."""
KINDS: Final = tuple(k for k in broken_media.kinds() if k not in _NAMES)
GROUPS: Final = [KINDS[n : n + 16] for n in range(0, len(KINDS), 16)]


class Canary(ThreadingHTTPServer):
    """Counts who comes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BaseHTTPRequestHandler)
        self.visits = 0

    def verify_request(self, request: object, client_address: object) -> bool:
        self.visits += 1
        return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/secret.ts"


@pytest.fixture
def canary() -> Iterator[Canary]:
    with Canary() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def traps(canary: Canary, tmp_path: Path) -> Traps:
    secret = tmp_path / "secret.txt"
    # Something that a reader of subtitles, of playlists or of text takes, too.
    secret.write_bytes(b"#EXTM3U\n1\n00:00:00,000 --> 00:00:09,000\n" + MARK + b"\n")
    return Traps(path=str(secret), url=canary.url)


class Children:
    """Looks at our children while they run: the most memory that one of them had.

    A child that has not become its program yet is a copy of this process, with the most memory that this process ever had.
    """

    def __init__(self) -> None:
        self.highest = 0
        self._copy = Path("/proc/self/exe").readlink()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Children:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            for pid in running():
                try:
                    if Path(f"/proc/{pid}/exe").readlink() == self._copy:
                        continue
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                if found := re.search(r"VmHWM:\s*(\d+) kB", status):
                    self.highest = max(self.highest, int(found[1]) * 1024)


def running() -> set[int]:
    """Our child processes."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            found.update(map(int, Path(f"/proc/self/task/{thread}/children").read_text().split()))
        except OSError:
            continue
    return found


Outcome = Done | Permanent | Needed


async def outcome(handler: JobHandler, folder: Path, file: Broken) -> Outcome:
    """How a job for the file ends; what lies around afterwards is looked at. Raises whatever a handler may not raise."""
    async with JobEnvironment(handler, folder, settings=SETTINGS) as environment:
        key = f"in/{file.filename}"
        await environment.put(key, file.data)
        request = (
            UploadReceived(key=key, recipe=Recipe(heights=(48,))) if handler.service == "transcoder" else StreamRequested(key=key)
        )  # fmt: skip
        try:
            ended: Outcome = await environment.run(request)
        except (Permanent, Needed) as wrong:
            ended = wrong
        assert trees.files(folder / "scratch") == []
        assert not await environment.keys("jobs/")
        for path in trees.files(folder / "bucket"):
            if path != folder / "bucket" / key:
                assert MARK not in path.read_bytes()
        if isinstance(ended, Done):
            check_film(environment, ended)
        if isinstance(ended, Permanent):
            check_words(ended, folder)
        return ended


def check_film(environment: JobEnvironment, done: Done) -> None:
    """Everything that is listed is there, and the MP4 can be decoded without a complaint."""
    assert 0 < done.data["duration_seconds"] <= SETTINGS.max_source_seconds + 1
    for output in done.outputs:
        path = environment.folder / output.bucket / output.key
        assert path.stat().st_size == output.size > 0
        if output.role == "rendition":
            assert clips.ffmpeg("-xerror", "-err_detect", "explode", "-i", str(path), "-f", "null", "-") == ""


def check_words(failed: Permanent, folder: Path) -> None:
    """For a person: what was wrong, and what to do. Nothing of how it is made here."""
    assert failed.message
    assert failed.hint or failed.code in ("too-small", "no-sound")
    for text in (failed.message, failed.hint):
        assert text.isprintable()
        assert str(folder) not in text
        assert MARK.decode() not in text
        assert "Traceback" not in text


def short(ended: Outcome) -> str:
    return "film" if isinstance(ended, Done) else "transcoder first" if isinstance(ended, Needed) else f"{ended.code}: {ended.message}"


async def survey(handler: JobHandler, folder: Path, kinds: tuple[str, ...], traps: Traps) -> dict[str, Outcome]:
    """The outcome of each kind."""
    turn, found = asyncio.Semaphore(_AT_ONCE), dict[str, Outcome]()

    async def one(number: int, kind: str) -> None:
        async with turn:
            found[kind] = await outcome(handler, folder / f"{handler.service}-{number}", broken(kind, traps))

    async with asyncio.TaskGroup() as group:
        for number, kind in enumerate(kinds):
            group.create_task(one(number, kind))
    return found


@pytest.mark.parametrize("kinds", GROUPS, ids=lambda kinds: f"{kinds[0]}-to-{kinds[-1]}")
async def test_a_broken_file_is_refused_in_words_or_becomes_a_film(
    kinds: tuple[str, ...], tmp_path: Path, traps: Traps, canary: Canary
) -> None:
    before = running()
    with Children() as children:
        transcoded = await survey(transcoder(), tmp_path, kinds, traps)
        streamed = await survey(streamer(), tmp_path, kinds, traps)
    assert canary.visits == 0
    assert running() <= before
    assert children.highest < MEMORY
    told = {kind: short(ended) for kind, ended in transcoded.items()}
    assert {kind: told[kind] for kind in kinds if kind in FILM and told[kind] != "film"} == {}
    assert {kind: told[kind] for kind in kinds if kind not in FILM | EITHER and told[kind] == "film"} == {}
    for kind in FILM.intersection(kinds):
        done = transcoded[kind]
        assert isinstance(done, Done)
        assert abs(done.data["duration_seconds"] - (12.0 if kind == "one-group-without-end" else 1.0)) < 0.15
    # What the streamer takes as it is, or refuses, is what the transcoder would; the rest it leaves to it.
    told |= {f"streamer, {kind}": short(ended) for kind, ended in streamed.items()}
    assert {k: told[f"streamer, {k}"] for k in kinds if k not in FILM | EITHER and told[f"streamer, {k}"] == "film"} == {}


@pytest.mark.parametrize("kind", ["flips-many", "flips-in-the-pictures"])
async def test_a_damaged_film_is_not_laid_out_flat_and_is_not_tried_again(kind: str, tmp_path: Path) -> None:
    """It was packaged as it is: whose fault it is decides about another attempt."""
    async with JobEnvironment(streamer(), tmp_path, settings=SETTINGS) as environment:
        await environment.put("in/film.mp4", broken(kind).data)
        with pytest.raises(Permanent, match="damaged") as failed:
            await environment.run(StreamRequested(key="in/film.mp4", layout="flat-ts", target="out/film.hls/"))
        assert await environment.keys("out/") == []
    assert failed.value.code == "undecodable"


async def test_a_name_is_only_a_name(tmp_path: Path, traps: Traps, canary: Canary) -> None:
    """Options, patterns and protocols of ffmpeg, quotes and wildcards: as the key of an object that came without us."""
    assert len(NAMED) > 20
    found = await survey(streamer(), tmp_path, NAMED, traps)
    found |= {f"transcoded {k}": v for k, v in (await survey(transcoder(), tmp_path, NAMED[:4], traps)).items()}
    assert {kind: short(ended) for kind, ended in found.items() if not isinstance(ended, Done)} == {}
    assert canary.visits == 0


@pytest.mark.parametrize("name", broken_media.NAMES)
def test_an_uploaded_file_of_any_name_gets_a_key_and_a_title(name: str) -> None:
    """A segment of a key that is neither an option nor a pattern nor a protocol, and words of one line."""
    segment = names.safe_segment(name)
    assert keys.key_fault(f"uploads/1/{segment}") == ""
    assert re.fullmatch(r"[^\W_][\w.\-]*", segment), segment
    assert names.title_of(name).replace("\u200d", "").isprintable()
    assert names.shown_name(name).replace("\u200d", "").isprintable()


def test_the_collection_is_the_same_each_time() -> None:
    assert len(KINDS) >= 100
    assert broken(7) == broken(7)
    assert set(KINDS) >= broken_media.SLOW | FILM | EITHER
    assert len({broken(n).kind for n in range(40)}) > 10
    assert broken("dref-as-an-alias", Traps(path="/a/b")).data.count(b"/a/b") == 1


async def test_a_small_image_of_a_huge_picture_is_no_watermark(tmp_path: Path) -> None:
    async with JobEnvironment(transcoder(), tmp_path, settings=SETTINGS) as environment:
        await environment.put("marks/bomb.png", containers.png(30_000, 30_000, 2000))
        await environment.put("in/film.mp4", broken_media.film())
        with pytest.raises(Permanent, match="larger than 35651584 pixels") as failed:
            await environment.run(UploadReceived(key="in/film.mp4", recipe=Recipe(watermark=Watermark(key="marks/bomb.png"))))
    assert failed.value.code == "watermark"


async def test_a_hole_in_a_film_takes_no_memory(tmp_path: Path) -> None:
    """A recording that was interrupted for minutes: the picture before stands still, and is not made anew for each moment."""
    card = ("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=2")
    before, after = (
        clips.make(*card, "-c:v", "libx264", "-preset", "ultrafast", *more, suffix=".ts")
        for more in ((), ("-output_ts_offset", "100"))
    )  # fmt: skip
    async with JobEnvironment(transcoder(), tmp_path, settings=SETTINGS) as environment:
        await environment.put("in/film.ts", before.read_bytes() + after.read_bytes())
        with Children() as children:
            done = await environment.run(UploadReceived(key="in/film.ts", recipe=Recipe(heights=(360, 90))))
    assert abs(done.data["duration_seconds"] - 102) < 0.2
    assert children.highest < 400 * 1024**2
