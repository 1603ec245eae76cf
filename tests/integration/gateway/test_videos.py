"""POST /videos: requests exactly as old clients send them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from schemas.events import UploadReceived
from tests.servers.gateway import RunningGateway, requests_of, run_gateway, settings_for

pytestmark = pytest.mark.kafka
HOOK = "https://app.example.org/videos/callback"


@pytest_asyncio.fixture
async def old(kafka: str, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """With a callback host, and a token, which old clients do not send."""
    settings = settings_for(kafka, tmp_path, callback_allow=("app.example.org",), api_token="secret-token")
    async with run_gateway(settings) as gateway:
        gateway.http.headers.pop("Authorization")
        yield gateway


async def post(gateway: RunningGateway, data: bytes, content_type: str = "application/json") -> tuple[int, bytes, Any]:
    async with gateway.http.post("/videos", data=data, headers={"Content-Type": content_type, "Accept": "*/*"}) as answer:
        return answer.status, await answer.read(), answer.headers


async def test_the_answer_is_exactly_what_old_clients_wait_for(old: RunningGateway) -> None:
    key = f"media/private/{uuid.uuid4()} é.mov"
    status, body, headers = await post(old, f'{{"inputObject":"{key}","webhook":"{HOOK}"}}'.encode())
    assert (status, body) == (200, b'{"status":"transcoding"}')
    assert headers["Content-Type"].startswith("application/json")
    [(_, event)] = await requests_of(old, lambda e: isinstance(e, UploadReceived) and e.key == key)
    assert (event.recipe.layout, event.recipe.heights, event.recipe.thumbnail_at) == ("beside", (720,), "1s")
    assert event.then == event.otherwise
    assert event.then[0].type == "CallbackRequested"
    assert event.then[0].data == {"url": HOOK, "format": "videos", "input_object": key}


async def test_each_request_is_a_job_of_its_own(old: RunningGateway) -> None:
    key = f"media/private/{uuid.uuid4()}.mov"
    for _ in range(2):
        assert (await post(old, f'{{"inputObject":"{key}","webhook":"{HOOK}"}}'.encode()))[0] == 200
    jobs = await requests_of(old, lambda e: isinstance(e, UploadReceived) and e.key == key)
    assert len({event.job_id for _, event in jobs}) == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f'{{"webhook":"{HOOK}"}}', "inputObject"),
        ('{"inputObject":"x.mov"}', "webhook"),
        (f'{{"inputObject":"","webhook":"{HOOK}"}}', "inputObject"),
        (f'{{"inputObject":5,"webhook":"{HOOK}"}}', "inputObject"),
        (f'{{"inputObject":"../x","webhook":"{HOOK}"}}', "inputObject"),
        ('{"inputObject":"x.mov","webhook":"https://evil.example/x"}', "webhook: callbacks to evil.example:443 are not allowed"),
        ('{"inputObject":"x.mov","webhook":"http://app.example.org/x"}', "webhook: callbacks go to https"),
        ("[]", "needed"),
        ("null", "needed"),
        ("{", "needed"),
        ("", "needed"),
    ],
)
async def test_a_field_that_is_missing_or_wrong_is_400_with_a_message(old: RunningGateway, body: str, words: str) -> None:
    before = len(await requests_of(old, lambda e: True))
    status, answer, headers = await post(old, body.encode())
    assert (status, headers["Content-Type"].partition(";")[0]) == (400, "application/json")
    assert b'"message"' in answer
    assert words in answer.decode()
    assert len(await requests_of(old, lambda e: True)) == before


async def test_another_content_type_is_400(old: RunningGateway) -> None:
    status, answer, _ = await post(old, b"inputObject=x", "application/x-www-form-urlencoded")
    assert (status, b"must be JSON" in answer) == (400, True)


async def test_without_callback_hosts_the_old_wire_asks_for_the_token(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, api_token="secret-token")) as gateway:
        gateway.http.headers.pop("Authorization")
        assert (await post(gateway, b"{}"))[0] == 401
