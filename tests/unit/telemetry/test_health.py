"""The small HTTP server beside each service."""

import json
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from services.runtime.settings import Settings, SettingsError
from services.runtime.telemetry import health, metrics


@pytest.fixture(autouse=True)
def _closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_CLOSE_SECONDS", 0.01)


def get(url: str, **headers: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers["Content-Type"], answer.read().decode()


def test_alive_and_ready_are_different_questions():
    assigned = ""
    server = health.start(Settings(), {"loop": lambda: ""}, ready={"assigned": lambda: assigned})
    try:
        assert get(server.url + "/readyz")[0] == 200
        assigned = "no partition is assigned yet"
        assert get(server.url + "/healthz")[0] == 200
        status, _, body = get(server.url + "/readyz")
        assert (status, json.loads(body)) == (
            503,
            {"ok": False, "checks": {"loop": "ok", "assigned": "no partition is assigned yet"}},
        )
    finally:
        server.close()


def test_a_check_that_raises_counts_as_failed_and_says_how():
    def broken() -> str:
        raise RuntimeError("lost")

    server = health.start(Settings(), {"loop": broken})
    try:
        status, _, body = get(server.url + "/healthz")
        assert (status, json.loads(body)["checks"]["loop"]) == (503, "the check failed: RuntimeError: lost")
    finally:
        server.close()


def test_metrics_are_in_prometheus_text_with_help():
    metrics.TASKS_FAILED.labels("transcoder", "run", "transient").inc()
    server = health.start(Settings(), {})
    try:
        status, kind, body = get(server.url + "/metrics")
        assert status == 200
        assert kind.startswith("text/plain")
        assert "# HELP reelworks_tasks_failed_total Tasks that failed, by class of failure." in body
        assert 'reelworks_tasks_failed_total{failure_class="transient",role="run",service="transcoder"}' in body
    finally:
        server.close()


def test_the_port_is_announced_to_the_supervisor_and_the_announcement_goes_with_it(tmp_path: Path):
    server = health.start(Settings(run_dir=str(tmp_path)), {}, service="notifier")
    announced = tmp_path / f"{os.getpid()}.json"
    assert json.loads(announced.read_text()) == {"service": "notifier", "pid": os.getpid(), "host": "127.0.0.1", "port": server.port}
    server.close()
    assert list(tmp_path.iterdir()) == []


def test_no_port_is_opened_when_none_is_wanted():
    server = health.start(Settings(metrics_port=-1), {})
    assert (server.port, server.url) == (-1, "")
    server.close()


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port} .*REELWORKS_METRICS_PORT"):
            health.start(Settings(metrics_port=port), {})


def test_other_paths_are_not_found():
    server = health.start(Settings(), {})
    try:
        assert get(server.url + "/")[0] == 404
    finally:
        server.close()
