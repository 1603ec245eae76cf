"""The proxy that other tests rely on: it breaks what it is told to, when it is told to, and counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import aiohttp
import pytest
from aiohttp import web

from tests.servers.faulty import BROKEN, LOST, RESET, UNAVAILABLE, Fault, FaultyProxy, Traffic, faulty, proxied
from tests.servers.s3_operations import operation_of


class Origin:
    """A server that keeps what it was sent, and answers 1000 bytes to a GET."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.bodies: list[bytes] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/b/refused":
            return web.Response(status=403)
        if request.path == "/b/chunked":
            answer = web.StreamResponse()
            answer.enable_chunked_encoding()
            await answer.prepare(request)
            for _ in range(3):
                await answer.write(b"y" * 100)
            await answer.write_eof()
            return answer
        self.bodies.append(await request.read())
        return web.Response(body=b"x" * 1000)


@pytest.fixture
async def origin() -> AsyncGenerator[Origin]:
    origin = Origin()
    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_route("*", "/{path:.*}", origin.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    origin.endpoint = f"http://{host}:{port}"
    yield origin
    await runner.cleanup()


@pytest.fixture
async def line(origin: Origin) -> AsyncGenerator[FaultyProxy]:
    async with faulty(origin.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def client() -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(client: aiohttp.ClientSession, line: FaultyProxy, method: str, path: str, data: bytes | None = None) -> tuple[int, bytes]:
    async with client.request(method, line.endpoint + path, data=data) as answer:
        return answer.status, await answer.read()


async def test_requests_of_one_connection_are_counted_by_operation(
    line: FaultyProxy, client: aiohttp.ClientSession, origin: Origin
) -> None:
    for method, path, data in (
        ("GET", "/b/k", None),
        ("GET", "/b/chunked", None),
        ("HEAD", "/b/k", None),
        ("PUT", "/b/k?partNumber=1&uploadId=u", b"z" * 300_000),
        ("GET", "/b/k", None),
    ):
        assert (await ask(client, line, method, path, data))[0] == 200
    assert line.connections == 1
    assert line.traffic["GetObject"].requests == 3
    assert 2300 < line.traffic["GetObject"].received < 2400  # with the frames of the chunks
    assert line.traffic["HeadObject"] == Traffic(requests=1)
    assert line.traffic["UploadPart"] == Traffic(requests=1, sent=300_000, received=1000)
    assert line.total().requests == 5
    assert origin.bodies[2] == b"z" * 300_000


async def test_a_body_in_chunks_is_passed_on(line: FaultyProxy, client: aiohttp.ClientSession, origin: Origin) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        for n in range(5):
            yield bytes([n]) * 70_000

    async with client.put(line.endpoint + "/b/k", data=pieces()) as answer:
        assert answer.status == 200
    assert origin.bodies == [b"".join(bytes([n]) * 70_000 for n in range(5))]


async def test_a_fault_is_for_its_operation_after_and_as_often_as_it_says(line: FaultyProxy, client: aiohttp.ClientSession) -> None:
    line.faults = [Fault(operation="HeadObject", after=1, times=2, reply=BROKEN.reply), UNAVAILABLE]
    assert (await ask(client, line, "GET", "/b/k"))[0] == 503
    assert (await ask(client, line, "GET", "/b/k"))[0] == 200
    assert [(await ask(client, line, "HEAD", "/b/k"))[0] for _ in range(4)] == [200, 500, 500, 200]
    assert line.faults == []


async def test_an_answer_may_be_cut_lost_or_reset(line: FaultyProxy, client: aiohttp.ClientSession, origin: Origin) -> None:
    line.faults = [Fault(answer_bytes=500)]
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask(client, line, "GET", "/b/k")
    for fault, carried_out in ((LOST, 1), (Fault(answer_bytes=0, reset=True), 1), (RESET, 0)):
        origin.bodies.clear()
        line.faults = [fault]
        with pytest.raises((aiohttp.ClientConnectionError, ConnectionResetError)):
            await ask(client, line, "POST", "/b/k?uploadId=u", b"parts")
        assert origin.bodies == [b"parts"] * carried_out
    assert await ask(client, line, "GET", "/b/k") == (200, b"x" * 1000)


async def test_a_refusal_before_the_body_was_read_leaves_the_line_usable(line: FaultyProxy, client: aiohttp.ClientSession) -> None:
    assert (await ask(client, line, "PUT", "/b/refused", bytes(1024)))[0] == 403
    assert (await ask(client, line, "GET", "/b/k"))[0] == 200


async def test_every_request_waits_and_all_of_them_at_once(line: FaultyProxy, client: aiohttp.ClientSession) -> None:
    line.latency = 0.2
    line.faults = [Fault(delay=0.2)]
    before = time.monotonic()
    await asyncio.gather(*(ask(client, line, "GET", "/b/k") for _ in range(5)))
    passed = time.monotonic() - before
    assert passed >= 0.4


async def test_a_proxy_in_its_own_process_counts_since_it_was_asked(client: aiohttp.ClientSession, origin: Origin) -> None:
    with proxied(origin.endpoint) as proxy:
        async with client.get(proxy.endpoint + "/b/k") as answer:
            assert len(await answer.read()) == 1000
        assert proxy.traffic() == {"GetObject": Traffic(requests=1, received=1000)}
        assert proxy.traffic() == {}


@pytest.mark.parametrize(
    ("method", "target", "headers", "operation"),
    [
        ("GET", "/b/a/k", (), "GetObject"),
        ("GET", "/b/k?attributes=&X-Amz-Date=x", (), "GetObjectAttributes"),
        ("GET", "/b/k?uploadId=u", (), "ListParts"),
        ("GET", "/b?list-type=2&prefix=a%2F", (), "ListObjectsV2"),
        ("GET", "/b/?uploads", (), "ListMultipartUploads"),
        ("HEAD", "/b/k", (), "HeadObject"),
        ("HEAD", "/b", (), "HeadBucket"),
        ("PUT", "/b", (), "CreateBucket"),
        ("PUT", "/b/k?X-Amz-Signature=s", (), "PutObject"),
        ("PUT", "/b/k", ("x-amz-copy-source",), "CopyObject"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", (), "UploadPart"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", ("x-amz-copy-source",), "UploadPartCopy"),
        ("POST", "/b/k?uploads", (), "CreateMultipartUpload"),
        ("POST", "/b/k?uploadId=u", (), "CompleteMultipartUpload"),
        ("POST", "/b?delete", (), "DeleteObjects"),
        ("DELETE", "/b/k", (), "DeleteObject"),
        ("DELETE", "/b/k?uploadId=u", (), "AbortMultipartUpload"),
    ],
)
def test_requests_are_named_as_s3_names_them(method: str, target: str, headers: tuple[str, ...], operation: str) -> None:
    assert operation_of(method, target, headers) == operation
