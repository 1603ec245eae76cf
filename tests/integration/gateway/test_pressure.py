"""More than the gateway takes at once: what is accepted becomes a job exactly once, what is refused is told to come again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Request
from services.gateway import pressure
from services.gateway.pressure import Gate
from services.runtime.settings import Settings
from tests.servers.gateway import RunningGateway, requests_of, run_gateway, settings_for

pytestmark = pytest.mark.kafka
BODY = {"type": "UploadReceived", "data": {"key": "in/film.mov", "owner": "many"}}


def place_film(settings: Settings) -> None:
    film = Path(settings.storage_url.removeprefix("file://")) / "in" / "film.mov"
    film.parent.mkdir(parents=True, exist_ok=True)
    film.write_bytes(b"film")


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that takes little at once."""
    monkeypatch.setattr(pressure, "TURNS", 2)
    monkeypatch.setattr(Gate.__init__, "__kwdefaults__", {"most_requests": 8, "most_bodies": 1})


async def post(gateway: RunningGateway, key: str, body: Any = BODY) -> tuple[int, Any, str]:
    async with gateway.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key}) as answer:
        return answer.status, await answer.json(content_type=None), answer.headers.get("Retry-After", "")


async def test_a_rush_is_taken_once_or_refused_with_words(kafka: str, tmp_path: Path, narrow: None) -> None:
    settings = settings_for(kafka, tmp_path)
    place_film(settings)
    name = tmp_path.name
    async with run_gateway(settings) as gateway:
        accepted: dict[str, str] = {}
        left, refused = [f"{name}-{n}" for n in range(120)], 0
        while left:
            answers = await asyncio.gather(*(post(gateway, key) for key in left))
            for key, (status, said, retry_after) in zip(list(left), answers, strict=True):
                if status == 202:
                    accepted[key] = said["job_id"]
                    left.remove(key)
                    continue
                refused += 1
                assert (status, said["type"], retry_after) == (503, "urn:reelworks:problem:busy", "5")
                assert "Send the request again" in said["detail"]
        assert refused > 0
        assert len(set(accepted.values())) == 120
        ids = set(accepted.values())
        found = await requests_of(gateway, lambda event: isinstance(event, Request) and event.job_id in ids)
        assert sorted(event.job_id for _, event in found) == sorted(ids), "each of them was sent once"
        async with gateway.http.post("/v1/jobs/query", json={"ids": sorted(ids)}) as answer:
            shown = await answer.json()
        assert (len(shown["jobs"]), shown["missing"]) == (120, [])
        assert f"reelworks_gateway_requests_refused_total {float(refused)}" in await (await gateway.http.get("/metrics")).text()


async def test_clients_that_send_no_body_take_nobodys_turn_and_polls_go_on(kafka: str, tmp_path: Path, narrow: None) -> None:
    settings = settings_for(kafka, tmp_path, idle_timeout_seconds=2.0, body_limit_bytes=1024)
    place_film(settings)
    async with run_gateway(settings) as gateway:
        _, said, _ = await post(gateway, f"{tmp_path.name}-first")
        host, port = gateway.url.removeprefix("http://").split(":")
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
        slow = [await asyncio.open_connection(host, int(port)) for _ in range(5)]
        for _, writer in slow:
            writer.write(head.encode())
            await writer.drain()
        assert (await post(gateway, f"{tmp_path.name}-second"))[0] == 202
        assert (await gateway.json(f"/v1/jobs/{said['job_id']}"))["state"] == "queued"
        for reader, writer in slow:
            answer = (await reader.read()).decode()
            assert answer.startswith("HTTP/1.1 408 ")
            assert "the body was not there after 2 s" in answer
            writer.close()
        assert gateway.gateway.counters.requests_refused == 0


async def test_large_bodies_are_not_all_in_memory_at_once(kafka: str, tmp_path: Path, narrow: None) -> None:
    """One body of the limit's size is under way: the next is refused before it is read, and a small one, too."""
    settings = settings_for(kafka, tmp_path, body_limit_bytes=100_000)
    place_film(settings)
    async with run_gateway(settings) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        large = json.dumps(BODY).encode().ljust(90_000)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n".encode())
        writer.write(b"Connection: close\r\n\r\n" + large[:1000])
        await writer.drain()
        while (await post(gateway, tmp_path.name, BODY | {"data": BODY["data"] | {"title": "x" * 20_000}}))[0] != 503:  # type: ignore[operator]
            await asyncio.sleep(0.01)
        assert (await post(gateway, f"{tmp_path.name}-small"))[0] == 202
        writer.write(large[1000:])
        assert (await reader.read()).startswith(b"HTTP/1.1 202 ")
        writer.close()


async def test_a_full_queue_of_the_producer_is_503_and_nothing_is_shown(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(kafka, tmp_path)
    place_film(settings)
    async with run_gateway(settings) as gateway:
        producer = gateway.gateway.producer
        whole = producer._producer

        class Full:
            def produce(self, *_: Any, **__: Any) -> None:
                raise BufferError("Local: Queue full")

            def __getattr__(self, name: str) -> Any:  # the thread that reports deliveries goes on polling
                return getattr(whole, name)

        monkeypatch.setattr(producer, "_producer", Full())
        status, said, retry_after = await post(gateway, tmp_path.name)
        monkeypatch.setattr(producer, "_producer", whole)
        assert (status, retry_after) == (503, "5")
        assert "nothing was accepted" in said["detail"]
        status, said, _ = await post(gateway, tmp_path.name)
        assert status == 202
        found = await requests_of(gateway, lambda event: isinstance(event, Request) and event.job_id == said["job_id"])
        assert len(found) == 1


async def test_connections_beyond_the_limit_wait_and_are_served_when_others_end(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "most_connections", lambda: 3)
    monkeypatch.setattr("services.gateway.app.most_connections", lambda: 3)
    async with run_gateway(settings_for(kafka, tmp_path)) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        for reader, writer in held:
            writer.write(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        fourth = await asyncio.open_connection(host, int(port))
        fourth[1].write(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await fourth[0].readline()
        for _, writer in held:
            writer.close()
        assert (await fourth[0].readline()).startswith(b"HTTP/1.1 200")
        fourth[1].close()


async def test_a_thousand_clients_at_once_are_all_answered(kafka: str, tmp_path: Path) -> None:
    settings = settings_for(kafka, tmp_path)
    place_film(settings)
    async with run_gateway(settings) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")

        async def ask() -> bytes:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
            return answer

        assert {(await answer)[:15] for answer in asyncio.as_completed([ask() for _ in range(1000)])} == {b"HTTP/1.1 200 OK"}
