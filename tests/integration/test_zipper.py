"""Archives over a folder and over a real S3 server: right in every byte, or not there at all."""

from __future__ import annotations

import asyncio
import io
import os
import random
import shutil
import subprocess
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from schemas.events import ObjectRef, ZipEntry, ZipRequested
from services.runtime.jobs.failures import Cancelled, Permanent, TaskError, classify
from services.runtime.jobs.handler import Job
from services.runtime.jobs.plan import StoredPlan, result_key
from services.runtime.settings import Settings
from services.runtime.storage import copies
from services.runtime.storage.base import MIN_PART_BYTES, NotFound, PreconditionFailed, StorageError
from services.runtime.testing import JobEnvironment
from services.zipper import compose
from services.zipper.handler import handler
from tests.servers.faulty import BROKEN, LOST, RESET, UNAVAILABLE, Fault, faulty
from tests.servers.s3 import S3Server

T = TypeVar("T")
MIB = 1024**2
TARGET = ObjectRef(key="out/all.zip")
WHOLE = ZipRequested(target=TARGET, prefix="in/")
STORES = ("folder", pytest.param("s3", marks=pytest.mark.s3))


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


CONTENT = {
    "in/a.mp4": noise(14 * MIB, 1),
    "in/b.mp4": noise(40 * MIB, 2),
    "in/empty": b"",
    "in/notes.txt": b"all work and no play " * 20_000,
    "in/poster.jpg": noise(70_000, 3),
    "in/numbers.csv": "".join(f"{n},{n * 7919 % 1000}\n" for n in range(1_500_000)).encode(),
    "in/Grüße 🎬/e\u0301.srt": "1\n00:00:01 --> 00:00:02\nה\n".encode(),
    "in/unknown": noise(300_000, 4),
}


@pytest.fixture
async def env(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JobEnvironment]:
    settings = Settings()
    if getattr(request, "param", "folder") == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        if server.named_buckets:
            pytest.skip("the named bucket is not empty, and these tests look at the whole of it")
        settings = server.settings(server.make_bucket())
    async with JobEnvironment(handler(), tmp_path, settings=settings) as environment:
        yield environment


@pytest.fixture
async def filled(env: JobEnvironment) -> JobEnvironment:
    for key, data in CONTENT.items():
        await env.put(key, data)
    return env


async def archive(env: JobEnvironment, key: str = TARGET.key) -> bytes:
    return await env.storage.bucket().read(key, limit=10 * 1024**3)


async def check(env: JobEnvironment, expected: dict[str, bytes], tmp_path: Path, key: str = TARGET.key) -> zipfile.ZipFile:
    """It has these entries and no others, with the dates of the objects, and every reader takes it. Nothing of the job remains."""
    body = await archive(env, key)
    opened = zipfile.ZipFile(io.BytesIO(body))
    assert sorted(opened.namelist()) == sorted(expected)
    for name, data in expected.items():
        assert opened.read(name) == data, name
    path = tmp_path / "made.zip"
    path.write_bytes(body)
    for command in (["unzip", "-tqq"], ["7z", "t", "-bso0"], ["bsdtar", "-tf"]):
        if shutil.which(command[0]):
            subprocess.run([*command, path], check=True, stdout=subprocess.DEVNULL, env=os.environ | {"LC_ALL": "C.UTF-8"})
    await nothing_left(env)
    return opened


async def nothing_left(env: JobEnvironment) -> None:
    uploads = await env.storage.bucket().list_uploads()
    # A trial whose end failed too is ended by the next one.
    assert [upload for upload in uploads if not upload.key.startswith(copies.PROBE_FOLDER)] == []
    assert [key for key in await env.keys() if key.startswith(("jobs/", "uploads/"))] == []


async def no_archive(env: JobEnvironment, key: str = TARGET.key) -> None:
    with pytest.raises(NotFound):
        await env.storage.bucket().head(key)
    await nothing_left(env)


