"""Names that can be unpacked, and how those that meet are told apart."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.archives.names import ACCEPTED, fault, unique
from services.runtime.archives.records import MAX_NAME_BYTES

# Few letters, so that names meet.
segments = st.text("aAéÉe\u0301ß. s()23", min_size=1, max_size=5)
usable = st.lists(segments, min_size=1, max_size=4).map("/".join).filter(lambda name: not fault(name))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "it is empty"),
        ("/etc/passwd", "it begins with a slash"),
        ("C:/windows", "it begins with a drive letter, 'C:'"),
        ("c:x", "it begins with a drive letter, 'c:'"),
        ("..", "it has the segment '..'"),
        ("a/../../b", "it has the segment '..'"),
        ("a/..", "it has the segment '..'"),
        ("./a", "it has the segment '.'"),
        ("a//b", "it has the segment ''"),
        ("a/", "it ends with a slash, which makes it a folder"),
        ("..\\a", "it holds a backslash"),
        ("a\0b", "it holds a control character"),
        ("a\nb", "it holds a control character"),
        ("a\x7f", "it holds a control character"),
        ("a\ud800", "it holds half of a surrogate pair, which is no text"),
        ("é" * 40_000, "it is 80000 bytes long"),
        ("x" * (MAX_NAME_BYTES + 1), f"it is {MAX_NAME_BYTES + 1} bytes long"),
    ],
)
def test_a_name_that_cannot_be_unpacked_where_it_belongs_is_refused(name: str, said: str) -> None:
    assert fault(name) == said
    assert str(MAX_NAME_BYTES) in ACCEPTED


@pytest.mark.parametrize(
    "name",
    [
        "a",
        ".hidden",
        "...",
        "a..b/c",
        "a b/ c ",
        "12:30.mp4",
        "é:x",
        "👩‍👩‍👧‍👦.mp4",
        "שלום",
        'b*?"a:<>|',
        "x" * MAX_NAME_BYTES,
        "x/" * 30_000 + "x",
    ],
)
def test_any_other_is_used_as_it_is(name: str) -> None:
    assert fault(name) == ""
    assert unique([name]) == [name]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a.mp4", "a.mp4", "a.mp4"], ["a.mp4", "a (2).mp4", "a (3).mp4"]),
        (["a.mp4", "a.mp4", "a (2).mp4"], ["a.mp4", "a (3).mp4", "a (2).mp4"]),
        (["a (2).mp4", "a.mp4", "a.mp4"], ["a (2).mp4", "a.mp4", "a (3).mp4"]),
        (["a (2)", "a (2)"], ["a (2)", "a (2) (2)"]),
        (["x/a.b/c", "x/a.b/c"], ["x/a.b/c", "x/a.b/c (2)"]),
        ([".profile", ".profile"], [".profile", ".profile (2)"]),
        (["a.tar.gz", "a.tar.gz"], ["a.tar.gz", "a.tar (2).gz"]),
        (["Dr. No", "Dr. No"], ["Dr. No", "Dr. No (2)"]),
        (["a.", "a."], ["a.", "a. (2)"]),
        (["x/a.mp4", "y/a.mp4"], ["x/a.mp4", "y/a.mp4"]),
    ],
)
def test_duplicates_are_numbered(given: list[str], expected: list[str]) -> None:
    assert unique(given) == expected


def test_names_that_are_one_file_on_windows_or_macos_are_duplicates() -> None:
    assert unique(["Film.MP4", "film.mp4", "FILM.mp4"]) == ["Film.MP4", "film (2).mp4", "FILM (3).mp4"]
    assert unique(["caf\u00e9", "cafe\u0301", "CAF\u00c9"]) == ["caf\u00e9", "cafe\u0301 (2)", "CAF\u00c9 (3)"]
    assert unique(["A/x", "a/X"]) == ["A/x", "a/X (2)"]
    assert unique(["A/x", "a/y"]) == ["A/x", "a/y"]


def test_a_file_that_is_a_folder_of_another_is_renamed() -> None:
    assert unique(["a", "a/b"]) == ["a (2)", "a/b"]
    assert unique(["a/b/c", "a/B", "A"]) == ["a/b/c", "a/B (2)", "A (2)"]
    assert unique(["a", "a/b", "a (2)/c"]) == ["a (3)", "a/b", "a (2)/c"]
    # "a b" and "a!" lie between "a" and "a/b" where names are sorted by their characters.
    assert unique(["a", "a b", "a!", "a-b", "a/b"]) == ["a (2)", "a b", "a!", "a-b", "a/b"]


def met(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def folders(name: str) -> set[str]:
    parts = met(name).split("/")
    return {"/".join(parts[:n]) for n in range(1, len(parts))}


@given(st.lists(usable, max_size=12))
def test_every_file_has_a_place_of_its_own(given: list[str]) -> None:
    answer = unique(given)
    assert len(answer) == len(given)
    assert len({met(name) for name in answer}) == len(answer)
    assert not {met(name) for name in answer} & {folder for name in answer for folder in folders(name)}
    assert not any(fault(name) for name in answer)
    assert unique(answer) == answer


@given(st.lists(usable, max_size=12))
def test_a_name_is_kept_unless_another_stands_in_its_way_and_a_new_one_was_not_given(given: list[str]) -> None:
    before: set[str] = set()
    for name, new in zip(given, unique(given), strict=True):
        in_the_way = met(name) in before or any(met(name) in folders(other) for other in given)
        assert (new != name) is in_the_way
        assert new.rpartition("/")[0] == name.rpartition("/")[0]
        if in_the_way:
            assert met(new) not in {met(other) for other in given}
        before.add(met(name))


def test_100_000_names_that_all_meet() -> None:
    names = unique([f"a ({n}).mp4" for n in range(2, 50_002)] + ["a.mp4"] * 50_000)
    assert names[50_000:50_003] == ["a.mp4", "a (50002).mp4", "a (50003).mp4"]
    assert len(set(names)) == 100_000
