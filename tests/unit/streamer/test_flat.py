"""The flat layout: targets, names, parts."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.jobs.failures import Permanent
from services.runtime.media.presentation import Presentation, Rendition, SegmentEntry
from services.streamer import flat


def rendition(name: str = "video-720", width: int = 1280, height: int = 720, *, segments: int = 3, **more: object) -> Rendition:
    whole = Rendition(
        name=name, kind="video" if width else "audio", codecs="avc1.64001f", timescale=1000, width=width, height=height,
        segments=tuple(SegmentEntry(4000, 1) for _ in range(segments)),
    )  # fmt: skip
    return msgspec.structs.replace(whole, **more)


def film(*renditions: Rendition) -> Presentation:
    return Presentation(asset_id="a1", recipe="r1", folder="assets/a1/r1", renditions=renditions)


def test_a_target_is_a_folder_and_a_name() -> None:
    assert flat.parse_target("Holidays/Crete.hls/") == ("Holidays", "Crete")
    assert flat.parse_target("Été/a b (1).hls/") == ("Été", "a b (1)")
    with pytest.raises(Permanent) as caught:
        flat.parse_target("jobs/Crete.hls/")
    assert "keeps its own objects" in str(caught.value)


def test_the_best_rendition_alone_or_those_of_the_heights() -> None:
    whole = film(rendition(), rendition("video-360", 640, 360), rendition("audio-eng", 0, 0))
    assert [r.name for r in flat.choose(whole, ())] == ["video-720"]
    assert [r.name for r in flat.choose(whole, (360, 720))] == ["video-720", "video-360"]
    # As the transcoder has it, heights above the source are the source's own.
    assert [r.name for r in flat.choose(whole, (1080, 720, 360))] == ["video-720", "video-360"]
    with pytest.raises(Permanent, match="no rendition of height 480; there are 720, 360"):
        flat.choose(whole, (480,))


def test_upright_films_are_called_by_their_short_side() -> None:
    upright = rendition("video-720", 720, 1280)
    assert flat.playlist_name(upright) == "720p.m3u8"
    assert [r.name for r in flat.choose(film(upright), (720,))] == ["video-720"]


def test_sound_alone_is_its_default_track() -> None:
    tracks = (rendition("audio-deu", 0, 0), rendition("audio-eng", 0, 0, default=True))
    assert [r.name for r in flat.choose(film(*tracks), (720,))] == ["audio-eng"]
    assert [r.name for r in flat.choose(film(tracks[0]), ())] == ["audio-deu"]
    with pytest.raises(Permanent):
        flat.choose(film(), ())


@given(st.lists(st.integers(1, 4500), min_size=1, max_size=400), st.integers(1, 8))
def test_each_segment_is_in_exactly_one_part(ticks: list[int], windows: int) -> None:
    made = msgspec.structs.replace(rendition(), segments=tuple(SegmentEntry(t, 1) for t in ticks))
    parts = [flat.members(made, n, last=n + 1 == windows) for n in range(windows)]
    assert [n for part in parts for n in part] == list(range(len(ticks)))
    for before, after in pairwise(parts):
        assert before.stop == after.start


def test_parts_are_of_about_five_minutes() -> None:
    assert [flat.windows(seconds) for seconds in (0, 1, 300, 449, 451, 10_800)] == [1, 1, 1, 1, 2, 36]


def test_names_of_one_job_are_told_from_everything_else() -> None:
    stem = flat.stem_of("job-1")
    assert stem != flat.stem_of("job-2")
    one = flat.segment_name(stem, rendition(), 7, several=False)
    several = flat.segment_name(stem, rendition(), 7, several=True)
    assert (one, several) == (f"{stem}-00007.ts", f"{stem}-720-00007.ts")
    for ours in (one, several, "720p.m3u8"):
        assert flat.is_ours(ours)
    for other in ("output.m3u8", "output0.ts", "poster.jpg", "abcdefgh-00001.ts", "seg-00001.ts", "p.m3u8", f"{stem}-1.ts"):
        assert not flat.is_ours(other)


def test_long_segments_are_refused() -> None:
    flat.refuse_long(msgspec.structs.replace(rendition(), segments=(SegmentEntry(4500, 1),)))
    with pytest.raises(Permanent, match=r"up to 4\.6 s"):
        flat.refuse_long(msgspec.structs.replace(rendition(), segments=(SegmentEntry(4600, 1),)))
