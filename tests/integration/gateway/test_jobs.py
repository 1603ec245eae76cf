"""/v1/jobs: what clients see of the log, and what they may ask for."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from schemas.events import CancelRequested, ErrorInfo, RetryRequested, RunningTask, UploadReceived, WorkerSeen
from services.runtime.kafka.producer import Record
from tests.servers.gateway import RunningGateway, rendition, requests_of, run_gateway, settings_for, status

pytestmark = pytest.mark.kafka


async def post(gateway: RunningGateway, path: str, **options: Any) -> tuple[int, Any]:
    async with gateway.http.post(path, **options) as answer:
        return answer.status, await answer.json(content_type=None)


async def known(gateway: RunningGateway, **more: Any) -> str:
    """A job that the view has."""
    job = status(**more)
    await gateway.feed(job, job.job_id)
    await gateway.until(f"/v1/jobs/{job.job_id}", lambda found: found.get("state") == job.state)
    return job.job_id


async def test_a_poll_is_304_until_the_status_changes(gateway: RunningGateway) -> None:
    job_id = await known(gateway, state="running", progress=0.1)
    async with gateway.http.get(f"/v1/jobs/{job_id}") as answer:
        etag = answer.headers["ETag"]
        assert not etag.startswith("W/")
        assert answer.headers["Cache-Control"] == "no-cache"
    async with gateway.http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": etag}) as answer:
        assert (answer.status, answer.headers["ETag"], await answer.read()) == (304, etag, b"")
    await gateway.feed(status(job_id, state="running", progress=0.2), job_id)
    await gateway.until(f"/v1/jobs/{job_id}", lambda job: job["progress"] == 0.2)
    async with gateway.http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": etag}) as answer:
        assert answer.status == 200


async def test_output_urls_are_stable_and_can_be_fetched(gateway: RunningGateway) -> None:
    await gateway.gateway.storage.bucket().put("assets/x/720.mp4", b"film")
    job_id = await known(gateway, state="succeeded", outputs=(rendition("media", "assets/x/720.mp4", 720),))
    etags = set()
    for _ in range(3):
        gateway.gateway.statuses.cache.clear()
        async with gateway.http.get(f"/v1/jobs/{job_id}") as answer:
            etags.add(answer.headers["ETag"])
            job = await answer.json()
    assert len(etags) == 1
    async with gateway.http.get(job["outputs"][0]["url"]) as answer:
        assert (answer.status, answer.headers["Content-Type"], await answer.read()) == (200, "video/mp4", b"film")


async def test_a_long_poll_answers_when_the_status_changes(gateway: RunningGateway) -> None:
    job_id = await known(gateway, state="running", progress=0.1)
    async with gateway.http.get(f"/v1/jobs/{job_id}") as answer:
        etag = answer.headers["ETag"]
    began = time.monotonic()
    poll = asyncio.create_task(gateway.json(f"/v1/jobs/{job_id}", params={"wait": "30"}, headers={"If-None-Match": etag}))
    async with asyncio.timeout(10):
        while job_id not in gateway.gateway.watchers:
            await asyncio.sleep(0.01)
    await gateway.feed(status(job_id, state="running", progress=0.5), job_id)
    assert (await poll)["progress"] == 0.5
    assert time.monotonic() - began < 10
    assert len(gateway.gateway.watchers) == 0


async def test_a_long_poll_without_a_change_ends_as_304_and_one_of_an_ended_job_at_once(gateway: RunningGateway) -> None:
    job_id = await known(gateway, state="running")
    async with gateway.http.get(f"/v1/jobs/{job_id}") as answer:
        etag = answer.headers["ETag"]
    async with gateway.http.get(f"/v1/jobs/{job_id}?wait=1", headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304
    ended = await known(gateway, state="cancelled")
    began = time.monotonic()
    assert (await gateway.json(f"/v1/jobs/{ended}?wait=30"))["state"] == "cancelled"
    assert time.monotonic() - began < 5


async def test_a_client_that_leaves_a_long_poll_is_forgotten(gateway: RunningGateway) -> None:
    job_id = await known(gateway, state="running")
    poll = asyncio.create_task(gateway.json(f"/v1/jobs/{job_id}?wait=60"))
    async with asyncio.timeout(10):
        while job_id not in gateway.gateway.watchers:
            await asyncio.sleep(0.01)
        poll.cancel()
        while job_id in gateway.gateway.watchers:
            await asyncio.sleep(0.01)


async def test_events_tell_of_every_change_and_end_with_the_job(gateway: RunningGateway) -> None:
    job_id = await known(gateway, state="running", progress=0.1)
    seen: list[str] = []
    ids: list[str] = []
    async with asyncio.timeout(20), gateway.http.get(f"/v1/jobs/{job_id}/events") as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        fed = False
        async for line in stream.content:
            if line.startswith(b"id: "):
                ids.append(line[4:].decode().strip())
            if line.startswith(b"data: "):
                seen.append(line.decode())
                if not fed:
                    fed = True
                    await gateway.feed(status(job_id, state="succeeded"), job_id)
    assert ['"state":"running"' in seen[0], '"state":"succeeded"' in seen[-1]] == [True, True]
    async with gateway.http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": ids[-1]}) as stream:
        assert stream.status == 204
    async with gateway.http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": ids[0]}) as stream:
        assert b'"state":"succeeded"' in await stream.read()
    assert len(gateway.gateway.watchers) == 0


async def test_jobs_are_listed_newest_first_by_state_and_type_page_by_page(gateway: RunningGateway) -> None:
    base = int(time.time() * 1000) + 10_000_000  # newer than those of other tests
    ids = [await known(gateway, kind="callback", request_type="CallbackRequested", state="failed", created_ms=base + i) for i in range(5)]
    query, pages = "/v1/jobs?state=failed&type=callback&limit=2", []
    cursor = ""
    for _ in range(3):
        page = await gateway.json(query + cursor)
        pages.append([job["job_id"] for job in page["jobs"]])
        cursor = f"&cursor={page['next_cursor']}"
    assert [pages[0], pages[1], pages[2][:1]] == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    assert ids[0] not in [job["job_id"] for job in (await gateway.json("/v1/jobs?type=UploadReceived&limit=200"))["jobs"]]


async def test_many_jobs_are_asked_for_at_once(gateway: RunningGateway) -> None:
    ids = [await known(gateway) for _ in range(3)]
    code, found = await post(gateway, "/v1/jobs/query", json={"ids": [*ids, "unknown", ids[0]]})
    assert (code, [job["job_id"] for job in found["jobs"]], found["missing"]) == (200, ids, ["unknown"])
    assert (await post(gateway, "/v1/jobs/query", json={"ids": ["x"] * 1001}))[0] == 400


async def test_waiting_is_explained_by_the_heartbeats_and_the_line(gateway: RunningGateway) -> None:
    service = f"service-{uuid.uuid4().hex[:8]}"
    old = int(time.time() * 1000) - 1000
    first = await known(gateway, service=service, stages=[], created_ms=old)
    second = await known(gateway, service=service, stages=[], created_ms=old + 1)
    assert (await gateway.json(f"/v1/jobs/{first}"))["waiting_for"] == f"no {service} is running; first in line"
    task = RunningTask(job_id="x", stage=1, number=0, attempt=1)
    busy = WorkerSeen(worker=f"w-{service}", service=service, slots=1, running=(task,))

    async def beat() -> None:
        while True:
            await gateway.feed(busy, busy.worker)
            await asyncio.sleep(0.5)

    heart = asyncio.create_task(beat())
    said = f"1 of 1 {service} slot is busy; second in line"
    await gateway.until(f"/v1/jobs/{second}", lambda job: job["waiting_for"] == said)
    await gateway.feed(status(first, service=service, state="cancelled"), first)
    await gateway.until(f"/v1/jobs/{second}", lambda job: job["waiting_for"] == f"1 of 1 {service} slot is busy; first in line")
    heart.cancel()


async def test_cancel_and_retry_are_asked_of_the_coordinator_when_the_state_allows(gateway: RunningGateway) -> None:
    job_id = await known(gateway, state="running")
    assert (await post(gateway, f"/v1/jobs/{job_id}/retry"))[0] == 409
    code, accepted = await post(gateway, f"/v1/jobs/{job_id}/cancel", json={"reason": "no longer needed"})
    assert (code, accepted["job_id"]) == (202, job_id)
    [(_, cancel)] = await requests_of(gateway, lambda e: isinstance(e, CancelRequested) and e.job_id == job_id)
    assert cancel.reason == "no longer needed"
    await gateway.feed(status(job_id, state="cancelled", error=ErrorInfo(code="cancelled", message="x")), job_id)
    await gateway.until(f"/v1/jobs/{job_id}", lambda job: job["state"] == "cancelled")
    code, problem = await post(gateway, f"/v1/jobs/{job_id}/cancel")
    assert (code, problem["value"], problem["accepted"]) == (409, "cancelled", "jobs that have not ended")
    assert (await post(gateway, f"/v1/jobs/{job_id}/retry"))[0] == 202
    assert len(await requests_of(gateway, lambda e: isinstance(e, RetryRequested) and e.job_id == job_id)) == 1
    for what in ("cancel", "retry"):
        assert (await post(gateway, f"/v1/jobs/unknown/{what}"))[0] == 404


async def test_a_job_for_an_object_that_is_there(gateway: RunningGateway) -> None:
    key = f"incoming/{uuid.uuid4()}/My_film.mp4"
    info = await gateway.gateway.storage.bucket().put(key, b"film")
    code, accepted = await post(gateway, "/v1/jobs", json={"type": "UploadReceived", "data": {"key": key, "unknown": 1}})
    assert code == 202
    [(_, event)] = await requests_of(gateway, lambda e: isinstance(e, UploadReceived) and e.key == key)
    assert (event.etag, event.size, event.title, event.content_type) == (info.etag, 4, "My film", "video/mp4")
    assert (await gateway.json(f"/v1/assets/{accepted['asset_id']}"))["title"] == "My film"


async def test_the_same_key_is_the_same_job_and_another_body_is_422(gateway: RunningGateway) -> None:
    key, headers = f"{uuid.uuid4()}.mp4", {"Idempotency-Key": str(uuid.uuid4())}
    await gateway.gateway.storage.bucket().put(key, b"film")
    body = {"type": "UploadReceived", "data": {"key": key, "recipe": {"heights": [720]}}}
    _, one = await post(gateway, "/v1/jobs", json=body, headers=headers)
    _, two = await post(gateway, "/v1/jobs", json=body, headers=headers)
    assert one["job_id"] == two["job_id"]
    assert len(await requests_of(gateway, lambda e: isinstance(e, UploadReceived) and e.key == key)) == 1
    code, problem = await post(gateway, "/v1/jobs", json=body | {"data": {"key": key}}, headers=headers)
    assert (code, problem["value"]) == (422, "recipe")
    _, three = await post(gateway, "/v1/jobs", json=body)
    assert three["job_id"] != one["job_id"]


BAD: list[tuple[int, str, Any]] = [
    (400, "not JSON", "{"),
    (400, "not JSON", b"\xff\xfe"),
    (400, "not JSON", ""),
    (400, "shape", "[]"),
    (400, "shape", "5"),
    (400, "shape", "null"),
    (400, "data", '{"type":"UploadReceived"}'),
    (400, "key", '{"type":"UploadReceived","data":{}}'),
    (400, "key", '{"type":"UploadReceived","data":{"key":5}}'),
    (400, "heights", '{"type":"UploadReceived","data":{"key":"k","recipe":{"heights":["x"]}}}'),
    (400, "no type of job", '{"type":"Nonsense","data":{}}'),
    (400, "no type of job", '{"type":"CancelRequested","data":{"job_id":"x"}}'),
    (501, "indexer", '{"type":"IndexRequested","data":{"asset_id":"x"}}'),
    (404, "missing.mp4", '{"type":"UploadReceived","data":{"key":"missing.mp4"}}'),
    (400, "'..'", '{"type":"UploadReceived","data":{"key":"../x"}}'),
    (403, "allow-list", '{"type":"UploadReceived","data":{"key":"k","bucket":"elsewhere"}}'),
    (403, "REELWORKS_CALLBACK_ALLOW", '{"type":"UploadReceived","data":{"key":"k"},"callback":{"url":"https://evil.example/"}}'),
    (403, "https", '{"type":"CallbackRequested","data":{"url":"http://169.254.169.254/latest"}}'),
    (400, "names no film", '{"type":"StreamRequested","data":{}}'),
    (400, "flat-ts", '{"type":"StreamRequested","data":{"key":"k","layout":"flat-ts"}}'),
    (400, "flat-ts", '{"type":"StreamRequested","data":{"key":"k","target":"Films/k.hls/"}}'),
    (403, "allow-list", '{"type":"StreamRequested","data":{"key":"k","layout":"flat-ts","target":"F/k.hls/","target_bucket":"elsewhere"}}'),
    (404, "missing.mp4", '{"type":"StreamRequested","data":{"key":"missing.mp4"}}'),
    (404, "no such asset", '{"type":"StreamRequested","data":{"asset_id":"nobody"}}'),
    (501, "indexer", '{"type":"UploadReceived","data":{"key":"k","then":[{"type":"IndexRequested","data":{}}]}}'),
]


@pytest.mark.parametrize(("code", "words", "body"), BAD)
async def test_bad_input_is_explained_and_nothing_is_emitted(gateway: RunningGateway, code: int, words: str, body: Any) -> None:
    before = len(await requests_of(gateway, lambda e: True))
    async with gateway.http.post("/v1/jobs", data=body, headers={"Content-Type": "application/json"}) as answer:
        problem = await answer.json(content_type=None)
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status, problem["status"]) == (code, code), problem
    assert words in problem["detail"] + str(problem.get("value"))
    assert {"type", "title", "status", "detail"} <= problem.keys()
    assert len(await requests_of(gateway, lambda e: True)) == before
    assert gateway.objects() == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_another_content_type_is_415(gateway: RunningGateway, content_type: str) -> None:
    code, problem = await post(gateway, "/v1/jobs", data=b"{}", headers={"Content-Type": content_type})
    assert (code, problem["value"], problem["accepted"]) == (415, content_type, "application/json")


async def test_a_body_over_the_limit_is_413(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, body_limit_bytes=2000)) as gateway:
        code, problem = await post(gateway, "/v1/jobs", json={"type": "x", "data": {"x": "y" * 3000}})
    assert (code, problem["accepted"]) == (413, "at most 2000 bytes")


@pytest.mark.parametrize("query", ["state=odd", "type=odd", "limit=0", "limit=x", "limit=201", "cursor=!!", "cursor=e30"])
async def test_bad_parameters_are_explained(gateway: RunningGateway, query: str) -> None:
    async with gateway.http.get(f"/v1/jobs?{query}") as answer:
        problem = await answer.json(content_type=None)
    assert (answer.status, problem["value"]) == (400, query.partition("=")[2])
    assert problem["accepted"]


@pytest.mark.parametrize(
    ("path", "method", "allow"), [("/v1/jobs/x", "DELETE", "GET,HEAD"), ("/v1/uploads", "DELETE", "POST"), ("/videos", "GET", "POST")]
)
async def test_another_method_is_405_with_allow(gateway: RunningGateway, path: str, method: str, allow: str) -> None:
    async with gateway.http.request(method, path) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, allow)


async def test_an_unknown_job_or_route_is_a_404_problem(gateway: RunningGateway) -> None:
    for path in ("/v1/jobs/unknown", "/v1/nothing", "/v1/assets/unknown", "/v1/jobs/unknown/events"):
        async with gateway.http.get(path) as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json"), path


async def test_a_tombstone_removes_a_job(gateway: RunningGateway) -> None:
    job_id = await known(gateway)
    await gateway.producer.publish(Record(topic=topics.JOBS, key=job_id, value=None))
    await gateway.until(f"/v1/jobs/{job_id}", lambda found: found.get("status") == 404)
