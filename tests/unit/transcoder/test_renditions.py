from __future__ import annotations

from services.runtime.media.encryption import SegmentKey
from services.runtime.media.presentation import Encryption, SegmentEntry
from services.transcoder import renditions
from services.transcoder.film import AudioMade, Film, RungMade, VideoMade
from tests.unit.transcoder.films import audio, film, source, video

FILM = film(source(video(), audio(language="eng", default=False), audio(language="deu", label="Ton")))


def pictures(of: Film, chunk: int, *sizes: int) -> VideoMade:
    entries = tuple(SegmentEntry(100_000, size, size // 10) for size in sizes)
    codecs = "avc1.64001f" if sizes else ""
    return VideoMade(
        chunk=chunk,
        frames=100 * len(sizes),
        rungs=tuple(RungMade(side=r.side, frames=100 * len(sizes), segments=entries, init_hash="i", codecs=codecs) for r in of.rungs),
    )


def sound(track: int, *sizes: int) -> AudioMade:
    return AudioMade(track=track, seconds=4.0 * len(sizes), segments=tuple(SegmentEntry(192_000, s) for s in sizes), codecs="mp4a.40.2")


def test_what_is_announced_is_what_the_manifest_holds() -> None:
    made = renditions.presentation(FILM, "f", [pictures(FILM, 0, 1000)], [sound(0, 10), sound(1, 20)])
    assert tuple(r.name for r in made.renditions) == renditions.names(FILM) == (
        "video-720", "video-480", "video-360", "audio-eng", "audio-deu",
    )  # fmt: skip
    assert [(r.language, r.label, r.default, r.ceiling) for r in made.audios] == [
        ("eng", "", False, 128_000), ("deu", "Ton", True, 128_000),
    ]  # fmt: skip


def test_chunks_follow_each_other_in_their_order_whatever_order_they_came_in() -> None:
    chunks = [pictures(FILM, 2), pictures(FILM, 1, 3000), pictures(FILM, 0, 1000, 2000)]
    made = renditions.presentation(FILM, "f", chunks, [sound(1, 20), sound(0, 10, 11)])
    assert [[s.size for s in r.segments] for r in made.renditions] == [*[[1000, 2000, 3000]] * 3, [10, 11], [20]]
    assert {r.codecs for r in made.videos} == {"avc1.64001f"}


def test_a_track_without_sound_is_left_out() -> None:
    made = renditions.presentation(FILM, "f", [pictures(FILM, 0, 1000)], [sound(0), sound(1, 20)])
    assert [r.name for r in made.audios] == ["audio-deu"]


def test_the_manifest_tells_the_iv_and_not_the_key() -> None:
    key = SegmentKey(key=b"k" * 16, iv=b"i" * 16)
    secret = film(FILM.source, encryption=key)
    made = renditions.presentation(secret, "f", [pictures(secret, 0, 1000)], [])
    assert made.encryption == Encryption(iv="69" * 16)
    assert "kkkk" not in repr(secret)
