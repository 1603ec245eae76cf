"""The gateway as a process: it ends when it is asked to, and a killed one is simply started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.runtime.settings import Settings, environment_for
from tests.servers.gateway import settings_for

pytestmark = pytest.mark.kafka
PROGRAM = """
from services.gateway.app import run
from services.runtime.settings import load

run(load(), ready=lambda url: print(url, flush=True))
"""


@contextlib.asynccontextmanager
async def process(settings: Settings) -> AsyncGenerator[tuple[asyncio.subprocess.Process, str]]:
    """A gateway in a process of its own, ready, and its URL."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REELWORKS_")} | environment_for(settings)
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, env=environment, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    try:
        async with asyncio.timeout(60):
            url = (await child.stdout.readline()).decode().strip()
        yield child, url
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def upload(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.put(f"{url}/v1/uploads/film.mp4", data=b"film") as answer:
        assert answer.status == 202
        return await answer.json()


async def test_sigterm_ends_waiting_clients_and_the_process(kafka: str, tmp_path: Path) -> None:
    async with process(settings_for(kafka, tmp_path)) as (child, url), aiohttp.ClientSession() as http:
        accepted = await upload(http, url)
        stream = await http.get(accepted["events_url"])
        assert await stream.content.readline() == b"retry: 2000\n"
        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            await stream.read()
            assert await child.wait() == 0


async def test_a_killed_gateway_forgets_nothing_that_it_promised(kafka: str, tmp_path: Path) -> None:
    settings = settings_for(kafka, tmp_path)
    async with aiohttp.ClientSession() as http:
        async with process(settings) as (child, url):
            accepted = await upload(http, url)
            child.kill()
            await child.wait()
        async with process(settings) as (_, url):
            async with http.get(f"{url}/v1/jobs/{accepted['job_id']}") as answer:
                assert (await answer.json())["state"] == "queued"
