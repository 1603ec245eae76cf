"""What is in a file, by ffprobe: the streams that will be used, as they are to be seen and heard."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec

from services.runtime.media import frame_rates, sandbox
from services.runtime.media.confinement import Confinement
from services.runtime.media.failures import BadMedia, MediaTrouble
from services.runtime.media.process import OutputTooLong, ProcessFailed, output_of

ACCEPTED = "Accepted are MP4, MOV, MKV, WebM, AVI, MPEG-TS/PS, FLV, WMV, OGG, GIF and the usual audio files, complete."

LEAST_FRAME_BYTES = 8
"""A picture that only says "as before" takes about as many, in any codec (H.264 in MP4: 4 for its length, a header of 2 or more,
and its size in the index)."""

HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})
"""ITU-R BT.2100: PQ and HLG."""

SEEKABLE = frozenset({"mov", "matroska", "webm", "avi", "mpegts", "mpeg", "asf", "flv", "ogg", "mxf", "nut"})
"""Containers in which a reader can begin near a time. Others (GIF, whose pictures build on all before) are read from the start."""
INDEXED = frozenset({"mov", "matroska", "webm", "mxf"})
"""Those that say where their keyframes are."""
MOST_AUDIOS = 8
"""Sound tracks that are taken: each is read and encoded by itself, and a file may announce any number."""
_LONGEST_LABEL = 100
_REPORT_LIMIT = 8 * 1024**2
"""Bytes. A thousand tracks, which is all that ffprobe looks at, are 3 MB."""


class VideoStream(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    codec: str
    width: int
    height: int
    """Of the picture as it is to be shown: turned, pixels square."""
    coded_width: int
    coded_height: int
    rate_num: int
    rate_den: int
    constant: bool
    """Whether the source has this frame rate throughout."""
    start_seconds: float
    duration_seconds: float
    """0 when nothing tells it."""
    frames: int
    """Estimate of the frames at that rate; 0 when unknown."""
    exact: bool
    """Whether `frames` is the container's own count."""
    own_duration: bool
    """Whether the duration is this stream's, and not that of the whole file."""
    rotation: int
    sample_aspect: str
    pixel_format: str
    transfer: str
    interlaced: bool
    bit_rate: int

    @property
    def rate(self) -> Fraction:
        return Fraction(self.rate_num, self.rate_den)

    def fits(self, size: int) -> bool:
        """Whether a file of `size` bytes can hold as many pictures as are promised."""
        return self.frames * LEAST_FRAME_BYTES <= size

    @property
    def hdr(self) -> bool:
        return self.transfer in HDR_TRANSFERS


