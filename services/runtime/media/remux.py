"""What ffmpeg is told to move streams from one container into another without encoding them, and to lay out a storyboard. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ffmpeg

from services.runtime.media import graph

CLOCK_OFFSET = 10
"""Seconds at which the first picture of a transport stream lies: decoding begins earlier, and its clock has no sign."""
AAC_FRAME = 1024
"""Samples (ISO/IEC 14496-3)."""

_FRAGMENTED = "+empty_moov+default_base_moof+skip_trailer"
# `frag_discont`: the first fragment's time is what the packets say and not 0, so tracks that are written apart stay together.
_AT_ITS_TIME = "+frag_discont"
_ANONYMOUS: dict[str, Any] = {"map_metadata": -1, "map_chapters": -1, "fflags": "+bitexact"}
"""Where a phone recorded something is nobody's business."""


def tracks(
    program: str,
    location: str,
    *,
    video: int | None,
    audios: Sequence[int],
    start: float,
    segment_seconds: float,
    descriptors: Sequence[int],
) -> list[str]:
    """Each track as fragmented MP4 by copy to its own pipe, the film first; `video` and `audios` are indices of streams.

    `start`: what becomes 0, in seconds on the source's clock; sound before it is dropped. A fragment of film is a group of
    pictures, one of sound about `segment_seconds` long. Composition offsets are signed, the first picture's is 0: no edit list.
    """
    source = graph.opened(location, copyts=True, itsoffset=f"{-start:.6f}")
    # Without this ffmpeg would move each output to its own beginning.
    common: dict[str, Any] = {"c": "copy", "f": "mp4", "use_editlist": 0, "avoid_negative_ts": "disabled", **_ANONYMOUS}
    outputs: list[Any] = []
    pipes = iter(descriptors)
    if video is not None:
        movflags = _FRAGMENTED + _AT_ITS_TIME + "+frag_keyframe+negative_cts_offsets"
        outputs.append(source[str(video)].output(f"pipe:{next(pipes)}", movflags=movflags, **common))
    for index in audios:
        outputs.append(
            source[str(index)].output(
                f"pipe:{next(pipes)}",
                movflags=_FRAGMENTED + _AT_ITS_TIME,
                frag_duration=round(segment_seconds * 1_000_000),
                # What lies before 0 is dropped, the encoder's priming too, which the source's edit list hides.
                copypriorss=0,
                **common,
            )
        )
    return graph.compiled(program, outputs)


def transport_stream(
    program: str,
    *,
    video: str,
    reorder_seconds: float,
    audio: str,
    cuts: Sequence[int],
    first_number: int,
    pattern: str,
) -> list[str]:
    """MPEG-TS files, numbered from `first_number`, by copy from CMAF segments that were put behind their init segment.

    `video` and `audio` are paths, or empty. The film's composition offsets were shifted by `reorder_seconds`
    (`cmaf.shift_composition`). `cuts`: the numbers, from 0, of the pictures (without film: of the pieces of sound) with which a new
    file begins.
    Time 0 becomes CLOCK_OFFSET, whichever part of a film this is. `pattern`: a path with `%05d`.
    """
    streams: list[Any] = []
    if video:
        streams.append(graph.opened(video, copyts=True, f="mp4", itsoffset=f"{CLOCK_OFFSET - reorder_seconds:.9f}")["v:0"])
    if audio:
        streams.append(graph.opened(audio, copyts=True, f="mp4", itsoffset=f"{CLOCK_OFFSET:.9f}")["a:0"])
    # By numbers and not by times, which some releases count from 0 and some from the first packet. One number is always
    # there: without any the muxer would cut every two seconds.
    frames = ",".join(str(number) for number in cuts or [2**30])
    return graph.compiled(
        program,
        [
            ffmpeg.output(
                *streams, pattern, c="copy", f="segment", segment_format="mpegts", segment_start_number=first_number,
                segment_frames=frames,
                # One muxer for all files: its packet counters go on from file to file (ISO/IEC 13818-1 §2.4.3.3), each file begins
                # with the tables. Between parts they cannot, and the first packets say so.
                individual_header_trailer=0, segment_format_options="mpegts_flags=+initial_discontinuity+resend_headers",
                # No delay of its own on top of ours.
                muxdelay=0, muxpreload=0, avoid_negative_ts="disabled", **_ANONYMOUS,
            )
        ],
    )  # fmt: skip


def storyboard(program: str, *, width: int, height: int, columns: int, rows: int, path: str) -> list[str]:
    """Pictures that arrive as fragmented MP4 on standard input, as tiles of one JPEG, row by row. Fewer than fill it are enough."""
    node = (
        graph.opened("pipe:0", f="mp4")["v:0"]
        .filter("scale", width, height, flags="bilinear")
        .filter("format", "yuvj420p")
        .filter("tile", f"{columns}x{rows}")
    )
    options: dict[str, Any] = {"frames:v": 1, "c:v": "mjpeg", "q:v": 5, "f": "mjpeg", "map_metadata": -1}
    return graph.compiled(program, [node.output(path, **options)])
