"""What a stranger's file may make ffmpeg open."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from services.runtime.media import encode, sandbox
from services.runtime.media.probe import AudioStream, Source, VideoStream
from tests import clips

SOURCE = Source(
    container="mov",
    seekable=True,
    indexed=True,
    duration_seconds=10,
    video=VideoStream(
        index=0,
        codec="h264",
        width=64,
        height=64,
        coded_width=64,
        coded_height=64,
        rate_num=25,
        rate_den=1,
        constant=True,
        start_seconds=0,
        duration_seconds=10,
        frames=250,
        exact=True,
        own_duration=True,
        rotation=0,
        sample_aspect="1:1",
        pixel_format="yuv420p",
        transfer="",
        interlaced=False,
        bit_rate=1,
    ),
    audios=(AudioStream(index=1, codec="aac", channels=2, sample_rate=48000, language="und", start_seconds=0, duration_seconds=10),),
)


@pytest.mark.parametrize(
    ("url", "protocols"),
    [("file:/a.mp4", "file"), ("https://s/a.mp4", "https,tls,tcp"), ("http://s/a.mp4", "http,tcp"), ("pipe:0", "pipe")],
)
def test_each_kind_of_address_allows_its_own_protocol_only(url: str, protocols: str) -> None:
    assert sandbox.reading(url)["protocol_whitelist"] == protocols


@pytest.mark.parametrize(
    ("url", "port"), [("http://s/a", 80), ("https://s/a?b:9", 443), ("http://s:9000/a", 9000), ("https://[::1]:8443/a", 8443)]
)
def test_the_port_of_an_address_is_the_one_that_may_be_reached(url: str, port: int) -> None:
    assert sandbox.port(url) == port


def test_only_images_have_a_limit_of_pixels_here() -> None:
    assert sandbox.reading("file:/a.png", images=True)["max_pixels"] == sandbox.IMAGE_PIXELS
    assert "max_pixels" not in sandbox.reading("file:/a.mp4")


def test_a_path_is_never_taken_for_another_protocol() -> None:
    assert sandbox.as_url("concat:/etc/passwd|/etc/hosts") == "file:concat:/etc/passwd|/etc/hosts"


def test_every_input_of_every_command_has_both_lists() -> None:
    picture = encode.Picture(width=64, height=64, max_rate=1000)
    mark = encode.Overlay(path="/m", opacity=1, position="center", width=0.5, offset=0)
    commands = [
        encode.still("ffmpeg", "/f.mp4", SOURCE, at=1, origin=0, picture=picture, path="o", overlay=mark),
        encode.audio_track("ffmpeg", "https://s/f.mp4", SOURCE.audios[0], origin=0, longest=9, segment_seconds=4, descriptor=5),
        encode.progressive("ffmpeg", "o", rate=SOURCE.video.rate if SOURCE.video else None, timescale=25000, audio_path="/a.mp4"),
        encode.remux("ffmpeg", "/f.mp4", SOURCE, path="o", copy_audio=True),
        encode.shrink("ffmpeg", "/i", width=10, height=10, path="o"),
        encode.count("ffmpeg", "/f.mp4", 0),
        encode.decode("ffmpeg", "/m.png"),
    ]
    for command in commands:
        assert command.count("-i") == command.count("-protocol_whitelist") == command.count("-format_whitelist")
        assert "-nostdin" in command


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:SECRET\n#EXT-X-ENDLIST\n"),
        ("a.ffconcat", "ffconcat version 1.0\nfile 'SECRET'\n"),
        ("a.svg", "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><image href='SECRET' width='9' height='9'/></svg>"),
        ("a.mpd", '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>file:SECRET</BaseURL></MPD>'),
        ("%d.png", "x"),
    ],
)
def test_ffmpeg_itself_refuses_inputs_that_name_others(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text.replace("SECRET", str(clips.moving(seconds=1))))
    url = sandbox.as_url(str(path))
    argv = [clips.programs()[0], "-v", "error", "-nostdin", *sandbox.as_arguments(sandbox.reading(url)), "-i", url, "-f", "null", "-"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
