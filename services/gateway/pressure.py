"""What the gateway takes at once, so that a rush costs it neither its memory nor the answers to everybody else's polls.

Connections are accepted one by one, between other work. Of the requests that change something so many are let in, with so
many bytes; a few of them have a turn at a time, in the order in which their bodies came. The others are told to come again.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Generator
from contextlib import contextmanager

from aiohttp import web

from services.gateway.counters import Counters
from services.gateway.problems import RETRY_SECONDS, Problem
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)

MOST_REQUESTS = 1024
"""A request that waits costs some thirty KiB."""
MOST_BODIES = 16
"""Bodies of the largest size that are in memory at once; of smaller ones more."""
TURNS = 16
"""Each step of a request takes up to a millisecond, in which no poll is answered."""
MOST_CONNECTIONS = 16_384
"""Twenty KiB each; most of them are clients that wait for events."""
_OTHER_FILES = 512
"""That must not lack a number when all connections are there: SQLite's, Kafka's, objects that are being sent."""
_CHANGING = frozenset({"POST", "PATCH", "DELETE"})
"""PUT carries the bytes of an upload, which has a gate of its own."""


class Entry:
    """A request that was let in."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._has_turn = False

    async def turn(self) -> None:
        """Wait until it is this one's turn: from then until the answer is sent. A slow client must not have one: call it when
        the body is there."""
        if not self._has_turn:
            await self._turns.acquire()
            self._has_turn = True

    def leave(self) -> None:
        if self._has_turn:
            self._turns.release()
            self._has_turn = False


class Gate:
    """Counts the requests that change something. Used on the event loop only."""

    def __init__(
        self, counters: Counters, body_limit_bytes: int, *, most_requests: int = MOST_REQUESTS, most_bodies: int = MOST_BODIES
    ) -> None:
        self._counters = counters
        self._body_limit = body_limit_bytes
        self._most_requests, self._most_bytes = most_requests, most_bodies * body_limit_bytes
        self._requests = self._bytes = 0
        self._turns = asyncio.Semaphore(TURNS)

    @contextmanager
    def enter(self, request: web.Request) -> Generator[None]:
        """Let it in for as long as the context lasts. Raises Problem 503 when there are as many as may be."""
        if request.method not in _CHANGING:
            yield
            return
        size = min(self._body_limit, self._body_limit if request.content_length is None else request.content_length)
        size = size if request.body_exists else 0
        if self._requests >= self._most_requests or self._bytes + size > self._most_bytes:
            self._counters.requests_refused += 1
            raise Problem(
                503,
                "busy",
                "the gateway has as many requests before it as it takes at once; nothing was accepted. Send the request again.",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        entry = request[ENTRY] = Entry(self._turns)
        self._requests, self._bytes = self._requests + 1, self._bytes + size
        try:
            yield
        finally:
            entry.leave()
            self._requests, self._bytes = self._requests - 1, self._bytes - size


GATE: web.AppKey[Gate] = web.AppKey("gate", Gate)
ENTRY: web.RequestKey[Entry] = web.RequestKey("entry", Entry)


def most_connections() -> int:
    """How many connections there may be; as many files as the system allows are asked for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(allowed - _OTHER_FILES, allowed // 2)


async def accept(sock: socket.socket, server: web.Server, most: int) -> None:
    """Accept connections until cancelled. What comes beyond `most` waits in the kernel's queue.

    One in each round of the loop, where servers usually take all that there are: with a thousand new clients at once,
    everybody else would have to wait for the thousand.
    """
    loop = asyncio.get_running_loop()
    while True:
        while len(server.connections) >= most:  # noqa: ASYNC110 (the server tells nobody when one ends)
            await asyncio.sleep(0.1)
        try:
            connection, _ = await loop.sock_accept(sock)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(server, connection)
        except OSError as wrong:  # the client is gone again, or the system has no more files
            log.warning("a connection could not be accepted", reason=str(wrong))
            await asyncio.sleep(0.1)
