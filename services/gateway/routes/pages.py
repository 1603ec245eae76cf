"""The library, the watch page and the folders, and the files that they need."""

from __future__ import annotations

import gzip
import hashlib
import importlib.resources
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import jinja2
import msgspec
from aiohttp import web

from services.gateway.body import cursor, cursor_after, whole_number
from services.gateway.context import GATEWAY, Gateway
from services.gateway.folders.listing import shown_folders
from services.gateway.problems import Problem
from services.gateway.routes.folders import titles_of
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
_WORTH_ZIPPING = 1024
"""Bytes. What is smaller fits in one packet as it is."""


class File(NamedTuple):
    """A file as it is served."""

    body: bytes
    zipped: bytes | None
    """The same by gzip; None where that gains little."""
    content_type: str


class Files:
    """Style sheet, scripts, icon, and the scripts of others in `vendor/`: from memory, under names that change with their content."""

    def __init__(self) -> None:
        self._served: dict[str, File] = {}
        self._paths: dict[str, str] = {}
        folder = importlib.resources.files(_PACKAGE).joinpath("static")
        for name, file in [*_files_of(folder), *_files_of(folder.joinpath("vendor"), "vendor/")]:
            data = file.read_bytes()
            stem, _, ending = name.rpartition(".")
            address = f"{stem}.{hashlib.sha256(data).hexdigest()[:12]}.{ending}"
            self._served[address] = _served(name, data)
            self._paths[name] = f"/static/{address}"

    def path(self, name: str) -> str:
        """Where a file is served."""
        return self._paths[name]

    async def get(self, request: web.Request) -> web.Response:
        found = self._served.get(request.match_info["name"])
        if found is None:
            raise Problem(404, "no-such-file", "there is no such file", value=request.match_info["name"])
        headers = {"Content-Type": found.content_type, "Cache-Control": _FOR_EVER, "X-Content-Type-Options": "nosniff"}
        body = found.body
        if found.zipped is not None:
            headers["Vary"] = "Accept-Encoding"
            if "gzip" in request.headers.get("Accept-Encoding", ""):
                headers["Content-Encoding"], body = "gzip", found.zipped
        return web.Response(body=body, headers=headers)


def _files_of(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """Files that are for browsers: not the manifest of the vendored ones."""
    for file in folder.iterdir():
        if file.is_file() and file.name.endswith((".js", ".css", ".svg", ".txt")):
            yield prefix + file.name, file


def _served(name: str, data: bytes) -> File:
    kind = content_type_of(name)
    text = kind.startswith("text/") or name.endswith(".js")
    # mtime: the same bytes from every gateway.
    zipped = gzip.compress(data, mtime=0) if text and len(data) > _WORTH_ZIPPING else None
    return File(data, zipped, f"{kind}; charset=utf-8" if text else kind)


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
            "Content-Security-Policy": policy(settings, player_styles()),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "same-origin",
        }

    def answer(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A page."""
        text = self._environment.get_template(template).render(**values)
        return web.Response(status=status, body=text.encode(), headers=self._headers)


def policy(settings: Settings, styles: Sequence[str] = ()) -> str:
    """Content-Security-Policy: our own files, and media from where signed URLs point to.

    `styles`: hashes of style elements that are allowed, too.
    """
    hosts = {"'self'"} | {f"{u.scheme}://{u.netloc}" for u in map(urlsplit, _media_hosts(settings)) if u.netloc}
    sources = " ".join(sorted(hosts))
    # media-chrome writes a <style> into the shadow root of each of its elements. They are known, so their hashes are allowed instead
    # of 'unsafe-inline'. hls.js fetches segments, which may be redirected to the store, hands them to the video through a blob: URL, and is
    # told to do without its worker, which would need worker-src blob:.
    style = " ".join(["'self'", *(f"'{digest}'" for digest in styles)])
    return (
        f"default-src 'none'; script-src 'self'; style-src {style}; connect-src {sources}; img-src {sources}; media-src {sources} blob:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


class _Manifest(msgspec.Struct):
    """Of the vendored files; written by services/gateway/vendor."""

    styles: tuple[str, ...]


def player_styles() -> tuple[str, ...]:
    """CSP hashes of the styles that media-chrome brings along."""
    manifest = importlib.resources.files(_PACKAGE).joinpath("static", "vendor", "manifest.json")
    return msgspec.json.decode(manifest.read_bytes(), type=_Manifest).styles


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
        web.get("/folders", folders),
        web.get("/folders/{folder}", folder),
        web.get("/static/{name:.+}", files.get),
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


async def folders(request: web.Request) -> web.Response:
    """The folders of the bucket."""
    names = await shown_folders(request.app[GATEWAY].storage.bucket())
    return request.app[PAGES].answer("folders.html", folders=names)


async def folder(request: web.Request) -> web.Response:
    """The films in one."""
    name = request.match_info["folder"]
    try:
        # Without an origin: this page's own server has them, whatever its public address.
        titles = await titles_of(request.app[GATEWAY], name, "")
    except Problem as wrong:
        words = "It may be empty now, or have another name."
        return request.app[PAGES].answer("problem.html", status=wrong.status, heading="There is no such folder", words=words)
    return request.app[PAGES].answer("folder.html", folder=name, titles=titles)


async def favicon(request: web.Request) -> web.Response:
    """Browsers ask for it whatever the page says."""
    return web.Response(status=204, headers={"Cache-Control": _FOR_EVER})
