"""Archives as they are asked for: the old wire exactly as its clients send it, POST /v1/jobs, and films of the library."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import uuid
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from schemas.events import Output, ZipEntry, ZipRequested
from services.gateway.app import running
from services.gateway.routes.zip import check_buckets
from services.runtime.archives import manifest
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.settings import Settings, SettingsError
from services.runtime.storage.factory import open_storage
from services.runtime.telemetry.logging import configure
from tests.servers.gateway import RunningGateway, rendition, requests_of, run_gateway, settings_for, status
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.kafka
SECRET = "battery staple ü"
TOKEN = "correct horse"
JSON = "application/json"
MANY = 1_000_000


@pytest_asyncio.fixture
async def old(kafka: str, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """With a secret for old clients, and a token, which they do not send."""
    async with run_gateway(settings_for(kafka, tmp_path, zip_secret=SECRET, api_token=TOKEN, archive_max_jobs=MANY)) as gateway:
        gateway.http.headers.pop("Authorization")
        yield gateway


@pytest_asyncio.fixture
async def gateway(kafka: str, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """One that takes any number of archives: none of the tests' ever ends."""
    async with run_gateway(settings_for(kafka, tmp_path, archive_max_jobs=MANY)) as gateway:
        yield gateway


async def post(
    gateway: RunningGateway, body: Any, *, path: str = "/zip", authorization: str | None = f"Bearer {SECRET}", content_type: str = JSON
) -> tuple[int, bytes, Any]:
    """As old clients send it: status, body and headers of the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": content_type, "Accept": "*/*"} | ({} if authorization is None else {"Authorization": authorization})
    async with gateway.http.post(path, data=data, headers=headers) as answer:
        return answer.status, await answer.read(), answer.headers


async def emitted(gateway: RunningGateway, target: str) -> list[ZipRequested]:
    """Requests for an archive at `target`."""
    return [event for _, event in await requests_of(gateway, lambda e: isinstance(e, ZipRequested) and e.target.key == target)]


def new_target() -> str:
    return f"out/{uuid.uuid4()}.zip"


# ── The old wire ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "content_type", "scheme"),
    [
        ("/zip", "application/json", "Bearer"),
        ("/", "application/json; charset=utf-8", "bearer"),
        ("/zip?x=1", "application/vnd.old+json", "BEARER"),
    ],
)
async def test_the_answer_is_202_without_a_body_and_the_job_keeps_keys_and_order(
    old: RunningGateway, path: str, content_type: str, scheme: str
) -> None:
    target = new_target()
    files = ["b/2 é.mp4", "a/e\u0301.txt", "b/2 é.mp4", "a/🎬.mkv"]
    body = {"files": files, "target": target, "unknown": [1]}
    code, answer, headers = await post(old, body, path=path, authorization=f"{scheme} {SECRET}", content_type=content_type)
    assert (code, answer) == (202, b"")
    [event] = await emitted(old, target)
    assert [entry.key for entry in event.entries] == files
    assert [entry.name for entry in event.entries] == [""] * 4  # names are the keys
    assert (event.target.bucket, event.method, event.if_exists, event.owner) == ("media", "auto", "replace", "")
    assert headers["Location"] == f"/v1/jobs/{event.job_id}"
    async with old.http.get(headers["Location"], headers={"Authorization": f"Bearer {TOKEN}"}) as job:
        found = await job.json()
    assert (found["state"], found["kind"], found["title"]) == ("queued", "zip", target.rpartition("/")[2])


async def test_each_request_is_a_job_of_its_own_also_for_the_same_target(old: RunningGateway) -> None:
    body = {"files": ["a.mp4"], "target": new_target()}
    for _ in range(2):
        assert (await post(old, body))[0] == 202
    assert len({event.job_id for event in await emitted(old, body["target"])}) == 2


async def test_without_the_secret_it_is_401_before_anything_is_read(old: RunningGateway) -> None:
    for authorization, words in (
        (None, "the secret is missing"),
        ("", "the secret is missing"),
        ("Bearer", "the secret is missing"),
        (SECRET, "the secret is missing"),
        (f"Basic {SECRET}", "the secret is missing"),
        ("Bearer wrong-secret", "the secret is another one"),
        (f"Bearer {SECRET}x", "the secret is another one"),
        (f"Bearer {TOKEN}", "the secret is another one"),
    ):
        code, answer, headers = await post(old, b"no JSON at all", authorization=authorization, content_type="text/plain")
        assert (code, json.loads(answer)["detail"]) == (401, words), authorization
        assert headers["WWW-Authenticate"].startswith("Bearer ")
        assert "wrong-secret" not in answer.decode()


async def test_another_method_is_405_with_allow_before_the_secret_is_asked_for(old: RunningGateway) -> None:
    for method, path in (("GET", "/zip"), ("PUT", "/zip"), ("DELETE", "/"), ("PUT", "/")):
        async with old.http.request(method, path) as answer:
            assert (answer.status, "POST" in answer.headers["Allow"].split(",")) == (405, True)
            assert (await answer.json(content_type=None))["detail"] == f"{method} is not possible here"


async def test_the_library_still_asks_for_its_token(old: RunningGateway) -> None:
    async with old.http.get("/") as answer:
        assert answer.status == 401
    async with old.http.get("/", headers={"Authorization": f"Bearer {SECRET}"}) as answer:
        assert answer.status == 401


async def test_another_content_type_is_415(old: RunningGateway) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        code, answer, _ = await post(old, {"files": ["a"], "target": "b"}, content_type=content_type)
        assert (code, json.loads(answer)["accepted"]) == (415, "application/json"), content_type


UNUSABLE: list[tuple[Any, str]] = [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b'{"files":["\xff"],"target":"t.zip"}', "utf-8"),
    (b"5", "got `int`"),
    (b"null", "got `null`"),
    (b"[]", "got `array`"),
    (b'"x"', "got `str`"),
    ({"target": "t.zip"}, "`files`"),
    ({"files": ["a"]}, "`target`"),
    ({"files": [], "target": "t.zip"}, "$.files"),
    ({"files": "a", "target": "t.zip"}, "$.files"),
    ({"files": [5], "target": "t.zip"}, "$.files[0]"),
    ({"files": [None], "target": "t.zip"}, "$.files[0]"),
    ({"files": [""], "target": "t.zip"}, "$.files[0]"),
    ({"files": ["a"], "target": ""}, "$.target"),
    ({"files": ["a"], "target": 5}, "$.target"),
    ({"files": ["a"], "target": "x/../t.zip"}, "the target 'x/../t.zip' cannot be used: it has the segment '..'"),
    ({"files": ["a"], "target": "/t.zip"}, "the target '/t.zip' cannot be used: it begins with a slash"),
    ({"files": ["a"], "target": "folder/"}, "it has the segment ''"),
    ({"files": ["a", "../../evil"], "target": "t.zip"}, "the key '../../evil' cannot be used: it has the segment '..'"),
    ({"files": ["/etc/passwd"], "target": "t.zip"}, "it begins with a slash"),
    ({"files": ["a\\..\\b"], "target": "t.zip"}, "it holds a backslash"),
    ({"files": ["a\nb"], "target": "t.zip"}, "it holds a control character"),
    ({"files": ["C:evil.exe"], "target": "t.zip"}, "it begins with a drive letter"),
    ({"files": ["\ud800"], "target": "t.zip"}, ""),
    ({"files": ["a", "t.zip"], "target": "t.zip"}, "'t.zip' is the target, and is to be one of the archive's objects"),
]


async def test_what_cannot_be_is_400_with_a_reason_and_nothing_is_emitted(old: RunningGateway) -> None:
    before = len(await requests_of(old, lambda e: True))
    for body, words in UNUSABLE:
        code, answer, headers = await post(old, body)
        problem = json.loads(answer)
        assert (code, headers["Content-Type"]) == (400, "application/problem+json"), body
        assert words in problem["detail"], body
        assert problem["accepted"], body
    assert len(await requests_of(old, lambda e: True)) == before


async def test_a_list_of_more_than_a_megabyte_is_taken_and_lies_beside_the_event(old: RunningGateway) -> None:
    target = new_target()
    files = [f"films/{n:06}/{'x' * 100}.mp4" for n in range(10_000)]
    body = json.dumps({"files": files, "target": target}).encode()
    assert len(body) > 1_200_000
    code, answer, _ = await post(old, body)
    assert (code, answer) == (202, b"")
    [event] = await emitted(old, target)
    assert event.entries == ()
    assert event.manifest is not None
    assert old.objects() == [event.manifest.key]
    entries = await manifest.load(old.gateway.storage, event.manifest)
    assert [entry.key for entry in entries] == files


async def test_a_body_beyond_the_limit_is_413_and_names_another_way(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, zip_secret=SECRET, body_limit_bytes=2000)) as gateway:
        code, answer, _ = await post(gateway, {"files": ["x" * 1000] * 3, "target": "t.zip"})
        problem = json.loads(answer)
        assert code == 413
        assert "2000 bytes" in problem["detail"]
        assert "`prefix`" in problem["detail"]


async def test_too_many_files_are_refused(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, zip_secret=SECRET, archive_max_entries=2)) as gateway:
        code, answer, _ = await post(gateway, {"files": ["a", "b", "c"], "target": "t.zip"})
        assert (code, json.loads(answer)["value"]) == (400, 3)
        assert "REELWORKS_ARCHIVE_MAX_ENTRIES" in json.loads(answer)["detail"]


async def test_input_and_output_may_lie_in_other_buckets(kafka: str, tmp_path: Path) -> None:
    more = {
        "zip_secret": SECRET,
        "archive_max_jobs": MANY,
        "buckets": ("films", "zips"),
        "zip_input_bucket": "films",
        "zip_output_bucket": "zips",
    }
    async with run_gateway(settings_for(kafka, tmp_path, **more)) as gateway:
        target = new_target()
        # The same key in another bucket is another object.
        assert (await post(gateway, {"files": ["a.mp4", target], "target": target}))[0] == 202
        [event] = await emitted(gateway, target)
        assert event.target.bucket == "zips"
        assert event.entries == (ZipEntry(key="a.mp4", bucket="films"), ZipEntry(key=target, bucket="films"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"zip_secret": SECRET, "zip_input_bucket": "elsewhere"}, "REELWORKS_ZIP_INPUT_BUCKET='elsewhere'.*allow-list"),
        ({"zip_secret": SECRET, "zip_output_bucket": "elsewhere"}, "REELWORKS_ZIP_OUTPUT_BUCKET='elsewhere'.*allow-list"),
        ({"buckets": ("films",), "zip_input_bucket": "films"}, "REELWORKS_ZIP_SECRET"),
    ],
)
async def test_a_bucket_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        async with running(settings_for("127.0.0.1:1", tmp_path, **more)):
            pass


@pytest.mark.s3
async def test_a_bucket_that_is_missing_is_named_at_the_start_and_a_store_that_is_away_is_no_reason(
    s3_server: S3Server, tmp_path: Path
) -> None:
    there, missing = s3_server.make_bucket(), f"missing-{uuid.uuid4().hex[:8]}"
    more = {"data_dir": str(tmp_path), "port": 0, "bootstrap_servers": "127.0.0.1:1", "zip_secret": SECRET, "zip_output_bucket": missing}
    settings = msgspec.structs.replace(s3_server.settings(there, missing), **more)
    with pytest.raises(SettingsError, match=rf"bucket '{missing}' of POST /zip .*REELWORKS_ZIP_OUTPUT_BUCKET"):
        async with running(settings):
            pass
    settings = msgspec.structs.replace(settings, s3_endpoint="http://127.0.0.1:1")
    storage = open_storage(settings)
    await check_buckets(settings, storage)
    await storage.close()


async def test_without_a_secret_the_old_wire_is_off_and_says_how_it_is_turned_on(gateway: RunningGateway) -> None:
    for path in ("/zip", "/"):
        for authorization in (None, "Bearer ", f"Bearer {SECRET}"):
            code, answer, _ = await post(gateway, {"files": ["a"], "target": "b"}, path=path, authorization=authorization)
            assert code == 404
            assert "REELWORKS_ZIP_SECRET" in json.loads(answer)["detail"]


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Everything that is logged from now on, of the least severity."""
    root = logging.getLogger()
    handlers, level, text = root.handlers[:], root.level, io.StringIO()
    # No secrets are known to it: what is redacted was logged.
    configure(Settings(log_level="debug", log_format="json"), "gateway", stream=text)
    yield text
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_no_secret_reaches_a_log_neither_the_right_one_nor_a_wrong_one(old: RunningGateway, logged: io.StringIO) -> None:
    assert (await post(old, {"files": ["a"], "target": new_target()}))[0] == 202
    for body in ({"files": ["a"], "target": new_target()}, b"no JSON"):
        for shown in ("Bearer wrong-but-close", "Basic wrong-but-close", "wrong-but-close"):
            assert (await post(old, body, authorization=shown))[0] == 401
    assert (await post(old, b"5"))[0] == 400
    said = logged.getvalue()
    assert "request accepted" in said
    assert "wrong-but-close" not in said
    assert "battery" not in said