@pytest.mark.parametrize("env", STORES, indirect=True)
async def test_all_kinds_of_objects(filled: JobEnvironment, tmp_path: Path):
    done = await filled.run(WHOLE)
    opened = await check(filled, CONTENT, tmp_path)
    methods = {info.filename: info.compress_type for info in opened.infolist()}
    assert {name for name, method in methods.items() if method == zipfile.ZIP_DEFLATED} == {"in/notes.txt", "in/numbers.csv"}
    size = (await filled.storage.bucket().head(TARGET.key)).size
    data = done.data
    assert (data["size"], data["entries"]) == (size, len(CONTENT))
    assert data["copied_bytes"] == 14 * MIB + 40 * MIB - 2 * MIN_PART_BYTES
    assert data["bytes_out"] < size - data["copied_bytes"] + MIB
    assert sum(data["crc_sources"].values()) == len(CONTENT)
    assert [(o.role, o.key, o.size, o.content_type) for o in done.outputs] == [("archive", TARGET.key, size, "application/zip")]


@pytest.mark.parametrize("env", STORES, indirect=True)
async def test_checksums_that_were_computed_are_not_computed_again(filled: JobEnvironment, tmp_path: Path):
    first = (await filled.run(WHOLE)).data
    request = ZipRequested(target=ObjectRef(key="out/again.zip"), prefix="in/")
    again = (await filled.run(request)).data
    await check(filled, CONTENT, tmp_path, "out/again.zip")
    small = sum(len(data) for name, data in CONTENT.items() if not name.endswith(".mp4"))
    assert again["bytes_in"] <= small + 2 * MIN_PART_BYTES + MIB
    if first["crc_sources"].get("read"):
        assert again["crc_sources"] == {"own": 2, "moved": len(CONTENT) - 2}


@pytest.mark.s3
@pytest.mark.parametrize("env", ["s3"], indirect=True)
async def test_a_store_that_tells_the_checksum_of_what_it_copies(
    filled: JobEnvironment, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
):
    if wrong := s3_server.lacks.get("part checksums"):
        pytest.skip(wrong)
    # What versitygw tells is true of sources without a checksum of their own, such as these.
    monkeypatch.setattr(filled.storage.bucket()._connection.copied_checksums, "true", True)  # type: ignore[attr-defined]
    await filled.storage.bucket().delete("in/numbers.csv")
    content = {key: data for key, data in CONTENT.items() if key != "in/numbers.csv"}
    done = await filled.run(WHOLE)
    await check(filled, content, tmp_path)
    assert done.data["crc_sources"] == {"copy": 2, "moved": len(content) - 2}
    assert done.data["bytes_in"] < 2 * MIN_PART_BYTES + 4 * MIB


