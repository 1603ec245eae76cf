"""Playlists as text: against a strict reader, a third-party one, and laws."""

from __future__ import annotations

import m3u8
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.media.presentation import Encryption, Rendition, SegmentEntry
from services.streamer import playlist
from tests import hls

ENTRIES = st.lists(
    st.builds(SegmentEntry, st.integers(1, 540_000), st.integers(1, 50_000_000), st.integers(1, 500_000)), min_size=1, max_size=40
)
"""Up to 6 s at 90 kHz."""


def video(side: int = 720, entries: list[SegmentEntry] | None = None, **more: object) -> Rendition:
    whole = Rendition(
        name=f"video-{side}",
        kind="video",
        codecs="avc1.64001f",
        timescale=90_000,
        width=side * 16 // 9,
        height=side,
        frame_rate=24000 / 1001,
        segments=tuple(entries or [SegmentEntry(360_000, 1_000_000, 40_000), SegmentEntry(180_000, 900_000, 30_000)]),
    )
    return msgspec.structs.replace(whole, **more)


def audio(language: str = "eng", **more: object) -> Rendition:
    whole = Rendition(
        name=f"audio-{language}",
        kind="audio",
        codecs="mp4a.40.2",
        timescale=48_000,
        language=language,
        channels=2,
        segments=(SegmentEntry(192_512, 64_000), SegmentEntry(95_488, 32_000)),
    )
    return msgspec.structs.replace(whole, **more)


# ── Media Playlists ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_finished_rendition_is_a_vod() -> None:
    expected = (
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        '#EXT-X-MAP:URI="init.mp4"\n#EXTINF:4.000000,\n00000.m4s\n#EXTINF:2.000000,\n00001.m4s\n#EXT-X-ENDLIST\n'
    )
    assert expected == playlist.media(video(), ended=True)


@given(ENTRIES)
def test_any_rendition_is_read_strictly_and_by_others(entries: list[SegmentEntry]) -> None:
    made = video(entries=entries)
    text = playlist.media(made, ended=True)
    read = hls.media(text)
    assert len(read.segments) == len(entries)
    assert read.seconds == pytest.approx(made.seconds, abs=1e-5 * len(entries))
    other = m3u8.loads(text)
    assert other.is_endlist
    assert other.target_duration == read.target
    assert [s.uri for s in other.segments] == [s.uri for s in read.segments]
    assert [s.duration for s in other.segments] == [s.seconds for s in read.segments]


@given(ENTRIES)
def test_a_growing_playlist_only_gets_longer(entries: list[SegmentEntry]) -> None:
    # The encoder's segments are alike, but for the last.
    entries = [
        *(msgspec.structs.replace(e, ticks=360_000) for e in entries[:-1]),
        msgspec.structs.replace(entries[-1], ticks=1 + entries[-1].ticks % 360_000),
    ]
    older = playlist.media(video(entries=entries[:1]), ended=False)
    for count in range(2, len(entries) + 1):
        newer = playlist.media(video(entries=entries[:count]), ended=False)
        hls.check_growth(older, newer)
        older = newer
    hls.check_growth(older, playlist.media(video(entries=entries), ended=True))


def test_a_key_holds_for_the_segments_and_not_for_the_init_segment() -> None:
    text = playlist.media(video(), ended=True, encryption=Encryption(iv="0f" * 16))
    read = hls.media(text)
    assert {s.key for s in read.segments} == {hls.Key("AES-128", "../aes.key", "0x" + "0f" * 16)}
    # §4.3.2.5: a key before EXT-X-MAP would be the init segment's.
    assert text.index("#EXT-X-MAP") < text.index("#EXT-X-KEY")
    other = m3u8.loads(text)
    assert (other.keys[-1].method, other.keys[-1].iv) == ("AES-128", "0x" + "0f" * 16)


@given(ENTRIES)
def test_iframes_are_byte_ranges_of_the_segments(entries: list[SegmentEntry]) -> None:
    made = video(entries=entries)
    read = hls.media(playlist.iframes(made))
    assert read.iframes_only
    assert read.ended
    assert [s.byte_range for s in read.segments] == [hls.ByteRange(e.intra, 0) for e in entries]
    assert m3u8.loads(playlist.iframes(made)).is_i_frames_only


def test_iframes_need_every_first_picture() -> None:
    assert playlist.has_iframes(video())
    assert not playlist.has_iframes(video(entries=[SegmentEntry(1, 1, 1), SegmentEntry(1, 1)]))
    assert not playlist.has_iframes(video(segments=()))
    assert not playlist.has_iframes(audio())