async def test_while_kafka_is_away_it_is_503_and_nothing_stays(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    async with run_gateway(settings_for(own_kafka.bootstrap_servers, tmp_path, zip_secret=SECRET)) as gateway:
        own_kafka.kill()
        code, answer, headers = await post(gateway, {"files": [f"{n:06}-{'x' * 90}" for n in range(1000)], "target": new_target()})
        assert (code, headers["Retry-After"]) == (503, "5")
        assert "Kafka" in json.loads(answer)["detail"]
        assert gateway.objects() == []


# ── POST /v1/jobs ──────────────────────────────────────────────────────────────────────────────────────────────────


async def ask(gateway: RunningGateway, data: dict[str, Any], *, key: str = "", **more: Any) -> tuple[int, Any, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    async with gateway.http.post("/v1/jobs", json={"type": "ZipRequested", "data": data, **more}, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None), answer.headers


async def test_a_job_is_begun_once_and_filled_in(gateway: RunningGateway) -> None:
    data = {"target": {"key": new_target()}, "entries": [{"key": "a.mp4", "name": "First.mp4"}], "title": " My\tfilms "}
    key = str(uuid.uuid4())
    code, one, _ = await ask(gateway, data, key=key)
    assert code == 202
    assert (one["asset_id"], one["watch_url"]) == ("", "")
    assert (await ask(gateway, data, key=key))[1]["job_id"] == one["job_id"]
    code, problem, _ = await ask(gateway, data | {"entries": [{"key": "b.mp4"}]}, key=key)
    assert (code, problem["value"]) == (422, "entries")
    [event] = await emitted(gateway, data["target"]["key"])
    assert (event.target.bucket, event.title, event.if_exists) == ("media", "My films", "refuse")
    assert (await gateway.json(f"/v1/jobs/{one['job_id']}"))["title"] == "My films"


async def test_a_long_list_is_the_same_request_again_and_another_list_is_422(gateway: RunningGateway) -> None:
    entries = [{"key": f"{n:06}-{'x' * 90}"} for n in range(1000)]
    data, key = {"target": {"key": new_target()}, "entries": entries}, str(uuid.uuid4())
    _, one, _ = await ask(gateway, data, key=key)
    code, two, _ = await ask(gateway, data, key=key)
    assert (code, two["job_id"]) == (202, one["job_id"])
    assert (await ask(gateway, data | {"entries": entries[1:]}, key=key))[0] == 422
    assert len(gateway.objects()) == 1


GOOD: dict[str, Any] = {"target": {"key": "out/t.zip"}, "entries": [{"key": "a.mp4"}]}


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"entries": []}, 400, "in no way"),
    ({"prefix": "films/"}, 400, "by `entries` and by `prefix`"),
    ({"manifest": {"key": "list.json"}}, 400, "by `entries` and by `manifest`"),
    ({"target": {"key": "../t.zip"}}, 400, "'..'"),
    ({"target": {"key": "a.mp4"}}, 400, "'a.mp4' is the target"),
    ({"target": {"key": "a.mp4", "bucket": "media"}}, 400, "'a.mp4' is the target"),
    ({"target": {"key": "t.zip", "bucket": "elsewhere"}}, 403, "allow-list"),
    ({"entries": [{"key": "a.mp4", "bucket": "elsewhere"}]}, 403, "allow-list"),
    ({"entries": [], "prefix": "films/", "bucket": "elsewhere"}, 403, "allow-list"),
    ({"entries": [], "manifest": {"key": "list.json", "bucket": "elsewhere"}}, 403, "allow-list"),
    ({"entries": [{"key": "a.mp4", "name": "../../evil"}]}, 400, "the name '../../evil' cannot be used in an archive"),
    ({"entries": [{"key": "a.mp4", "name": "/etc/passwd"}]}, 400, "it begins with a slash"),
    ({"entries": [{"key": "a.mp4", "name": "C:\\evil"}]}, 400, "drive letter"),
    ({"entries": [{"key": "a//b"}]}, 400, "the key 'a//b' cannot be used"),
    ({"entries": [{"key": ""}]}, 400, "$.entries[0].key"),
    ({"target": "t.zip"}, 400, "$.target"),
    ({"method": "rar"}, 400, "$.method"),
    ({"if_exists": "append"}, 400, "$.if_exists"),
    ({"then": [{"type": "ZipRequested", "data": {"target": {"key": "t.zip"}}}]}, 400, "in no way"),
    ({"then": [{"type": "CallbackRequested", "data": {"url": "https://evil.example/"}}]}, 403, "not allowed"),
]


