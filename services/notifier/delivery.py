"""One HTTP POST to a server that is not ours: the name is resolved once, the address is checked, and that address is the
one that is connected to. A name that answers something else at the second look (DNS rebinding) changes nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from services.notifier.addresses import reason_against
from services.runtime.jobs.failures import Permanent, Transient

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""Addresses of a host. Raises OSError."""

CONNECT_SECONDS: Final = 5.0
DEFAULT_PORTS: Final = {"https": 443, "http": 80}


async def lookup(host: str, port: int) -> list[str]:
    """By the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def checked_addresses(host: str, port: int, *, allow_private: bool, look_up: Lookup = lookup) -> list[str]:
    """The addresses of a host, all of them allowed.

    Raises Permanent when one is not, Transient when the name cannot be resolved now.
    """
    try:
        addresses = await look_up(host, port)
    except (OSError, UnicodeError) as wrong:
        raise Transient("callback-unresolved", f"the callback's host {host!r} cannot be resolved: {wrong}") from None
    if not addresses:
        raise Transient("callback-unresolved", f"the callback's host {host!r} has no address")
    for address in addresses:
        if reason := reason_against(address, allow_private=allow_private):
            raise Permanent(
                "callback-address-refused",
                f"the callback was not sent: {host!r} is at {address}, {reason}",
                "For a receiver in your own network set REELWORKS_CALLBACK_ALLOW_PRIVATE=true."
                if not allow_private
                else "Callbacks never go to link-local or metadata addresses.",
            )
    return addresses


class Pinned(AbstractResolver):
    """Answers the addresses that were checked, whatever is asked."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None: ...


async def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout: float,
    allow_private: bool,
    look_up: Lookup = lookup,
    tls: ssl.SSLContext | None = None,
) -> int:
    """POST and answer the status. Follows no redirect, uses no proxy, reads no body.

    Raises Permanent for a refused address, Transient for everything that may pass: network, TLS, time.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 443)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    try:
        async with asyncio.timeout(timeout):
            addresses = await checked_addresses(host, port, allow_private=allow_private, look_up=look_up)
            connector = aiohttp.TCPConnector(resolver=Pinned(addresses), use_dns_cache=False, force_close=True)
            limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
            options: dict[str, Any] = {} if tls is None else {"ssl": tls}
            async with aiohttp.ClientSession(
                connector=connector, timeout=limits, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session:
                async with session.post(url, data=body, headers=dict(headers), allow_redirects=False, **options) as answer:
                    return answer.status
    except TimeoutError:
        raise Transient("callback-timeout", f"{shown} did not answer within {timeout:g} s") from None
    except aiohttp.InvalidURL:
        raise Permanent("callback-url", f"{shown!r} is no URL that can be called") from None
    except (aiohttp.ClientError, OSError) as wrong:
        raise Transient("callback-network", f"{shown} could not be reached: {wrong or type(wrong).__name__}") from None
