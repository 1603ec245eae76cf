"""Job statuses as they are answered."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from schemas.events import TERMINAL, JobStatus, Output
from services.gateway.uploads.archives import saved_as
from services.gateway.views.fleet import Fleet
from services.gateway.views.projection import job_view
from services.gateway.views.queue import explain
from services.gateway.views.ready import Kept, Ready, ReadyCache
from services.gateway.views.store import StoredJob, View
from services.gateway.views.urls import OutputUrls

_decode = msgspec.json.Decoder(JobStatus).decode
ARCHIVE = "archive"
"""Role of an output that is to be saved and not to be shown."""
_ORIGINS = 8
"""Addresses of the gateway for which an answer is kept; clients may send any Host."""
_WORDS_SECONDS = 1.0
"""How old the words about waiting may be."""


class Known(msgspec.Struct):
    """A job's row, decoded."""

    status: JobStatus
    recorded_ms: int
    waiting: str


class Statuses:
    """Ready answers by job."""

    def __init__(self, view: View, fleet: Fleet, urls: OutputUrls, *, life: float, clock: Callable[[], float]) -> None:
        self._view = view
        self._fleet = fleet
        self._urls = urls
        self._clock = clock
        self._said: dict[str, str] = {}
        self._said_until = 0.0
        self.cache: ReadyCache[Known] = ReadyCache(self._load, life=life, clock=clock)

    def known(self, job_id: str) -> Known | None:
        """The job's record, decoded; not to be changed."""
        kept = self.cache.get(job_id)
        return None if kept is None else kept.item

    def answer(self, job_id: str, origin: Callable[[], str]) -> Ready | None:
        """The answer to a poll; None for an unknown job."""
        kept = self.cache.get(job_id)
        return None if kept is None else self.of_kept(job_id, kept, origin())

    def of_kept(self, job_id: str, kept: Kept[Known], origin: str) -> Ready:
        """The same for a job that is in memory."""
        if kept.item.waiting and (said := self._words(job_id)) != kept.waiting_for:
            kept.waiting_for = said
            kept.everywhere = None
            kept.origins.clear()
        return kept.everywhere or self._for_origin(kept, origin)

    def changed_words(self, names: list[str]) -> list[str]:
        """Which of these waiting jobs would now be answered otherwise."""
        changed: list[str] = []
        for name in names:
            kept = self.cache.get(name)
            if kept is not None and kept.item.waiting and self._words(name) != kept.waiting_for:
                changed.append(name)
        return changed

    def _for_origin(self, kept: Kept[Known], origin: str) -> Ready:
        ready = kept.origins.get(origin)
        if ready is None:
            status = kept.item.status
            relative = False

            def sign(output: Output) -> str:
                nonlocal relative
                filename = saved_as(status.title, output.key) if output.role == ARCHIVE else ""
                url = self._urls.of(output, filename=filename)
                relative = relative or url.startswith("/")
                return origin + url if url.startswith("/") else url

            view = job_view(status, recorded_ms=kept.item.recorded_ms, sign=sign, waiting_for=kept.waiting_for)
            ready = Ready(msgspec.json.encode(view), terminal=status.state in TERMINAL)
            if not relative:
                kept.everywhere = ready
            elif len(kept.origins) < _ORIGINS:
                kept.origins[origin] = ready
        return ready

    def _words(self, job_id: str) -> str | None:
        now = self._clock()
        if now >= self._said_until:
            self._said = explain(self._view.waiting(), self._fleet.capacities())
            self._said_until = now + _WORDS_SECONDS
        return self._said.get(job_id)

    def _load(self, job_id: str) -> Known | None:
        row = self._view.job(job_id)
        return None if row is None else known(row)


def known(row: StoredJob) -> Known:
    """A row, decoded."""
    return Known(_decode(row.record), row.recorded_ms, row.waiting)
