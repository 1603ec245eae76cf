"""What ffmpeg is told: each function makes one argument vector. Pure; graphs are built by ffmpeg-python and compiled here.

Time is absolute (`-copyts`): a film's frame k lies at `origin + k / rate` on the source's own clock, whichever chunk it
is in, whatever the reader's seek did. The `fps` filter lays that grid, drops what lies before a chunk, and holds the
last picture where the source has none, so a chunk always has the frames that it was planned to have.

That filter comes last. For a hole in the source it hands out all the repeated pictures at once; as they stand they are references to one,
and whatever came behind it would make as many new ones: ten minutes at 360p took 5 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import ffmpeg
import msgspec

from services.runtime.media import graph
from services.runtime.media.probe import AudioStream, Source, VideoStream

PRESET = "veryfast"
"""x264's: half of the time of `medium` (6.6 against 13.8 CPU seconds for 12 s of the sample at 480p) at SSIM .982 against .988:
a film is to be seen soon, and encoded on small machines."""
CRF = 23
"""x264's default: quality is constant, so simple pictures stay below the ladder's bit rates, which are the ceiling."""
REORDER_FRAMES = 2
"""By how many frames x264 delays pictures with its default B-frame pyramid; `cmaf.shift_composition` checks that it holds."""
AUDIO_RATE = 48_000
"""Samples per second, and the time scale of the segments."""
AUDIO_CHANNELS = 2
AUDIO_BITS = 128_000
"""Apple HLS Authoring Specification: AAC-LC stereo, 128 kbit/s lies inside of its 32 to 160."""
AAC_PRIMING = 1024
"""Samples that ffmpeg's AAC encoder puts before the first one (ISO/IEC 14496-3: one frame)."""
VERSION = "1"
"""Of all that decides bytes in this file: part of the outputs' keys. Raise it with every change that viewers can see."""

# A reader begins at the keyframe before a chunk. Frames that are shown before that keyframe but stored behind it (open
# GOPs) are lost, so it begins a little earlier; where the container has no index, early enough for any usual GOP.
_LEAD_INDEXED = 1.0
_LEAD_SEARCHED = 12.0
# With several frames in threads x264's buffer model (maxrate) looks at frames that are still being encoded, so the bits
# depend on timing: of six runs one differed. With one thread a second attempt writes the same. It cost some 7 % of CPU time on
# two processors; the rungs of a ladder are encoded side by side, and a machine with more processors has more slots.
_ENCODER_THREADS = 1
_BEFORE_ALL = 1_000_000_000
"""Seconds by which a watermark is earlier than any picture."""
_FRAGMENTED = "+frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets+skip_trailer"


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """One rung as the encoder sees it."""

    width: int
    height: int
    max_rate: int
    """Ceiling in bits per second."""


class Overlay(msgspec.Struct, frozen=True, kw_only=True):
    """A watermark, its file fetched."""

    path: str
    opacity: float
    position: str
    width: float
    offset: int


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the film's grid of frames."""

    first_frame: int
    frames: int
    """Most; fewer where the source ends before."""
    rate: Fraction
    origin: float
    """Time of frame 0 on the source's clock, in seconds."""
    segment_frames: int
    timescale: int

    @property
    def start(self) -> float:
        return self.origin + float(self.first_frame / self.rate)


def video_chunk(
    program: str,
    location: str,
    source: Source,
    span: Span,
    pictures: Sequence[Picture],
    descriptors: Sequence[int],
    *,
    overlay: Overlay | None = None,
    threads: int = 0,
) -> list[str]:
    """One chunk in all rungs, largest first, each scaled from the one above and written as fragmented MP4 to its own pipe."""
    video = _film(source)
    node = _shown(_open(location, source, span.start, source.video), video, pictures[0], overlay)
    outputs: list[Any] = []
    for number, (picture, descriptor) in enumerate(zip(pictures, descriptors, strict=True)):
        if number:
            node = node.filter("scale", picture.width, picture.height)
        if number + 1 < len(pictures):
            halves = node.split()
            rung, node = halves[0], halves[1]
        else:
            rung = node
        outputs.append(
            _on_grid(rung, span.rate, span.start).output(f"pipe:{descriptor}", **_h264(span, picture), **_fragments(span.timescale))
        )
    return graph.compiled(program, outputs, threads=threads)