async def test_bad_requests_are_refused_before_they_are_emitted(gateway: RunningGateway) -> None:
    before = len(await requests_of(gateway, lambda e: isinstance(e, ZipRequested)))
    for changes, code, words in BAD:
        got, problem, _ = await ask(gateway, GOOD | changes)
        assert (got, words in problem["detail"]) == (code, True), (changes, problem)
    assert len(await requests_of(gateway, lambda e: isinstance(e, ZipRequested))) == before


async def test_a_target_that_is_there_is_409_unless_it_is_to_be_replaced(gateway: RunningGateway) -> None:
    target = new_target()
    await gateway.gateway.storage.bucket().put(target, b"something")
    data = {"target": {"key": target}, "prefix": "films/"}
    code, problem, _ = await ask(gateway, data)
    assert (code, problem["value"]) == (409, target)
    assert (await ask(gateway, data | {"if_exists": "replace"}))[0] == 202


async def test_a_callback_follows_upon_both_ends(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, callback_allow=("app.example.org",), archive_max_jobs=MANY)) as gateway:
        data = {"target": {"key": new_target()}, "prefix": "films/"}
        assert (await ask(gateway, data, callback={"url": "https://evil.example/"}))[0] == 403
        assert (await ask(gateway, data, callback={"url": "https://app.example.org/done"}))[0] == 202
        [event] = await emitted(gateway, data["target"]["key"])
        assert event.then == event.otherwise
        assert (event.then[0].type, event.then[0].data) == ("CallbackRequested", {"url": "https://app.example.org/done"})


