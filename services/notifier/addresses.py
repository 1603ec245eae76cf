"""Which network addresses a callback may go to. Pure.

A callback's URL comes from outside. Without this check it would be a way to make us ask servers that only we can reach
(server-side request forgery), such as a cloud's metadata service.
"""

from __future__ import annotations

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA: Final = frozenset(
    {
        ipaddress.ip_address("169.254.169.254"),  # AWS, Azure, Google, OCI
        ipaddress.ip_address("fd00:ec2::254"),  # AWS, IPv6
        ipaddress.ip_address("100.100.100.200"),  # Alibaba
        ipaddress.ip_address("192.0.0.192"),  # OCI, older
    }
)
"""Metadata services of clouds, which hand out credentials. Never allowed."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052 §2.1."""


def reason_against(address: str, *, allow_private: bool) -> str:
    """Why a callback must not go to this address, or "". Link-local and metadata addresses are refused in any case."""
    parsed = embedded(ipaddress.ip_address(address.partition("%")[0]))
    if parsed in METADATA:
        return "the metadata service of a cloud"
    if parsed.is_link_local:
        return "a link-local address"
    if parsed.is_multicast:
        return "a multicast address"
    if parsed.is_unspecified:
        return "the unspecified address"
    if parsed.is_loopback:
        return "" if allow_private else "a loopback address"
    if not parsed.is_global:
        return "" if allow_private else "a private or reserved address"
    return ""


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for: mapped (::ffff:a.b.c.d), NAT64, 6to4, Teredo; else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return address