def _h264(span: Span, picture: Picture) -> dict[str, Any]:
    return {
        "c:v": "libx264", "preset": PRESET, "profile:v": "high", "crf": CRF, "threads:v": _ENCODER_THREADS,
        # The ceiling of the rung, over a buffer of two seconds (peak ≤ 200 % of the average, as Apple asks for VOD).
        "maxrate": picture.max_rate, "bufsize": 2 * picture.max_rate,
        # Keyframes exactly at the segments' borders, nowhere else, and nothing refers across them.
        "g": span.segment_frames, "keyint_min": span.segment_frames, "sc_threshold": 0, "flags": "+cgop+bitexact",
        "frames:v": span.frames,
    }  # fmt: skip


def _fragments(timescale: int) -> dict[str, Any]:
    """One fragment per keyframe; times begin at 0 and `cmaf.place` moves them. No edit list: players of fragments differ in it."""
    return {
        "f": "mp4", "movflags": _FRAGMENTED, "use_editlist": 0, "video_track_timescale": timescale,
        # Where a phone recorded something is nobody's business.
        "map_metadata": -1, "map_chapters": -1, "fflags": "+bitexact",
    }  # fmt: skip


def audio_track(
    program: str, location: str, audio: AudioStream, *, origin: float, longest: float, segment_seconds: float, descriptor: int
) -> list[str]:
    """The whole of a sound track, `longest` seconds at most, as AAC-LC stereo, in fragments of about a segment, to one pipe.

    It begins with the film's first frame: earlier sound is cut, missing sound is silence, gaps are filled. The encoder's
    priming takes the place of the first 1024 samples (21 ms), so sound and picture lie together without an edit list.
    """
    stream = graph.opened(location, copyts=True, vn=None)[str(audio.index)]
    sound = (
        stream.filter("asetpts", f"PTS-({origin:.6f})/TB")
        # `async`: samples are stretched or filled in where time stamps say so; `first_pts` makes 0 the beginning.
        .filter("aresample", AUDIO_RATE, **{"async": 1000, "first_pts": 0})
        .filter("aformat", channel_layouts="stereo")
        .filter("atrim", start_sample=AAC_PRIMING)
        .filter("asetpts", "PTS-STARTPTS")
    )
    output = sound.output(
        f"pipe:{descriptor}",
        **{"c:a": "aac", "b:a": AUDIO_BITS, "ac": AUDIO_CHANNELS, "ar": AUDIO_RATE, "flags": "+bitexact", "t": longest},
        f="mp4", movflags="+empty_moov+default_base_moof+skip_trailer", frag_duration=round(segment_seconds * 1_000_000),
        use_editlist=0, map_metadata=-1, map_chapters=-1, fflags="+bitexact",
    )  # fmt: skip
    return graph.compiled(program, [output])


def still(
    program: str,
    location: str,
    source: Source,
    *,
    at: float,
    origin: float,
    picture: Picture,
    path: str,
    overlay: Overlay | None = None,
) -> list[str]:
    """The frame that is shown `at` seconds after the first one, as JPEG."""
    video = _film(source)
    node = _shown(_open(location, source, origin + at, video), video, picture, overlay).filter("format", "yuvj420p")
    node = _on_grid(node, video.rate, origin + at)
    return graph.compiled(program, [node.output(path, **{"frames:v": 1, "c:v": "mjpeg", "q:v": 3, "f": "mjpeg", "map_metadata": -1})])


def shrink(program: str, image: str, *, width: int, height: int, path: str) -> list[str]:
    """A JPEG in another size."""
    node = graph.opened(image, images=True).filter("scale", width, height, flags="lanczos").filter("format", "yuvj420p")
    return graph.compiled(program, [node.output(path, **{"frames:v": 1, "c:v": "mjpeg", "q:v": 4, "f": "mjpeg", "map_metadata": -1})])


def progressive(
    program: str, path: str, *, rate: Fraction | None = None, timescale: int = 0, audio_path: str = "", video: bool = True
) -> list[str]:
    """One MP4 by copy: the film's fragments arrive on standard input (their offsets without sign), the sound lies in a file.

    `+faststart`: the index stands before the media, so that a browser can begin while it loads.
    """
    streams: list[Any] = []
    if video:
        assert rate is not None
        # The reader's clock begins where decoding does; the first picture is shown REORDER_FRAMES later. (Without `-copyts`
        # ffmpeg would move each input to where it takes its beginning to be, and sound and picture apart.)
        streams.append(graph.opened("pipe:0", copyts=True, f="mp4", itsoffset=f"{float(-REORDER_FRAMES / rate):.9f}")["v:0"])
    if audio_path:
        streams.append(graph.opened(audio_path, copyts=True)["a:0"])
    options: dict[str, Any] = {"c": "copy", "movflags": "+faststart", "map_metadata": -1, "fflags": "+bitexact", "f": "mp4"}
    if video:
        options["video_track_timescale"] = timescale
    return graph.compiled(program, [ffmpeg.output(*streams, path, **options)])