async def test_an_owner_may_have_so_many_archives_under_way(kafka: str, tmp_path: Path) -> None:
    settings = settings_for(kafka, tmp_path, archive_max_jobs=2, zip_secret=SECRET)
    async with run_gateway(settings) as gateway:
        owner = str(uuid.uuid4())

        def data() -> dict[str, Any]:
            return {"target": {"key": new_target()}, "prefix": "films/", "owner": owner}

        # All at once: also those that are only being announced count.
        answers = await asyncio.gather(*(ask(gateway, data()) for _ in range(5)))
        assert sorted(code for code, _, _ in answers) == [202, 202, 429, 429, 429]
        code, problem, headers = await ask(gateway, data())
        assert (code, problem["value"], headers["Retry-After"]) == (429, owner, "60")
        assert "REELWORKS_ARCHIVE_MAX_JOBS" in problem["detail"]
        assert (await ask(gateway, data() | {"owner": str(uuid.uuid4())}))[0] == 202
        ended = next(answer["job_id"] for code, answer, _ in answers if code == 202)
        await gateway.feed(status(ended, kind="zip", request_type="ZipRequested", owner=owner, state="failed"), ended)
        await gateway.until(f"/v1/jobs/{ended}", lambda job: job["state"] == "failed")
        assert (await ask(gateway, data()))[0] == 202