@pytest.mark.parametrize("env", STORES, indirect=True)
async def test_a_store_that_copies_no_ranges(filled: JobEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def probe(*_: object) -> copies.Copies:
        return copies.Copies(possible=False, reason="in this test")

    monkeypatch.setattr(copies, "probe", probe)
    done = await filled.run(WHOLE)
    await check(filled, CONTENT, tmp_path)
    assert (done.data["copied_bytes"], done.data["crc_sources"]) == (0, {"moved": len(CONTENT)})
    assert done.data["bytes_in"] < sum(map(len, CONTENT.values())) + MIB


@pytest.mark.parametrize("env", STORES, indirect=True)
async def test_an_archive_in_slices(env: JobEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compose, "MAX_PARTS", compose.TAIL_PARTS + 5)
    content = {f"in/{n}.mp4": noise(compose.LARGE_BYTES + n, n) for n in range(5)} | {"in/z.srt": b"hello " * 1000}
    for key, data in content.items():
        await env.put(key, data)
    done = await env.run(WHOLE)
    assert len(done.results["join"]) == 3
    await check(env, content, tmp_path)


async def test_a_slice_of_which_deflate_leaves_next_to_nothing(env: JobEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compose, "MAX_PARTS", compose.TAIL_PARTS + 2)
    monkeypatch.setattr(compose, "TASK_MOVE_BYTES", 10 * MIB)
    content = {"in/a.mp4": noise(compose.LARGE_BYTES)} | {f"in/{n}.txt": b"hello " * MIB for n in range(3)}
    for key, data in content.items():
        await env.put(key, data)
    done = await env.run(WHOLE)
    assert len(done.results["join"]) > 1
    assert done.results["join"][-1]["parts"] == []
    await check(env, content, tmp_path)


@pytest.mark.parametrize(("method", "expected"), [("store", zipfile.ZIP_STORED), ("deflate", zipfile.ZIP_DEFLATED)])
async def test_the_method_that_was_asked_for(env: JobEnvironment, tmp_path: Path, method: Any, expected: int):
    content = {"in/a.mp4": b"x" * (20 * MIB), "in/b.txt": b"y" * 5000}
    for key, data in content.items():
        await env.put(key, data)
    await env.run(ZipRequested(target=TARGET, prefix="in/", method=method))
    opened = await check(env, content, tmp_path)
    assert {info.compress_type for info in opened.infolist()} == {expected}


async def test_entries_in_other_buckets_under_names_of_their_own(tmp_path: Path):
    settings = Settings(storage_url=(tmp_path / "one").as_uri(), buckets=("two",))
    async with JobEnvironment(handler(), tmp_path, settings=settings) as env:
        films = {"a.mp4": noise(20 * MIB), "b.mp4": noise(15 * MIB, 2)}
        for key, data in films.items():
            await env.put(key, data, bucket="two")
        await env.put("c.txt", b"mine")
        entries = (
            ZipEntry(bucket="two", key="a.mp4", name="Films/Crete.mp4"), ZipEntry(bucket="two", key="b.mp4", name="Films/Crete.mp4"),
            ZipEntry(key="c.txt"),
        )  # fmt: skip
        done = await env.run(ZipRequested(target=ObjectRef(bucket="two", key="all.zip"), entries=entries))
        body = await env.storage.bucket("two").read("all.zip")
        opened = zipfile.ZipFile(io.BytesIO(body))
        assert {n: opened.read(n) for n in opened.namelist()} == {
            "Films/Crete.mp4": films["a.mp4"], "Films/Crete (2).mp4": films["b.mp4"], "c.txt": b"mine",
        }  # fmt: skip
        assert done.data["target"] == {"bucket": "two", "key": "all.zip"}


async def test_dates_are_those_of_the_objects(env: JobEnvironment, tmp_path: Path):
    await env.put("in/old.txt", b"x")
    os.utime(tmp_path / "bucket" / "in" / "old.txt", (1_234_567_891, 1_234_567_891))
    await env.run(WHOLE)
    path = tmp_path / "bucket" / TARGET.key
    subprocess.run(["unzip", "-q", path, "-d", tmp_path / "out"], check=True, env=os.environ | {"TZ": "Asia/Kolkata"})
    assert (tmp_path / "out" / "in" / "old.txt").stat().st_mtime == 1_234_567_891


# ── What cannot be made ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (ZipRequested(target=TARGET), "nothing-selected", "no objects"),
        (ZipRequested(target=TARGET, prefix="none/"), "nothing-selected", "none/"),
        (ZipRequested(target=TARGET, entries=(ZipEntry(key="in/gone"), ZipEntry(key="in/lost"))), "object-missing", "in/gone"),
        (ZipRequested(target=TARGET, entries=(ZipEntry(key="in/empty", etag="other"),)), "object-changed", "in/empty"),
        (
            ZipRequested(target=ObjectRef(key="in/empty"), entries=(ZipEntry(key="in/empty"),), if_exists="replace"),
            "target-selected", "in/empty",
        ),
        (ZipRequested(target=ObjectRef(key="in/empty"), prefix="in/"), "target-exists", "in/empty"),
        (ZipRequested(target=ObjectRef(key="jobs/all.zip"), prefix="in/"), "target", "jobs/"),
        (ZipRequested(target=TARGET, entries=(ZipEntry(key="in/empty", name="../../evil"),)), "name", "evil"),
        (ZipRequested(target=TARGET, entries=(ZipEntry(key="in/empty", name="/etc/passwd"),)), "name", "/etc/passwd"),
    ],
)  # fmt: skip
async def test_requests_that_are_at_fault(env: JobEnvironment, request_: ZipRequested, code: str, words: str):
    await env.put("in/empty", b"")
    with pytest.raises(Permanent) as refused:
        await env.run(request_)
    assert refused.value.code == code
    assert words in refused.value.message
    await no_archive(env)


async def test_limits_are_told_with_their_settings(tmp_path: Path):
    settings = Settings(archive_max_entries=3, archive_max_bytes=1000)
    async with JobEnvironment(handler(), tmp_path, settings=settings) as env:
        for n in range(4):
            await env.put(f"in/{n}", bytes(400))
        with pytest.raises(Permanent, match="an archive may have 3") as refused:
            await env.run(WHOLE)
        assert "REELWORKS_ARCHIVE_MAX_ENTRIES" in refused.value.hint
        with pytest.raises(Permanent, match=r"1,200 bytes .* 1,000") as refused:
            await env.run(ZipRequested(target=TARGET, entries=tuple(ZipEntry(key=f"in/{n}") for n in range(3))))
        assert "REELWORKS_ARCHIVE_MAX_BYTES" in refused.value.hint


