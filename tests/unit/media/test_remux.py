"""What ffmpeg is told to move streams. What comes of it is tested with real films, in tests/integration."""

from __future__ import annotations

from services.runtime.media import remux


def after(argv: list[str], word: str) -> str:
    return argv[argv.index(word) + 1]


def test_each_track_goes_to_its_own_pipe_at_its_own_time() -> None:
    argv = remux.tracks("ffmpeg", "/in/film.mp4", video=0, audios=[2, 1], start=0.3, segment_seconds=4.0, descriptors=[7, 8, 9])
    assert argv.count("-i") == 1
    assert (after(argv, "-i"), after(argv, "-itsoffset")) == ("file:/in/film.mp4", "-0.300000")
    assert "-copyts" in argv
    assert [w for w in argv if w.startswith("pipe:") and w != "pipe:1"] == ["pipe:7", "pipe:8", "pipe:9"]
    assert [argv[i + 1] for i, w in enumerate(argv) if w == "-map"] == ["0:0", "0:2", "0:1"]
    assert argv.count("copy") == 3
    # Only sound is cut at the beginning.
    assert argv.count("-copypriorss") == 2


def test_a_strangers_file_opens_nothing_else() -> None:
    argv = remux.tracks("ffmpeg", "https://store/film.mp4?signature=x", video=0, audios=[], start=0, segment_seconds=4, descriptors=[3])
    assert after(argv, "-protocol_whitelist") == "https,tls,tcp"
    assert "hls" not in after(argv, "-format_whitelist").split(",")


def stream(**more: object) -> list[str]:
    given: dict[str, object] = {
        "video": "/s/film.mp4",
        "reorder_seconds": 0.08,
        "audio": "/s/sound.mp4",
        "cuts": [100, 200],
        "first_number": 1,
        "pattern": "/s/ts/%05d.ts",
    }
    return remux.transport_stream("ffmpeg", **(given | more))  # pyright: ignore[reportArgumentType]


def test_time_zero_is_the_same_in_every_part() -> None:
    offsets = [w for before, w in zip(stream(), stream()[1:], strict=False) if before == "-itsoffset"]
    assert offsets == ["9.920000000", "10.000000000"]


def test_files_begin_where_they_are_told() -> None:
    assert after(stream(), "-segment_frames") == "100,200"
    assert int(after(stream(cuts=[]), "-segment_frames")) > 24 * 3600 * 60
    assert after(stream(first_number=76), "-segment_start_number") == "76"