async def test_a_request_that_came_before_is_answered_although_no_place_is_free(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, archive_max_jobs=1)) as gateway:
        data = {"target": {"key": new_target()}, "prefix": "films/", "owner": str(uuid.uuid4())}
        code, one, _ = await ask(gateway, data, key="again")
        assert code == 202
        assert (await ask(gateway, data, key="another"))[0] == 429
        code, two, _ = await ask(gateway, data, key="again")
        assert (code, two["job_id"]) == (202, one["job_id"])


async def test_the_limit_holds_for_the_old_wire_too(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path)) as gateway:
        taken = gateway.gateway.view.unfinished("zip", "")  # those of other tests
    async with run_gateway(settings_for(kafka, tmp_path, archive_max_jobs=taken + 1, zip_secret=SECRET)) as gateway:
        assert (await post(gateway, {"files": ["a"], "target": new_target()}))[0] == 202
        code, answer, headers = await post(gateway, {"files": ["a"], "target": new_target()})
        assert (code, headers["Retry-After"]) == (429, "60")
        assert "requests without an owner" in json.loads(answer)["detail"]


# ── The archive itself ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_ended_job_leads_to_its_archive_under_the_name_of_its_title(gateway: RunningGateway) -> None:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("a.txt", "a")
    key = f"out/{uuid.uuid4()}/übersum.zip"
    info = await gateway.gateway.storage.bucket().put(key, body.getvalue(), content_type="application/zip")
    made = Output(role="archive", bucket="media", key=key, size=info.size, content_type="application/zip", etag=info.etag)
    for title, name in (("Summer: 1998/99", "Summer_ 1998_99.zip"), ("", "übersum.zip"), ("x.ZIP", "x.zip")):
        job = status(kind="zip", service="zipper", request_type="ZipRequested", state="succeeded", title=title, outputs=(made,))
        await gateway.feed(job, job.job_id)
        shown = await gateway.until(f"/v1/jobs/{job.job_id}", lambda found: found.get("state") == "succeeded")
        [output] = shown["outputs"]
        assert (output["role"], output["key"], output["size"]) == ("archive", key, info.size)
        async with aiohttp.ClientSession() as anybody, anybody.get(output["url"]) as answer:
            assert (answer.status, answer.content_type) == (200, "application/zip")
            assert answer.content_disposition is not None
            assert (answer.content_disposition.type, answer.content_disposition.filename) == ("attachment", name)
            assert zipfile.ZipFile(io.BytesIO(await answer.read())).testzip() is None


