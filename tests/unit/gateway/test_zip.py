"""What archives may be asked for, and how films are named in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import ObjectRef, Output, ZipEntry, ZipRequested
from services.gateway.auth.token import is_same
from services.gateway.problems import Problem
from services.gateway.uploads.archives import (
    MAX_NAME_BYTES,
    archive_title,
    best_file,
    bucket_fault,
    check_archive,
    file_name,
    filled,
    film_entries,
    saved_as,
)
from services.gateway.views.fold import Folded, add_accepted, add_job
from services.gateway.views.projection import accepted_status
from services.gateway.views.store import View
from services.runtime.archives import manifest, names
from services.runtime.archives.selection import Unusable
from services.runtime.settings import Settings
from services.runtime.storage.factory import open_storage
from tests.servers.gateway import status

SETTINGS = Settings(storage_url="file:///srv/media", archive_max_entries=3)
TARGET = ObjectRef(key="out/all.zip")
ONE = ZipRequested(target=TARGET, entries=(ZipEntry(key="a.mp4"),))


def refused(request: ZipRequested) -> Problem:
    with pytest.raises(Problem) as problem:
        check_archive(request, SETTINGS, "media")
    assert problem.value.status == 400
    return problem.value


# ── Checks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "request_",
    [
        ONE,
        ZipRequested(target=TARGET, prefix="films/"),
        ZipRequested(target=TARGET, prefix="out/"),  # the target is left out of its own prefix
        ZipRequested(target=TARGET, manifest=ObjectRef(key="list.json")),
        ZipRequested(target=TARGET, entries=(ZipEntry(key="a"),) * 3),
        ZipRequested(target=TARGET, entries=(ZipEntry(key="C:/a", name="c/a"),)),
        ZipRequested(target=TARGET, entries=(ZipEntry(key="out/all.zip", bucket="films"),)),
        ZipRequested(target=TARGET, entries=(ZipEntry(key="out/all.zip"),), bucket="films"),
        ZipRequested(target=ObjectRef(key="a.mp4", bucket="zips"), entries=(ZipEntry(key="a.mp4"),)),
    ],
)
def test_what_can_be_passes(request_: ZipRequested) -> None:
    check_archive(request_, SETTINGS, "media")


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"entries": ()}, "selection", "in no way"),
        ({"prefix": "x/"}, "selection", "by `entries` and by `prefix`"),
        ({"entries": (), "prefix": "x/", "manifest": TARGET}, "selection", "by `prefix` and by `manifest`"),
        ({"entries": (ZipEntry(key="a"),) * 4}, "too-many-entries", "REELWORKS_ARCHIVE_MAX_ENTRIES"),
        ({"target": ObjectRef(key="../x.zip")}, "target", "'..'"),
        ({"target": ObjectRef(key="a.mp4")}, "target", "'a.mp4' is the target"),
        ({"target": ObjectRef(key="a.mp4", bucket="media")}, "target", "'a.mp4' is the target"),
        ({"entries": (ZipEntry(key="a"), ZipEntry(key="out/all.zip", bucket="media"))}, "target", "'out/all.zip' is the target"),
        ({"entries": (ZipEntry(key="../../evil"),)}, "key", "'..'"),
        ({"entries": (ZipEntry(key="a", name="../../evil"),)}, "name", "'..'"),
        ({"entries": (ZipEntry(key="a", name="/etc/passwd"),)}, "name", "begins with a slash"),
        ({"entries": (ZipEntry(key="a", name="folder/"),)}, "name", "ends with a slash"),
        ({"entries": (ZipEntry(key="a", name="\ud800"),)}, "name", "surrogate"),
        ({"entries": (ZipEntry(key="C:evil"),)}, "name", "drive letter"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(changes: dict[str, object], code: str, words: str) -> None:
    problem = refused(msgspec.structs.replace(ONE, **changes))
    assert (problem.code, words in problem.details.detail) == (code, True), problem.details
    assert problem.details.accepted


def test_equal_requests_are_filled_to_equal_ones() -> None:
    whole = filled(ONE, "media")
    assert (whole.target, whole.title) == (ObjectRef(key="out/all.zip", bucket="media"), "all.zip")
    assert filled(whole, "media") == whole
    assert filled(msgspec.structs.replace(ONE, title=" My\nfilms "), "media").title == "My films"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(storage_url="file:///srv/media"), ""),
        (Settings(storage_url="file:///srv/media", zip_secret="x"), ""),
        (Settings(storage_url="s3://films", buckets=("zips",), zip_secret="x", zip_input_bucket="films", zip_output_bucket="zips"), ""),
        (Settings(storage_url="s3://films", zip_secret="x", zip_output_bucket="zips"), "REELWORKS_ZIP_OUTPUT_BUCKET='zips'"),
        (Settings(storage_url="s3://films", zip_input_bucket="films"), "REELWORKS_ZIP_SECRET"),
    ],
)
def test_buckets_of_the_old_wire_are_on_the_allow_list(settings: Settings, words: str) -> None:
    fault = bucket_fault(settings)
    assert (words in fault, bool(fault)) == (True, bool(words))


def test_secrets_are_compared_as_a_whole() -> None:
    assert is_same("geheim ü", "geheim ü".encode())
    for shown in ("", "geheim", "geheim ü ", "Geheim ü", "\ud800"):
        assert not is_same(shown, "geheim ü".encode())


# ── Names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Crete", "Crete.mp4"),
        ("Mum's 80th", "Mum's 80th.mp4"),
        ("../../evil", "_.._evil.mp4"),
        ('a/b\\c:d*e?f"g<h>i|j', "a_b_c_d_e_f_g_h_i_j.mp4"),
        ("  .hidden. ", "hidden.mp4"),
        ("...", "Untitled.mp4"),
        ("", "Untitled.mp4"),
        ("電影 🎬", "電影 🎬.mp4"),
        ("e\u0301", "é.mp4"),
        ("nul", "_nul.mp4"),
        ("COM1.backup", "_COM1.backup.mp4"),
        ("Communion", "Communion.mp4"),
        ("line\nbreak\u0000", "line break.mp4"),
    ],
)
def test_a_title_becomes_a_file_name_that_every_system_unpacks(title: str, name: str) -> None:
    assert file_name(title, ".mp4") == name


@given(st.text(max_size=400))
def test_no_title_makes_a_name_that_cannot_be_used(title: str) -> None:
    name = file_name(title, ".mp4")
    assert names.fault(name) == ""
    assert "/" not in name
    assert len(name.encode()) <= MAX_NAME_BYTES


def test_a_download_is_called_as_its_title_or_its_key() -> None:
    assert saved_as("2 films", "archives/x.zip") == "2 films.zip"
    assert saved_as("all.ZIP", "archives/x.zip") == "all.zip"
    assert saved_as("", "archives/x.zip") == "x.zip"
    assert saved_as("a/b", "archives/x.zip") == "a_b.zip"


def file(role: str, key: str, height: int = 0, bit_rate: int = 0) -> Output:
    return Output(role=role, bucket="media", key=key, height=height, bit_rate=bit_rate)


def test_the_best_file_is_the_tallest_then_the_richest() -> None:
    files = [file("poster", "p.jpg", 2160), file("rendition", "a.mp4", 720, 9), file("rendition", "b.mp4", 1080, 1)]
    assert best_file([*files, file("rendition", "c.mp4", 1080, 2)]) == file("rendition", "c.mp4", 1080, 2)
    assert best_file([file("poster", "p.jpg", 2160)]) is None


def test_films_keep_the_ending_of_their_files() -> None:
    films = [("Song", file("rendition", "assets/1/audio.m4a")), ("Film", file("rendition", "assets/2/720.mp4"))]
    assert [(entry.key, entry.name) for entry in film_entries(films)] == [
        ("assets/1/audio.m4a", "Song.m4a"),
        ("assets/2/720.mp4", "Film.mp4"),
    ]
    assert (archive_title(["Crete"]), archive_title(["a"] * 1200)) == ("Crete", "1,200 films")


# ── What the view knows ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    made = View(tmp_path)
    yield made
    made.close()


def test_unfinished_archives_are_counted_by_owner(view: View) -> None:
    folded = Folded()
    for number, (owner, kind, state) in enumerate(
        [("me", "zip", "queued"), ("me", "zip", "running"), ("me", "zip", "succeeded"), ("me", "zip", "failed"), ("me", "zip", "cancelled"),
         ("me", "transcode", "running"), ("", "zip", "running")]
    ):  # fmt: skip
        job = status(f"job-{number}", owner=owner, kind=kind, state=state)
        add_job(folded, job, msgspec.json.encode(job), job.created_ms)
    add_accepted(folded, status("job-new", owner="me", kind="zip"), 1)
    view.write(folded)
    assert [view.unfinished("zip", owner) for owner in ("me", "", "you")] == [3, 1, 0]


def test_an_accepted_archive_has_its_title_before_the_coordinator_has_seen_it() -> None:
    job = accepted_status(
        filled(ONE, "media"), request_type="ZipRequested", kind="zip", service="zipper", subject="s", source="x", at_ms=1
    )  # fmt: skip
    assert job.title == "all.zip"


# ── Manifests ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_manifest_is_found_by_job_and_content_and_goes_only_if_it_is_ours(tmp_path: Path) -> None:
    entries = (ZipEntry(key="a"), ZipEntry(key="b", name="c", bucket="media"))
    body = manifest.encode(entries)
    place = manifest.ref("job-1", body)
    assert place != manifest.ref("job-1", manifest.encode(entries[:1]))
    assert place != manifest.ref("job-2", body)

    async def round_trip() -> None:
        storage = open_storage(Settings(storage_url=(tmp_path / "media").as_uri(), data_dir=str(tmp_path)))
        await manifest.save(storage, place, body)
        assert await manifest.load(storage, place) == entries
        theirs = ObjectRef(key="lists/theirs.json")
        await manifest.save(storage, theirs, b'[{"key":"a","unknown":1}]')
        assert await manifest.load(storage, theirs) == entries[:1]
        for job in ("job-2", "job", ""):
            await manifest.discard(storage, place, job)
        assert await manifest.load(storage, place) == entries
        for wanted in (place, theirs, place):
            await manifest.discard(storage, wanted, "job-1")
        with pytest.raises(Unusable, match="is not there"):
            await manifest.load(storage, place)
        assert await manifest.load(storage, theirs) == entries[:1]
        for wrong, words in ((b"{}", "cannot be read"), (b"[5]", "cannot be read"), (b"\xff", "cannot be read"), (b"[]", "no objects")):
            await manifest.save(storage, theirs, wrong)
            with pytest.raises(Unusable, match=words):
                await manifest.load(storage, theirs)
        await storage.close()

    asyncio.run(round_trip())