def remux(program: str, location: str, source: Source, *, path: str, copy_audio: bool) -> list[str]:
    """Film and sound into one MP4 without encoding the film; the sound too where it is AAC already."""
    video = _film(source)
    opened = graph.opened(location)
    streams = [opened[str(video.index)]] + ([opened[str(source.audio.index)]] if source.audio else [])
    options: dict[str, Any] = {
        "c:v": "copy",
        "movflags": "+faststart",
        "map_metadata": -1,
        "map_chapters": -1,
        "fflags": "+bitexact",
        "f": "mp4",
    }
    if source.audio:
        options |= {"c:a": "copy"} if copy_audio else {"c:a": "aac", "b:a": AUDIO_BITS, "ac": AUDIO_CHANNELS, "ar": AUDIO_RATE}
    return graph.compiled(program, [ffmpeg.output(*streams, path, **options)])


def decode(program: str, image: str) -> list[str]:
    """Read an image and make nothing of it."""
    return graph.compiled(program, [graph.opened(image, images=True).output("-", f="null", **{"frames:v": 1})])


def count(program: str, location: str, index: int) -> list[str]:
    """Read one stream to its end without decoding it; progress tells its frames and its last time."""
    return graph.compiled(program, [graph.opened(location)[str(index)].output("-", c="copy", f="null")])


def _film(source: Source) -> VideoStream:
    assert source.video is not None
    return source.video


def _open(location: str, source: Source, start: float, video: VideoStream | None) -> Any:
    """The film's stream from a little before `start` on."""
    assert video is not None
    lead = _LEAD_INDEXED if source.indexed else _LEAD_SEARCHED
    # ffmpeg counts `-ss` from the file's first time stamp, which is at or before the film's.
    seek = start - video.start_seconds - lead
    if not source.seekable or seek <= 0:
        return graph.opened(location, copyts=True, an=None)[str(video.index)]
    # Not accurate: pictures before `start` are wanted, the last of them is held where the rate varies. The grid cuts.
    return graph.opened(location, copyts=True, an=None, ss=f"{seek:.6f}", noaccurate_seek=None)[str(video.index)]


def _on_grid(node: Any, rate: Fraction, start: float) -> Any:
    return node.filter("fps", fps=f"{rate.numerator}/{rate.denominator}", start_time=f"{start:.6f}").filter("setpts", "PTS-STARTPTS")


def _shown(node: Any, video: VideoStream, picture: Picture, overlay: Overlay | None) -> Any:
    """Turned (ffmpeg does that while decoding), progressive, scaled, pixels square, SDR, 8 bit, marked."""
    if video.interlaced:
        # Only frames that are marked as interlaced; one picture out of two fields, so the rate stays.
        node = node.filter("bwdif", mode="send_frame", deint="interlaced")
    # Limited range, as players expect it: cameras also write the full one.
    node = node.filter("scale", picture.width, picture.height, out_range="limited")
    if video.hdr:
        node = (
            # Linear light with 100 cd/m² as SDR's white, BT.709 primaries, then the highlights rolled off (Hable, no desaturation).
            node.filter("zscale", tin=video.transfer, min="bt2020nc", pin="bt2020", t="linear", npl=100)
            .filter("format", "gbrpf32le")
            .filter("zscale", p="bt709")
            .filter("tonemap", "hable", desat=0)
            .filter("zscale", t="bt709", m="bt709", r="tv")
        )
    node = node.filter("setsar", 1).filter("format", "yuv420p")
    if overlay is not None:
        node = _marked(node, picture, overlay).filter("format", "yuv420p")
    return node


def _marked(node: Any, picture: Picture, overlay: Overlay) -> Any:
    width = max(2, round(picture.width * overlay.width))
    gap = round(overlay.offset * min(picture.width, picture.height) / 1080)
    mark = (
        graph.opened(overlay.path, images=True)
        # Pictures before time 0 are marked, too: the last of them may be held.
        .filter("setpts", f"PTS-{_BEFORE_ALL}/TB")
        .filter("scale", width, -1)
        .filter("format", "rgba")
        .filter("colorchannelmixer", aa=overlay.opacity)
    )
    left, right, top, bottom = str(gap), f"W-w-{gap}", str(gap), f"H-h-{gap}"
    x, y = {
        "top-left": (left, top),
        "top-right": (right, top),
        "bottom-left": (left, bottom),
        "bottom-right": (right, bottom),
        "center": ("(W-w)/2", "(H-h)/2"),
    }[overlay.position]
    return ffmpeg.filter([node, mark], "overlay", x, y)
