"""A folder is an object store; and what only a folder must mind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.runtime.storage import local_files
from services.runtime.storage.base import NotFound, PreconditionFailed, Refused, StorageError
from services.runtime.storage.factory import open_storage
from services.runtime.storage.local import LocalStore
from tests.contract.client import stranger
from tests.contract.object_store import Fetch, ObjectStoreContract, collect
from tests.servers.media import media_server
from tests.servers.s3 import S3Server

MIB = 1024**2
GIB = 1024**3
SECRET = b"a secret of the tests, 32 bytes."


class TestLocalStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        (tmp_path / "media").mkdir()
        return LocalStore(tmp_path / "media", signing_key=SECRET)

    @pytest.fixture
    def other(self, tmp_path: Path) -> LocalStore:
        (tmp_path / "archive").mkdir()
        return LocalStore(tmp_path / "archive", signing_key=SECRET)

    @pytest.fixture
    async def fetch(self, store: LocalStore) -> AsyncIterator[Fetch]:
        async with media_server(store, SECRET) as base, stranger(base) as fetch:
            yield fetch

    # What only a folder must mind

    async def test_a_link_leads_nowhere(self, store: LocalStore, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret")
        (store.root / "link").symlink_to(outside)
        (store.root / "file").symlink_to(outside / "secret")
        for key in ("link/secret", "file"):
            for call in (store.head(key), store.read(key), store.source_for(key), store.copy(store, key, "copy")):
                with pytest.raises(Refused, match="symbolic link"):
                    await call
        with pytest.raises(Refused, match="symbolic link"):
            await store.put("link/new", b"x")
        assert [info.key async for info in store.list()] == []
        # A link in an object's own place is replaced, not followed.
        await store.put("file", b"mine")
        assert (await store.read("file"), (outside / "secret").read_bytes()) == (b"mine", b"secret")
        await store.delete("link")
        assert sorted(path.name for path in outside.iterdir()) == ["secret"]

    async def test_pipes_and_folders_are_no_objects(self, store: LocalStore) -> None:
        os.mkfifo(store.root / "pipe")
        (store.root / "folder").mkdir()
        for key in ("pipe", "folder"):
            with pytest.raises(NotFound):
                await store.read(key)
        await store.delete("folder")
        assert (store.root / "folder").is_dir()

    async def test_an_object_and_objects_below_it_cannot_be_side_by_side(self, store: LocalStore) -> None:
        await store.put("a", b"x")
        for condition in (False, True):
            with pytest.raises(Refused, match="side by side"):
                await store.put("a/b", b"x", if_none_match=condition)
        await store.put("c/d", b"x")
        for condition in (False, True):
            with pytest.raises(Refused, match="side by side"):
                await store.put("c", b"x", if_none_match=condition)
        with pytest.raises(NotFound):
            await store.read("a/b")
        assert [info.key async for info in store.list()] == ["a", "c/d"]

    async def test_a_segment_has_at_most_255_bytes(self, store: LocalStore) -> None:
        await store.put("é" * 127 + "/x", b"x")
        with pytest.raises(Refused, match="at most 255 between two slashes"):
            await store.put("é" * 128, b"x")

    async def test_unfinished_files_are_hidden_and_swept(self, store: LocalStore) -> None:
        await store.put("a", b"x")
        hidden = store.root / ".reelworks"
        (hidden / "tmp" / "stale").write_bytes(b"of a process that was killed")
        assert [info.key async for info in store.list()] == ["a"]
        assert [info.key async for info in store.list(".")] == []
        for key in (".reelworks/tmp/stale", ".reelworks"):
            with pytest.raises(Refused, match="unfinished"):
                await store.read(key)
        assert await store.sweep(older_than_seconds=3600) == 0
        os.utime(hidden / "tmp" / "stale", (0, 0))
        assert await store.sweep(older_than_seconds=3600) == 1
        assert list((hidden / "tmp").iterdir()) == []

    async def test_nothing_temporary_is_left(self, store: LocalStore) -> None:
        await store.put("a", b"x")
        with pytest.raises(PreconditionFailed):
            await store.put("a", b"x", if_none_match=True)
        upload = await store.begin_upload("b")
        part = await store.upload_part(upload, 1, b"x")
        await store.complete_upload(upload, [part])
        assert [list((store.root / ".reelworks" / name).iterdir()) for name in ("tmp", "uploads")] == [[], []]

    async def test_a_part_that_comes_while_its_upload_is_removed_goes_with_it(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upload = await store.begin_upload("b")
        home = store.root / ".reelworks" / "uploads"
        remove = os.rmdir
        came: list[Path] = []

        def late(name: str, *, dir_fd: int) -> None:
            """A worker had the folder open before it got its other name."""
            if not came:
                came.append(home / name / "00001")
                came[0].write_bytes(b"x")
            remove(name, dir_fd=dir_fd)

        monkeypatch.setattr(os, "rmdir", late)
        await store.abort_upload(upload)
        assert len(came) == 1
        assert list(home.iterdir()) == []

    async def test_holes_are_not_filled_by_copies(self, store: LocalStore, other: LocalStore) -> None:
        size, edge = 5 * GIB, 3 * GIB + 12345
        with (store.root / "sparse").open("wb") as file:
            for at, data in ((0, b"first"), (edge, b"middle"), (size - 4, b"last")):
                file.seek(at)
                file.write(data)
        if (store.root / "sparse").stat().st_blocks * 512 > MIB:
            pytest.skip("this file system has no holes")
        source = await store.head("sparse")
        upload = await other.begin_upload("composed.zip")
        spans = [(0, edge + 3), (edge + 3, 4 * GIB), (4 * GIB, size)]
        parts = [
            await other.copy_part(upload, number, store, "sparse", start=start, end=end, if_match=source.etag)
            for number, (start, end) in enumerate(spans, 1)
        ]
        parts.append(await other.upload_part(upload, 9, b"directory"))
        info = await other.complete_upload(upload, parts)
        assert info.size == size + 9
        assert (other.root / "composed.zip").stat().st_blocks * 512 < MIB
        for start, expected in ((0, b"first\0"), (edge - 1, b"\0middle\0"), (size - 5, b"\0lastdirectory")):
            assert await collect(other.get("composed.zip", start=start, end=start + len(expected))) == expected
        copied = await other.copy(store, "sparse", "copied")
        assert (copied.size, (other.root / "copied").stat().st_blocks * 512 < MIB) == (size, True)
        assert await collect(other.get("copied", start=edge, end=edge + 6)) == b"middle"

    @pytest.mark.parametrize("layout", ["", "d", "h", "dh", "hd", "dhd", "hdh", "ddhhd"])
    async def test_data_and_holes_are_copied_as_they_are(self, store: LocalStore, layout: str) -> None:
        blocks = [os.urandom(64 * 1024) if kind == "d" else bytes(64 * 1024) for kind in layout]
        with (store.root / "a").open("wb") as file:
            for kind, block in zip(layout, blocks, strict=True):
                file.write(block) if kind == "d" else file.seek(len(block), os.SEEK_CUR)
            file.truncate()
        data = b"".join(blocks)
        await store.copy(store, "a", "b")
        assert await store.read("b") == data
        for start, end in ((1, len(data)), (len(data) // 3, len(data) - 1)):
            if start < end:
                upload = await store.begin_upload("c")
                parts = [await store.copy_part(upload, 1, store, "a", start=start, end=end)]
                await store.complete_upload(upload, parts)
                assert await store.read("c") == data[start:end]

    async def test_copies_where_the_kernel_does_not_help(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("copy_file_range", "SEEK_DATA", "SEEK_HOLE"):
            monkeypatch.delattr(os, name, raising=False)
        data = os.urandom(3 * MIB + 5)
        await store.put("a", data)
        await store.copy(store, "a", "b")
        assert await store.read("b") == data

    @pytest.mark.parametrize("change", ["longer", "shorter", "same"])
    async def test_a_file_that_is_changed_while_it_is_copied_is_noticed(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        path = store.root / "a"
        await store.put("a", os.urandom(2 * MIB))
        original = local_files._move

        def move(*args: int) -> int:
            monkeypatch.setattr(local_files, "_move", original)
            with path.open("r+b") as file:
                match change:
                    case "longer":
                        file.seek(0, os.SEEK_END)
                        file.write(b"x")
                    case "shorter":
                        file.truncate(MIB)
                    case _:
                        file.write(b"other")
            return original(*args)

        upload = await store.begin_upload("b")
        for copied in (
            lambda: store.copy_part(upload, 1, store, "a", start=0, end=2 * MIB),
            lambda: store.copy(store, "a", "c"),
        ):
            await store.put("a", os.urandom(2 * MIB))
            monkeypatch.setattr(local_files, "_move", move)
            with pytest.raises(StorageError, match="changed while it was copied"):
                await copied()
        assert list(await store.list_parts(upload)) == []
        assert [info.key async for info in store.list()] == ["a"]

    async def test_files_of_other_programs_are_objects(self, store: LocalStore) -> None:
        (store.root / "Family").mkdir()
        (store.root / "Family" / "film.mov").write_bytes(b"film")
        (store.root / os.fsdecode(b"no text \xff")).write_bytes(b"x")
        assert [info.key async for info in store.list()] == ["Family/film.mov"]
        before = await store.head("Family/film.mov")
        assert (before.size, before.content_type) == (4, "video/quicktime")
        (store.root / "Family" / "film.mov").write_bytes(b"longer film")
        assert (await store.head("Family/film.mov")).etag != before.etag

    async def test_an_etag_holds_over_restarts_and_never_returns(self, store: LocalStore) -> None:
        etags = [(await store.put("a", b"same")).etag for _ in range(50)]
        assert len(set(etags)) == 50
        again = LocalStore(store.root, signing_key=SECRET)
        assert (await again.head("a")).etag == etags[-1]

    async def test_a_folder_that_is_gone_is_said_so(self, store: LocalStore) -> None:
        store.root.rmdir()
        with pytest.raises(NotFound, match="there is no folder"):
            await store.put("a", b"x")

    async def test_only_folders_are_copied_from(self, store: LocalStore, tmp_path: Path, s3_server: S3Server) -> None:
        remote = open_storage(s3_server.settings("some-bucket"))
        with pytest.raises(Refused, match="is not a folder"):
            await store.copy(remote.bucket(), "a", "b")
        with pytest.raises(Refused, match="not at the same store"):
            await remote.bucket().copy(store, "a", "b")
        await remote.close()

    async def test_writers_and_removers_of_one_folder_do_not_disturb_each_other(self, store: LocalStore) -> None:
        async def churn(name: str) -> None:
            for n in range(40):
                await store.put(f"deep/er/{name}", str(n).encode())
                await store.delete(f"deep/er/{name}")

        await asyncio.gather(*(churn(str(n)) for n in range(6)))
        assert [info.key async for info in store.list()] == []
        assert not (store.root / "deep").exists()

    def test_of_racing_processes_one_wins_and_nothing_is_torn(self, store: LocalStore) -> None:
        program = (
            "import asyncio, sys\nfrom pathlib import Path\n"
            "from services.runtime.storage.base import PreconditionFailed\nfrom services.runtime.storage.local import LocalStore\n"
            "async def main(root, mark):\n"
            "    store = LocalStore(Path(root), signing_key=b'')\n    sys.stdin.readline()\n    won = 0\n"
            "    for n in range(30):\n"
            "        try: await store.put(f'once/{n}', mark.encode(), if_none_match=True); won += 1\n"
            "        except PreconditionFailed: pass\n"
            "        await store.put('shared', mark.encode() * 200_000)\n"
            "    print(won)\n"
            "asyncio.run(main(*sys.argv[1:]))\n"
        )
        racers = [
            subprocess.Popen([sys.executable, "-c", program, store.root, mark], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for mark in "abc"
        ]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        won = [int(racer.communicate(timeout=60)[0]) for racer in racers]
        shared = (store.root / "shared").read_bytes()
        assert (sum(won), len(shared), len(set(shared))) == (30, 200_000, 1)
