"""ffprobe's answers, as they are read."""

from __future__ import annotations

from typing import Any

import pytest

from services.runtime.media.failures import BadMedia, MediaTrouble
from services.runtime.media.probe import parse, refused
from services.runtime.media.process import ProcessFailed


def video(index: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "index": index,
        "codec_type": "video",
        "codec_name": "h264",
        "width": 1920,
        "height": 1080,
        "avg_frame_rate": "25/1",
        "r_frame_rate": "25/1",
        "duration": "10.0",
        "nb_frames": "250",
        "start_time": "0.0",
        "pix_fmt": "yuv420p",
        "disposition": {},
        **fields,
    }


def audio(index: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "index": index,
        "codec_type": "audio",
        "codec_name": "aac",
        "channels": 2,
        "sample_rate": "48000",
        "duration": "10.0",
        "disposition": {},
        **fields,
    }


def report(*streams: dict[str, Any], name: str = "mov,mp4,m4a,3gp,3g2,mj2", duration: str = "10.0") -> dict[str, Any]:
    return {"format": {"format_name": name, "duration": duration}, "streams": list(streams)}


def test_the_film_is_chosen_by_disposition_and_not_by_its_place() -> None:
    cover = video(0, codec_name="mjpeg", width=3000, height=3000, disposition={"attached_pic": 1, "default": 1})
    small = video(2, width=640, height=360)
    chosen = video(3, width=320, height=180, disposition={"default": 1})
    source = parse(report(cover, audio(1), small, chosen))
    assert source.video is not None
    assert source.audio is not None
    assert (source.video.index, source.audio.index) == (3, 1)


def test_among_equals_the_largest_picture_is_the_film() -> None:
    source = parse(report(video(0, width=320, height=180), video(1)))
    assert source.video is not None
    assert source.video.index == 1


def test_a_cover_with_sound_is_sound() -> None:
    source = parse(report(video(0, codec_name="png", disposition={"attached_pic": 1}), audio()))
    assert source.video is None
    assert source.audio is not None


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"side_data_list": [{"rotation": -90}]}, (1080, 1920)),
        ({"side_data_list": [{"rotation": 180}]}, (1920, 1080)),
        ({"width": 720, "height": 576, "sample_aspect_ratio": "16:11"}, (1047, 576)),
        ({"width": 720, "height": 576, "sample_aspect_ratio": "16:11", "side_data_list": [{"rotation": 90}]}, (576, 1047)),
        ({"sample_aspect_ratio": "0:1"}, (1920, 1080)),
        ({"sample_aspect_ratio": "1000:1"}, (1920, 1080)),
    ],
)
def test_the_size_is_that_of_the_picture_as_it_is_shown(fields: dict[str, Any], size: tuple[int, int]) -> None:
    source = parse(report(video(**fields)))
    assert source.video is not None
    assert (source.video.width, source.video.height) == size


def test_frames_are_certain_only_where_count_rate_and_duration_agree() -> None:
    agreed, edited, varying = (
        parse(report(video(**f))).video for f in ({}, {"nb_frames": "300"}, {"r_frame_rate": "50/1", "avg_frame_rate": "19/1"})
    )
    assert agreed is not None
    assert (agreed.frames, agreed.exact) == (250, True)
    assert edited is not None
    assert (edited.frames, edited.exact) == (250, False)
    assert varying is not None
    assert (varying.frames, varying.exact, varying.constant) == (500, False, False)


def test_a_duration_may_come_from_a_tag_or_from_the_whole_file_or_from_nowhere() -> None:
    bare = {"duration": None, "nb_frames": None}
    tagged = parse(report(video(**bare, tags={"DURATION": "00:01:02.500000000"}), name="matroska,webm")).video
    whole = parse(report(video(**bare), name="flv", duration="7.0")).video
    unknown = parse(report(video(**bare), name="matroska,webm", duration="N/A")).video
    assert [(v.duration_seconds, v.own_duration, v.frames) for v in (tagged, whole, unknown) if v] == [
        (62.5, True, 1562),
        (7.0, False, 175),
        (0.0, False, 0),
    ]


@pytest.mark.parametrize("duration", ["inf", "nan", "-inf", "N/A"])
def test_a_duration_that_is_no_number_is_unknown(duration: str) -> None:
    source = parse(report(video(duration=duration, nb_frames="0"), duration=duration))
    assert source.video is not None
    assert (source.duration_seconds, source.video.duration_seconds, source.video.frames) == (0.0, 0.0, 0)


