"""Who may call, and what pages are served with."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest

from services.gateway.app import running, serve
from services.runtime.settings import Settings, SettingsError
from tests.servers.gateway import RunningGateway, run_gateway, settings_for

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
async def test_an_address_for_others_needs_a_token(tmp_path: Path, host: str) -> None:
    settings = Settings(host=host, port=0, storage_url=f"file://{tmp_path}/media", data_dir=str(tmp_path), bootstrap_servers="127.0.0.1:1")
    with pytest.raises(SettingsError, match="REELWORKS_API_TOKEN"):
        await serve(settings)


async def test_a_port_that_is_taken_is_named(gateway: RunningGateway, kafka: str, tmp_path: Path) -> None:
    port = int(gateway.url.rsplit(":", 1)[1])
    with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"):
        async with running(settings_for(kafka, tmp_path / "other", port=port)):
            pass


async def test_with_a_token_everything_but_health_and_signed_media_asks_for_it(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, api_token="correct horse")) as gateway:
        async with aiohttp.ClientSession(gateway.url) as http:
            for path in ("/", "/v1/jobs", "/v1/jobs/x", "/metrics", "/v1/openapi.json"):
                async with http.get(path) as answer:
                    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="reelworks"'), path
            async with http.put("/v1/uploads/x.mp4", data=b"x") as answer:
                assert answer.status == 401
            for wrong in ("Bearer wrong", "Bearer", "Basic correct horse", "correct horse", "Bearer correct horse2"):
                async with http.get("/v1/jobs", headers={"Authorization": wrong}) as answer:
                    assert answer.status == 401, wrong
            for path in ("/healthz", "/readyz"):
                async with http.get(path) as answer:
                    assert answer.status == 200
            await gateway.gateway.storage.bucket().put("x.mp4", b"film")
            async with http.get(gateway.gateway.storage.bucket().sign_get("x.mp4", expires_seconds=60)) as answer:
                assert await answer.read() == b"film"
            async with http.get("/v1/jobs", headers={"Authorization": "bearer correct horse"}) as answer:
                assert answer.status == 200
        assert gateway.objects() == ["x.mp4"]


async def test_a_page_turns_the_token_into_a_cookie_once(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, api_token="correct horse")) as gateway:
        async with aiohttp.ClientSession(gateway.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            async with http.get("/?token=wrong") as answer:
                assert answer.status == 401
            async with http.get("/?token=correct+horse&limit=5", allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/?limit=5")
                cookie = answer.headers["Set-Cookie"]
                assert "HttpOnly" in cookie
                assert "SameSite=Strict" in cookie
                assert "correct" not in cookie
            async with http.get("/") as answer:
                assert answer.status == 200
            async with http.put("/v1/uploads/x.mp4", data=b"x") as answer:
                assert answer.status == 202


async def test_pages_of_other_sites_may_change_nothing(gateway: RunningGateway) -> None:
    for method, path in (("PUT", "/v1/uploads/x.mp4"), ("POST", "/v1/jobs/x/cancel"), ("DELETE", "/v1/assets/x")):
        async with gateway.http.request(method, path, data=b"x", headers={"Origin": "https://evil.example"}) as answer:
            assert answer.status == 403, path
    assert gateway.objects() == []
    async with gateway.http.put("/v1/uploads/x.mp4", data=b"x", headers={"Origin": gateway.url}) as answer:
        assert answer.status == 202


async def test_pages_have_a_strict_policy_and_their_files_are_kept_for_ever(gateway: RunningGateway) -> None:
    async with gateway.http.get("/") as answer:
        page = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(set(files)) >= 3
    assert [url for url in re.findall(r'(?:src|href)="(https?://[^"]+)"', page) if not url.startswith(gateway.url)] == []
    for file in files:
        async with gateway.http.get(file) as answer:
            assert (answer.status, answer.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    async with gateway.http.get("/static/style.000000000000.css") as answer:
        assert answer.status == 404


async def test_a_title_is_escaped_in_every_page(gateway: RunningGateway) -> None:
    async with gateway.http.put("/v1/uploads/x.mp4", data=b"x", params={"title": '"><script>alert(1)</script>'}) as answer:
        asset = (await answer.json())["asset_id"]
    for path in ("/", f"/watch/{asset}"):
        async with gateway.http.get(path) as answer:
            page = await answer.text()
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page


async def test_the_watch_page_of_an_unknown_film_says_so(gateway: RunningGateway) -> None:
    async with gateway.http.get("/watch/unknown") as answer:
        assert (answer.status, "There is no such film" in await answer.text()) == (404, True)


async def test_metrics_and_the_description_are_served(gateway: RunningGateway) -> None:
    async with gateway.http.get("/metrics") as answer:
        text = await answer.text()
    assert "reelworks_gateway_ready 1.0" in text
    assert "reelworks_gateway_polls_total" in text
    assert (await gateway.json("/v1/openapi.json"))["openapi"] == "3.1.0"


async def test_a_client_that_sends_no_header_lines_is_cut_off(kafka: str, tmp_path: Path) -> None:
    async with run_gateway(settings_for(kafka, tmp_path, header_timeout_seconds=0.5)) as gateway:
        port = int(gateway.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