# ── Master Playlists ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_master_names_every_rendition_the_largest_first() -> None:
    made = hls.master(playlist.master([video(360), audio(), video(720)], ended=True))
    assert [v.uri for v in made.variants] == ["video-720/index.m3u8", "video-360/index.m3u8"]
    assert [v.uri for v in made.iframes] == ["video-720/iframes.m3u8", "video-360/iframes.m3u8"]
    first = made.variants[0].attributes
    assert (first["RESOLUTION"], first["FRAME-RATE"], first["CODECS"], first["AUDIO"]) == (
        "1280x720",
        "23.976",
        "avc1.64001f,mp4a.40.2",
        "audio",
    )
    assert made.independent


def test_bandwidth_is_the_peak_of_picture_and_sound_together() -> None:
    (variant,) = hls.master(playlist.master([video(), audio()], ended=True)).variants
    # The second segment: 900,000 bytes in 2 s; of the sound 64,000 in 4.01 s.
    assert variant.bandwidth == 3_600_000 + playlist.peak_rate([(192_512 / 48_000, 64_000), (95_488 / 48_000, 32_000)], 4)
    assert variant.average == -(-1_900_000 * 8 // 6) + playlist.mean_rate(audio())


@given(ENTRIES, ENTRIES)
def test_no_combination_is_above_what_is_announced(film: list[SegmentEntry], sound: list[SegmentEntry]) -> None:
    picture, heard = video(entries=film), audio(timescale=90_000, segments=tuple(sound))
    for ended in (True, False):
        made = hls.master(playlist.master([picture, heard], ended=ended))
        (variant,) = made.variants
        assert variant.average <= variant.bandwidth
        assert variant.average >= picture.size * 8 / picture.seconds


@given(ENTRIES)
def test_the_peak_is_never_below_the_average(entries: list[SegmentEntry]) -> None:
    made = video(entries=entries)
    segments = list(zip(made.durations(), (s.size for s in made.segments), strict=True))
    whole = sum(size for _, size in segments) * 8 / made.seconds
    if made.seconds >= 0.5 * playlist.target_duration(made):
        # Runs of half a target duration and more tile the film, but for a rest that is shorter.
        best = max(size * 8 / seconds for seconds, size in segments)
        assert playlist.peak_rate(segments, playlist.target_duration(made)) <= -(-best // 1) + 1
    else:
        assert playlist.peak_rate(segments, playlist.target_duration(made)) == pytest.approx(whole, abs=1)


def test_while_a_film_is_encoded_the_peak_is_what_the_encoder_may_use() -> None:
    growing = video(entries=[SegmentEntry(360_000, 1000, 500)], ceiling=4_000_000)
    (variant,) = hls.master(playlist.master([growing], ended=False)).variants
    assert variant.bandwidth == 6_000_000
    (variant,) = hls.master(playlist.master([growing], ended=True)).variants
    assert variant.bandwidth == 2000


def test_two_languages_are_a_group_with_one_default() -> None:
    made = hls.master(playlist.master([video(), audio("deu"), audio("eng", default=True), audio("xyz")], ended=True))
    assert [(m["NAME"], m["LANGUAGE"], m["DEFAULT"]) for m in made.media] == [
        ("Deutsch", "de", "NO"),
        ("English", "en", "YES"),
        ("xyz", "xyz", "NO"),
    ]


def test_names_within_a_group_differ_and_cannot_break_the_line() -> None:
    tracks = [
        audio("und", name="audio-und"),
        audio("und", name="audio-und-2"),
        audio("eng", label='Director\'s "cut"\nx'),
        audio("eng", name="audio-eng-2"),
    ]
    made = hls.master(playlist.master([video(), *tracks], ended=True))
    assert [m["NAME"] for m in made.media] == ["Sound 1", "Sound 2", "Director's 'cut' x", "English"]
    assert "LANGUAGE" not in made.media[0]


def test_sound_alone_has_no_group_unless_there_are_several() -> None:
    made = hls.master(playlist.master([audio()], ended=True))
    assert not made.media
    assert [v.uri for v in made.variants] == ["audio-eng/index.m3u8"]
    assert "RESOLUTION" not in made.variants[0].attributes
    made = hls.master(playlist.master([audio("eng"), audio("deu")], ended=True))
    assert len(made.media) == 2
    assert len(made.variants) == 1


@pytest.mark.parametrize("renditions", [[video()], [video(), audio()], [video(720), video(360), audio("deu"), audio("eng")], [audio()]])
@pytest.mark.parametrize("ended", [True, False])
def test_others_read_a_master_alike(renditions: list[Rendition], ended: bool) -> None:
    text = playlist.master(renditions, ended=ended)
    ours, other = hls.master(text), m3u8.loads(text)
    assert other.is_variant
    assert [p.uri for p in other.playlists] == [v.uri for v in ours.variants]
    assert [p.stream_info.bandwidth for p in other.playlists] == [v.bandwidth for v in ours.variants]
    assert [p.stream_info.average_bandwidth for p in other.playlists] == [v.average for v in ours.variants]
    assert [m.uri for m in other.media if m.uri] == [m["URI"] for m in ours.media]
    assert [p.uri for p in other.iframe_playlists] == [v.uri for v in ours.iframes]


# ── The flat layout ────────────────────────────────────────────────────────────────────────────────────────────────


def test_transport_streams_are_what_the_oldest_players_read() -> None:
    text = playlist.flat_media([("ab12cd34-00001.ts", 4.0), ("ab12cd34-00002.ts", 1.52)])
    read = hls.media(text)
    assert (read.version, read.target, read.kind, read.ended) == (3, 4, "VOD", True)
    assert [s.uri for s in read.segments] == ["ab12cd34-00001.ts", "ab12cd34-00002.ts"]
    assert [s.duration for s in m3u8.loads(text).segments] == [4.0, 1.52]


def test_a_flat_master_tells_the_rates_of_the_transport_streams() -> None:
    variants = [
        playlist.FlatVariant(name=f"{side}p.m3u8", rendition=video(side), sound=audio(), segments=[(4.0, side * 1000), (2.0, 100)])
        for side in (720, 360)
    ]
    made = hls.master(playlist.flat_master(variants))
    assert made.version == 3
    assert [v.uri for v in made.variants] == ["720p.m3u8", "360p.m3u8"]
    assert [v.bandwidth for v in made.variants] == [1_440_000, 720_000]
    assert made.variants[0].codecs == ["avc1.64001f", "mp4a.40.2"]
    assert not made.media
    alone = playlist.FlatVariant(name="720p.m3u8", rendition=video(), sound=None, segments=[(4.0, 1000)])
    assert hls.master(playlist.flat_master([alone])).variants[0].codecs == ["avc1.64001f"]


# ── The strict reader itself ───────────────────────────────────────────────────────────────────────────────────────

GOOD = playlist.media(video(), ended=True)
GOOD_MASTER = playlist.master([video(), audio()], ended=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("#EXTM3U\n", ""),
        ("#EXTM3U\n", "#EXTM3U\n\n"),
        ("\n", "\r\n"),
        ("#EXT-X-TARGETDURATION:4\n", ""),
        ("TARGETDURATION:4", "TARGETDURATION:3"),
        ("VERSION:7", "VERSION:5"),
        ("#EXTINF:4.000000,\n", ""),
        ("#EXT-X-ENDLIST\n", ""),
        ("#EXT-X-ENDLIST\n", "#EXT-X-ENDLIST\n00002.m4s\n"),
        ("#EXT-X-MEDIA-SEQUENCE:0\n", "#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-MEDIA-SEQUENCE:0\n"),
        ("00000.m4s", "https://elsewhere/00000.m4s"),
        ("00000.m4s", "/00000.m4s"),
        ("VOD", "LIVE"),
        ('URI="init.mp4"', "URI=init.mp4"),
        ("#EXTINF:4.000000,", "#EXTINF:4,000000,"),
        ("#EXT-X-INDEPENDENT-SEGMENTS", "#EXT-X-SOMETHING"),
        ("00001.m4s\n", "00001.m4s\n#EXTINF:1.0,\n"),
    ],
)
def test_the_strict_reader_refuses_what_is_wrong(old: str, new: str) -> None:
    assert old in GOOD
    with pytest.raises(hls.NotHls):
        hls.media(GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("BANDWIDTH=", "BANDWITH="),
        ('AUDIO="audio"', 'AUDIO="other"'),
        ("FRAME-RATE=23.976", "FRAME-RATE=23.97602"),
        ("RESOLUTION=1280x720", "RESOLUTION=720p"),
        ("DEFAULT=YES", "DEFAULT=NO"),
        ("DEFAULT=YES", "DEFAULT=TRUE"),
        (",AUTOSELECT=YES", ",AUTOSELECT=NO"),
        ("video-720/index.m3u8\n", ""),
        ('GROUP-ID="audio",', ""),
        ("CLOSED-CAPTIONS=NONE", "CLOSED-CAPTIONS=NONE,"),
        ("AVERAGE-BANDWIDTH=", "AVERAGE-BANDWIDTH=9"),
        ("#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:4"),
    ],
)
def test_the_strict_reader_refuses_wrong_masters(old: str, new: str) -> None:
    assert old in GOOD_MASTER
    with pytest.raises(hls.NotHls):
        hls.master(GOOD_MASTER.replace(old, new))


def test_what_was_there_may_not_change() -> None:
    older = playlist.media(video(entries=[SegmentEntry(360_000, 1, 1)] * 2), ended=False)
    for newer in (
        playlist.media(video(entries=[SegmentEntry(360_000, 1, 1)]), ended=False),
        playlist.media(video(entries=[SegmentEntry(360_000, 1, 1), SegmentEntry(350_000, 1, 1), SegmentEntry(360_000, 1, 1)]), ended=False),
    ):
        with pytest.raises(hls.NotHls):
            hls.check_growth(older, newer)