async def test_a_target_below_the_prefix_is_left_out_and_replaced(filled: JobEnvironment, tmp_path: Path):
    request = ZipRequested(target=ObjectRef(key="in/all.zip"), prefix="in/", if_exists="replace")
    await filled.run(request)
    await filled.run(request, job_id="again")
    await check(filled, CONTENT, tmp_path, "in/all.zip")


@pytest.mark.parametrize("env", STORES, indirect=True)
@pytest.mark.parametrize("key", ["in/b.mp4", "in/poster.jpg", "in/numbers.csv"])
@pytest.mark.parametrize("what", ["replaced", "removed"])
async def test_an_object_that_changes_meanwhile(filled: JobEnvironment, key: str, what: str):
    async def change(label: str, _: object) -> None:
        if label == "move-0":
            store = filled.storage.bucket()
            await (store.delete(key) if what == "removed" else store.put(key, CONTENT[key][::-1]))

    filled.before_task = change  # type: ignore[assignment]
    with pytest.raises((PreconditionFailed, NotFound)):
        await filled.run(WHOLE)
    await no_archive(filled)


async def test_somebody_else_writes_the_target_meanwhile(filled: JobEnvironment):
    async def write(label: str, _: object) -> None:
        if label == "finish":
            await filled.storage.bucket().put(TARGET.key, b"theirs")

    filled.before_task = write  # type: ignore[assignment]
    with pytest.raises(Permanent, match="already"):
        await filled.run(WHOLE)
    assert await archive(filled) == b"theirs"
    await nothing_left(filled)


@pytest.mark.parametrize("env", STORES, indirect=True)
@pytest.mark.parametrize("what", ["replaced", "removed"])
@pytest.mark.parametrize("selected", ["in/", "in/numbers.csv"], ids=["in-parts", "in-one-go"])
async def test_an_archive_that_is_replaced_before_it_was_read_back_was_there(
    filled: JobEnvironment, monkeypatch: pytest.MonkeyPatch, selected: str, what: str
):
    """Two jobs may replace one target: each has made its archive, and the last one stays."""
    kind = type(filled.storage.bucket())
    real = kind.get
    request = msgspec.structs.replace(WHOLE, prefix=selected, if_exists="replace")

    def get(store: Any, key: str, **more: Any) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            if key == TARGET.key:
                monkeypatch.setattr(kind, "get", real)
                await (store.delete(key) if what == "removed" else store.put(key, b"theirs"))
            async for chunk in real(store, key, **more):
                yield chunk

        return chunks()

    monkeypatch.setattr(kind, "get", get)
    done = await filled.run(request)
    assert done.outputs[0].key == TARGET.key
    if what == "replaced":
        assert await archive(filled) == b"theirs"
    await nothing_left(filled)


@pytest.mark.parametrize("env", STORES, indirect=True)
async def test_a_worker_that_dies_after_its_archive_was_replaced(filled: JobEnvironment, monkeypatch: pytest.MonkeyPatch):
    """The next attempt finds no upload to complete, and another archive at the target."""
    kind = type(filled.storage.bucket())
    job = filled.job(msgspec.structs.replace(WHOLE, if_exists="replace"))
    stored = await filled.plan(job)

    def get(store: Any, key: str, **more: Any) -> Any:
        if key == TARGET.key:
            raise Killed
        return real(store, key, **more)

    real = kind.get
    monkeypatch.setattr(kind, "get", get)
    with pytest.raises(Killed):
        await rest_of(filled, job, stored)
    monkeypatch.setattr(kind, "get", real)
    await filled.storage.bucket().put(TARGET.key, b"theirs")
    await rest_of(filled, job, stored)
    await filled.cleanup(job)
    assert await archive(filled) == b"theirs"
    await nothing_left(filled)


