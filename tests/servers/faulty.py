"""A TCP proxy that cuts connections where a test says. What goes through it is real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Fault:
    """What happens to one connection."""

    answer_bytes: int | None = None
    """So many bytes of the answer pass, then the connection ends."""
    request_bytes: int | None = None
    """So many bytes of the request pass, then the server sees its clean end."""
    reply: bytes = b""
    """Answered in place of the server."""


UNAVAILABLE = Fault(reply=b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@dataclass
class FaultyProxy:
    """`faults` are used up one a connection; after the last one `always` holds."""

    endpoint: str = ""
    faults: list[Fault] = field(default_factory=list)
    always: Fault = Fault()
    connections: int = 0


@asynccontextmanager
async def faulty(endpoint: str) -> AsyncIterator[FaultyProxy]:
    """A proxy before the server at `endpoint`."""
    target = urlsplit(endpoint)
    proxy = FaultyProxy()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        proxy.connections += 1
        fault = proxy.faults.pop(0) if proxy.faults else proxy.always
        try:
            if fault.reply:
                await _swallow_request(reader)
                writer.write(fault.reply)
                await writer.drain()
                return
            up_reader, up_writer = await asyncio.open_connection(target.hostname, target.port)
            try:
                sending = asyncio.create_task(_pump(reader, up_writer, fault.request_bytes, end=True))
                await _pump(up_reader, writer, fault.answer_bytes, end=False)
                sending.cancel()
                await asyncio.wait([sending])
            finally:
                up_writer.close()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # cancelled only when the proxy ends
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    proxy.endpoint = f"http://{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(list(tasks))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None, *, end: bool) -> None:
    """Pass on at most `limit` bytes, nothing when it is 0 although the first bytes are waited for; then end that direction."""
    passed = 0
    with suppress(ConnectionError):
        while data := await reader.read(64 * 1024):
            data = data if limit is None else data[: limit - passed]
            passed += len(data)
            writer.write(data)
            await writer.drain()
            if limit is not None and passed >= limit:
                break
        if end and limit is not None:
            writer.write_eof()
            while await reader.read(64 * 1024):
                pass


async def _swallow_request(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
