"""The whole of Reelworks for a benchmark: `reelworks up`, ended at the end."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from services.cli.sample import sample
from services.runtime.settings import Settings


class Stack:
    """A running `reelworks up`."""

    def __init__(self, process: subprocess.Popen[bytes], said: dict[str, Any]) -> None:
        self._process = process
        self.gateway: str = said["gateway"]
        self.bootstrap_servers: str = said["bootstrap_servers"]
        self.library = Path(said["data"]) / "library"

    def pid(self, service: str) -> int:
        """Process id of a service."""
        return self.services()[service]

    def services(self) -> dict[str, int]:
        """Process ids by service; `broker` is the JVM."""
        found = {"supervisor": self._process.pid}
        for child in psutil.Process(self._process.pid).children(recursive=True):
            words = child.cmdline()
            if "serve" in words:
                found[words[words.index("serve") + 1]] = child.pid
            elif words and words[0].endswith("java"):
                found["broker"] = child.pid
        return found

    def upload_sample(self) -> str:
        """Take the sample film in; answers the job's id."""
        return str(self.upload()["job_id"])

    def upload(self) -> dict[str, Any]:
        """Take the sample film in; answers what the gateway said."""
        body = sample(Settings().cache_path()).read_bytes()
        request = urllib.request.Request(f"{self.gateway}/v1/uploads/sample.mp4", data=body, method="PUT")
        with urllib.request.urlopen(request, timeout=60) as answer:
            said: dict[str, Any] = json.load(answer)
            return said

    def get(self, path: str) -> dict[str, Any]:
        """JSON of one of the gateway's paths."""
        with urllib.request.urlopen(f"{self.gateway}{path}", timeout=30) as answer:
            said: dict[str, Any] = json.load(answer)
            return said

    def wait(self, job_id: str, seconds: float = 180) -> dict[str, Any]:
        """The job's status when it has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with urllib.request.urlopen(f"{self.gateway}/v1/jobs/{job_id}?wait=5", timeout=30) as answer:
                status: dict[str, Any] = json.load(answer)
            if status["state"] in ("succeeded", "failed", "cancelled"):
                return status
        raise TimeoutError(f"job {job_id} did not end within {seconds} s")


@contextlib.contextmanager
def up(folder: Path) -> Iterator[Stack]:
    """Start everything in a folder of its own."""
    command = [sys.executable, "-m", "services.cli.main", "up", "--json", "--port", "0", "--data", str(folder)]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"`reelworks up` did not start:\n{(folder / 'up.log').read_text()[-2000:]}")
        yield Stack(process, json.loads(line))
    finally:
        process.terminate()
        process.wait(60)
