"""Disks and stores without room: words, nothing half-written, no crash, and all is well when there is room again."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.runtime.settings import SettingsError
from tests import trees
from tests.servers.faulty import Fault, error, faulty
from tests.servers.gateway import RunningGateway, run_gateway, settings_for, status
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.kafka


class Disk:
    """A small disk of its own, which can be filled and emptied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def upload(gateway: RunningGateway, data: bytes = b"film" * 20_000) -> tuple[int, str]:
    async with gateway.http.put("/v1/uploads/film.mp4", data=data) as answer:
        return answer.status, await answer.text()


async def test_an_upload_to_a_full_folder_is_507_and_leaves_nothing(kafka: str, tmp_path: Path, disk: Disk) -> None:
    settings = settings_for(kafka, tmp_path, storage_url=f"file://{disk.folder}/media")
    async with run_gateway(settings) as gateway:
        assert (await upload(gateway))[0] == 202
        before = gateway.objects()
        disk.fill()
        code, words = await upload(gateway)
        assert code == 507
        assert msgspec.json.decode(words)["type"] == "urn:reelworks:problem:storage-full"
        assert "no space is left" in words
        assert "Nothing was kept" in words
        assert gateway.objects() == before
        left = [p for p in trees.files(disk.folder / "media" / ".reelworks") if p.stat().st_size > 0]
        assert left == [], "what was begun is removed"
        assert (await gateway.json("/readyz"))["ok"], "polls go on"
        disk.free()
        assert (await upload(gateway))[0] == 202


async def test_a_view_on_a_full_disk_goes_on_by_itself_when_there_is_room(kafka: str, tmp_path: Path, disk: Disk) -> None:
    settings = settings_for(kafka, tmp_path, data_dir=str(disk.folder))
    film = Path(settings.storage_url.removeprefix("file://")) / "in" / "film.mov"
    film.parent.mkdir(parents=True)
    film.write_bytes(b"film")
    async with run_gateway(settings) as gateway:
        known = status()
        await gateway.feed(known, known.job_id)
        await gateway.until(f"/v1/jobs/{known.job_id}", lambda job: job.get("state") == "queued")
        disk.fill()
        # Larger than what may be left of the last page.
        later = status(request={"key": "films/one.mp4", "more": "x" * 300_000})
        await gateway.feed(later, later.job_id)
        ready = await gateway.until("/readyz", lambda ready: not ready["ok"])
        assert "the view cannot be written: database or disk is full" in ready["checks"]["view"]
        assert (await gateway.json(f"/v1/jobs/{known.job_id}"))["state"] == "queued"
        assert (await gateway.json(f"/v1/jobs/{later.job_id}"))["status"] == 503
        async with gateway.http.post("/v1/jobs", json={"type": "UploadReceived", "data": {"key": "in/film.mov"}}) as answer:
            assert answer.status == 202, "the broker has it"
            accepted = (await answer.json())["job_id"]
        disk.free()
        await gateway.until("/readyz", lambda ready: ready["ok"])
        assert (await gateway.json(f"/v1/jobs/{later.job_id}"))["state"] == "queued"
        await gateway.until(f"/v1/jobs/{accepted}", lambda job: job.get("state") == "queued")


async def test_a_gateway_that_starts_on_a_full_disk_says_so_and_keeps_the_view(kafka: str, tmp_path: Path, disk: Disk) -> None:
    settings = settings_for(kafka, tmp_path, data_dir=str(disk.folder))
    async with run_gateway(settings) as gateway:
        known = status()
        await gateway.feed(known, known.job_id)
        await gateway.until(f"/v1/jobs/{known.job_id}", lambda job: job.get("state") == "queued")
    disk.fill()
    with pytest.raises(SettingsError, match="REELWORKS_DATA_DIR"):
        async with run_gateway(settings):
            pass
    assert (disk.folder / "gateway-0.sqlite").stat().st_size > 0
    disk.free()
    async with run_gateway(settings) as gateway:
        assert (await gateway.json(f"/v1/jobs/{known.job_id}"))["state"] == "queued"


@pytest.mark.s3
@pytest.mark.parametrize(("code", "http"), [("QuotaExceeded", 403), ("XMinioStorageFull", 507), ("", 507)])
async def test_a_quota_of_the_store_is_507_in_words(kafka: str, tmp_path: Path, s3_server: S3Server, code: str, http: int) -> None:
    bucket = s3_server.make_bucket()
    async with faulty(s3_server.endpoint) as line:
        on_s3 = msgspec.structs.asdict(s3_server.settings(bucket))
        chosen = {name: on_s3[name] for name in ("storage_url", "s3_region", "s3_app_key", "s3_app_secret", "buckets")}
        settings = settings_for(kafka, tmp_path, **chosen, s3_endpoint=line.endpoint)
        async with run_gateway(settings) as gateway:
            line.faults = [Fault(operation="PutObject", times=10, reply=error(http, code))]
            said = await upload(gateway)
            assert said[0] == 507, said
            assert "the store has no room for it" in said[1]
            line.faults = []
            assert (await upload(gateway))[0] == 202
