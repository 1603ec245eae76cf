"""A proxy before an S3 server that breaks what a test says, waits as long as it says, and counts. What goes through it is real.

`python -m tests.servers.faulty ENDPOINT SECONDS` runs one in a process of its own, for what measures its own CPU time: `proxied`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import IO
from urllib.parse import urlsplit

from tests.servers.s3_operations import operation_of

_BUFFER = 256 * 1024
# So long the end of a body may take to be passed on after its answer is there.
_SENT_SECONDS = 0.05
# So long a client may go on sending a body whose answer it has.
_LINGER_SECONDS = 5.0


@dataclass(frozen=True)
class Fault:
    """What happens to a request."""

    operation: str = ""
    """Of S3, as `UploadPartCopy`; any when empty."""
    after: int = 0
    """So many of these requests pass before."""
    times: int = 1
    """So many of these requests it happens to."""
    delay: float = 0
    """Seconds before the request is passed on."""
    request_bytes: int | None = None
    """So many bytes of the request, head and body, pass, then the server sees its clean end."""
    answer_bytes: int | None = None
    """So many bytes of the answer, head and body, pass, then the connection ends; with 0 the request is carried out and never answered."""
    reply: bytes = b""
    """Answered in place of the server."""
    reset: bool = False
    """The connection ends by a reset: at once, or after `answer_bytes`."""


def error(status: int, code: str) -> bytes:
    """An error of the store, for `Fault.reply`."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"
    return _reply(f"{status} {code}", body)


def document(body: str) -> bytes:
    """An XML document, for `Fault.reply`."""
    return _reply("200 OK", body)


def _reply(status: str, body: str) -> bytes:
    data = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    return head.encode() + data


UNAVAILABLE = Fault(reply=error(503, "SlowDown"))
BROKEN = Fault(reply=error(500, "InternalError"))
LOST = Fault(answer_bytes=0)
"""Carried out, and the answer never arrives."""
RESET = Fault(reset=True)


@dataclass
class Traffic:
    """What went through, bodies only: the store's heads are of no interest."""

    requests: int = 0
    sent: int = 0
    """Bytes to the store."""
    received: int = 0
    """Bytes from the store."""


@dataclass
class FaultyProxy:
    """`faults` are used up in their order, each by the requests that it is for; what is left to a request is `always`."""

    endpoint: str = ""
    faults: list[Fault] = field(default_factory=list)
    always: Fault = Fault()
    latency: float = 0
    """Seconds that every request waits before it is passed on."""
    connections: int = 0
    traffic: dict[str, Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    """By operation; `clear()` begins anew."""

    def total(self) -> Traffic:
        """Of all operations."""
        return total(self.traffic)

    def requests(self, operation: str) -> int:
        """So many of an operation."""
        return self.traffic[operation].requests

    def fault_of(self, operation: str) -> Fault:
        """What happens to the next request, which uses it up."""
        for n, fault in enumerate(self.faults):
            if fault.operation not in ("", operation):
                continue
            if fault.after:
                self.faults[n] = replace(fault, after=fault.after - 1)
            elif fault.times > 1:
                self.faults[n] = replace(fault, times=fault.times - 1)
                return fault
            else:
                return self.faults.pop(n)
        return self.always


def total(traffic: dict[str, Traffic]) -> Traffic:
    """The sum of all operations."""
    every = traffic.values()
    return Traffic(sum(t.requests for t in every), sum(t.sent for t in every), sum(t.received for t in every))


@asynccontextmanager
async def faulty(endpoint: str, *, latency: float = 0) -> AsyncGenerator[FaultyProxy]:
    """A proxy before the server at `endpoint`."""
    proxy = FaultyProxy(latency=latency)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        proxy.connections += 1
        line = _Line(proxy, endpoint, reader, writer)
        try:
            while await line.request():
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # cancelled only when the proxy ends
        finally:
            tasks.discard(task)
            line.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_BUFFER)
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


class _Cut(ConnectionError):
    """The fault's limit is reached."""


class _Writer:
    """Passes at most `limit` bytes on, then raises _Cut."""

    def __init__(self, writer: asyncio.StreamWriter, limit: int | None) -> None:
        self._writer, self._left = writer, limit

    async def write(self, data: bytes) -> int:
        passed = data if self._left is None else data[: self._left]
        self._writer.write(passed)
        await self._writer.drain()
        if self._left is not None:
            self._left -= len(passed)
            if not self._left:
                raise _Cut
        return len(passed)


