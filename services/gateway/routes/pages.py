"""The library and the watch page, and the files that they need."""

from __future__ import annotations

import hashlib
import importlib.resources
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import jinja2
from aiohttp import web

from services.gateway.body import cursor, cursor_after, whole_number
from services.gateway.context import GATEWAY, Gateway
from services.gateway.problems import Problem
from services.runtime.settings import Settings
from services.runtime.storage.keys import content_type_of

STATES = {
    "queued": "Waiting to start",
    "planning": "Looking at the film",
    "running": "Converting",
    "finishing": "Finishing",
    "succeeded": "Ready",
    "failed": "This film could not be converted",
    "cancelled": "Cancelled",
}
WORKING = ("queued", "planning", "running", "finishing")
PAGE = 24
# A fingerprint is part of the name: another content has another address.
_FOR_EVER = "public, max-age=31536000, immutable"
_PACKAGE = "services.gateway"


class Files:
    """Style sheet, scripts and icon, from memory, under names that change with their content."""

    def __init__(self) -> None:
        self._served: dict[str, tuple[bytes, str]] = {}
        self._paths: dict[str, str] = {}
        for file in importlib.resources.files(_PACKAGE).joinpath("static").iterdir():
            if file.name.startswith(".") or not file.is_file():
                continue
            data = file.read_bytes()
            stem, _, ending = file.name.rpartition(".")
            name = f"{stem}.{hashlib.sha256(data).hexdigest()[:12]}.{ending}"
            kind = content_type_of(file.name)
            self._served[name] = (data, f"{kind}; charset=utf-8" if kind.startswith("text/") or ending == "js" else kind)
            self._paths[file.name] = f"/static/{name}"

    def path(self, name: str) -> str:
        """Where a file is served."""
        return self._paths[name]

    async def get(self, request: web.Request) -> web.Response:
        found = self._served.get(request.match_info["name"])
        if found is None:
            raise Problem(404, "no-such-file", "there is no such file", value=request.match_info["name"])
        return web.Response(
            body=found[0], headers={"Content-Type": found[1], "Cache-Control": _FOR_EVER, "X-Content-Type-Options": "nosniff"}
        )


class Pages:
    """Renders."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader(_PACKAGE, "pages"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        shared: dict[str, Any] = {"static": files.path, "states": STATES, "working": WORKING}
        self._environment.globals.update(shared)
        self._environment.filters.update(day=day, clock=clock, bytes=human_bytes)
        self._headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy(settings),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "same-origin",
        }

    def answer(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A page."""
        text = self._environment.get_template(template).render(**values)
        return web.Response(status=status, body=text.encode(), headers=self._headers)


def policy(settings: Settings) -> str:
    """Content-Security-Policy: our own files, and media from where signed URLs point to."""
    media = {"'self'"} | {f"{u.scheme}://{u.netloc}" for u in map(urlsplit, _media_hosts(settings)) if u.netloc}
    sources = " ".join(sorted(media))
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src {sources}; media-src {sources}; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def _media_hosts(settings: Settings) -> list[str]:
    hosts = [settings.public_url]
    if settings.storage_url.startswith("s3://"):
        hosts.append(settings.s3_public_endpoint or settings.s3_endpoint or f"https://*.s3.{settings.s3_region}.amazonaws.com")
        hosts.append("" if settings.s3_endpoint else "https://*.amazonaws.com")
    return hosts


def day(time: str) -> str:
    """`21 November 2026`."""
    at = datetime.fromisoformat(time)
    return f"{at.day} {at:%B %Y}"


def clock(seconds: float) -> str:
    """`1:02:03`, `0:42`."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def human_bytes(size: float) -> str:
    """`812 B`, `3.4 MB`, `17 GB`: decimal units, as file managers show them."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "B" and size < 10 else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


PAGES: web.AppKey[Pages] = web.AppKey("pages", Pages)


def routes(files: Files) -> list[web.RouteDef]:
    return [
        web.get("/", library),
        web.get("/watch/{asset_id}", watch),
        web.get("/static/{name}", files.get),
        web.get("/favicon.ico", favicon),
    ]


async def library(request: web.Request) -> web.Response:
    """The grid of films."""
    gateway = request.app[GATEWAY]
    before, limit = cursor(request), whole_number(request, "limit", default=PAGE, least=1, most=200)
    rows = gateway.catalogue.page(before=before, limit=limit + 1)
    origin = gateway.origin(request)
    films = [(row, gateway.catalogue.film(row.asset_id)) for row in rows[:limit]]
    return request.app[PAGES].answer(
        "library.html",
        assets=[gateway.catalogue.show(film, origin) for _, film in films if film is not None],
        next_cursor=cursor_after(rows[limit - 1].created_ms, rows[limit - 1].asset_id) if len(rows) > limit else "",
        older=before is not None,
        origin=origin,
    )


async def watch(request: web.Request) -> web.Response:
    """One film."""
    gateway: Gateway = request.app[GATEWAY]
    film = gateway.catalogue.film(request.match_info["asset_id"])
    if film is None:
        return request.app[PAGES].answer("problem.html", status=404, heading="There is no such film", words="It may have been deleted.")
    return request.app[PAGES].answer("watch.html", asset=gateway.catalogue.show(film, gateway.origin(request)))


async def favicon(request: web.Request) -> web.Response:
    """Browsers ask for it whatever the page says."""
    return web.Response(status=204, headers={"Cache-Control": _FOR_EVER})
