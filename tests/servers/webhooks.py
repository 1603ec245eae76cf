"""A receiver of callbacks, as another system would run one: it verifies Standard Webhooks by itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import queue
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

KEY: Final = b"thirty-two bytes are the advice."
SECRET: Final = "whsec_" + base64.b64encode(KEY).decode()
TOLERANCE_SECONDS: Final = 300


@dataclass(frozen=True)
class Callback:
    """One that came."""

    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.time)
    """When it came."""
    answered: int = 200
    """0: not at all."""

    def json(self) -> Any:
        return json.loads(self.body)

    def genuine(self) -> bool:
        """Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.body`, base64, after `v1,`; and not old."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        fresh = abs(self.at - int(self.headers["webhook-timestamp"])) < TOLERANCE_SECONDS
        return fresh and f"v1,{wanted}" in self.headers["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """Answers 200 to every POST, but for what `answers` holds."""

    url: str
    answers: deque[int] = field(default_factory=deque)
    """Statuses of the next answers; 0 ends the connection without one."""
    _received: queue.Queue[Callback] = field(default_factory=queue.Queue)

    def next(self, seconds: float = 120.0) -> Callback:
        """The next callback. Raises queue.Empty when none comes in time."""
        return self._received.get(timeout=seconds)

    def all(self) -> list[Callback]:
        """All that have come since somebody looked."""
        return [self._received.get() for _ in range(self._received.qsize())]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """On a free port of loopback."""
    made = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = made.answers.popleft() if made.answers else 200
            made._received.put(Callback({name.lower(): value for name, value in self.headers.items()}, body, answered=status))
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}/callback"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
