"""What every handler stands on."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from aiohttp import web

from schemas.events import AssetChanged, JobStatus
from services.gateway.counters import Counters
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

DELIVERY_SECONDS = 4.0
"""Clients wait for the acknowledgement: a broker that is there answers in milliseconds, and a 503 should come soon."""


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
        self.catalogue = Catalogue(view, urls, life=life, clock=time.monotonic)
        self.caught_up = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.follower = Follower(settings, view, on_change=self._from_follower, on_caught_up=self._level)

    def origin(self, request: web.Request) -> str:
        """Where the client reaches the gateway: the setting, or what the request says."""
        return self.settings.public_url.rstrip("/") or f"{request.scheme}://{request.host}"

    async def remember(self, *, job: JobStatus | None = None, asset: AssetChanged | None = None) -> None:
        """Show at once what the broker has just acknowledged, as the log will show it in a moment."""
        folded = Folded()
        if job is not None:
            add_accepted(folded, job, job.created_ms)
        if asset is not None:
            add_asset(folded, asset, msgspec.json.encode(asset))
        await asyncio.to_thread(self.view.write, folded)
        self._changed(folded.changed_jobs(), folded.changed_assets())

    async def tick(self) -> None:
        """Tell those who watch waiting jobs when the line moves. Ends with its task."""
        while True:
            await asyncio.sleep(1.0)
            if names := self.watchers.names():
                self.watchers.notify(self.statuses.changed_words(names))

    def _from_follower(self, folded: Folded) -> None:
        jobs, assets = folded.changed_jobs(), folded.changed_assets()
        if jobs or assets:
            self._call(self._changed, jobs, assets)

    def _level(self) -> None:
        self._call(self._now_level)

    def _now_level(self) -> None:
        # The view may have been emptied and filled under answers that were kept.
        self.statuses.cache.clear()
        self.catalogue.cache.clear()
        self.caught_up.set()

    def _changed(self, jobs: set[str], assets: set[str]) -> None:
        self.statuses.cache.forget(jobs)
        self.catalogue.cache.forget(assets)
        self.watchers.notify(jobs)
        self.watchers.notify(assets)

    def _call(self, function: Any, *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return  # the loop has ended; so does the gateway


GATEWAY: web.AppKey[Gateway] = web.AppKey("gateway", Gateway)
