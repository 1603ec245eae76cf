"""/v1/assets: the library, what people decide, and deletion."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from schemas.events import AssetChanged, CancelRequested, ErrorInfo, JobFailed, Output, TranscodeCompleted
from services.gateway.routes import assets as routes
from tests.servers.gateway import RunningGateway, events_about, rendition, requests_of, run_gateway, settings_for, status

pytestmark = pytest.mark.kafka


async def uploaded(gateway: RunningGateway, **query: str) -> tuple[str, str]:
    async with gateway.http.put("/v1/uploads/film.mp4", data=b"film", params=query) as answer:
        accepted = await answer.json()
    return accepted["asset_id"], accepted["job_id"]


async def finished(gateway: RunningGateway, asset_id: str, job_id: str) -> None:
    """What a transcode leaves."""
    outputs = (
        rendition("media", f"assets/{asset_id}/360.mp4", 360),
        rendition("media", f"assets/{asset_id}/720.mp4", 720),
        Output(role="poster", bucket="media", key=f"assets/{asset_id}/poster.jpg"),
        Output(role="thumbnail", bucket="media", key=f"assets/{asset_id}/thumbnail.jpg"),
    )
    for output in outputs:
        await gateway.gateway.storage.bucket().put(output.key, output.key.encode())
    done = TranscodeCompleted(
        job_id=job_id,
        subject=asset_id,
        kind="transcode",
        outputs=outputs,
        asset_id=asset_id,
        duration_seconds=61.5,
        width=1280,
        height=720,
        frame_rate=25.0,
        has_audio=True,
        finished_ms=int(time.time() * 1000),
    )
    await gateway.feed(status(job_id, subject=asset_id, state="succeeded", outputs=outputs), job_id)
    await gateway.feed(done, f"{asset_id}:transcode")
    await gateway.until(f"/v1/assets/{asset_id}", lambda asset: asset["duration_seconds"] == 61.5 and asset["state"] == "succeeded")


async def call(gateway: RunningGateway, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with gateway.http.request(method, path, **options) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_an_asset_lists_urls_that_can_be_fetched_best_first(gateway: RunningGateway) -> None:
    asset_id, job_id = await uploaded(gateway)
    await finished(gateway, asset_id, job_id)
    asset = await gateway.json(f"/v1/assets/{asset_id}")
    assert [r["name"] for r in asset["renditions"]] == ["720p", "360p"]
    assert (asset["width"], asset["height"], asset["has_audio"], asset["frame_rate"]) == (1280, 720, True, 25.0)
    for url in (asset["renditions"][0]["url"], asset["poster_url"], asset["thumbnail_url"]):
        assert url.startswith(gateway.url)
        async with gateway.http.get(url) as answer:
            assert answer.status == 200
    async with gateway.http.get(f"/v1/assets/{asset_id}") as answer:
        etag = answer.headers["ETag"]
    async with gateway.http.get(f"/v1/assets/{asset_id}", headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304


async def test_a_failed_repetition_does_not_hide_what_was_made_before(gateway: RunningGateway) -> None:
    asset_id, job_id = await uploaded(gateway)
    await finished(gateway, asset_id, job_id)
    again = str(uuid.uuid4())
    error = ErrorInfo(code="not-a-video", message="no")
    later = int(time.time() * 1000) + 5000
    await gateway.feed(
        JobFailed(job_id=again, subject=asset_id, kind="transcode", state="failed", error=error), f"{asset_id}:transcode:failed"
    )
    await gateway.feed(status(again, subject=asset_id, state="failed", error=error, created_ms=later), again)
    asset = await gateway.until(f"/v1/assets/{asset_id}", lambda asset: asset["state"] == "failed")
    assert (asset["error"]["code"], len(asset["renditions"]), asset["job_id"]) == ("not-a-video", 2, again)


async def test_what_other_systems_sent_is_in_the_library_too(gateway: RunningGateway) -> None:
    asset_id = f"outside-{uuid.uuid4()}"
    job = status(
        subject=asset_id, state="running", title="From outside", request={"key": "in/x.mp4", "bucket": "media", "filename": "x.mp4"}
    )
    await gateway.feed(job, job.job_id)
    asset = await gateway.until(f"/v1/assets/{asset_id}", lambda asset: asset.get("state") == "running")
    assert (asset["title"], asset["filename"]) == ("From outside", "x.mp4")
    assert asset_id in [a["asset_id"] for a in (await gateway.json("/v1/assets?limit=200"))["assets"]]


async def test_the_library_is_listed_page_by_page(gateway: RunningGateway) -> None:
    mine = [(await uploaded(gateway, title=f"Film {n}"))[0] for n in range(3)]
    first = await gateway.json("/v1/assets?limit=2")
    second = await gateway.json(f"/v1/assets?limit=2&cursor={first['next_cursor']}")
    assert [a["asset_id"] for a in first["assets"]] == [mine[2], mine[1]]
    assert second["assets"][0]["asset_id"] == mine[0]


async def test_title_and_visibility_can_be_changed_and_stay_after_another_transcode(gateway: RunningGateway) -> None:
    asset_id, job_id = await uploaded(gateway)
    code, asset = await call(gateway, "PATCH", f"/v1/assets/{asset_id}", json={"title": " New\ntitle ", "visibility": "public"})
    assert (code, asset["title"], asset["visibility"]) == (200, "New title", "public")
    await finished(gateway, asset_id, job_id)
    key = next(key for key in gateway.objects() if "/source/" in key)
    body = {"type": "UploadReceived", "data": {"key": key, "asset_id": asset_id}}
    assert (await call(gateway, "POST", "/v1/jobs", json=body))[0] == 202
    asset = await gateway.json(f"/v1/assets/{asset_id}")
    assert (asset["title"], asset["state"], asset["visibility"]) == ("New title", "queued", "public")


@pytest.mark.parametrize("body", [{"title": ""}, {"title": "  "}, {"title": "x" * 301}, {"visibility": "secret"}, [], {"title": 5}])
async def test_bad_changes_are_explained_and_change_nothing(gateway: RunningGateway, body: Any) -> None:
    asset_id, _ = await uploaded(gateway, title="Before")
    code, problem = await call(gateway, "PATCH", f"/v1/assets/{asset_id}", json=body)
    assert (code, problem["status"]) == (400, 400)
    assert (await gateway.json(f"/v1/assets/{asset_id}"))["title"] == "Before"


async def test_deletion_removes_every_object_and_can_be_repeated(gateway: RunningGateway) -> None:
    asset_id, job_id = await uploaded(gateway)
    other, _ = await uploaded(gateway)
    await finished(gateway, asset_id, job_id)
    code, answer = await call(gateway, "DELETE", f"/v1/assets/{asset_id}")
    assert (code, answer["objects_removed"], answer["kept"]) == (200, 5, [])
    assert [key for key in gateway.objects() if asset_id in key] == []
    assert len([key for key in gateway.objects() if other in key]) == 1
    assert (await call(gateway, "GET", f"/v1/assets/{asset_id}"))[0] == 404
    assert asset_id not in [a["asset_id"] for a in (await gateway.json("/v1/assets?limit=200"))["assets"]]
    assert await call(gateway, "DELETE", f"/v1/assets/{asset_id}") == (200, {"asset_id": asset_id, "objects_removed": 0, "kept": []})
    assert (await call(gateway, "DELETE", "/v1/assets/unknown"))[0] == 404
    changes = await asyncio.to_thread(
        events_about, gateway.settings, topics.ASSETS, lambda e: isinstance(e, AssetChanged) and e.asset_id == asset_id
    )
    assert [event.deleted for _, event in changes] == [False, True]


async def test_a_source_that_was_there_before_is_kept(gateway: RunningGateway) -> None:
    key = f"incoming/{uuid.uuid4()}.mp4"
    await gateway.gateway.storage.bucket().put(key, b"film")
    _, accepted = await call(gateway, "POST", "/v1/jobs", json={"type": "UploadReceived", "data": {"key": key}})
    await finished(gateway, accepted["asset_id"], accepted["job_id"])
    code, answer = await call(gateway, "DELETE", f"/v1/assets/{accepted['asset_id']}")
    assert (code, answer["kept"], gateway.objects()) == (200, [key], [key])


async def test_a_running_job_is_cancelled_first(gateway: RunningGateway) -> None:
    asset_id, job_id = await uploaded(gateway)
    await gateway.feed(status(job_id, subject=asset_id, state="running"), job_id)
    await gateway.until(f"/v1/jobs/{job_id}", lambda job: job["state"] == "running")
    deletion = asyncio.create_task(call(gateway, "DELETE", f"/v1/assets/{asset_id}"))
    async with asyncio.timeout(20):
        while not await requests_of(gateway, lambda e: isinstance(e, CancelRequested) and e.job_id == job_id):
            await asyncio.sleep(0.05)
    assert [key for key in gateway.objects() if asset_id in key] != []
    await gateway.feed(status(job_id, subject=asset_id, state="cancelled"), job_id)
    async with asyncio.timeout(20):
        while [key for key in gateway.objects() if asset_id in key]:
            await asyncio.sleep(0.02)
    # A worker was writing when it heard of it.
    await gateway.gateway.storage.bucket().put(f"assets/{asset_id}/storyboard.jpg", b"picture")
    code, answer = await deletion
    assert (code, answer["objects_removed"]) == (200, 2)
    assert [key for key in gateway.objects() if asset_id in key] == []


async def test_nothing_is_deleted_while_a_job_goes_on(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "END_SECONDS", 0.3)
    asset_id, job_id = await uploaded(gateway)
    code, problem = await call(gateway, "DELETE", f"/v1/assets/{asset_id}")
    assert (code, problem["value"], problem["type"]) == (409, job_id, "urn:reelworks:problem:jobs-running")
    assert len(gateway.objects()) == 1
    assert (await call(gateway, "GET", f"/v1/assets/{asset_id}"))[0] == 200


async def test_a_deletion_that_fails_in_part_says_what_remains_and_keeps_the_asset(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset_id, job_id = await uploaded(gateway)
    await finished(gateway, asset_id, job_id)
    store = gateway.gateway.storage.bucket()
    stuck = f"assets/{asset_id}/720.mp4"
    delete_many = store.delete_many

    async def partly(keys: list[str]) -> dict[str, str]:
        return await delete_many([key for key in keys if key != stuck]) | {stuck: "the disk is read-only"}

    monkeypatch.setattr(store, "delete_many", partly)
    code, problem = await call(gateway, "DELETE", f"/v1/assets/{asset_id}")
    assert (code, problem["remaining"]) == (502, {stuck: "the disk is read-only"})
    assert (await call(gateway, "GET", f"/v1/assets/{asset_id}"))[0] == 200
    monkeypatch.undo()
    assert (await call(gateway, "DELETE", f"/v1/assets/{asset_id}"))[1]["objects_removed"] == 1


# ── The view behind it ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_gateway_with_an_empty_disk_rebuilds_the_same_library(kafka: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    one = settings_for(kafka, tmp_path / "one", signing_key="k" * 32, public_url="http://gateway.example", signed_url_seconds=7 * 86400)
    async with run_gateway(one) as gateway:
        asset_id, job_id = await uploaded(gateway, title="Kept")
        await finished(gateway, asset_id, job_id)
        _, waiting = await uploaded(gateway)
        before = await gateway.json(f"/v1/assets/{asset_id}")
    fresh = settings_for(kafka, tmp_path / "two", signing_key="k" * 32, public_url="http://gateway.example", signed_url_seconds=7 * 86400)
    async with run_gateway(fresh) as gateway:
        assert await gateway.json(f"/v1/assets/{asset_id}") == before
        assert (await gateway.json(f"/v1/jobs/{waiting}"))["state"] == "queued"


async def test_a_restart_goes_on_from_where_the_view_stands(kafka: str, tmp_path: Path) -> None:
    settings = settings_for(kafka, tmp_path)
    async with run_gateway(settings) as gateway:
        asset_id, _ = await uploaded(gateway)
        path = gateway.gateway.view.path
        await gateway.until("/readyz", lambda ready: ready["ok"])
    async with run_gateway(settings, caught_up=False) as gateway:
        assert gateway.gateway.view.path == path
        assert (await gateway.json(f"/v1/assets/{asset_id}"))["asset_id"] == asset_id


async def test_a_damaged_file_is_filled_again(kafka: str, tmp_path: Path) -> None:
    settings = settings_for(kafka, tmp_path)
    async with run_gateway(settings) as gateway:
        asset_id, _ = await uploaded(gateway)
        path = gateway.gateway.view.path
    path.write_bytes(b"this is no database" * 1000)
    async with run_gateway(settings) as gateway:
        assert (await gateway.json(f"/v1/assets/{asset_id}"))["asset_id"] == asset_id
