"""What is to be made of a source: refused, copied or encoded, in which rungs, in which tasks. Pure."""

from __future__ import annotations

from schemas.events import Recipe
from services.runtime.jobs.failures import Permanent
from services.runtime.media.probe import Source, VideoStream
from services.transcoder import ladder
from services.transcoder.film import ComposeMp4, CopyMp4, EncodeAudio, EncodeVideo, Film, MakeStills, Work
from services.transcoder.segments import chunks

BESIDE_HIGHEST = 720
"""The old transcoder's `-s hd720`, without its distortion and its upscaling (parity W2)."""
# Sound is encoded far faster than real time. Up to this length it is done before a slot would have made the first
# chunk, and playback needs both; a longer film shows its first pictures sooner when they go first.
_AUDIO_FIRST_SECONDS = 600


def refuse_recipe(recipe: Recipe) -> None:
    """Raises Permanent for wishes that contradict each other."""
    if recipe.encryption != "none" and recipe.layout == "beside":
        raise Permanent(
            "encryption",
            f"encryption {recipe.encryption!r} is for segments, and with the layout 'beside' there are none to play",
            "Leave out one of the two: 'encryption', or 'layout'.",
        )


def refuse_size(video: VideoStream, limit: int) -> None:
    """Raises Permanent for pictures that are too large or too small."""
    pixels = video.coded_width * video.coded_height
    size = f"{video.coded_width}×{video.coded_height}"
    if pixels > limit:
        raise Permanent(
            "too-large",
            f"the picture is {size} = {pixels} pixels; at most {limit} are accepted",
            "Scale it down, or raise REELWORKS_MAX_SOURCE_PIXELS.",
        )
    if min(video.width, video.height) < ladder.SMALLEST:
        raise Permanent("too-small", f"the picture is {size}; {ladder.SMALLEST} pixels in each direction are the least")


def rungs(video: VideoStream, recipe: Recipe) -> tuple[ladder.Rung, ...]:
    """The renditions. Beside the input there is one only."""
    rate = float(video.rate)
    if recipe.layout == "beside":
        return ladder.choose(video.width, video.height, heights=(min((*recipe.heights, BESIDE_HIGHEST)),), frame_rate=rate)
    return ladder.choose(video.width, video.height, heights=recipe.heights, frame_rate=rate)


def may_copy(source: Source, recipe: Recipe, rung: ladder.Rung) -> bool:
    """Whether the film can be handed out as it is.

    Only beside the input, where nothing but the MP4 is wanted. A ladder's rungs must have their keyframes at the same
    places, so that players can switch; a source's are where its encoder put them, hence ladders are encoded as a whole.
    H.264 of 8 bits in 4:2:0, square pixels, upright, no watermark, no larger than the rung, under its bit rate.
    """
    video = source.video
    return (
        recipe.layout == "beside"
        and recipe.watermark is None
        and video is not None
        and source.container in ("mov", "mp4", "matroska")
        and video.codec == "h264"
        and video.pixel_format == "yuv420p"
        and not video.hdr
        and not video.interlaced
        and video.rotation == 0
        and video.sample_aspect in ("1:1", "N/A", "0:1")
        and (video.coded_width, video.coded_height) == (rung.width, rung.height)
        and video.exact
        and 0 < video.bit_rate <= rung.max_rate
    )


def copies_audio(source: Source) -> bool:
    """AAC-LC, mono or stereo: plays everywhere as it is."""
    audio = source.audio
    return audio is not None and audio.codec == "aac" and audio.profile == "LC" and audio.channels <= 2


def stages(film: Film) -> tuple[list[Work], list[Work]]:
    """Tasks that encode, and tasks that put together what was encoded."""
    source = film.source
    if source.video is None or film.grid is None:
        return sounds(source), [ComposeMp4(side=0)]
    if film.copied:
        return [], [CopyMp4(copy_audio=copies_audio(source)), MakeStills()]
    parts = chunks(film.frames, film.grid, single=not source.seekable or not film.frames)
    encoding: list[Work] = [EncodeVideo(chunk=c) for c in parts]
    at = 0 if source.duration_seconds <= _AUDIO_FIRST_SECONDS else 1
    encoding[at:at] = sounds(source)
    return encoding, [*(ComposeMp4(side=r.side) for r in film.rungs), MakeStills()]


def sounds(source: Source) -> list[Work]:
    """A task for each sound track, the default one's first: it is the one that the MP4s hold."""
    return [EncodeAudio(track=n) for n in sorted(range(len(source.audios)), key=lambda n: not source.audios[n].default)]