# ── Films of the library ───────────────────────────────────────────────────────────────────────────────────────────


async def film(gateway: RunningGateway, title: str, *heights: int, state: str = "succeeded") -> str:
    """An asset with MP4s of these heights."""
    async with gateway.http.put("/v1/uploads/film.mov", data=b"film", params={"title": title}) as answer:
        accepted = await answer.json()
    asset_id = accepted["asset_id"]
    files = tuple(rendition("media", f"assets/{asset_id}/{height}.mp4", height) for height in heights)
    job = status(accepted["job_id"], subject=asset_id, state=state, title=title, outputs=files)
    await gateway.feed(job, job.job_id)
    await gateway.until(f"/v1/assets/{asset_id}", lambda asset: asset["state"] == state)
    return asset_id


async def pack(gateway: RunningGateway, body: Any, *, key: str = "") -> tuple[int, Any]:
    async with gateway.http.post("/v1/archives", json=body, headers={"Idempotency-Key": key} if key else {}) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_films_become_entries_by_their_best_file_and_title(gateway: RunningGateway) -> None:
    one, two = await film(gateway, "../Mum: 80th / party", 360, 1080, 720), await film(gateway, "Crete", 240)
    key = str(uuid.uuid4())
    code, accepted = await pack(gateway, {"assets": [two, one, two]}, key=key)
    assert code == 202
    job_id = accepted["job_id"]
    [event] = await emitted(gateway, f"archives/{job_id}.zip")
    assert event.entries == (
        ZipEntry(key=f"assets/{two}/240.mp4", bucket="media", name="Crete.mp4"),
        ZipEntry(key=f"assets/{one}/1080.mp4", bucket="media", name="_Mum_ 80th _ party.mp4"),
    )
    assert (event.target.bucket, event.title, event.if_exists) == ("media", "2 films", "refuse")
    assert (await pack(gateway, {"assets": [two, one, two]}, key=key))[1]["job_id"] == job_id
    assert (await gateway.json(f"/v1/jobs/{job_id}"))["kind"] == "zip"


async def test_a_single_film_gives_the_archive_its_title(gateway: RunningGateway) -> None:
    one = await film(gateway, "Crete", 240)
    _, accepted = await pack(gateway, {"assets": [one]})
    assert (await gateway.json(f"/v1/jobs/{accepted['job_id']}"))["title"] == "Crete"
    _, accepted = await pack(gateway, {"assets": [one], "title": "Holidays"})
    assert (await gateway.json(f"/v1/jobs/{accepted['job_id']}"))["title"] == "Holidays"


async def test_films_that_are_not_there_or_not_ready_are_named(gateway: RunningGateway) -> None:
    waiting, ready = await film(gateway, "Waiting", state="running"), await film(gateway, "Ready", 240)
    code, problem = await pack(gateway, {"assets": [ready, waiting]})
    assert (code, problem["value"], problem["detail"]) == (409, waiting, "there is no MP4 of 'Waiting' yet")
    code, problem = await pack(gateway, {"assets": [ready, "never-there"]})
    assert (code, problem["value"]) == (404, "never-there")
    for body in ({}, {"assets": []}, {"assets": "x"}, {"assets": [5]}, [], 5, {"assets": ["x"] * 1001}):
        code, problem = await pack(gateway, body)
        assert (code, bool(problem["detail"])) == (400, True), body
    async with gateway.http.post("/v1/archives", data="assets=x") as answer:
        assert answer.status == 415
