"""What a producer says is written is there, whatever happens between it and the broker."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from schemas import topics
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.producer import BrokerUnavailable, EventProducer, Record
from services.runtime.kafka.reader import LogReader
from services.runtime.settings import Settings

pytestmark = pytest.mark.kafka
PRODUCE = 0
HOST = "127.0.0.1"
HOLD_SECONDS = 0.5


class Swallowing:
    """A proxy before a broker on loopback that can lose one request to write, let those behind it through, and then end the connection.

    As if the broker had refused the first and taken the second: it knows nothing of the producer yet, and takes any sequence number.
    """

    def __init__(self, broker_port: int) -> None:
        self.port = 0
        self.swallow = threading.Event()
        self.swallowed = threading.Event()
        self._broker_port = broker_port

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection(HOST, self._broker_port)

        def end() -> None:
            writer.close()
            broker_writer.close()

        async def requests() -> None:
            while True:
                request = await _read(reader)
                if request[:2] == struct.pack(">h", PRODUCE) and self.swallow.is_set():
                    self.swallow.clear()
                    self.swallowed.set()
                    asyncio.get_running_loop().call_later(HOLD_SECONDS, end)
                    continue
                broker_writer.write(struct.pack(">i", len(request)) + request)

        async def answers() -> None:
            # The broker says where it is to be found: here.
            there, here = (HOST.encode() + struct.pack(">i", port) for port in (self._broker_port, self.port))
            while True:
                answer = (await _read(broker_reader)).replace(there, here)
                writer.write(struct.pack(">i", len(answer)) + answer)

        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await asyncio.gather(requests(), answers())
        end()


async def _read(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


async def test_a_lost_request_is_not_taken_for_written_because_the_next_one_was(own_kafka: EmbeddedKafka) -> None:
    proxy = Swallowing(int(own_kafka.bootstrap_servers.rpartition(":")[2]))
    async with proxy.running():
        producer = EventProducer(Settings(bootstrap_servers=f"{HOST}:{proxy.port}"))
        try:
            await producer.publish(Record(topic=topics.REQUESTS, key=b"", value=b"a connection, and an id", partition=1))
            proxy.swallow.set()
            first = asyncio.create_task(producer.publish(Record(topic=topics.REQUESTS, key=b"", value=b"first", partition=0)))
            await asyncio.to_thread(proxy.swallowed.wait, 10)
            second = producer.publish(Record(topic=topics.REQUESTS, key=b"", value=b"second", partition=0))
            ends = await asyncio.gather(first, second, return_exceptions=True)
        finally:
            await asyncio.to_thread(producer.close)
    with closing(LogReader(Settings(bootstrap_servers=own_kafka.bootstrap_servers), [topics.REQUESTS])) as reader:
        written = [received.value for received in reader if received.partition == 0]
    said = [value for value, end in zip((b"first", b"second"), ends, strict=True) if not isinstance(end, BrokerUnavailable)]
    assert said == [b"first", b"second"], ends
    assert written == said