class AudioStream(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    codec: str
    channels: int
    sample_rate: int
    language: str
    """ISO 639, `und` when not told."""
    start_seconds: float
    duration_seconds: float
    bit_rate: int = 0
    profile: str = ""
    label: str = ""
    """What the source calls the track, for people."""
    default: bool = False
    """It plays when nobody chose; one of a source's tracks does."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    container: str
    seekable: bool
    indexed: bool
    duration_seconds: float
    video: VideoStream | None = None
    audios: tuple[AudioStream, ...] = ()
    """In the order of the file, MOST_AUDIOS at most."""

    @property
    def audio(self) -> AudioStream | None:
        """The default track."""
        return max(self.audios, key=lambda a: a.default, default=None)


async def probe(
    ffprobe: str,
    location: str,
    *,
    within: Confinement | None,
    container: str = "mp4",
    timeout: float = 60.0,
    check: Callable[[], None] | None = None,
) -> Source:
    """The streams of a path or signed URL. `container`: what its first bytes are, as `structure.examine` tells.

    Raises BadMedia (`not-a-video`, `no-streams`), or MediaTrouble when the store does not answer.
    """
    url = sandbox.as_url(location)
    argv = [
        ffprobe, "-v", sandbox.VERBOSITY, "-hide_banner",
        *sandbox.as_arguments(sandbox.reading(url)),
        # One call for everything, and only the head is read: this stands between an upload and its first picture.
        "-show_format", "-show_streams", "-of", "json",
        "-i", url,
    ]  # fmt: skip
    try:
        said, complaints = await output_of(argv, within=within, timeout=timeout, check=check, limit=_REPORT_LIMIT)
    except ProcessFailed as failed:
        if container != "mp4" and _NO_INDEX in failed.stderr:
            # It was taken for an MP4 by its name only.
            raise BadMedia("not-a-video", "this is no video or audio that can be read, whatever its name says", ACCEPTED) from None
        raise refused(failed) from None
    except OutputTooLong:
        raise BadMedia("not-a-video", "its titles and other notes, or its tracks, are more than any film has", ACCEPTED) from None
    if "partial file" in complaints:
        # What ffprobe says of an index that points behind the end.
        raise _truncated("its index names pictures or sound behind its end")
    return parse(msgspec.json.decode(said, type=dict[str, Any]))


def refused(failed: ProcessFailed) -> BadMedia | MediaTrouble:
    """Whether the input or the way to it is at fault when ffprobe or ffmpeg gave up."""
    said = failed.stderr
    # Paths and addresses are of no use to a person who uploaded something, and an address carries a signature.
    lines = [_complaint(line) for line in said.strip().splitlines()]
    plain = next((line for line in reversed(lines) if not line.startswith(_EPILOGUE)), lines[-1] if lines else "")
    if failed.status == -signal.SIGXFSZ or "File too large" in said:
        return MediaTrouble("scratch-quota", f"{failed.program} wrote a file to its limit", "Raise REELWORKS_SCRATCH_QUOTA_BYTES.")
    if failed.status < 0:
        return MediaTrouble("media-killed", str(failed), "Was there enough memory?")
    if any(sign in said for sign in _NO_MEMORY):
        return BadMedia(
            "too-much-memory",
            "to read it takes more memory than is allowed: it is very large, or its index is broken",
            "Convert it to something smaller, or raise REELWORKS_MEDIA_MEMORY_BYTES.",
        )
    for sign in _TROUBLE:
        if sign in said:
            return MediaTrouble("media-read", f"{failed.program} could not read the input: {plain}")
    if _NO_INDEX in said:
        return _truncated("its index (the 'moov' box) is missing")
    if "Decode error rate" in said:
        return BadMedia(
            "undecodable", "most of its pictures or its sound cannot be decoded", "Does it play on your machine? Convert it there first."
        )
    why = "" if plain in _SAYS_NOTHING else f": {plain}"
    return BadMedia("not-a-video", f"this is no video or audio that can be read{why}", ACCEPTED)


def _complaint(line: str) -> str:
    """What a line says, without who says it and where the input lies."""
    line = re.sub(r"^\[[^\]]*\]\s*", "", line)
    if line.startswith(("http:", "https:", "file:")):
        line = line.rpartition(": ")[2]
    return _line(re.sub(r"(?:https?|file):\S+", "the input", line))


def _truncated(why: str) -> BadMedia:
    return BadMedia("truncated", f"the file is not complete: {why}", "Upload the whole file again.")


_NO_MEMORY = ("Cannot allocate memory", "Out of memory")
"""Of glibc and musl. The machine's own shortage ends a program with a signal; what says this ran into its limit."""
_NO_INDEX = "moov atom not found"
_EPILOGUE = ("Error opening input files", "Error opening input file", "Conversion failed", "Error opening output")
"""Last lines that repeat that something failed."""
_SAYS_NOTHING = ("", "Invalid data found when processing input", "Invalid argument", "End of file")
_TROUBLE = (
    "HTTP error 5", "HTTP error 429", "Server returned 5", "Connection refused", "Connection reset", "Connection timed out",
    "Network is unreachable", "Permission denied",
    "Operation timed out", "No space left on device", "Too many open files", "Name or service not known",
    "Temporary failure in name resolution", "Resource temporarily unavailable",
)  # fmt: skip


def parse(report: dict[str, Any]) -> Source:
    """ffprobe's JSON as a Source. Raises BadMedia `no-streams`."""
    form: dict[str, Any] = report.get("format", {})
    streams: list[dict[str, Any]] = report.get("streams", [])
    names = str(form.get("format_name", "")).split(",")
    whole = _seconds(form.get("duration"))
    video = max((s for s in streams if _is_film(s)), key=_preference, default=None)
    audios = _audios([s for s in streams if _is_sound(s)], whole)
    if video is None and not audios:
        kinds = ", ".join(sorted({str(s.get("codec_type", "unknown")) for s in streams})) or "nothing"
        raise BadMedia("no-streams", f"there is no video and no sound in this file; it holds {kinds}", ACCEPTED)
    return Source(
        container=names[0],
        seekable=bool(SEEKABLE & set(names)),
        indexed=bool(INDEXED & set(names)),
        duration_seconds=whole,
        video=_video(video, names, whole) if video else None,
        audios=audios,
    )


def _is_film(stream: dict[str, Any]) -> bool:
    if stream.get("codec_type") != "video" or stream.get("codec_name", "unknown") in ("unknown", "none"):
        return False
    if any(_flag(stream, d) for d in ("attached_pic", "still_image", "timed_thumbnails")):
        return False
    return int(stream.get("width", 0)) > 0 and int(stream.get("height", 0)) > 0


def _is_sound(stream: dict[str, Any]) -> bool:
    return (
        stream.get("codec_type") == "audio"
        and stream.get("codec_name", "unknown") not in ("unknown", "none")
        and int(stream.get("channels", 0)) > 0
        and int(stream.get("sample_rate", 0)) > 0
    )


def _preference(stream: dict[str, Any]) -> tuple[int, int, int]:
    known = frame_rates.parse(stream.get("avg_frame_rate")) is not None
    return _flag(stream, "default"), int(stream["width"]) * int(stream["height"]), int(known)


def _flag(stream: dict[str, Any], name: str) -> int:
    return int(stream.get("disposition", {}).get(name, 0))


def _video(stream: dict[str, Any], names: list[str], whole: float) -> VideoStream:
    rate, constant = frame_rates.choose(frame_rates.parse(stream.get("avg_frame_rate")), frame_rates.parse(stream.get("r_frame_rate")))
    own = _seconds(stream.get("duration")) or _tagged_duration(stream)
    start = _seconds(stream.get("start_time"))
    # Some containers know only how long everything is; the film's part of it begins where its first frame does.
    duration = own or whole
    counted = int(stream["nb_frames"]) if str(stream.get("nb_frames", "")).isdigit() else 0
    frames = round(duration * rate)
    # The count holds when it agrees with duration and rate: a header may also count frames that an edit list hides.
    exact = constant and counted > 0 and abs(counted - frames) <= 1
    rotation = _rotation(stream)
    width, height = _shown(stream, rotation)
    return VideoStream(
        index=int(stream["index"]),
        codec=str(stream["codec_name"]),
        width=width,
        height=height,
        coded_width=int(stream["width"]),
        coded_height=int(stream["height"]),
        rate_num=rate.numerator,
        rate_den=rate.denominator,
        constant=constant,
        start_seconds=start,
        duration_seconds=duration,
        frames=counted if exact else max(frames, 1) if duration else 0,
        exact=exact,
        own_duration=bool(own),
        rotation=rotation,
        sample_aspect=str(stream.get("sample_aspect_ratio", "1:1")),
        pixel_format=str(stream.get("pix_fmt", "")),
        transfer=str(stream.get("color_transfer", "")),
        interlaced=stream.get("field_order") in ("tt", "bb", "tb", "bt"),
        bit_rate=int(stream.get("bit_rate", 0)),
    )


def _audios(streams: list[dict[str, Any]], whole: float) -> tuple[AudioStream, ...]:
    if not streams:
        return ()
    # `max` takes the first of equals: the order in the file decides among equals, and nothing else. Several may be marked.
    default = max(streams, key=lambda s: _flag(s, "default"))
    taken = sorted(streams, key=lambda s: s is not default)[:MOST_AUDIOS]
    return tuple(_audio(s, whole, default=s is default) for s in streams if s in taken)


def _audio(stream: dict[str, Any], whole: float, *, default: bool) -> AudioStream:
    tags: dict[str, Any] = stream.get("tags", {})
    language = str(tags.get("language", "und")).lower()
    return AudioStream(
        index=int(stream["index"]),
        codec=str(stream["codec_name"]),
        channels=int(stream["channels"]),
        sample_rate=int(stream["sample_rate"]),
        language=language if re.fullmatch(r"[a-z]{2,3}", language) else "und",
        start_seconds=_seconds(stream.get("start_time")),
        duration_seconds=_seconds(stream.get("duration")) or whole,
        bit_rate=int(stream.get("bit_rate", 0)),
        profile=str(stream.get("profile", "")),
        # Matroska has titles, MP4 names. Not `handler_name`: nearly every MP4 has one, and it names the program that wrote it.
        label=_line(str(tags.get("title") or tags.get("name") or "")),
        default=default,
    )


def _line(text: str) -> str:
    """Printable, in one line, not endless: it is shown to people and stands in playlists."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_LONGEST_LABEL].strip()


def _rotation(stream: dict[str, Any]) -> int:
    """Clockwise turn of the picture in degrees, 0, 90, 180 or 270. ffmpeg applies it by itself while decoding."""
    for data in stream.get("side_data_list", []):
        if "rotation" in data:
            return round(-float(data["rotation"]) / 90) * 90 % 360
    return 0


def _shown(stream: dict[str, Any], rotation: int) -> tuple[int, int]:
    """Width and height with square pixels, turned. Pixel aspects beyond 4:1 are taken for errors of the file."""
    width, height = int(stream["width"]), int(stream["height"])
    numerator, _, denominator = str(stream.get("sample_aspect_ratio", "1:1")).partition(":")
    if numerator.isdigit() and denominator.isdigit() and int(numerator) > 0 and int(denominator) > 0:
        aspect = Fraction(int(numerator), int(denominator))
        if Fraction(1, 4) <= aspect <= 4:
            width = max(1, round(width * aspect))
    return (height, width) if rotation in (90, 270) else (width, height)


def _seconds(text: Any) -> float:
    try:
        seconds = float(text)
    except (TypeError, ValueError):
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0


def _tagged_duration(stream: dict[str, Any]) -> float:
    """Matroska's statistics tag `DURATION`, `00:00:55.125000000`."""
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", str(stream.get("tags", {}).get("DURATION", "")))
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0
