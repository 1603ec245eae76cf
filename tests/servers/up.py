"""`reelworks up` as a process, and its API as any client sees it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.runtime.settings import Settings, child_environment
from tests import trees

REELWORKS: Final = Path(sys.executable).with_name("reelworks")
TERMINAL: Final = ("succeeded", "failed", "cancelled")
STOP_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Answer:
    """What an HTTP server said."""

    status: int
    content_type: str
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Up:
    """A running one. `errors` is the file with what it says on stderr."""

    process: subprocess.Popen[str]
    gateway: str
    bootstrap_servers: str
    data: Path
    errors: Path

    @property
    def library(self) -> Path:
        """The folder that is the default bucket."""
        return self.data / "library"

    def call(self, method: str, path: str, *, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """A path of the gateway, or a URL that it gave."""
        data = None if body is None else json.dumps(body).encode()
        sent = ({} if body is None else {"Content-Type": "application/json"}) | (headers or {})
        url = path if path.startswith("http") else self.gateway + path
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, sent, method=method), timeout=60) as answer:
                return Answer(answer.status, answer.headers.get_content_type(), answer.read())
        except urllib.error.HTTPError as refused:
            return Answer(refused.code, refused.headers.get_content_type(), refused.read())

    def get(self, path: str) -> Any:
        """JSON that must be there."""
        answer = self.call("GET", path)
        assert answer.status == 200, (path, answer)
        return answer.json()

    def ended(self, job_id: str, seconds: float = 120.0) -> dict[str, Any]:
        """The status of a job once it has ended. One that was sent through Kafka may not be known at first."""

        def look() -> dict[str, Any] | None:
            answer = self.call("GET", f"/v1/jobs/{job_id}?wait=10")
            assert answer.status in (200, 404), answer
            return answer.json() if answer.status == 200 and answer.json()["state"] in TERMINAL else None

        return until(look, seconds, lambda: f"job {job_id} is {self.call('GET', f'/v1/jobs/{job_id}').body!r}")

    def objects(self, prefix: str = "") -> list[str]:
        """Keys in the default bucket."""
        keys = (path.relative_to(self.library) for path in trees.files(self.library / prefix))
        return [str(key) for key in keys if not key.parts[0].startswith(".")]


@contextmanager
def up(folder: Path, settings: Settings | None = None) -> Iterator[Up]:
    """One with its data in `folder`/data, ended with the context where a test has not done so."""
    command = [str(REELWORKS), "up", "--json", "--port", "0", "--data", str(folder / "data")]
    errors = folder / "up.err"
    with errors.open("w") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, env=child_environment(settings or Settings()))
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"it ended with {process.wait(STOP_SECONDS)}:\n{errors.read_text()}"
        told = json.loads(line)
        assert told["ready"] is True
        yield Up(process, told["gateway"], told["bootstrap_servers"], Path(told["data"]), errors)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()


def until(look: Callable[[], Any], seconds: float, words: Callable[[], str] = lambda: "it did not come true") -> Any:
    """The first answer that counts. Fails with `words` when there is none within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"after {seconds:g} s: {words()}"
        time.sleep(0.05)
    return found
