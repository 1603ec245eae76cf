"""A small HTTP server beside each service: /metrics, /healthz (is it alive?), /readyz (may it be given work?).

It runs in threads of its own, so that it answers, and tells the truth, when an event loop or a consumer hangs.

    server = start(settings, {"consumer": consumer_check}, ready={"assigned": assigned_check}, service="transcoder")
    ...
    server.close()

A check answers "" when all is well, else a sentence. It is called from another thread and must not block.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from services.runtime.settings import Settings, SettingsError

Check = Callable[[], str | None]
Checks = Mapping[str, Check]
# So often the server looks whether it is to end: closing takes as long.
_CLOSE_SECONDS = 0.2


class HealthServer:
    """Answers until `close`. `port` is -1 when the settings want none."""

    def __init__(self, host: str, port: int, server: ThreadingHTTPServer | None, announced: Path | None) -> None:
        self.host = host
        self.port = port
        self._server = server
        self._announced = announced

    @property
    def url(self) -> str:
        """ "" when there is no server."""
        return f"http://{self.host}:{self.port}" if self._server else ""

    def close(self) -> None:
        """Stop answering and remove the announcement."""
        if self._announced is not None:
            self._announced.unlink(missing_ok=True)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def start(settings: Settings, checks: Checks, *, ready: Checks | None = None, service: str = "") -> HealthServer:
    """Serve at `metrics_host:metrics_port`. /healthz runs `checks`, /readyz those and `ready`.

    With `run_dir` set, `{run_dir}/{process id}.json` tells the supervisor where. Raises SettingsError when the port is taken.
    """
    if settings.metrics_port < 0:
        return HealthServer(settings.metrics_host, -1, None, None)
    try:
        server = _Server((settings.metrics_host, settings.metrics_port), _Handler)
    except OSError as wrong:
        raise SettingsError(
            f"the metrics port {settings.metrics_host}:{settings.metrics_port} cannot be opened ({wrong.strerror}); "
            "set REELWORKS_METRICS_PORT to another one, 0 for any, -1 for none"
        ) from None
    server.alive = dict(checks)
    server.ready = {**checks, **(ready or {})}
    port = int(server.server_address[1])
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": _CLOSE_SECONDS}, name="health", daemon=True).start()
    announced = _announce(settings, service, port) if settings.run_dir else None
    return HealthServer(settings.metrics_host, port, server, announced)


def _announce(settings: Settings, service: str, port: int) -> Path:
    folder = Path(settings.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{os.getpid()}.json"
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({"service": service, "pid": os.getpid(), "host": settings.metrics_host, "port": port}))
    draft.replace(path)  # it appears whole
    return path


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    alive: dict[str, Check]
    ready: dict[str, Check]


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = 10
    """Seconds for a client that connects and says nothing."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, content_type, encode(REGISTRY))
        elif path == "/healthz":
            self._checks(self.server.alive)
        elif path == "/readyz":
            self._checks(self.server.ready)
        else:
            self._answer(404, "text/plain; charset=utf-8", b"here are /metrics, /healthz and /readyz\n")

    do_HEAD = do_GET

    def _checks(self, checks: Checks) -> None:
        found = {name: _run(check) for name, check in checks.items()}
        good = not any(found.values())
        body = json.dumps({"ok": good, "checks": {name: said or "ok" for name, said in found.items()}}).encode()
        self._answer(200 if good else 503, "application/json", body + b"\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds: not worth a line."""


def _run(check: Check) -> str:
    try:
        return check() or ""
    except Exception as wrong:
        return f"the check failed: {type(wrong).__name__}: {wrong}"
