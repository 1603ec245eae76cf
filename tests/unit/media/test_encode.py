"""What ffmpeg is told to encode."""

from __future__ import annotations

import re
from fractions import Fraction

from services.runtime.media import encode
from services.runtime.media.probe import Source
from tests.unit.media.test_sandbox import SOURCE

LARGE, SMALL = (encode.Picture(width=w, height=h, max_rate=1000) for w, h in ((64, 36), (32, 18)))
SPAN = encode.Span(first_frame=750, frames=751, rate=Fraction(25), origin=0.5, segment_frames=100, timescale=25_000)
MARK = encode.Overlay(path="/m", opacity=1, position="center", width=0.5, offset=0)


def chunk(source: Source = SOURCE) -> list[str]:
    return encode.video_chunk("ffmpeg", "/f.mp4", source, SPAN, [LARGE, SMALL], [7, 8], overlay=MARK)


def test_nothing_is_made_of_a_picture_behind_the_filter_that_repeats_it() -> None:
    """For a hole in the source `fps` hands out all repetitions at once: made into new pictures they would fill the memory."""
    for command in (chunk(), encode.still("ffmpeg", "/f.mp4", SOURCE, at=1, origin=0, picture=LARGE, path="o", overlay=MARK)):
        steps = re.findall(r"((?:\[[^\]]+\])+)([a-z0-9]+)[^\[]*((?:\[[^\]]+\])+)", command[command.index("-filter_complex") + 1])
        made_by = {output: name for _, name, outputs in steps for output in re.findall(r"\[[^\]]+\]", outputs)}
        assert "fps" in made_by.values()
        assert {name for inputs, name, _ in steps if made_by.get(inputs) == "fps"} == {"setpts"}
        ends = [made_by[word] for word, before in zip(command[1:], command, strict=False) if before == "-map"]
        assert set(ends) == {"setpts"}


def test_each_rendition_has_the_frames_of_its_chunk_at_most() -> None:
    command = chunk()
    assert [command[n + 1] for n, word in enumerate(command) if word == "-frames:v"] == ["751", "751"]


def test_sound_goes_on_as_long_as_a_film_may() -> None:
    command = encode.audio_track("ffmpeg", "/f.mp4", SOURCE.audios[0], origin=0, longest=86401, segment_seconds=4, descriptor=5)
    assert command[command.index("-t") + 1] == "86401"
