"""Which URLs callbacks may go to, as far as a URL alone can tell. Pure.

The gateway asks before it accepts a request, so that whoever sends it hears at once; the notifier asks again, and also
checks the address that the host's name stands for, before it connects.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from services.runtime.settings import Settings

MAX_URL = 2048


class CallbackRefused(ValueError):
    """A URL to which no callback is sent; the message says why, and what is accepted."""


def check(url: str, settings: Settings) -> None:
    """Raises CallbackRefused unless callbacks may go to this URL."""
    parts = _split(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else url[:80]
    host = (parts.hostname or "").rstrip(".")
    try:
        port = parts.port
    except ValueError:
        raise CallbackRefused(f"the callback URL {shown} has no usable port; accepted is 1 to 65535") from None
    schemes = ("https", "http") if settings.callback_allow_private else ("https",)
    if parts.scheme not in schemes:
        more = "" if settings.callback_allow_private else " (http only with REELWORKS_CALLBACK_ALLOW_PRIVATE)"
        raise CallbackRefused(f"callbacks go to {' and '.join(schemes)} URLs only{more}; this one is {shown!r}")
    if not host:
        raise CallbackRefused(f"the callback URL {shown!r} names no host")
    if "@" in parts.netloc:
        raise CallbackRefused(
            "a callback URL must not hold a user name or password; callbacks are signed instead (REELWORKS_WEBHOOK_SECRET)"
        )
    if parts.fragment:
        raise CallbackRefused("a callback URL has no fragment (#…): it would not be sent")
    if port == 0:
        raise CallbackRefused(f"the callback URL {shown} has no usable port; accepted is 1 to 65535")
    port = port or (443 if parts.scheme == "https" else 80)
    if not any(_matches(entry, host, port) for entry in settings.callback_allow):
        listed = ", ".join(settings.callback_allow) or "it is empty"
        raise CallbackRefused(f"callbacks to {host}:{port} are not allowed; REELWORKS_CALLBACK_ALLOW lists the hosts that are ({listed})")
    if not settings.callback_allow_private and _is_private(host):
        raise CallbackRefused(f"callbacks to the private address {host} are not allowed (REELWORKS_CALLBACK_ALLOW_PRIVATE)")


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL:
        raise CallbackRefused(f"a callback URL has at most {MAX_URL} characters; this one has {len(url)}")
    if any(c <= " " or c == "\x7f" or c == "\\" for c in url):
        raise CallbackRefused("a callback URL holds no spaces, control characters or backslashes")
    try:
        return urlsplit(url)
    except ValueError as wrong:
        raise CallbackRefused(f"the callback URL cannot be read: {wrong}") from None


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of the allow-list covers a host: `host`, `*.domain` (its subdomains), either with `:port`."""
    pattern, fixed = entry.strip().lower(), ""
    if pattern.startswith("["):  # an IPv6 address
        pattern, _, rest = pattern[1:].partition("]")
        fixed = rest.removeprefix(":")
    elif pattern.count(":") == 1:
        pattern, _, fixed = pattern.partition(":")
    if fixed and fixed != str(port):
        return False
    host = host.lower()
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return bool(pattern) and host == pattern.rstrip(".")


def _is_private(host: str) -> bool:
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False
