"""Watching while it is encoded: when it can begin, what a playlist poll costs, what an hour of film leaves in storage."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from benchmarks.polls import bare_cost, cost
from benchmarks.stack import Stack, up
from schemas import envelope, topics
from schemas.events import PlaylistChanged
from services.runtime.kafka.reader import LogReader
from services.runtime.settings import Settings

COMMAND = "python -m benchmarks watching"
PATIENCE_SECONDS = 180.0


def run() -> list[dict[str, Any]]:
    """Rows of the table."""
    folder = Path(tempfile.mkdtemp(prefix="reelworks-bench-"))
    try:
        with up(folder) as stack:
            first = _first_playable(stack)
            again = _first_playable(stack)
            film = stack.get(f"/v1/assets/{again['asset_id']}")
            return [*_started(first, again, film), *_stored(stack, film), *_polls(stack, film)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _first_playable(stack: Stack) -> dict[str, Any]:
    """Seconds from the first byte of the upload to a master that plays, to the end of the encode, to the final playlists."""
    began = time.monotonic()
    sent = stack.upload()
    asset_path = f"/v1/assets/{sent['asset_id']}"

    def until(ready: Callable[[dict[str, Any]], bool]) -> float:
        while not ready(stack.get(asset_path)):
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise TimeoutError(f"{asset_path} is not ready after {PATIENCE_SECONDS:g} s: {stack.get(asset_path)}")
            time.sleep(0.02)
        return time.monotonic() - began

    playable = until(lambda asset: bool(asset["hls_url"]) and _plays(asset["hls_url"]))
    stack.wait(str(sent["job_id"]))
    encoded = time.monotonic() - began
    final = until(lambda asset: bool(asset["hls_url"]) and not asset["live"])
    return {"asset_id": sent["asset_id"], "playable": playable, "encoded": encoded, "final": final}


def _plays(master: str) -> bool:
    """Whether the first segment of the first variant, and what is before it, can be fetched."""
    try:
        variant = _uri(master)
        segment = _uri(variant)
        with urllib.request.urlopen(segment, timeout=10) as answer:
            return len(answer.read()) > 0
    except urllib.error.HTTPError:
        return False


def _uri(playlist: str) -> str:
    with urllib.request.urlopen(playlist, timeout=10) as answer:
        text = answer.read().decode()
    line = next(line for line in text.splitlines() if line and not line.startswith("#"))
    return urljoin(playlist, line)


def _started(first: dict[str, Any], again: dict[str, Any], film: dict[str, Any]) -> list[dict[str, Any]]:
    rest = again["final"] - again["encoded"]
    return [
        {"what": "upload → first playable master", "value": f"{again['playable']:.1f} s", "goal": "< 5 s", "command": COMMAND,
         "note": f"{film['duration_seconds']:.0f} s of 720p in three heights; {first['playable']:.1f} s for the first film after the "
         f"start. The whole encode took {again['encoded']:.1f} s, and {rest:.1f} s later the playlists had their final form"},
    ]  # fmt: skip


def _stored(stack: Stack, film: dict[str, Any]) -> list[dict[str, Any]]:
    """What lies in storage, and what was written, for an hour of film."""
    hours = film["duration_seconds"] / 3600
    folder = stack.library / "assets" / film["asset_id"]
    kinds: dict[str, list[int]] = {}
    for path in folder.rglob("*"):
        if path.is_file() and "source" not in path.relative_to(folder).parts:
            kinds.setdefault(path.suffix, []).append(path.stat().st_size)
    sizes = [size for found in kinds.values() for size in found]
    segments = kinds.get(".m4s", [])
    writes = _playlist_writes(stack, film["asset_id"])
    return [
        {"what": "objects and bytes for an hour of film", "value": f"{len(sizes) / hours:,.0f} objects, {sum(sizes) / hours / 1e9:.2f} GB",
         "command": COMMAND,
         "note": f"of them segments: {len(segments) / hours:,.0f} objects, {sum(segments) / hours / 1e9:.2f} GB; MP4s: "
         f"{sum(kinds.get('.mp4', [])) / hours / 1e9:.2f} GB. Growing playlists were written {writes / hours:,.0f} times an hour of film, "
         f"{writes / max(1, len(segments)):.2f} times for each segment"},
    ]  # fmt: skip


def _playlist_writes(stack: Stack, asset_id: str) -> int:
    reader = LogReader(Settings(bootstrap_servers=stack.bootstrap_servers), [topics.PLAYLISTS])
    found = 0
    try:
        while not reader.caught_up:
            for record in reader.poll(0.2, 1000):
                told = envelope.decode(envelope.read(record.headers, record.value).data, PlaylistChanged)
                found += told.asset_id == asset_id
    finally:
        reader.close()
    return found


def _polls(stack: Stack, film: dict[str, Any]) -> list[dict[str, Any]]:
    """CPU of the gateway for one poll of a media playlist."""
    if shutil.which("wrk") is None:
        return [{"what": "CPU of a playlist poll", "value": "not measured: wrk is not installed", "command": COMMAND}]
    url = _uri(film["hls_url"])
    with urllib.request.urlopen(url, timeout=10) as answer:
        etag, body = answer.headers["ETag"], answer.read()
    gateway = stack.pid("gateway")
    whole, unchanged, bare = cost(gateway, url), cost(gateway, url, f"If-None-Match: {etag}"), bare_cost(body)
    return [
        {"what": "CPU of a playlist poll, 200", "value": f"{whole[0]:.0f} µs", "command": COMMAND,
         "note": f"{whole[1]:,.0f} a second with a query token; a bare aiohttp handler with the same bytes took {bare[0]:.0f} µs "
         f"in the same run, so {whole[0] / bare[0]:.2f} ×"},
        {"what": "CPU of a playlist poll, 304", "value": f"{unchanged[0]:.0f} µs", "command": COMMAND,
         "note": f"{unchanged[1]:,.0f} a second"},
    ]  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1, ensure_ascii=False) + "\n")