@pytest.mark.parametrize("env", STORES, indirect=True)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_that_begins_an_upload_when_the_job_is_over(filled: JobEnvironment, monkeypatch: pytest.MonkeyPatch, when: str):
    """It slept past its lease, and the job is tidied up just before or just after it claims the upload that it begins."""
    kind = type(filled.storage.bucket())
    real = kind.put
    job = filled.job(WHOLE)
    stored = await filled.plan(job)

    async def put(store: Any, key: str, *arguments: Any, **more: Any) -> Any:
        if not key.startswith("jobs/+uploads/"):
            return await real(store, key, *arguments, **more)
        monkeypatch.setattr(kind, "put", real)
        if when == "before":
            await filled.cleanup(job)
        made = await real(store, key, *arguments, **more)
        if when == "after":
            await filled.cleanup(job)
        return made

    monkeypatch.setattr(kind, "put", put)
    with pytest.raises(Permanent, match="ended while its upload was begun"):
        await filled.task(job, stored, "move", 0)
    await nothing_left(filled)


@pytest.mark.parametrize("env", STORES, indirect=True)
@pytest.mark.parametrize("outcome", ["cancelled", "failed"])
@pytest.mark.parametrize("selected", ["in/", "in/numbers.csv"], ids=["in-parts", "in-one-go"])
async def test_an_archive_that_appeared_in_the_moment_of_a_cancel_is_removed(filled: JobEnvironment, selected: str, outcome: Any):
    job = filled.job(msgspec.structs.replace(WHOLE, prefix=selected))
    await rest_of(filled, job, await filled.plan(job))
    assert await archive(filled)
    await filled.cleanup(msgspec.structs.replace(job, outcome=outcome))
    await no_archive(filled)


@pytest.mark.parametrize("env", STORES, indirect=True)
async def test_what_somebody_else_has_put_in_its_place_is_not_removed(filled: JobEnvironment):
    job = filled.job(WHOLE)
    await rest_of(filled, job, await filled.plan(job))
    await filled.storage.bucket().put(TARGET.key, b"theirs")
    await filled.cleanup(msgspec.structs.replace(job, outcome="cancelled"))
    assert await archive(filled) == b"theirs"
    await nothing_left(filled)


@pytest.mark.parametrize("selected", ["in/", "in/numbers.csv"], ids=["in-parts", "in-one-go"])
async def test_an_archive_that_replaced_another_is_not_removed(filled: JobEnvironment, selected: str):
    await filled.put(TARGET.key, b"before")
    job = filled.job(msgspec.structs.replace(WHOLE, prefix=selected, if_exists="replace"))
    await rest_of(filled, job, await filled.plan(job))
    await filled.cleanup(msgspec.structs.replace(job, outcome="cancelled"))
    assert zipfile.is_zipfile(io.BytesIO(await archive(filled)))
    await nothing_left(filled)


@pytest.mark.parametrize("env", STORES, indirect=True)
@pytest.mark.parametrize("selected", ["in/", "in/numbers.csv"], ids=["in-parts", "in-one-go"])
async def test_an_archive_that_might_have_replaced_another_is_removed(filled: JobEnvironment, selected: str):
    job = filled.job(msgspec.structs.replace(WHOLE, prefix=selected, if_exists="replace"))
    await rest_of(filled, job, await filled.plan(job))
    await filled.cleanup(msgspec.structs.replace(job, outcome="cancelled"))
    await no_archive(filled)


