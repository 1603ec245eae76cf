"""A port that a server comes back to is nobody else's meanwhile."""

from __future__ import annotations

import socket
import sys

import pytest

from services.runtime.children import ReservedPort

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a bound port cannot be listened on by another")


@linux
def test_a_reserved_port_is_refused_to_others_and_a_server_may_listen_on_it() -> None:
    held = ReservedPort()
    with socket.socket() as stranger:
        with pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", held.number))
    for _ in range(2):
        with socket.socket() as server, socket.socket() as client:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", held.number))
            server.listen()
            client.connect(("127.0.0.1", held.number))
    held.close()


@linux
def test_nobody_listens_on_a_port_that_is_only_reserved() -> None:
    held = ReservedPort()
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", held.number))
    held.close()


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(OSError, match="in use"):
            ReservedPort(server.getsockname()[1])
