"""The gateway in front of an S3 store: bytes go through it or straight to the store, and films are fetched from the store."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Literal

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from services.gateway.auth.playback import ANYBODY
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


@pytest.mark.parametrize("delivery", ["auto", "proxy"])
async def test_segments_come_from_the_store_by_short_lived_urls_or_through_the_gateway(
    kafka: str, s3_server: S3Server, tmp_path: Path, delivery: Literal["auto", "proxy"]
) -> None:
    settings = s3_server.settings(s3_server.make_bucket())
    more = {"bootstrap_servers": kafka, "data_dir": str(tmp_path), "port": 0, "hls_delivery": delivery}
    async with run_gateway(msgspec.structs.replace(settings, **more)) as gateway:
        asset_id = f"s3-{uuid.uuid4()}"
        store = gateway.gateway.storage.bucket()
        for name, body in (("master.m3u8", b"#EXTM3U\n"), ("video-360/00000.m4s", FILM), ("aes.key", b"0123456789abcdef")):
            await store.put(f"assets/{asset_id}/0a1b/{name}", body)
        base = f"{gateway.url}/v1/assets/{asset_id}/hls/0a1b"
        query = f"?token={gateway.gateway.tokens.issue(asset_id, ANYBODY, time.time()).text}"
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{base}/video-360/00000.m4s{query}", headers={"Range": "bytes=5-9"}) as answer:
                assert (answer.status, await answer.read()) == (206, FILM[5:10])
                assert (answer.content_type, bool(answer.history)) == ("video/iso.segment", delivery == "auto")
                assert ("X-Amz-Expires=600" in str(answer.url)) == (delivery == "auto")
            for name, kind in (("master.m3u8", "application/vnd.apple.mpegurl"), ("aes.key", "application/octet-stream")):
                async with http.get(f"{base}/{name}{query}", allow_redirects=False) as answer:
                    assert (answer.status, answer.content_type) == (200, kind)
            async with http.get(f"{base}/video-360/index.m3u8{query}") as answer:
                assert answer.status == 404