def test_a_file_cannot_hold_more_pictures_than_bytes() -> None:
    source = parse(report(video(duration="31536000", nb_frames="0")))
    assert source.video is not None
    assert not source.video.fits(20_000)
    assert source.video.fits(10**10)


def test_languages_are_codes_or_undetermined() -> None:
    assert [parse(report(audio(tags={"language": t}))).audios[0].language for t in ("deu", "EN", "../../x", "")] == [
        "deu",
        "en",
        "und",
        "und",
    ]


def test_every_sound_track_is_told_and_one_is_the_default() -> None:
    silent = audio(4, channels=0)
    tracks = [
        audio(1, tags={"language": "eng", "title": " Director's\n cut "}),
        audio(2, tags={"language": "deu", "name": "Ton"}, disposition={"default": 1}, channels=6),
        audio(3, tags={"handler_name": "SoundHandler"}, disposition={"default": 1}),
    ]
    source = parse(report(video(), *tracks, silent))
    assert [(a.index, a.language, a.label, a.default, a.channels) for a in source.audios] == [
        (1, "eng", "Director's cut", False, 2), (2, "deu", "Ton", True, 6), (3, "und", "", False, 2),
    ]  # fmt: skip
    assert source.audio == source.audios[1]


def test_of_many_sound_tracks_the_first_and_the_default_one_are_taken() -> None:
    tracks = [audio(n, disposition={"default": int(n == 12)}) for n in range(1, 15)]
    assert [a.index for a in parse(report(*tracks)).audios] == [1, 2, 3, 4, 5, 6, 7, 12]


def test_labels_are_one_line_and_not_endless() -> None:
    (track,) = parse(report(audio(tags={"title": "a\x00b\u202e\r\n" + "c" * 5000}))).audios
    assert track.label == "a b " + "c" * 96


def test_a_file_without_film_and_sound_says_what_it_holds() -> None:
    with pytest.raises(BadMedia, match="it holds subtitle") as wrong:
        parse(report({"index": 0, "codec_type": "subtitle", "codec_name": "srt"}))
    assert wrong.value.code == "no-streams"


def test_a_complaint_is_told_without_the_place_of_the_file() -> None:
    said = "file:/library/holiday film: the best.mp4: Invalid data found when processing input"
    assert refused(ProcessFailed("ffprobe", 1, said)).message == "this is no video or audio that can be read"
    said = "[vorbis @ 0x1] Setup header \x1b[2Jcorrupt.\n"
    assert refused(ProcessFailed("ffprobe", 1, said)).message == "this is no video or audio that can be read: Setup header [2Jcorrupt."


@pytest.mark.parametrize(
    ("status", "said", "kind", "code"),
    [
        (1, "file:/x/y.mp4: Invalid data found when processing input", BadMedia, "not-a-video"),
        (1, "[mov @ 0x1] moov atom not found\nfile:/x: Invalid data", BadMedia, "truncated"),
        (69, "Decode error rate 0.9 exceeds maximum 0.666667\nConversion failed!", BadMedia, "undecodable"),
        (
            1,
            "https://store/a?sig=secret: HTTP error 503 Slow Down\nError opening input files: Input/output error",
            MediaTrouble,
            "media-read",
        ),
        (-9, "", MediaTrouble, "media-killed"),
        (1, "file:/x/y.mp4: Permission denied", MediaTrouble, "media-read"),
        (-25, "", MediaTrouble, "scratch-quota"),
        (1, "[out#0/mp4] av_interleaved_write_frame(): File too large", MediaTrouble, "scratch-quota"),
        (1, "[mov @ 0x1] Cannot allocate memory", BadMedia, "too-much-memory"),
        (1, "file:/x/y.mp4: Out of memory", BadMedia, "too-much-memory"),
        (1, "av_interleaved_write_frame(): No space left on device", MediaTrouble, "media-read"),
    ],
)
def test_whose_fault_it_is(status: int, said: str, kind: type[Exception], code: str) -> None:
    wrong = refused(ProcessFailed("ffprobe", status, said))
    assert (type(wrong), wrong.code) == (kind, code)
    assert "secret" not in wrong.message
    assert "/x/y" not in wrong.message
