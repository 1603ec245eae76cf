"""Kafka goes away and comes back: nothing is accepted that was not acknowledged, and nothing needs a restart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from services.runtime.kafka import admin
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.settings import Settings
from tests.servers.gateway import RunningGateway, run_gateway, settings_for

pytestmark = pytest.mark.kafka


async def upload(gateway: RunningGateway) -> tuple[int, str, dict[str, str]]:
    async with gateway.http.put("/v1/uploads/film.mp4", data=b"film") as answer:
        body = await answer.json()
        return answer.status, answer.headers.get("Retry-After", ""), body


async def test_an_outage_refuses_uploads_serves_polls_and_heals_by_itself(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    async with run_gateway(settings_for(own_kafka.bootstrap_servers, tmp_path)) as gateway:
        status, _, accepted = await upload(gateway)
        assert status == 202
        own_kafka.kill()
        began = time.monotonic()
        status, retry_after, problem = await upload(gateway)
        assert (status, retry_after) == (503, "5")
        assert "Kafka" in problem["detail"]
        assert time.monotonic() - began < 10
        async with gateway.http.post("/v1/jobs", json={"type": "UploadReceived", "data": {"key": gateway.objects()[0]}}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert len(gateway.objects()) == 1
        assert (await gateway.json(f"/v1/jobs/{accepted['job_id']}"))["state"] == "queued"
        assert (await gateway.json(f"/v1/assets/{accepted['asset_id']}"))["state"] == "queued"
        own_kafka.start()
        deadline = time.monotonic() + 30
        while (await upload(gateway))[0] != 202:
            assert time.monotonic() < deadline
        assert len((await gateway.json("/v1/assets"))["assets"]) == 2


async def test_an_upload_that_kafka_does_not_acknowledge_is_removed_again(
    own_kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_gateway(settings_for(own_kafka.bootstrap_servers, tmp_path)) as gateway:
        own_kafka.kill()
        # It dies after the gateway has looked: the object is stored before the producer gives up.
        monkeypatch.setattr(gateway.gateway.producer, "reachable", lambda seconds: True)
        status, _, problem = await upload(gateway)
        assert (status, problem["type"]) == (503, "urn:reelworks:problem:unavailable")
        assert gateway.objects() == []
        assert (await gateway.json("/v1/assets"))["assets"] == []


async def test_a_gateway_starts_without_kafka_and_is_ready_when_it_comes(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    settings = settings_for(own_kafka.bootstrap_servers, tmp_path)
    async with run_gateway(settings) as gateway:
        _, _, accepted = await upload(gateway)
    own_kafka.kill()
    async with run_gateway(settings, caught_up=False) as gateway:
        assert (await gateway.json(f"/v1/jobs/{accepted['job_id']}"))["state"] == "queued"
        async with gateway.http.get("/readyz") as answer:
            assert answer.status == 503
        own_kafka.start()
        await gateway.until("/readyz", lambda ready: ready["ok"])


async def test_a_log_that_was_made_anew_replaces_the_view(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    settings = settings_for(own_kafka.bootstrap_servers, tmp_path)
    async with run_gateway(settings) as gateway:
        _, _, accepted = await upload(gateway)
        port = own_kafka.port
    own_kafka.stop()
    with EmbeddedKafka(tmp_path / "another", cache=Settings().cache_path(), port=port) as other:
        admin.apply(Settings(bootstrap_servers=other.bootstrap_servers))
        async with run_gateway(settings) as gateway:
            assert (await gateway.json(f"/v1/jobs/{accepted['job_id']}"))["status"] == 404
