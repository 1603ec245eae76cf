"""Which objects players may have, and playlists that carry a token."""

from __future__ import annotations

import m3u8
import pytest

from services.gateway.delivery.answers import Variants, ready, with_token
from services.gateway.delivery.paths import place
from services.gateway.delivery.rewriting import playlist_with_token, storyboard_with_token
from services.runtime.media.presentation import Encryption, Rendition, SegmentEntry
from services.streamer import playlist

PLAYLIST, TOKEN = "application/vnd.apple.mpegurl", b"token=k.1.v.s"
KEY_IV = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("path", "kind", "content_type"),
    [
        ("0a1b/master.m3u8", "master", PLAYLIST),
        ("0a1b/video-720/index.m3u8", "media", PLAYLIST),
        ("0a1b/audio-eng-2/index.m3u8", "media", PLAYLIST),
        ("0a1b/video-720/iframes.m3u8", "media", PLAYLIST),
        ("0a1b/video-720/init.mp4", "segment", "video/mp4"),
        ("0a1b/video-720/00000.m4s", "segment", "video/iso.segment"),
        ("0a1b/video-720/1234567.m4s", "segment", "video/iso.segment"),
        ("0a1b/aes.key", "key", "application/octet-stream"),
        ("storyboard.jpg", "picture", "image/jpeg"),
        ("storyboard.vtt", "text", "text/vtt; charset=utf-8"),
        ("captions-de.vtt", "text", "text/vtt; charset=utf-8"),
    ],
)
def test_what_players_may_have(path: str, kind: str, content_type: str) -> None:
    found = place("film:1", path)
    assert found is not None
    assert (found.key, found.kind, found.content_type) == (f"assets/film:1/{path}", kind, content_type)
    assert found.recipe == ("0a1b" if path.startswith("0a1b") else "")


@pytest.mark.parametrize(
    "path",
    [
        "", "source/film.mp4", "source/master.m3u8", "source/aes.key", "source/video-1/00000.m4s", "upload.json", "0a1b/manifest.json",
        "0a1b/720.mp4", "0a1b/video-720/0000.m4s", "0a1b/video-720/00000.mp4", "0a1b/video-720/00000.m4s\n", "../b/0a1b/master.m3u8",
        "0a1b/../source/master.m3u8", "0a1b/video-720/../../source/index.m3u8", "/0a1b/master.m3u8", "0a1b//master.m3u8", "poster.jpg",
        "0a1b/..-1/index.m3u8", "0a1b/video-720/other.m3u8", "0a1b/video-720/٠٠٠٠٠.m4s", "captions-../x.vtt", "0a1b/x/aes.key", "aes.key",
    ],
)  # fmt: skip
def test_nothing_else(path: str) -> None:
    assert place("film", path) is None


@pytest.mark.parametrize("asset_id", ["", "a/b", "..", "a\n", "../../x", "x" * 129, ".hidden"])
def test_an_asset_is_one_folder(asset_id: str) -> None:
    assert place(asset_id, "0a1b/master.m3u8") is None


# ── Rewriting ──────────────────────────────────────────────────────────────────────────────────────────────────────

MASTER = b"""#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="URI=, 'x',URI=",LANGUAGE="en",DEFAULT=YES,URI="audio-eng/index.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=2000,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,AUDIO="audio"
video-720/index.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=100,URI="video-720/iframes.m3u8"
"""
MEDIA = f"""#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:4
#EXT-X-MAP:URI="init.mp4"
#EXT-X-KEY:METHOD=AES-128,URI="../aes.key",IV=0x{KEY_IV}
#EXTINF:4.000000,
00000.m4s
#EXTINF:2.000000,a title, URI="x" even
00001.m4s
#EXT-X-ENDLIST
""".encode()


def test_every_uri_of_a_master_carries_the_token_and_nothing_else_changes() -> None:
    made = playlist_with_token(MASTER, TOKEN)
    assert made.replace(b"?" + TOKEN, b"") == MASTER
    assert made.count(TOKEN) == 3
    read = m3u8.loads(made.decode())
    assert [p.uri for p in read.playlists] == ["video-720/index.m3u8?token=k.1.v.s"]
    assert [p.uri for p in read.iframe_playlists] == ["video-720/iframes.m3u8?token=k.1.v.s"]
    assert [(m.name, m.uri) for m in read.media] == [("URI=, 'x',URI=", "audio-eng/index.m3u8?token=k.1.v.s")]


