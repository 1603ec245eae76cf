"""What every handler stands on."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import Any

import msgspec
from aiohttp import web

from schemas.events import AssetChanged, JobStatus
from services.gateway.auth.playback import ANYBODY, PlaybackTokens, keys_of
from services.gateway.counters import Counters
from services.gateway.delivery import answers
from services.gateway.delivery.announcements import Announcements
from services.gateway.delivery.playlists import Playlists
from services.gateway.views.catalogue import Catalogue
from services.gateway.views.fleet import Fleet
from services.gateway.views.fold import Folded, add_accepted, add_asset
from services.gateway.views.follower import Follower
from services.gateway.views.statuses import Statuses
from services.gateway.views.store import View
from services.gateway.views.urls import OutputUrls
from services.gateway.views.watchers import Watchers
from services.runtime.kafka.producer import EventProducer
from services.runtime.settings import Settings
from services.runtime.storage.base import Storage
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
DELIVERY_SECONDS = 8.0
"""Clients wait for the acknowledgement: a broker that is there answers in milliseconds, a machine that is out of breath takes some
seconds, and a 503 should still come before a client gives up."""

PLAYLIST_LIMIT = 16 * 1024**2
"""Bytes: a week of film in segments of four seconds has 6 MB."""


class Gateway:
    """The parts of one gateway, and how a change in the log reaches those who wait for it."""

    def __init__(self, settings: Settings, storage: Storage, view: View, producer: EventProducer, signing_key: bytes) -> None:
        self.settings = settings
        self.storage = storage
        self.view = view
        self.producer = producer
        self.signing_key = signing_key
        self.counters = Counters()
        self.watchers = Watchers()
        self.fleet = Fleet(settings)
        urls = OutputUrls(storage, life_seconds=settings.signed_url_seconds)
        # URLs live at least a quarter of their time when they are made; an answer is made anew after an eighth.
        life = settings.signed_url_seconds / 8
        self.statuses = Statuses(view, self.fleet, urls, life=life, clock=time.monotonic)
        self.tokens = PlaybackTokens(keys_of(settings, signing_key), life_seconds=settings.playback_seconds)
        self.catalogue = Catalogue(
            view,
            urls,
            token=lambda asset_id: self.tokens.issue(asset_id, ANYBODY, time.time()).text,
            life=min(life, settings.playback_seconds / 8),
            clock=time.monotonic,
        )
        self.playlists = Playlists(self._read_playlist, whole=self.catalogue.is_whole, answer=answers.ready, counters=self.counters)
        self.variants = answers.Variants()
        # The URLs of a folder's objects are the gateway's own: a redirect would be one request more.
        folder = settings.storage_url.startswith("file:")
        self.redirects_segments = settings.hls_delivery == "redirect" or (settings.hls_delivery == "auto" and not folder)
        self.caught_up = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._noted, self._noting = Folded(), asyncio.Lock()
        self._note: asyncio.Task[None] | None = None
        self.announcements = Announcements(
            settings,
            on_change=lambda changes: self._call(self.playlists.announced, changes),
            on_hearing=lambda hearing: self._call(self.playlists.hearing, hearing),
        )
        self.follower = Follower(settings, view, on_change=self._from_follower, on_caught_up=self._level, on_behind=self._behind)

    def origin(self, request: web.Request) -> str:
        """Where the client reaches the gateway: the setting, or what the request says."""
        return self.settings.public_url.rstrip("/") or f"{request.scheme}://{request.host}"

    async def remember(self, *, job: JobStatus | None = None, asset: AssetChanged | None = None) -> None:
        """Show at once what the broker has just acknowledged, as the log will show it in a moment."""
        if job is not None:
            add_accepted(self._noted, job, job.created_ms)
        if asset is not None:
            add_asset(self._noted, asset, msgspec.json.encode(asset))
        if self._note is None:
            self._note = asyncio.create_task(self._write_down())
        await asyncio.shield(self._note)

    async def _write_down(self) -> None:
        async with self._noting:
            # What comes while this is written is written together, by the next.
            folded, self._noted, self._note = self._noted, Folded(), None
            try:
                await asyncio.to_thread(self.view.write, folded)
            except sqlite3.Error as wrong:  # the broker has it, and the follower will read it when the view can be written
                log.warning("what was accepted cannot be shown yet", reason=str(wrong))
        self._changed(folded.changed_jobs(), folded.changed_assets(), folded.changed_streams())

    async def _read_playlist(self, key: str) -> bytes:
        return await self.storage.bucket().read(key, limit=PLAYLIST_LIMIT)

    async def tick(self) -> None:
        """Tell those who watch waiting jobs when the line moves. Ends with its task."""
        while True:
            await asyncio.sleep(1.0)
            if names := self.watchers.names():
                self.watchers.notify(self.statuses.changed_words(names))

    def _from_follower(self, folded: Folded) -> None:
        jobs, assets = folded.changed_jobs(), folded.changed_assets()
        if jobs or assets:
            self._call(self._changed, jobs, assets, folded.changed_streams())

    @property
    def current(self) -> bool:
        """Whether what the view does not know is not there."""
        return self.caught_up.is_set() and not self.view.filling and not self.follower.trouble

    def _behind(self) -> None:
        self._call(self.caught_up.clear)

    def _level(self) -> None:
        self._call(self._now_level)

    def _now_level(self) -> None:
        # The view may have been emptied and filled under answers that were kept.
        self.statuses.cache.clear()
        self.catalogue.cache.clear()
        self.playlists.clear()
        self.caught_up.set()

    def _changed(self, jobs: set[str], assets: set[str], streams: set[str]) -> None:
        self.statuses.cache.forget(jobs)
        self.catalogue.cache.forget(assets)
        self.playlists.forget(streams)
        self.watchers.notify(jobs)
        self.watchers.notify(assets)

    def _call(self, function: Any, *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return  # the loop has ended; so does the gateway


GATEWAY: web.AppKey[Gateway] = web.AppKey("gateway", Gateway)
