"""Films that tests hand to the pages piece by piece, as transcoder, streamer and coordinator do."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from schemas.events import Output, PlaylistChanged, StreamReady, TranscodeCompleted
from services.runtime.media.encryption import SegmentKey
from services.runtime.media.presentation import (
    INIT,
    KEY,
    MASTER,
    MEDIA,
    Encryption,
    Rendition,
    SegmentEntry,
    folder_of,
    init_key,
    segment_key,
    segment_name,
)
from services.streamer import playlist
from tests import clips
from tests.servers.gateway import RunningGateway, rendition, status

SECONDS, SEGMENT_SECONDS = 12, 2
SEGMENTS = SECONDS // SEGMENT_SECONDS
HEIGHTS, LANGUAGES = (360, 180), ("eng", "deu")
RECIPE = "0123456789ab"
_TIMESCALE = 1_000_000
_PICTURE = ("-f", "lavfi", "-i", f"testsrc2=size=640x360:rate=25:duration={SECONDS}")
_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "baseline", "-level", "3.0", "-pix_fmt", "yuv420p")
_GOP = ("-g", "50", "-sc_threshold", "0")


@dataclass(frozen=True)
class Clip:
    """`files`: by name. `renditions`: with all of their segments; `parts`: the objects of each, by rendition and name."""

    files: dict[str, bytes]
    renditions: tuple[Rendition, ...]
    parts: dict[str, dict[str, bytes]]


def make_clip(folder: Path) -> Clip:
    """A test card with two tones, in two heights."""
    renditions: list[Rendition] = []
    parts: dict[str, dict[str, bytes]] = {}
    for height in HEIGHTS:
        name = f"video-{height}"
        parts[name], entries = _segmented(folder / name, *_PICTURE, "-vf", f"scale=-2:{height}", *_X264, *_GOP)
        picture = Rendition(
            name=name, kind="video", codecs="avc1.42c01e", timescale=_TIMESCALE, width=height * 16 // 9, height=height, frame_rate=25.0,
            ceiling=height * 3000, segments=entries,
        )  # fmt: skip
        renditions.append(picture)
    for number, language in enumerate(LANGUAGES):
        name = f"audio-{language}"
        tone = ("-f", "lavfi", "-i", f"sine=frequency={220 * (number + 1)}:duration={SECONDS}")
        parts[name], entries = _segmented(folder / name, *tone, "-c:a", "aac")
        sound = Rendition(
            name=name, kind="audio", codecs="mp4a.40.2", timescale=_TIMESCALE, language=language, default=number == 0, channels=1,
            ceiling=128_000, segments=entries,
        )  # fmt: skip
        renditions.append(sound)
    for height in HEIGHTS:
        sources = [str(folder / name / MEDIA) for name in (f"video-{height}", "audio-eng")]
        clips.ffmpeg("-i", sources[0], "-i", sources[1], "-c", "copy", "-movflags", "+faststart", str(folder / f"{height}.mp4"))
    clips.ffmpeg(*_PICTURE, "-frames:v", "1", str(folder / "poster.jpg"))
    clips.ffmpeg(*_PICTURE, "-vf", "fps=1/2,scale=160:90,tile=3x2", "-frames:v", "1", str(folder / "storyboard.jpg"))
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return Clip(files | {"storyboard.vtt": _storyboard()}, tuple(renditions), parts)


def _segmented(folder: Path, *arguments: str) -> tuple[dict[str, bytes], tuple[SegmentEntry, ...]]:
    folder.mkdir()
    clips.ffmpeg(
        *arguments, "-f", "hls", "-hls_time", str(SEGMENT_SECONDS), "-hls_segment_type", "fmp4", "-hls_playlist_type", "vod",
        "-hls_fmp4_init_filename", INIT, "-hls_segment_filename", str(folder / "%05d.m4s"), str(folder / MEDIA),
    )  # fmt: skip
    lines = (folder / MEDIA).read_text(encoding="utf-8").splitlines()
    seconds = [float(line.removeprefix("#EXTINF:").rstrip(",")) for line in lines if line.startswith("#EXTINF:")]
    objects = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MEDIA}
    entries = (SegmentEntry(round(s * _TIMESCALE), len(objects[segment_name(n)])) for n, s in enumerate(seconds))
    return objects, tuple(entries)


def _storyboard() -> bytes:
    cues = (
        f"00:00:{n * 2:02}.000 --> 00:00:{n * 2 + 2:02}.000\nstoryboard.jpg#xywh={n % 3 * 160},{n // 3 * 90},160,90\n" for n in range(6)
    )
    return ("WEBVTT\n\n" + "\n".join(cues)).encode()


class Film:
    """An asset that was uploaded, its job, and what a test has made of it so far."""

    def __init__(self, gateway: RunningGateway, clip: Clip, job_id: str, asset_id: str) -> None:
        self.gateway, self.clip, self.job_id, self.asset_id = gateway, clip, job_id, asset_id
        self.renditions = clip.renditions
        self.folder = folder_of(asset_id, RECIPE)
        self.key: SegmentKey | None = None
        self._there: dict[str, int] = {}

    @classmethod
    async def uploaded(cls, gateway: RunningGateway, clip: Clip, title: str = "Test card") -> Film:
        async with gateway.http.put("/v1/uploads/film.mp4", data=b"bytes of a film", params={"title": title}) as answer:
            assert answer.status == 202
            accepted = await answer.json()
        return cls(gateway, clip, accepted["job_id"], accepted["asset_id"])

    @property
    def url(self) -> str:
        return f"{self.gateway.url}/watch/{self.asset_id}"

    @property
    def store(self) -> Any:
        return self.gateway.gateway.storage.bucket()

    async def tell(self, state: str, progress: float = 0.0, **more: Any) -> None:
        """The job's status."""
        await self.gateway.feed(status(self.job_id, subject=self.asset_id, state=state, progress=progress, **more), self.job_id)

    async def publish(self, segments: int, *, ended: bool = False) -> None:
        """The first so many segments of each rendition, in playlists that grow until they have `ended`."""
        if not self._there and self.key is not None:
            await self.store.put(f"{self.folder}/{KEY}", self.key.key)
        encryption = None if self.key is None else Encryption(iv=self.key.iv_hex)
        for each in self.renditions:
            # Sound has some more: its last segment is shorter.
            wanted = len(each.segments) if ended else segments
            parts = self.clip.parts[each.name]
            await self.store.put(init_key(self.folder, each.name), parts[INIT])
            for number in range(self._there.get(each.name, 0), wanted):
                data = parts[segment_name(number)]
                await self.store.put(segment_key(self.folder, each.name, number), data if self.key is None else self.key.encrypt(data))
            self._there[each.name] = wanted
            so_far = msgspec.structs.replace(each, segments=each.segments[:wanted])
            await self._announce(f"{each.name}/{MEDIA}", playlist.media(so_far, ended=ended, encryption=encryption), wanted, ended)
        await self._announce(MASTER, playlist.master(self.renditions, ended=ended), 0, ended)
        await self._ready(progressive=not ended)

    async def finish(self, *, files: bool = True) -> None:
        """The rest of the stream, the pictures of the seek bar, and the end of the job."""
        for name in ("storyboard.vtt", "storyboard.jpg"):
            await self.store.put(f"assets/{self.asset_id}/{name}", self.clip.files[name])
        await self.publish(SEGMENTS, ended=True)
        await self.transcoded(files=files)

    async def transcoded(self, *, files: bool = True) -> None:
        """The end of the job: MP4 files, poster and thumbnail."""
        folder = f"assets/{self.asset_id}"
        for name in (*(f"{height}.mp4" for height in HEIGHTS), "poster.jpg"):
            await self.store.put(f"{folder}/{name}", self.clip.files[name])
        outputs = (
            *(rendition(self.store.bucket, f"{folder}/{h}.mp4", h, len(self.clip.files[f"{h}.mp4"])) for h in HEIGHTS if files),
            *(
                Output(role=role, bucket=self.store.bucket, key=f"{folder}/poster.jpg", content_type="image/jpeg")
                for role in ("poster", "thumbnail")
            ),
        )
        done = TranscodeCompleted(
            job_id=self.job_id, subject=self.asset_id, kind="transcode", asset_id=self.asset_id, outputs=outputs,
            duration_seconds=float(SECONDS), width=640, height=360, has_video=any(r.kind == "video" for r in self.renditions),
            finished_ms=int(time.time() * 1000),
        )  # fmt: skip
        await self.gateway.feed(done, f"{self.asset_id}:transcode")
        await self.tell("succeeded", 1.0, outputs=outputs)

    async def _announce(self, name: str, text: str, segments: int, ended: bool) -> None:
        key = f"{self.folder}/{name}"
        info = await self.store.put(key, text.encode())
        changed = PlaylistChanged(
            asset_id=self.asset_id, bucket=self.store.bucket, key=key, etag=info.etag, segments=segments, ended=ended
        )  # fmt: skip
        await self.gateway.feed(changed, key)

    async def _ready(self, *, progressive: bool) -> None:
        made = () if progressive else ("storyboard.vtt", "storyboard.jpg")
        ready = StreamReady(
            job_id=self.job_id, subject=self.asset_id, kind="stream", asset_id=self.asset_id, recipe=RECIPE, bucket=self.store.bucket,
            master=f"{self.folder}/{MASTER}", progressive=progressive, encrypted=self.key is not None,
            outputs=tuple(Output(role="storyboard", bucket=self.store.bucket, key=f"assets/{self.asset_id}/{name}") for name in made),
            finished_ms=int(time.time() * 1000),
        )  # fmt: skip
        await self.gateway.feed(ready, f"{self.asset_id}:stream{':progressive' * progressive}")
