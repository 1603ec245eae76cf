"""The gateway in front of an S3 store: bytes go through it or straight to the store, and films are fetched from the store."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from tests.servers.gateway import RunningGateway, rendition, run_gateway, status
from tests.servers.s3 import S3Server

pytestmark = [pytest.mark.kafka, pytest.mark.s3]
FILM = b"not really a film, but bytes " * 50_000


@pytest_asyncio.fixture
async def on_s3(kafka: str, s3_server: S3Server, tmp_path: Path) -> AsyncGenerator[RunningGateway]:
    settings = s3_server.settings(s3_server.make_bucket())
    async with run_gateway(msgspec.structs.replace(settings, bootstrap_servers=kafka, data_dir=str(tmp_path), port=0)) as gateway:
        yield gateway


async def keys(gateway: RunningGateway, asset_id: str) -> list[str]:
    return [info.key async for info in gateway.gateway.storage.bucket().list(f"assets/{asset_id}/")]


async def test_an_upload_through_the_gateway_lies_in_the_bucket_and_is_deleted_with_its_asset(on_s3: RunningGateway) -> None:
    async with on_s3.http.put("/v1/uploads/film.mp4", data=FILM) as answer:
        assert answer.status == 202
        accepted = await answer.json()
    key = f"assets/{accepted['asset_id']}/source/film.mp4"
    assert await on_s3.gateway.storage.bucket().read(key) == FILM
    await on_s3.feed(status(accepted["job_id"], subject=accepted["asset_id"], state="cancelled"), accepted["job_id"])
    await on_s3.until(f"/v1/jobs/{accepted['job_id']}", lambda job: job["state"] == "cancelled")
    async with on_s3.http.delete(f"/v1/assets/{accepted['asset_id']}") as answer:
        assert (answer.status, (await answer.json())["objects_removed"]) == (200, 1)
    assert await keys(on_s3, accepted["asset_id"]) == []


async def test_an_upload_goes_straight_to_the_store_and_is_completed_here(on_s3: RunningGateway) -> None:
    async with on_s3.http.post("/v1/uploads", json={"filename": "film.mov", "size": len(FILM)}) as answer:
        ticket = await answer.json()
    upload = ticket["upload"]
    assert not upload["url"].startswith(on_s3.url)
    headers = {name: value for name, value in upload["headers"].items() if name.lower() != "content-length"}
    async with aiohttp.ClientSession() as http, http.put(upload["url"], data=FILM, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    async with on_s3.http.post(ticket["complete_url"].removeprefix(on_s3.url)) as answer:
        assert answer.status == 202


async def test_outputs_are_fetched_from_the_store_by_stable_urls(on_s3: RunningGateway) -> None:
    store, asset_id = on_s3.gateway.storage.bucket(), f"s3-{uuid.uuid4()}"
    await store.put(f"assets/{asset_id}/720.mp4", FILM)
    job = status(subject=asset_id, state="succeeded", outputs=(rendition(store.bucket, f"assets/{asset_id}/720.mp4", 720),))
    await on_s3.feed(job, job.job_id)
    asset = await on_s3.until(f"/v1/assets/{asset_id}", lambda asset: asset.get("renditions"))
    url = asset["renditions"][0]["url"]
    on_s3.gateway.catalogue.cache.clear()
    assert (await on_s3.json(f"/v1/assets/{asset_id}"))["renditions"][0]["url"] == url
    async with aiohttp.ClientSession() as http, http.get(url, headers={"Range": "bytes=0-9"}) as answer:
        assert (answer.status, await answer.read()) == (206, FILM[:10])
    async with on_s3.http.get("/") as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert url.split("/", 3)[2] in policy