def test_every_uri_of_a_media_playlist_carries_the_token() -> None:
    read = m3u8.loads(playlist_with_token(MEDIA, TOKEN).decode())
    assert [s.uri for s in read.segments] == ["00000.m4s?token=k.1.v.s", "00001.m4s?token=k.1.v.s"]
    assert [m.uri for m in read.segment_map] == ["init.mp4?token=k.1.v.s"]
    assert [(k.uri, k.iv) for k in read.keys if k] == [("../aes.key?token=k.1.v.s", f"0x{KEY_IV}")]
    assert (read.is_endlist, read.target_duration) == (True, 4)


def test_playlists_as_they_are_rendered_keep_their_meaning() -> None:
    rendition = Rendition(
        name="video-720", kind="video", codecs="avc1.64001f", timescale=1000, width=1280, height=720,
        segments=tuple(SegmentEntry(4000, 1000, 100) for _ in range(5)),
    )  # fmt: skip
    for text in (
        playlist.media(rendition, ended=True, encryption=Encryption(iv=KEY_IV)),
        playlist.iframes(rendition),
        playlist.master([rendition], ended=True),
    ):
        made = playlist_with_token(text.encode(), TOKEN).decode()
        assert made.replace("?" + TOKEN.decode(), "") == text
        assert made.count("?token=") == text.count("URI=") + sum(1 for line in text.splitlines() if line and not line.startswith("#"))


def test_uris_of_other_servers_stay() -> None:
    body = (
        b'#EXTM3U\nhttps://cdn.example/a.m4s\n//cdn.example/b.m4s\n#EXT-X-KEY:METHOD=AES-128,URI="data:text/plain;base64,AA=="\nc.m4s?x=1\n'
    )
    assert playlist_with_token(body, TOKEN) == body.replace(b"c.m4s?x=1", b"c.m4s?x=1&" + TOKEN)


def test_the_pictures_of_a_storyboard_carry_the_token_before_the_fragment() -> None:
    body = (
        b"WEBVTT\n\n00:00.000 --> 00:05.000\nstoryboard.jpg#xywh=0,0,160,90\n\n00:05.000 --> 00:10.000\nstoryboard.jpg#xywh=160,0,160,90\n"
    )
    assert storyboard_with_token(body, TOKEN) == body.replace(b"storyboard.jpg", b"storyboard.jpg?" + TOKEN)


def test_captions_stay_as_they_are() -> None:
    body = b"WEBVTT\n\n00:00.000 --> 00:05.000\nlook at picture.jpg\n"
    captions = place("a", "captions-de.vtt")
    assert captions is not None
    assert with_token(captions, body, "k.1.v.s") == body


def test_variants_are_made_once_and_the_oldest_leave_first() -> None:
    master = place("a", "r/master.m3u8")
    assert master is not None
    variants, plain = Variants(most_bytes=2 * len(playlist_with_token(MASTER, b"token=1"))), ready(master, MASTER, growing=False)

    def of(token: str) -> object:
        return variants.get(master, plain, token, growing=False)

    first, second = of("1"), of("2")
    assert (of("1"), of("2")) == (first, second)
    of("3")
    assert of("2") is second
    assert of("1") is not first
    other = ready(master, MASTER + b"#\n", growing=False)
    assert variants.get(master, other, "2", growing=False) is not second


def test_a_variant_of_what_still_grows_is_not_that_of_what_has_ended() -> None:
    # A master may be the same text before and after.
    master = place("a", "r/master.m3u8")
    assert master is not None
    variants = Variants()
    growing, whole = (variants.get(master, ready(master, MASTER, grows), "1", growing=grows) for grows in (True, False))
    assert (growing.headers["Cache-Control"], whole.headers["Cache-Control"]) == ("no-cache", "private, max-age=60")
