"""The API token, until sign-in exists: a bearer header, or a cookie that a page sets from `?token=` once."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from urllib.parse import urlsplit

from aiohttp import web

from services.gateway.problems import Problem
from services.runtime.settings import Settings, SettingsError

COOKIE = "reelworks_session"
_COOKIE_SECONDS = 12 * 3600
_OPEN_EXACT = frozenset({"/healthz", "/readyz", "/favicon.ico"})
"""Probes send no token."""
_OPEN_PREFIXES = ("/static/", "/v1/media/")
"""Style sheets are no secret; signed URLs prove themselves."""
_STREAM = re.compile(r"/v1/(assets/[^/]+/hls|folders/[^/]+/[^/]+\.hls)/")
"""Needs a playback token, and nothing else (`playback.py`)."""
_ARCHIVES = "/v1/archives"
"""With a signature it is a link, which proves itself (`archives/links.py`)."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def check_binding(settings: Settings) -> None:
    """Raises SettingsError when the gateway would be open to the network without a token."""
    if not settings.api_token and not is_loopback(settings.host):
        raise SettingsError(
            f"REELWORKS_HOST={settings.host!r} can be reached from other machines, and REELWORKS_API_TOKEN is not set: "
            "set a token that clients must send, or bind to 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def bearer(request: web.BaseRequest) -> str:
    """The token that a request shows in Authorization (RFC 6750 §2.1; RFC 9110 §11.1: the scheme in any case); "" without one."""
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    return shown.strip() if scheme.lower() == "bearer" else ""


def is_same(shown: str, secret: bytes) -> bool:
    """Compares in a time that tells nothing of the secret, nor of its length."""
    return hmac.compare_digest(hashlib.sha256(shown.encode("utf-8", "replace")).digest(), hashlib.sha256(secret).digest())


class Door:
    """Lets requests in, or answers them itself."""

    def __init__(self, settings: Settings) -> None:
        self._token = settings.api_token.encode()
        # The cookie is not the token: who reads a cookie cannot use the API elsewhere with it.
        self._cookie = hmac.new(self._token, b"reelworks cookie", hashlib.sha256).hexdigest()
        self._open = _OPEN_EXACT | ({"/videos"} if settings.callback_allow else frozenset[str]())
        """Old clients of /videos send no Authorization. It is there only for those who named callback hosts."""
        self._has_zip_secret = bool(settings.zip_secret)
        self._public_host = urlsplit(settings.public_url).netloc

    def check(self, request: web.Request) -> web.StreamResponse | None:
        """None to go on. Raises Problem 401 or 403; answers a redirect that sets the cookie for `?token=`."""
        if request.method not in _SAFE:
            self._same_origin(request)
        path = request.path
        # The raw path, as it is routed: an encoded slash in an asset's id makes no stream of it.
        if self.is_open(request) or path in self._open or path.startswith(_OPEN_PREFIXES) or _STREAM.match(request.rel_url.raw_path):
            return None
        # The old wire of archives asks for a secret of its own (`routes/zip.py`); what is no POST is told so before it needs one.
        if self._has_zip_secret and (path == "/zip" or (path == "/" and request.method not in _SAFE)):
            return None
        if path == _ARCHIVES and request.method in _SAFE and "signature" in request.query:
            return None
        if "token" in request.query and request.method == "GET" and is_same(request.query["token"], self._token):
            return self._with_cookie(request)
        raise Problem(
            401,
            "unauthorized",
            "this gateway needs its API token",
            accepted="Authorization: Bearer <REELWORKS_API_TOKEN>; for pages, ?token=<REELWORKS_API_TOKEN> once",
            headers={"WWW-Authenticate": 'Bearer realm="reelworks"'},
        )

    def is_open(self, request: web.BaseRequest) -> bool:
        """Whether no token is needed, or the request shows it."""
        if not self._token:
            return True
        if (shown := bearer(request)) and is_same(shown, self._token):
            return True
        return is_same(request.cookies.get(COOKIE, ""), self._cookie.encode())

    def _with_cookie(self, request: web.Request) -> web.Response:
        clean = request.rel_url.without_query_params("token")
        answer = web.Response(status=303, headers={"Location": str(clean), "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
        answer.set_cookie(COOKIE, self._cookie, max_age=_COOKIE_SECONDS, httponly=True, samesite="Strict", secure=request.secure, path="/")
        return answer

    def _same_origin(self, request: web.Request) -> None:
        """A page of another site must not act for its visitor: browsers name the page's origin, other clients none."""
        origin = request.headers.get("Origin", "")
        if origin and urlsplit(origin).netloc not in (request.host, self._public_host):
            raise Problem(403, "foreign-origin", "pages of other sites may not change anything here", value=origin, accepted=request.host)
