"""The gateway's client: problems become words, following survives restarts. The gateway here is scripted."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from schemas.api import ProblemDetails
from services.cli import client
from services.cli.client import Gateway
from services.cli.exits import CommandError, Missing, Refused, TimedOut, Unreachable
from tests.unit.cli.test_following import job


class Script:
    """Answers in order; the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[web.Response | None] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path_qs, dict(request.headers)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:  # the gateway dies in the middle of an answer
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.Response(
            status=answer.status, body=answer.body, headers={k: v for k, v in answer.headers.items() if k != "Content-Length"}
        )


@pytest_asyncio.fixture
async def script() -> AsyncIterator[Script]:
    made = Script()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def view(etag: str = "", **fields: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(job(**fields)), headers={"ETag": etag} if etag else {})


def problem(status: int, detail: str, **fields: Any) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(ProblemDetails(type="t", title="T", status=status, detail=detail, **fields))
    )


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (problem(404, "there is no such job", value="j9"), Missing, "there is no such job (it was 'j9')"),
        (problem(400, "limit is too large", value=5, accepted="1 to 3"), Refused, "limit is too large (it was 5) (accepted: 1 to 3)"),
        (problem(401, "no token"), Refused, "no token; set REELWORKS_API_TOKEN to the gateway's token"),
        (problem(503, "Kafka is away"), Unreachable, "Kafka is away"),
        (problem(429, "too many"), Unreachable, "too many"),
        (web.Response(status=502, text="<html>"), Unreachable, "answered 502"),
        (web.Response(text="hello"), Unreachable, "what answers is no gateway of this version"),
    ],
)
async def test_an_error_is_told_in_the_gateways_words(script: Script, answer: web.Response, kind: type[CommandError], words: str):
    script.answers = [answer]
    async with Gateway(script.url) as gateway:
        with pytest.raises(kind) as told:
            await gateway.job("j9")
    assert words in str(told.value)


async def test_following_yields_each_change_and_ends_with_the_job(script: Script, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "APART_SECONDS", 0.0)
    not_modified = web.Response(status=304, headers={"ETag": '"1"'})
    script.answers = [view('"1"', progress=0.1), not_modified, view('"2"', progress=0.7), view('"3"', state="succeeded", progress=1.0)]
    async with Gateway(script.url, "secret-token") as gateway:
        seen = [(j.state, j.progress) async for j in gateway.follow("j1")]
    assert seen == [("running", 0.1), ("running", 0.7), ("succeeded", 1.0)]
    assert [headers.get("If-None-Match") for _, headers in script.requests] == [None, '"1"', '"1"', '"2"']
    assert all("wait=" in path and headers["Authorization"] == "Bearer secret-token" for path, headers in script.requests)


async def test_following_goes_on_when_the_gateway_restarts(script: Script, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "APART_SECONDS", 0.0)
    script.answers = [view('"1"', progress=0.1), None, problem(503, "starting"), view('"3"', state="failed")]
    async with Gateway(script.url) as gateway:
        assert [j.state async for j in gateway.follow("j1")] == ["running", "failed"]


async def test_following_ends_in_time_and_says_that_the_job_goes_on(script: Script):
    script.answers = [view('"1"')]
    async with Gateway(script.url) as gateway:
        with pytest.raises(TimedOut, match=r"job j1 has not ended after 0\.5 s; it goes on"):
            async for _ in gateway.follow("j1", seconds=0.5):
                pass
    assert len(script.requests) < 10  # answers that come at once do not make it a busy loop


async def test_an_address_that_is_none_is_refused():
    async with Gateway("nonsense") as gateway:
        with pytest.raises(Refused, match="is no address of a gateway"):
            await gateway.job("j1")