@pytest.mark.parametrize("env", STORES, indirect=True)
@pytest.mark.parametrize("selected", ["in/", "in/numbers.csv"], ids=["in-parts", "in-one-go"])
async def test_what_appears_while_the_archive_is_completed_is_replaced_by_the_next_attempt(
    filled: JobEnvironment, selected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kind = type(filled.storage.bucket())
    head = kind.head

    async def overtaken(store: Any, key: str) -> Any:
        try:
            return await head(store, key)
        except NotFound:
            if key == TARGET.key:
                await store.put(key, b"theirs")
            raise

    job = filled.job(msgspec.structs.replace(WHOLE, prefix=selected, if_exists="replace"))
    stored = await filled.plan(job)
    with monkeypatch.context() as patched:
        patched.setattr(kind, "head", overtaken)
        with pytest.raises(TaskError, match="has appeared while") as failed:
            await rest_of(filled, job, stored)
    assert failed.value.failure_class == "transient"
    assert await archive(filled) == b"theirs"
    await rest_of(filled, job, stored)
    assert zipfile.is_zipfile(io.BytesIO(await archive(filled)))


async def test_a_cancel_waits_until_it_is_noted_that_the_archive_is_there(filled: JobEnvironment, monkeypatch: pytest.MonkeyPatch):
    kind = type(filled.storage.bucket())
    real, begun = kind.put, asyncio.Event()

    async def put(store: Any, key: str, *arguments: Any, **more: Any) -> Any:
        if key.endswith("/appeared.json"):
            begun.set()
            await asyncio.sleep(0.05)
        return await real(store, key, *arguments, **more)

    monkeypatch.setattr(kind, "put", put)
    job = filled.job(WHOLE)
    ending = asyncio.create_task(rest_of(filled, job, await filled.plan(job)))
    await begun.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    await filled.cleanup(msgspec.structs.replace(job, outcome="cancelled"))
    await no_archive(filled)


async def test_a_worker_that_ends_an_archive_when_the_job_is_over_leaves_no_note(filled: JobEnvironment):
    """It slept in its last task, and another one has brought the job to its end."""
    await filled.put("small/a.txt", b"abc")
    job = filled.job(msgspec.structs.replace(WHOLE, prefix="small/", if_exists="replace"))
    stored = await filled.plan(job)
    results = {stage.name: [await filled.task(job, stored, stage.name, n) for n in range(len(stage.tasks))] for stage in stored.stages}
    left = {key: await filled.storage.bucket().read(key) for key in await filled.keys("jobs/") if "/left/" in key}
    await filled.finish(job, stored, results)
    await filled.cleanup(job)
    for key, data in left.items():  # what it had read already
        await filled.put(key, data)
    with pytest.raises(Cancelled):
        await filled.finish(job, stored, results)
    assert [key for key in await filled.keys("jobs/") if key not in left] == []


async def test_a_worker_that_ends_an_archive_when_the_job_has_come_to_nothing_leaves_none(filled: JobEnvironment):
    await filled.put("small/a.txt", b"abc")
    job = filled.job(msgspec.structs.replace(WHOLE, prefix="small/"))
    stored = await filled.plan(job)
    results = {stage.name: [await filled.task(job, stored, stage.name, n) for n in range(len(stage.tasks))] for stage in stored.stages}
    left = {key: await filled.storage.bucket().read(key) for key in await filled.keys("jobs/") if "/left/" in key}
    await filled.cleanup(msgspec.structs.replace(job, outcome="cancelled"))
    for key, data in left.items():  # what it had read already
        await filled.put(key, data)
    with pytest.raises(Cancelled):
        await filled.finish(job, stored, results)
    with pytest.raises(NotFound):
        await archive(filled)
    assert [key for key in await filled.keys("jobs/") if key not in left] == []


# ── Processes that die ─────────────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """A process that is no more."""


class Trap:
    """Ends the process before or after a certain call of the store."""

    def __init__(self, env: JobEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.at = -1
        self.after = False
        kind = type(env.storage.bucket())
        for name in ("begin_upload", "upload_part", "copy_part", "complete_upload", "put"):
            monkeypatch.setattr(kind, name, self._trapped(name, getattr(kind, name)))

    def _trapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **more: Any) -> Any:
            number = len(self.calls)
            self.calls.append(name)
            if number == self.at and not self.after:
                raise Killed
            answer = await real(*arguments, **more)
            if number == self.at:
                raise Killed
            return answer

        return call


async def rest_of(env: JobEnvironment, job: Job, stored: StoredPlan, *, again: bool = False) -> None:
    """The tasks that have no result yet (`again`: all of them), then the end, in a process that knows nothing."""
    results: dict[str, list[Any]] = {}
    for index, stage in enumerate(stored.stages, start=1):
        results[stage.name] = [
            await _done(env, job, index, n)
            if not again and await _is_done(env, job, index, n)
            else await env.task(job, stored, stage.name, n)
            for n in range(len(stage.tasks))
        ]
    await env.finish(job, stored, results)


async def _is_done(env: JobEnvironment, job: Job, stage: int, number: int) -> bool:
    return result_key(job.job_id, stage, number) in await env.keys(f"jobs/{job.job_id}/results/")


async def _done(env: JobEnvironment, job: Job, stage: int, number: int) -> Any:
    return msgspec.json.decode(await env.storage.bucket().read(result_key(job.job_id, stage, number)))


@pytest.mark.parametrize("env", STORES, indirect=True)
@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_every_step(env: JobEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool):
    content = {"in/a.mp4": noise(compose.LARGE_BYTES), "in/b.mp4": noise(compose.LARGE_BYTES + 5, 2), "in/c.srt": b"hello " * 1000}
    for key, data in content.items():
        await env.put(key, data)
    trap = Trap(env, monkeypatch)
    killed = True
    step = 0
    while killed:
        job = env.job(WHOLE, job_id=f"job-{step}")
        stored = await env.plan(job)
        trap.calls, trap.at, trap.after = [], step, after
        try:
            await rest_of(env, job, stored)
            killed = False
        except (Killed, BaseExceptionGroup):
            trap.at = -1
            await rest_of(env, job, stored)
        await env.cleanup(job)
        opened = zipfile.ZipFile(io.BytesIO(await archive(env)))
        assert {n: opened.read(n) for n in opened.namelist()} == content
        await nothing_left(env)
        await env.storage.bucket().delete(TARGET.key)
        step += 1
    assert {"begin_upload", "copy_part", "upload_part", "complete_upload"} <= set(trap.calls)
    assert step > 8


@pytest.mark.parametrize("env", STORES, indirect=True)
async def test_what_was_copied_is_not_copied_again(env: JobEnvironment, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compose, "COPY_BYTES", 8 * MIB)
    await env.put("in/a.mp4", noise(64 * MIB))
    trap = Trap(env, monkeypatch)
    job = env.job(WHOLE)
    stored = await env.plan(job)
    copied = sum(r["end"] > r["start"] for r in stored.stages[0].tasks[0]["ranges"])
    await env.task(job, stored, "move", 0)
    assert trap.calls.count("copy_part") >= copied
    trap.calls.clear()
    await rest_of(env, job, stored, again=True)
    assert "copy_part" not in trap.calls
    assert "begin_upload" not in trap.calls
    await env.cleanup(job)
    await nothing_left(env)


@pytest.mark.parametrize("env", STORES, indirect=True)
async def test_the_end_twice(filled: JobEnvironment, tmp_path: Path):
    job = filled.job(WHOLE)
    stored = await filled.plan(job)
    await rest_of(filled, job, stored)
    await rest_of(filled, job, stored)
    await filled.cleanup(job)
    await check(filled, CONTENT, tmp_path)


@pytest.mark.parametrize("env", STORES, indirect=True)
async def test_two_workers_on_the_same_job(filled: JobEnvironment, tmp_path: Path):
    job = filled.job(WHOLE)
    stored = await filled.plan(job)
    ended = await asyncio.gather(*(rest_of(filled, job, stored, again=True) for _ in range(2)), return_exceptions=True)
    wrong = [e for e in ended if e is not None]
    assert len(wrong) < 2
    assert all(isinstance(e, TaskError | StorageError) for e in wrong)
    await filled.cleanup(job)
    await check(filled, CONTENT, tmp_path)


async def test_two_jobs_with_the_same_target(filled: JobEnvironment, tmp_path: Path):
    one, two = filled.job(WHOLE, job_id="one"), filled.job(WHOLE, job_id="two")
    plans = [await filled.plan(one), await filled.plan(two)]
    ended = await asyncio.gather(*(rest_of(filled, job, plan) for job, plan in zip((one, two), plans, strict=True)), return_exceptions=True)
    assert all(e is None or isinstance(e, Permanent) for e in ended)
    assert None in ended
    await filled.cleanup(one)
    await filled.cleanup(two)
    await check(filled, CONTENT, tmp_path)


async def test_cleaning_up_after_one_job_leaves_the_upload_of_another(filled: JobEnvironment, tmp_path: Path):
    one, two = filled.job(WHOLE, job_id="one"), filled.job(WHOLE, job_id="two")
    plans = [await filled.plan(one), await filled.plan(two)]
    for job, plan in zip((one, two), plans, strict=True):
        await filled.task(job, plan, "move", 0)
    await filled.cleanup(one)
    await rest_of(filled, two, plans[1])
    await filled.cleanup(two)
    await check(filled, CONTENT, tmp_path)


async def test_an_upload_that_was_never_claimed_is_ended(filled: JobEnvironment, monkeypatch: pytest.MonkeyPatch):
    trap = Trap(filled, monkeypatch)
    job = filled.job(WHOLE)
    stored = await filled.plan(job)
    trap.at, trap.after, trap.calls = 0, True, []
    with pytest.raises((Killed, BaseExceptionGroup)):
        await filled.task(job, stored, "move", 0)
    assert trap.calls[0] == "begin_upload"
    trap.at = -1
    assert len(await filled.storage.bucket().list_uploads()) == 1
    await filled.cleanup(job)
    await no_archive(filled)


# ── A store that fails ─────────────────────────────────────────────────────────────────────────────────────────────

FAULTS = {
    "HEAD is refused": replace(UNAVAILABLE, operation="HeadObject", times=2),
    "the upload is not begun": replace(BROKEN, operation="CreateMultipartUpload"),
    "begun, and nobody heard of it": replace(LOST, operation="CreateMultipartUpload"),
    "a copy fails": replace(BROKEN, operation="UploadPartCopy", after=2),
    "copied, and nobody heard of it": replace(LOST, operation="UploadPartCopy", after=2),
    "a part is reset": replace(RESET, operation="UploadPart", times=2),
    "a short read": Fault(operation="GetObject", after=6, answer_bytes=2000),
    "a read is reset": Fault(operation="GetObject", after=5, answer_bytes=50_000, reset=True),
    "slow": Fault(operation="GetObject", times=4, delay=1.0),
    "completion fails": replace(BROKEN, operation="CompleteMultipartUpload"),
    "completed, and nobody heard of it": replace(LOST, operation="CompleteMultipartUpload"),
    "away for long": replace(UNAVAILABLE, after=12, times=30),
}


@pytest.mark.s3
@pytest.mark.parametrize("name", FAULTS)
async def test_a_store_that_fails(s3_server: S3Server, tmp_path: Path, name: str):
    """The coordinator repeats a task that failed for the moment; here the test does."""
    if s3_server.named_buckets:
        pytest.skip("the named bucket is not empty, and these tests look at the whole of it")
    content = {key: CONTENT[key] for key in CONTENT if not key.endswith("b.mp4")}
    async with faulty(s3_server.endpoint) as proxy:
        settings = msgspec.structs.replace(s3_server.settings(s3_server.make_bucket()), s3_endpoint=proxy.endpoint)
        async with JobEnvironment(handler(), tmp_path, settings=settings) as env:
            for key, data in content.items():
                await env.put(key, data)
            proxy.faults = [FAULTS[name]]
            job = env.job(WHOLE)
            stored = await _persistent(lambda: env.plan(job))
            await _persistent(lambda: rest_of(env, job, stored))
            await _persistent(lambda: env.cleanup(job))
            assert proxy.faults == [], "the fault did not come to pass"
            await check(env, content, tmp_path)


async def _persistent(work: Callable[[], Awaitable[T]]) -> T:
    for _ in range(12):
        try:
            return await work()
        except Exception as wrong:
            if classify(wrong).failure_class != "transient":
                raise
    return await work()


# ── Large and many ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_entry_over_4_gib(env: JobEnvironment, tmp_path: Path):
    folder = tmp_path / "bucket" / "in"
    folder.mkdir(parents=True)
    with (folder / "a.mp4").open("wb") as file:  # nearly all of it is a hole
        file.write(b"begin")
        file.truncate(4 * 1024**3 + 5)
        file.seek(4 * 1024**3)
        file.write(b"end!!")
    await env.put("in/b.txt", b"behind it")
    done = await env.run(WHOLE)
    path = tmp_path / "bucket" / TARGET.key
    assert done.data["size"] == path.stat().st_size > 4 * 1024**3
    assert path.stat().st_blocks * 512 < 100 * MIB
    with zipfile.ZipFile(path) as opened:
        assert [(i.filename, i.file_size) for i in opened.infolist()] == [("in/a.mp4", 4 * 1024**3 + 5), ("in/b.txt", 9)]
        assert opened.read("in/b.txt") == b"behind it"
    if seven := shutil.which("7z"):
        subprocess.run([seven, "t", "-bso0", path], check=True)
    await nothing_left(env)


async def test_seventy_thousand_entries(env: JobEnvironment, tmp_path: Path):
    folder = tmp_path / "bucket" / "in"
    folder.mkdir(parents=True)
    for n in range(70_000):
        (folder / f"{n:05}").write_bytes(b"%d" % n)
    done = await env.run(WHOLE)
    path = tmp_path / "bucket" / TARGET.key
    assert done.data["entries"] == 70_000
    subprocess.run(["unzip", "-tqq", path], check=True)
    with zipfile.ZipFile(path) as opened:
        assert opened.namelist() == [f"in/{n:05}" for n in range(70_000)]
        assert opened.read("in/69999") == b"69999"
    await nothing_left(env)
