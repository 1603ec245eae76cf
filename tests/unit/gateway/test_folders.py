"""Which folders and films are shown, what players may have of a flat stream, and what finding them costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.gateway.auth.playback import ANYBODY, PlaybackKey, PlaybackTokens, TokenForged
from services.gateway.folders.listing import films, shown_folders
from services.gateway.folders.names import folder_fault, is_file, is_playable, is_shown, place, stream_name, stream_prefix
from tests.unit.stores import CountingStore, counting_store, put

NOW = 1_795_297_320.5


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CountingStore]:
    async with counting_store(tmp_path / "bucket") as made:
        yield made


async def shown(store: CountingStore, folder: str) -> list[tuple[str, str, str]]:
    found = await films(store, folder)
    assert found is not None
    return [(film.name, film.kind, film.info.key) for film in found]


async def test_an_empty_bucket_has_no_folders(store: CountingStore) -> None:
    assert await shown_folders(store) == []
    assert await films(store, "Holidays") is None


async def test_folders_at_the_top_are_shown_without_root_files_hidden_ones_and_our_own(store: CountingStore) -> None:
    put(store, "root.mp4", ".trash/a.mp4", "assets/a/poster.jpg", "jobs/1/x", "archives/a.zip", "checksums/ab/x.json")
    put(store, "b/one.mp4", "Älter/x.mp4", "A b#?%/deep/er/x.mp4", "assets2/x.mp4", "zoo.mp4", "zoo/z.txt")
    assert await shown_folders(store) == ["A b#?%", "assets2", "b", "zoo", "Älter"]


async def test_top_folders_cost_one_listing_each_whatever_is_in_them(store: CountingStore) -> None:
    for folder in ("a", "b", "c"):
        put(store, *(f"{folder}/x.hls/{n:05d}.ts" for n in range(200)))
    assert await shown_folders(store) == ["a", "b", "c"]
    assert store.listings == 4
    assert store.listed == 3


async def test_streams_show_once_and_their_segments_never(store: CountingStore) -> None:
    for name in ("Crete", "Crete 2", "Crete.mp4"):
        put(store, f"H/{name}.hls/output.m3u8", *(f"H/{name}.hls/output{n:04d}.ts" for n in range(100)))
    put(store, "H/half.hls/output0001.ts", "H/deeper/x.mp4", "H/Crete.mp4", "Hx/other.mp4")
    assert await shown(store, "H") == [
        ("Crete", "hls", "H/Crete.hls/output.m3u8"),
        ("Crete 2", "hls", "H/Crete 2.hls/output.m3u8"),
        ("Crete.mp4", "file", "H/Crete.mp4"),
        ("Crete.mp4", "hls", "H/Crete.mp4.hls/output.m3u8"),
    ]
    # One listing for each of the five folders below H and one to the end; one look at each stream's playlist.
    assert (store.listings, store.heads) == (6, 4)
    assert store.listed < 10


async def test_films_are_told_by_their_ending_in_any_case_and_nothing_else_is_shown(store: CountingStore) -> None:
    films_there = ["a.mp4", "b.AVI", "c.Mov", "d.mkv", "e.WebM", "ünï #1 100%?.mp4"]
    put(store, *(f"H/{name}" for name in films_there))
    put(store, "H/notes.txt", "H/mp4", "H/x.mp4.part", "H/output.m3u8", "H/0001.ts", "H/._a.mp4", "H/x.m4v")
    assert [name for name, *_ in await shown(store, "H")] == films_there


async def test_a_folder_without_films_is_one_and_one_without_objects_is_none(store: CountingStore) -> None:
    put(store, "H/notes.txt", "assets/x.mp4", ".h/x.mp4")
    assert await films(store, "H") == []
    for name in ("none", "assets", ".h"):
        assert await films(store, name) is None


@pytest.mark.parametrize("name", ["a/b", "..", ".", "a\\b", "", "a\n", "x" * 1100])
def test_what_cannot_be_a_folder(name: str) -> None:
    assert folder_fault(name)


@pytest.mark.parametrize("name", ["Holidays", "ünï", "a b", "#", "100%", "a?b", "..."])
def test_what_can_be_a_folder(name: str) -> None:
    assert folder_fault(name) == ""


def test_names() -> None:
    assert [is_shown(name) for name in ("assets", "jobs", "archives", ".reelworks", "Assets", "H")] == [False] * 4 + [True] * 2
    assert [is_file(name) for name in ("a.mp4", "A.MKV", ".mp4", "mp4", "a.mp3", "a.ts")] == [True, True, False, False, False, False]
    assert [is_playable(name) for name in ("a.MP4", "a.webm", "a.mov", "a.avi", "a.mkv")] == [True, True, True, False, False]
    assert [stream_name(name) for name in ("N.hls", "N", ".hls", ".n.hls", "a.b.hls")] == ["N", "", "", "", "a.b"]


@pytest.mark.parametrize(
    ("file", "kind"),
    [("output.m3u8", "media"), ("720p.m3u8", "media"), ("output0.ts", "segment"), ("ünï #1.ts", "segment")],
)
def test_what_players_may_have(file: str, kind: str) -> None:
    found = place("H", "N.hls", file)
    assert found is not None
    assert (found.key, found.kind) == (f"H/N.hls/{file}", kind)


@pytest.mark.parametrize(
    ("folder", "film", "file"),
    [
        ("H", "N.hls", "aes.key"), ("H", "N.hls", "x.mp4"), ("H", "N.hls", ".ts"), ("H", "N.hls", "../x.ts"), ("H", "N.hls", "a/b.ts"),
        ("H", "N.hls", "x.ts\n"), ("H", "N", "x.ts"), ("H", ".hls", "x.ts"), ("assets", "a.hls", "x.ts"), (".h", "a.hls", "x.ts"),
        ("..", "a.hls", "x.ts"), ("a/b", "a.hls", "x.ts"), ("H", "a/b.hls", "x.ts"),
    ],
)  # fmt: skip
def test_what_players_may_not_have(folder: str, film: str, file: str) -> None:
    assert place(folder, film, file) is None


def test_a_token_opens_one_stream_of_a_folder() -> None:
    tokens = PlaybackTokens((PlaybackKey("k", b"s" * 32),), life_seconds=3600)
    mine = stream_prefix("H ü", "a#1.hls")
    assert mine == "/v1/folders/H%20%C3%BC/a%231.hls/"
    token = tokens.issue_below(mine, ANYBODY, NOW)
    assert tokens.opening_below(mine, cookies="", query=token.text, now=NOW) == token.text
    for other in (stream_prefix("H ü", "b.hls"), stream_prefix("H", "a#1.hls")):
        with pytest.raises(TokenForged):
            tokens.verify_below(token.text, other, NOW)
    with pytest.raises(TokenForged):
        tokens.verify(token.text, "a", NOW)
