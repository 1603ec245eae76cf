from __future__ import annotations

import pytest

from services.runtime.jobs.failures import Permanent, Transient
from services.runtime.media.presentation import SegmentEntry
from services.transcoder import verification
from services.transcoder.film import AudioMade, FileMade, Film, RungMade, VideoMade
from services.transcoder.segments import chunks
from tests.unit.transcoder.films import film, source, video

ENTRY = SegmentEntry(100_000, 1000)


def made(of: Film, counts: list[int], *, init: str = "i", lost_segments: int = 0) -> list[VideoMade]:
    assert of.grid is not None
    return [
        VideoMade(
            chunk=n,
            frames=frames,
            rungs=tuple(
                RungMade(
                    side=r.side,
                    frames=frames,
                    segments=(ENTRY,) * (of.grid.segments_of(frames) - lost_segments),
                    init_hash=init,
                    codecs="c",
                )
                for r in of.rungs
            ),
        )
        for n, frames in enumerate(counts)
    ]


def planned(of: Film) -> list[int]:
    assert of.grid is not None
    return [c.frames for c in chunks(of.frames, of.grid)]


def test_a_whole_film_is_counted() -> None:
    assert verification.frames(film(), made(film(), planned(film())), []) == 2500


def test_a_few_frames_less_or_more_than_announced_are_no_loss() -> None:
    *first, last = planned(film())
    for difference in (-20, 1, 30):
        assert verification.frames(film(), made(film(), [*first, last + difference]), []) == 2500 + difference


def test_a_film_that_ends_long_before_its_announced_end_is_truncated() -> None:
    with pytest.raises(Permanent, match=r"said to last 100\.0 s, and its pictures end after 32\.0 s") as wrong:
        verification.frames(film(), made(film(), [800, 0, 0]), [])
    assert wrong.value.code == "truncated"


def test_a_film_may_end_before_its_music_where_the_container_tells_one_duration_for_both() -> None:
    loose = film(source(video(own_duration=False, exact=False)))
    music = AudioMade(track=0, seconds=99.9, segments=(ENTRY,) * 25, codecs="mp4a.40.2")
    assert verification.frames(loose, made(loose, [800, 0, 0]), [music]) == 800
    with pytest.raises(Permanent):
        verification.frames(loose, made(loose, [800, 0, 0]), [AudioMade(track=0, seconds=33, segments=(ENTRY,) * 9, codecs="mp4a.40.2")])


def test_a_hole_a_missing_chunk_another_init_segment_and_a_lost_segment_are_noticed() -> None:
    whole = planned(film())
    holed = [whole[0] - 10, *whole[1:]]
    with pytest.raises(Permanent, match="a hole before 32 s"):
        verification.frames(film(), made(film(), holed), [])
    with pytest.raises(Transient, match="2 of 3 chunks"):
        verification.frames(film(), made(film(), whole)[:2], [])
    with pytest.raises(Transient, match="do not fit together"):
        verification.frames(film(), [*made(film(), whole)[:2], *made(film(), whole, init="j")[2:]], [])
    with pytest.raises(Transient, match="segments instead of"):
        verification.frames(film(), made(film(), whole, lost_segments=1), [])


def test_not_one_picture_is_no_film() -> None:
    with pytest.raises(Permanent, match="not one picture"):
        verification.frames(film(), made(film(), [0, 0, 0]), [])


@pytest.mark.parametrize(
    ("frames", "seconds", "fits"), [(2500, 100.0, True), (2500, 100.03, True), (2499, 100.0, False), (2500, 100.05, False)]
)
def test_a_file_has_the_frames_of_the_film_and_its_length_to_one(frames: int, seconds: float, fits: bool) -> None:
    file = FileMade(
        role="rendition",
        bucket="b",
        key="k",
        size=1,
        etag="e",
        content_type="video/mp4",
        width=1280,
        height=720,
        frames=frames,
        seconds=seconds,
    )
    assert film().grid is not None
    if fits:
        verification.file(film(), file, 2500)
    else:
        with pytest.raises(Transient, match="instead of 2500 in 100"):
            verification.file(film(), file, 2500)
