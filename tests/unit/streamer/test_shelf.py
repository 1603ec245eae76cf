"""Segments come in any order and as often as they like; what is listed has no hole and only grows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import SegmentsReady
from services.runtime.media.presentation import Encryption
from services.streamer import playlist
from services.streamer.shelf import PATIENCE_SECONDS, STALE_SECONDS, Film, Shelf, fault
from tests.unit.streamer.segments import ALL, HIGH, LOW, RECIPE, SOUND, listed, ready

COUNT = 7
FILM = ("film", RECIPE)


def parts() -> list[SegmentsReady]:
    """All that is told of a film: some events with several segments, most with one."""
    return [
        *(ready("film", HIGH, [n], total=COUNT) for n in range(COUNT)),
        *(ready("film", LOW, [n, n + 1], total=COUNT) for n in range(0, COUNT - 1, 2)),
        ready("film", LOW, [COUNT - 1], total=COUNT),
        ready("film", SOUND, range(COUNT), total=COUNT),
    ]


histories = st.permutations(parts()).flatmap(
    lambda order: st.lists(st.sampled_from(order), max_size=10).flatmap(lambda again: st.permutations([*order, *again]))
)


def media(film: Film, name: str) -> str:
    return playlist.media(film.rendition(name), ended=False, encryption=film.encryption)


def numbers(film: Film) -> dict[str, int]:
    return {name: len(film.rendition(name).segments) for name in film.playable()}


@given(histories)
def test_any_order_with_any_repetition_ends_the_same(history: Sequence[SegmentsReady]) -> None:
    shelf, straight = Shelf(), Shelf()
    for event in history:
        shelf.take(event, 3, 0.0)
    for event in parts():
        straight.take(event, 3, 0.0)
    film, expected = shelf.films[FILM], straight.films[FILM]
    assert {name: media(film, name) for name in ALL} == {name: media(expected, name) for name in ALL}
    assert playlist.master([film.rendition(n) for n in film.playable()], ended=False) == playlist.master(
        [expected.rendition(n) for n in expected.playable()], ended=False
    )


@given(histories)
def test_every_playlist_begins_with_the_one_before_and_has_no_hole(history: Sequence[SegmentsReady]) -> None:
    shelf = Shelf()
    before: dict[str, str] = dict.fromkeys(ALL, "")
    for event in history:
        shelf.take(event, 3, 0.0)
        film = shelf.films[FILM]
        for name in film.playable():
            text = media(film, name)
            assert text.startswith(before[name])
            assert listed(text) == [f"{n:05d}.m4s" for n in range(len(listed(text)))]
            before[name] = text


@given(histories, st.integers(0, 30))
def test_rows_are_all_that_is_needed_to_go_on(history: Sequence[SegmentsReady], restart: int) -> None:
    shelf, table = Shelf(), dict[bytes, bytes]()
    for count, event in enumerate(history):
        if count == restart:
            shelf = Shelf.load(table.items(), frozenset({3}), 0.0)
        rows = shelf.take(event, 3, 0.0)
        assert all(table.get(key) != value for key, value in rows.items())
        table.update(rows)
    loaded = Shelf.load(reversed(table.items()), frozenset({3}), 0.0).films[FILM]
    assert {name: media(loaded, name) for name in ALL} == {name: media(shelf.films[FILM], name) for name in ALL}
    assert len(table) == len(ALL) * (1 + COUNT)


def test_what_is_told_again_is_no_row() -> None:
    shelf = Shelf()
    first = shelf.take(ready("film", HIGH, [0, 2]), 3, 0.0)
    assert sorted(first) == [b"film/0123456789ab/video-720", b"film/0123456789ab/video-720/0", b"film/0123456789ab/video-720/2"]
    assert first[b"film/0123456789ab/video-720/2"] == b"[4000000,100002]"
    assert shelf.take(ready("film", HIGH, [2, 0]), 3, 1.0) == {}
    assert shelf.films[FILM].news == 0.0
    assert list(shelf.take(ready("film", HIGH, [0, 1]), 3, 2.0)) == [b"film/0123456789ab/video-720/1"]
    assert (shelf.films[FILM].news, numbers(shelf.films[FILM])) == (2.0, {HIGH: 3})


def test_a_later_job_for_the_same_film_is_the_one_that_is_named() -> None:
    shelf = Shelf()
    shelf.take(ready("film", HIGH, [0, 1]), 3, 0.0)
    rows = shelf.take(ready("film", HIGH, [0], job_id="job-2"), 3, 1.0)
    assert list(rows) == [b"film/0123456789ab/video-720"]
    assert shelf.films[FILM].latest.job_id == "job-2"
    assert numbers(shelf.films[FILM]) == {HIGH: 2}


def test_the_table_is_read_for_the_partitions_that_are_ours() -> None:
    shelf = Shelf()
    rows = shelf.take(ready("one", HIGH, [0]), 1, 0.0) | shelf.take(ready("two", HIGH, [0]), 2, 0.0)
    assert list(Shelf.load(rows.items(), frozenset({2, 5}), 0.0).films) == [("two", RECIPE)]


def test_rows_that_cannot_be_read_are_passed_over() -> None:
    rows = Shelf().take(ready("film", HIGH, [0, 1]), 3, 0.0)
    foreign = {b"film": b"1", b"\xff/x/y": b"{}", b"film/x/video-720/one": b"[1,2]", b"film/x/video-720": b"[]", b"a/b/c/1": b"[1,2]"}
    shelf = Shelf.load([*foreign.items(), *rows.items()], frozenset({3}), 0.0)
    assert {key: numbers(film) for key, film in shelf.films.items()} == {FILM: {HIGH: 2}}


@pytest.mark.parametrize(
    ("told", "written", "due"),
    [
        ([], [], math.inf),
        ([(SOUND, 0, 10.0)], [SOUND], math.inf),
        ([(HIGH, 1, 10.0)], [], math.inf),
        ([(HIGH, 0, 10.0)], [HIGH], 10.0 + PATIENCE_SECONDS),
        ([(SOUND, 0, 10.0), (LOW, 0, 11.0), (HIGH, 0, 12.0)], [SOUND, LOW], 11.0 + PATIENCE_SECONDS),
        ([(SOUND, 0, 10.0), (LOW, 0, 11.0), (HIGH, 0, 12.0)], [SOUND, LOW, HIGH], -math.inf),
        ([(HIGH, 0, 10.0)], [], math.inf),
    ],
)
def test_the_master_waits_for_all_that_was_announced_or_three_seconds(
    told: list[tuple[str, int, float]], written: list[str], due: float
) -> None:
    shelf = Shelf()
    shelf.take(ready("film", HIGH, []), 3, 0.0)
    for rendition, number, now in told:
        shelf.take(ready("film", rendition, [number]), 3, now)
    assert shelf.films[FILM].master_due(written) == due


def test_where_no_picture_was_announced_sound_alone_counts() -> None:
    shelf = Shelf()
    shelf.take(ready("film", SOUND, [0], announced=(SOUND, "audio-fra")), 3, 5.0)
    assert shelf.films[FILM].master_due([SOUND]) == 5.0 + PATIENCE_SECONDS
    shelf.take(ready("other", SOUND, [0], announced=(SOUND,)), 3, 5.0)
    assert shelf.films["other", RECIPE].master_due([SOUND]) == -math.inf


def test_renditions_are_in_the_order_of_the_announcement() -> None:
    shelf = Shelf()
    for rendition in reversed(ALL):
        shelf.take(ready("film", rendition, [0]), 3, 0.0)
    assert shelf.films[FILM].playable() == ALL


def test_encryption_is_that_of_the_events() -> None:
    shelf = Shelf()
    shelf.take(ready("film", HIGH, [0], iv="00" * 16), 3, 0.0)
    shelf.take(ready("clear", HIGH, [0]), 3, 0.0)
    assert shelf.films[FILM].encryption == Encryption(iv="00" * 16)
    assert shelf.films["clear", RECIPE].encryption is None


def test_a_film_that_is_over_takes_nothing_and_gives_its_rows_back_in_portions() -> None:
    shelf = Shelf()
    table = shelf.take(ready("film", HIGH, [0, 1, 5]), 3, 0.0) | shelf.take(ready("film", SOUND, [0]), 3, 0.0)
    shelf.take(ready("going", HIGH, [0]), 3, 0.0)
    assert shelf.sweep(3, 100) == []
    shelf.films[FILM].over = True
    assert shelf.take(ready("film", HIGH, [2]), 3, 0.0) == {}
    assert shelf.sweep(2, 100) == []
    swept: list[bytes] = []
    while portion := shelf.sweep(3, 2):
        assert len(portion) <= 2
        swept += portion
    assert sorted(swept) == sorted(table)
    assert list(shelf.films) == [("going", RECIPE)]


def test_a_film_is_stale_a_day_after_its_last_news() -> None:
    shelf = Shelf()
    shelf.take(ready("film", HIGH, [0]), 3, 100.0)
    shelf.take(ready("film", HIGH, [0]), 3, 5000.0)
    film = shelf.films[FILM]
    assert (film.stale(100.0 + STALE_SECONDS), film.stale(101.0 + STALE_SECONDS)) == (False, True)


def test_events_of_which_playlists_can_be_made_have_no_fault() -> None:
    assert [fault(event) for event in parts()] == [""] * len(parts())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rendition": "a/b"}, "are of A-Z a-z"),
        ({"asset_id": ""}, "are of A-Z a-z"),
        ({"codecs": ""}, "codecs are ''"),
        ({"init_key": "jobs/1/video-720/init.mp4"}, "expected is 'assets/film/0123456789ab/video-720/init.mp4'"),
    ],
)
def test_an_event_that_fits_no_playlist_has_a_fault(changes: dict[str, str], words: str) -> None:
    assert words in fault(msgspec.structs.replace(ready("film", HIGH, [0]), **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"number": -1}, "segment -1"),
        ({"number": 1}, "expected is 'assets/film/0123456789ab/video-720/00001.m4s'"),
        ({"duration_seconds": 0.0}, "more than 0"),
        ({"duration_seconds": 1e9}, "at most 3600"),
    ],
)
def test_a_segment_that_fits_no_playlist_is_a_fault(changes: dict[str, object], words: str) -> None:
    event = ready("film", HIGH, [0])
    wrong = msgspec.structs.replace(event, segments=(msgspec.structs.replace(event.segments[0], **changes),))
    assert words in fault(wrong)