class _Head:
    """First line and headers of a request or an answer."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        first, *lines = raw.decode("latin-1").split("\r\n")
        self.words = first.split(" ", 2)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}

    @property
    def ends_connection(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


class _Line:
    """One client's connection, and one to the server."""

    def __init__(self, proxy: FaultyProxy, endpoint: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy, self._target = proxy, urlsplit(endpoint)
        self._reader, self._writer = reader, writer
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self) -> bool:
        """Pass on one request and its answer. Whether another may follow."""
        head = _Head(await self._reader.readuntil(b"\r\n\r\n"))
        operation = operation_of(head.words[0], head.words[1], head.headers)
        fault, traffic = self._proxy.fault_of(operation), self._proxy.traffic[operation]
        traffic.requests += 1
        if seconds := self._proxy.latency + fault.delay:
            await asyncio.sleep(seconds)
        if fault.reply:
            await self._swallow(head, traffic)
            # The answer to a HEAD has no body.
            reply = b"".join(fault.reply.partition(b"\r\n\r\n")[:2]) if head.words[0] == "HEAD" else fault.reply
            await _Writer(self._writer, None).write(reply)
            return False
        if fault.reset and fault.answer_bytes is None:
            self._reset()
            return False
        up_reader, up_writer = await self._connected()
        sending = asyncio.create_task(self._send(head, up_writer, fault.request_bytes, traffic))
        try:
            again = await self._answer(head, up_reader, fault.answer_bytes, traffic)
            again = again and not head.ends_connection and fault.request_bytes is None
            await asyncio.wait([sending], timeout=_SENT_SECONDS)
            if not sending.done():
                # Answered before the body was there, as a refusal is: the rest of it is not the next request.
                await self._drain_client(sending)
                return False
            return again
        except _Cut:
            if fault.reset:
                self._reset()
            return False
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _send(self, head: _Head, server: asyncio.StreamWriter, limit: int | None, traffic: Traffic) -> None:
        writer = _Writer(server, limit)
        try:
            await writer.write(head.raw)
            async for data in _body(self._reader, head):
                traffic.sent += await writer.write(data)
        except _Cut:
            server.write_eof()
            while await self._reader.read(_BUFFER):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            server.close()  # the client is gone, or the server, whose answer may still be read

    async def _answer(self, request: _Head, server: asyncio.StreamReader, limit: int | None, traffic: Traffic) -> bool:
        while (head := _Head(await server.readuntil(b"\r\n\r\n"))).words[1].startswith("1"):
            await _Writer(self._writer, None).write(head.raw)  # 100 Continue
        if limit == 0:
            raise _Cut
        writer = _Writer(self._writer, limit)
        await writer.write(head.raw)
        if request.words[0] != "HEAD" and head.words[1] not in ("204", "304"):
            async for data in _body(server, head, answer=True):
                traffic.received += len(data)
                await writer.write(data)
        return not head.ends_connection and ("content-length" in head.headers or "transfer-encoding" in head.headers)

    async def _swallow(self, head: _Head, traffic: Traffic) -> None:
        if head.headers.get("expect", "").lower() == "100-continue":
            return  # the client has not begun, and will not
        async for data in _body(self._reader, head):
            traffic.sent += len(data)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._server is None or self._server[0].at_eof() or self._server[1].is_closing():
            if self._server is not None:
                self._server[1].close()
            self._server = await asyncio.open_connection(self._target.hostname, self._target.port, limit=_BUFFER)
        return self._server

    async def _drain_client(self, sending: asyncio.Task[None]) -> None:
        sending.cancel()
        await asyncio.wait([sending])
        self._writer.write_eof()
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._reader.read(_BUFFER):
                    pass
        except TimeoutError:
            return

    def _reset(self) -> None:
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()
        if self._server is not None:
            self._server[1].close()


async def _body(reader: asyncio.StreamReader, head: _Head, *, answer: bool = False) -> AsyncIterator[bytes]:
    """The bytes of a body as they come, with the frames of a chunked one."""
    if head.headers.get("transfer-encoding", "").lower() == "chunked":
        while True:
            line = await reader.readuntil(b"\r\n")
            yield line
            size = int(line.partition(b";")[0], 16)
            if not size:
                break
            async for data in _exactly(reader, size + 2):
                yield data
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            yield line
        yield line
    elif "content-length" in head.headers:
        async for data in _exactly(reader, int(head.headers["content-length"])):
            yield data
    elif answer:
        while data := await reader.read(_BUFFER):
            yield data


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size:
        data = await reader.read(min(size, _BUFFER))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(data)
        yield data


class ProxyProcess:
    """A proxy without faults in a process of its own."""

    def __init__(self, endpoint: str, pipe: tuple[IO[str], IO[str]]) -> None:
        self.endpoint = endpoint
        self._ask, self._answer = pipe

    def traffic(self) -> dict[str, Traffic]:
        """What went through since it was last asked, by operation."""
        self._ask.write("traffic\n")
        self._ask.flush()
        return {operation: Traffic(**counted) for operation, counted in json.loads(self._answer.readline()).items()}


@contextmanager
def proxied(endpoint: str, *, latency: float = 0) -> Generator[ProxyProcess]:
    """A proxy before the server at `endpoint`, of which every request waits `latency` seconds."""
    command = [sys.executable, "-m", "tests.servers.faulty", endpoint, str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield ProxyProcess(process.stdout.readline().strip(), (process.stdin, process.stdout))
        finally:
            process.stdin.close()
            process.wait(10)


async def _main(endpoint: str, latency: float) -> None:
    async with faulty(endpoint, latency=latency) as proxy:
        print(proxy.endpoint, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps({operation: asdict(counted) for operation, counted in proxy.traffic.items()}), flush=True)
            proxy.traffic.clear()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2])))
