"""Which films are packaged as they are, and which need the transcoder first. Pure.

The answer is an obstacle in words, empty when there is none.
"""

from __future__ import annotations

from itertools import pairwise

from schemas.events import Recipe
from services.runtime.media.keyframes import Cuts
from services.runtime.media.probe import AudioStream, Source, VideoStream
from services.runtime.media.remux import AAC_FRAME

SEGMENT_SECONDS = 4.0
"""What segments are joined to; the transcoder's have the same length."""
LONGEST_SECONDS = 4.5
"""The longest segment, hence the greatest distance of key frames: players buffer and switch by segments."""
CONTAINERS = ("mov", "matroska")
"""Those whose times and key frames can be relied upon, by the first of ffprobe's names. A transport stream's clock may jump."""
# H.264 level 4.2 ends there (ITU-T H.264, table A-1), and so do most decoders of phones and television sets.
_MOST_PIXELS = 1920 * 1088
_LONGEST_SIDE = 1920
_MOST_FRAMES_A_SECOND = 61
# Pixels, and bits per second that are enough for them at up to 60 pictures a second: half above the highest that Apple's HLS Authoring
# Specification (1.6, H.264) recommends for that size at 30, as the transcoder's ladder has it. Between them in proportion.
_ENOUGH: tuple[tuple[int, int], ...] = (
    (416 * 234, 600_000),
    (640 * 360, 1_200_000),
    (854 * 480, 2_400_000),
    (960 * 540, 3_000_000),
    (1280 * 720, 6_750_000),
    (1920 * 1080, 11_700_000),
)


def obstacle(source: Source, recipe: Recipe, size: int) -> str:
    """What its streams say, before its key frames are looked at. `size`: bytes of the file."""
    if source.container not in CONTAINERS:
        return f"its container is {source.container}"
    if recipe.watermark is not None:
        return "a watermark is to be laid over it"
    if source.video is None:
        return _audios(source)
    return _picture(source.video) or _heights(source.video, recipe) or _rate(source, source.video, size) or _audios(source)


def cut_obstacle(cuts: Cuts, video: VideoStream, source: Source) -> str:
    """What its key frames and its beginnings say."""
    if cuts.obstacle:
        return cuts.obstacle
    if cuts.longest_seconds > LONGEST_SECONDS:
        return f"its key frames are up to {cuts.longest_seconds:.1f} s apart"
    for audio in source.audios:
        # Earlier sound is cut. A hole before it would have to be filled with silence, and that is encoding.
        late = audio.start_seconds - cuts.start_seconds
        if late > max(float(1 / video.rate), AAC_FRAME / audio.sample_rate):
            return f"its sound begins {late:.3f} s after its picture"
    return ""


def joined_seconds(longest_gop: float) -> float:
    """How long segments may get: SEGMENT_SECONDS, and a little for frames that do not fit, unless one group is longer."""
    return min(LONGEST_SECONDS, max(SEGMENT_SECONDS + 0.05, longest_gop))


def enough_bits(pixels: int) -> int:
    """Bits per second above which a film of this size is encoded again."""
    if pixels <= _ENOUGH[0][0]:
        return _ENOUGH[0][1]
    for (lower, low), (upper, high) in pairwise(_ENOUGH):
        if pixels <= upper:
            return round(low + (high - low) * (pixels - lower) / (upper - lower))
    return _ENOUGH[-1][1]


def _picture(video: VideoStream) -> str:
    size = f"{video.coded_width}×{video.coded_height}"
    checks = (
        (video.codec != "h264", f"its picture is {video.codec}, not H.264"),
        (video.pixel_format != "yuv420p", f"its pixels are {video.pixel_format}, not 8-bit 4:2:0"),
        (video.hdr, "its picture is HDR"),
        (video.interlaced, "its picture is interlaced"),
        (video.rotation != 0, "its picture is turned"),
        (video.sample_aspect not in ("1:1", "N/A", "0:1"), "its pixels are not square"),
        (video.coded_width * video.coded_height > _MOST_PIXELS, f"its picture is {size}"),
        (max(video.coded_width, video.coded_height) > _LONGEST_SIDE, f"its picture is {size}"),
        (video.rate > _MOST_FRAMES_A_SECOND, f"it has {float(video.rate):.0f} pictures a second"),
    )
    return next((words for wrong, words in checks if wrong), "")


def _heights(video: VideoStream, recipe: Recipe) -> str:
    """Those above the source's own are its own, as the transcoder has it."""
    own = min(video.width, video.height)
    other = [h for h in recipe.heights if h < own]
    return f"other heights than its own {own} were asked for" if other else ""


def _rate(source: Source, video: VideoStream, size: int) -> str:
    rate = video.bit_rate or (round(size * 8 / source.duration_seconds) if source.duration_seconds else 0)
    most = enough_bits(video.width * video.height)
    if not rate:
        return "nothing tells its bit rate"
    return f"it has {rate / 1e6:.1f} Mbit/s, and {most / 1e6:.1f} are enough for its size" if rate > most else ""


def _audios(source: Source) -> str:
    return next((words for words in map(_audio, source.audios) if words), "")


def _audio(audio: AudioStream) -> str:
    if audio.codec != "aac" or audio.profile != "LC":
        return f"its sound is {audio.codec} {audio.profile}".rstrip() + ", not AAC-LC"
    return f"its sound has {audio.channels} channels" if audio.channels > 2 else ""
