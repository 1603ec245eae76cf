"""Whether what was made is the whole film. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.runtime.jobs.failures import Permanent, Transient
from services.transcoder.film import AudioMade, FileMade, Film, VideoMade
from services.transcoder.segments import chunks

# Containers round durations, and recorders stop in the middle of a frame: so much may be missing of a film that is whole.
_MISSING_SECONDS = 1.0
_MISSING_PART = 0.02


def frames(film: Film, videos: Sequence[VideoMade], audios: Sequence[AudioMade]) -> int:
    """The frames of the film. Raises Permanent `truncated` when there are clearly fewer than the source promised."""
    grid = film.grid
    assert grid is not None
    planned = chunks(film.frames, grid, single=not film.source.seekable or not film.frames)
    made = {v.chunk: v for v in videos}
    if sorted(made) != [c.number for c in planned]:
        raise Transient("chunks", f"{len(made)} of {len(planned)} chunks are there")
    total = sum(v.frames for v in videos)
    if total == 0:
        raise Permanent("no-picture", "not one picture of the film could be decoded", "Does it play on your machine?")
    _whole(film, total, audios)
    ended = False
    for chunk in planned:
        if ended and made[chunk.number].frames:
            raise Permanent("broken", f"the film has a hole before {chunk.first_frame / float(grid.rate):.0f} s", "Upload it again.")
        ended = ended or made[chunk.number].frames < chunk.frames
    for side in (r.side for r in film.rungs):
        parts = [r for v in videos if v.frames for r in v.rungs if r.side == side]
        if len({p.init_hash for p in parts}) > 1:
            raise Transient("init", f"the chunks of {side}p do not fit together: were they encoded by different versions?")
        segments = sum(len(p.segments) for p in parts)
        if segments != grid.segments_of(total):
            raise Transient("segments", f"{side}p has {segments} segments instead of {grid.segments_of(total)}")
    return total


def _whole(film: Film, total: int, audios: Sequence[AudioMade]) -> None:
    video, grid = film.source.video, film.grid
    assert video is not None
    assert grid is not None
    missing = (film.frames - total) / float(grid.rate)
    if missing <= max(_MISSING_SECONDS, _MISSING_PART * film.frames / float(grid.rate)):
        return
    promised, got = film.frames / float(grid.rate), total / float(grid.rate)
    if not video.own_duration and any(a.seconds >= promised - _MISSING_SECONDS for a in audios):
        # The container told one duration for all, and it was the sound's: a film may end before its music.
        return
    raise Permanent(
        "truncated",
        f"the film is said to last {promised:.1f} s, and its pictures end after {got:.1f} s: it is not complete",
        "Upload the whole file again.",
    )


def file(film: Film, made: FileMade, total: int) -> None:
    """One MP4 against the frames of the film: the same number, and as long to within one."""
    grid = film.grid
    if grid is None or made.role != "rendition":
        return
    expected = total / grid.rate
    if made.frames != total or abs(made.seconds - float(expected)) > float(1 / grid.rate):
        raise Transient(
            "duration", f"{made.key} has {made.frames} frames in {made.seconds:.3f} s instead of {total} in {float(expected):.3f} s"
        )
