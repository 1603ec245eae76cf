"""The clients of a run: they ask by HTTP and by topic, come again when nobody answered, and note what was accepted."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from schemas import envelope
from schemas.events import (
    TERMINAL,
    CancelRequested,
    FollowUp,
    ObjectRef,
    Request,
    RetryRequested,
    StreamRequested,
    UploadReceived,
    ZipEntry,
    ZipRequested,
)
from services.runtime.kafka.producer import BrokerUnavailable, EventProducer, Record, record
from tests.chaos import sources
from tests.chaos.schedule import Order, Schedule
from tests.chaos.sources import Sources
from tests.chaos.world import ZIP_SECRET, World

SOURCE: Final = "chaos"
ATTEMPT_SECONDS: Final = 40.0
PATIENCE_SECONDS: Final = 240.0
"""After which a client gives up. By then everything has long been healed."""
PASSING: Final = frozenset({429, 502, 503, 504, 507})
"""Answers after which a client comes again: too many, store or broker away, disk full."""
POLL_SECONDS: Final = 0.3
RETRY_SECONDS: Final = 120.0
RETRIES: Final = 10
TARGETS: Final = 12
"""Archives of other orders with this in common have the same target, and replace each other."""


@dataclass
class Placed:
    """An order that was accepted."""

    order: Order
    job_id: str
    at: float
    expected: str
    """`succeeded` or `failed`, unless it is cancelled."""
    entries: dict[str, str] = field(default_factory=dict)
    """Of an archive: name to key of the source."""
    cancelled: bool = False
    retried: bool = False


@dataclass
class Ledger:
    """What clients saw. `oddities` are answers that nobody should get."""

    placed: dict[int, Placed] = field(default_factory=dict)
    poison: list[Record] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    oddities: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    polls: int = 0
    watched: Counter[int] = field(default_factory=Counter)

    @property
    def jobs(self) -> dict[str, Placed]:
        return {placed.job_id: placed for placed in self.placed.values()}


class Clients:
    """Everybody who asks. Use as `async with`."""

    def __init__(self, world: World, stock: Sources, schedule: Schedule) -> None:
        self.world, self.stock, self.schedule = world, stock, schedule
        self.ledger = Ledger()
        self._dice = random.Random(f"{schedule.seed}/clients")
        self._producer = EventProducer(world.settings, delivery_seconds=PATIENCE_SECONDS)
        self._session: aiohttp.ClientSession | None = None
        self._films = sources.films()
        self._watching = True
        self._by_hand: set[str] = set()

    async def __aenter__(self) -> Clients:
        limits = aiohttp.ClientTimeout(total=ATTEMPT_SECONDS, sock_connect=3)
        self._session = aiohttp.ClientSession(timeout=limits, connector=aiohttp.TCPConnector(limit=0, force_close=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        await asyncio.to_thread(self._producer.close)

    # ── Placing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def place_all(self) -> None:
        """All orders of the schedule, each at its time; returns when each was accepted or given up."""
        await asyncio.gather(*(self._one(order) for order in self.schedule.orders))

    async def _one(self, order: Order) -> None:
        await asyncio.sleep(max(0.0, self.world.began + order.at - time.time()))
        copies = [asyncio.create_task(self._place(order)) for _ in range(order.copies)]
        placed = [p for p in await asyncio.gather(*copies) if p is not None]
        if len({p.job_id for p in placed}) > 1:
            self.ledger.oddities.append(f"order {order.number} was sent {order.copies} times with one id and became several jobs: {placed}")
        if not placed:
            return
        self.ledger.placed[order.number] = placed[0]
        await self._afterwards(placed[0])

    async def _afterwards(self, placed: Placed) -> None:
        order = placed.order
        if order.cancel_after is not None:
            await asyncio.sleep(order.cancel_after)
            placed.cancelled = await self._command(order, placed.job_id, "cancel", CancelRequested(job_id=placed.job_id))
        if order.retry_after is None:
            return
        await asyncio.sleep(order.retry_after)
        if order.kind == "zip-missing":
            await self._end_of(placed.job_id)
            key = sources.missing_key(order)
            await asyncio.to_thread(sources.put, self.world.store, self.world.bucket, self.stock, key, b"here it is")
        for _ in range(RETRIES if order.kind == "zip-missing" else 1):
            placed.retried = await self._command(order, placed.job_id, "retry", RetryRequested(job_id=placed.job_id))
            if placed.retried:
                break
            await asyncio.sleep(1.0)  # the other gateway has not heard of the end yet

    async def _end_of(self, job_id: str) -> None:
        """Wait until a gateway says that the job has ended: before, there is nothing to retry. Not for ever, or the run would not end."""
        until = time.time() + RETRY_SECONDS
        while time.time() < until:
            status, said = await self._ask("GET", f"/v1/jobs/{job_id}", fine={200, 404})
            if status == 200 and said["state"] in TERMINAL:
                return
            await asyncio.sleep(1.0)

    async def _command(self, order: Order, job_id: str, what: str, event: msgspec.Struct) -> bool:
        """Cancel or retry, by HTTP or by topic. Whether it was accepted."""
        if order.pick % 3 == 0:
            return await self._publish(event, f"{order.number}/{what}")
        status, _ = await self._ask("POST", f"/v1/jobs/{job_id}/{what}", fine={202, 409, 404}, json={} if what == "cancel" else None)
        return status == 202

    async def _place(self, order: Order) -> Placed | None:
        match order.kind:
            case "upload":
                return await self._upload(order)
            case "zip-old":
                return await self._old_zip(order)
            case _:
                request, expected, entries = self._request(order)
        by_topic = order.kind in ("upload-topic", "zip-topic") or (order.kind not in ("zip-http",) and order.pick % 2 == 0)
        if by_topic:
            event_id = f"{self.schedule.seed}-{order.number}"
            job_id = envelope.derived_id(SOURCE, event_id)
            sent = await self._publish(request, event_id)
            return Placed(order, job_id, time.time(), expected, entries) if sent else None
        body = {"type": type(request).__name__, "data": msgspec.to_builtins(request)}
        status, said = await self._ask("POST", "/v1/jobs", fine={202}, json=body, headers=self._once(order))
        return Placed(order, said["job_id"], time.time(), expected, entries) if status == 202 else None

    def _request(self, order: Order) -> tuple[Request, str, dict[str, str]]:
        """The request, how its job must end, and the entries of an archive."""
        follow = (FollowUp(type="CallbackRequested", data={"url": self._callback(order)}),) if order.callback else ()
        common: dict[str, Any] = {"then": follow, "otherwise": follow, "owner": f"owner-{order.pick % 5}"}
        key = sources.key_of(order)
        if order.kind in ("upload-topic", "broken"):
            return UploadReceived(key=key, **common), "failed" if order.kind == "broken" else "succeeded", {}
        if order.kind in ("stream", "stream-needs"):
            return StreamRequested(key=key, **common), "succeeded", {}
        if order.kind == "stream-flat":
            return StreamRequested(key=key, layout="flat-ts", target=f"shows/{order.number}.hls/", **common), "succeeded", {}
        entries = self._entries(order)
        missing = order.kind == "zip-missing"
        if missing:
            entries[sources.missing_key(order)] = sources.missing_key(order)
        request = ZipRequested(
            target=ObjectRef(key=self._target(order)),
            entries=tuple(ZipEntry(key=key, name="" if name == key else name) for name, key in entries.items()),
            if_exists="replace",
            **common,
        )
        return request, "failed" if missing and order.retry_after is None else "succeeded", entries

    def _entries(self, order: Order) -> dict[str, str]:
        dice = random.Random(order.pick)
        keys = dice.sample([k for k in self.stock.bodies if k.startswith("files/")], dice.randint(1, 12))
        return {f"renamed/{n}" if dice.random() < 0.2 else key: key for n, key in enumerate(keys)}

    def _target(self, order: Order) -> str:
        return f"archives/{'shared' if order.pick % TARGETS == 0 else order.number}.zip"

    async def _upload(self, order: Order) -> Placed | None:
        body = self._films[order.pick % len(self._films)]
        query = f"?callback={quote(self._callback(order), safe='')}" if order.callback else ""
        path = f"/v1/uploads/film {order.number}.mp4{query}"
        status, said = await self._ask("PUT", path, fine={202}, data=body, headers=self._once(order))
        return Placed(order, said["job_id"], time.time(), "succeeded") if status == 202 else None

    async def _old_zip(self, order: Order) -> Placed | None:
        keys = list(dict.fromkeys(self._entries(order).values()))
        headers = self._once(order) | {"Authorization": f"Bearer {ZIP_SECRET}"}
        body = {"files": keys, "target": self._target(order)}
        status, said = await self._ask("POST", "/zip", fine={202}, json=body, headers=headers)
        if status != 202:
            return None
        return Placed(order, said["location"].rpartition("/")[2], time.time(), "succeeded", {key: key for key in keys})

    def _callback(self, order: Order) -> str:
        return f"{self.world.callbacks.url}/{order.number}"

    def _once(self, order: Order) -> dict[str, str]:
        return {"Idempotency-Key": f"{self.schedule.seed}-{order.number}"}

    # ── Talking ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _publish(self, event: msgspec.Struct, event_id: str) -> bool:
        return await self.send(record(event, event_id, source=SOURCE, event_id=event_id))

    async def send(self, made: Record) -> bool:
        """To a topic. Whether the broker has it."""
        try:
            await self._producer.publish(made)
        except BrokerUnavailable as wrong:
            self.ledger.given_up.append(f"topic {made.topic}: {wrong}")
            return False
        return True

    async def _ask(self, method: str, path: str, *, fine: set[int], headers: Mapping[str, str] = {}, **body: Any) -> tuple[int, Any]:
        """Until one of `fine` comes, at one gateway or the other. (0, {}) when patience is at an end."""
        until = time.time() + PATIENCE_SECONDS
        while time.time() < until:
            status, said = await self._try(self._dice.choice(self.world.gateways), method, path, headers, body)
            if status in fine:
                return status, said
            if status and status not in PASSING:
                self.ledger.oddities.append(f"{method} {path} was answered {status}: {said}")
                return status, said
            await asyncio.sleep(self._dice.uniform(0.2, 1.0))
        self.ledger.given_up.append(f"{method} {path}")
        return 0, {}

    async def _try(self, gateway: str, method: str, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        """(0, {}) when there was no answer, or half of one."""
        assert self._session is not None
        try:
            async with self._session.request(method, gateway + path, headers=dict(headers), **body) as answer:
                raw = await answer.read()
                self.ledger.statuses[answer.status] += 1
                if answer.status == 202 and not raw:
                    return answer.status, {"location": answer.headers.get("Location", "")}
                if answer.content_type not in ("application/json", "application/problem+json"):
                    self.ledger.oddities.append(f"{method} {path}: {answer.status} is {answer.content_type}: {raw[:200]!r}")
                    return answer.status, {}
                return answer.status, msgspec.json.decode(raw)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, {}

    # ── Watching ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def watch(self) -> None:
        """Polls jobs, and plays films, until `stop_watching`."""
        await asyncio.gather(self._poll(), self._play())

    def stop_watching(self) -> None:
        self._watching = False

    async def _poll(self) -> None:
        ended: dict[tuple[str, str], str] = {}
        while self._watching:
            await asyncio.sleep(POLL_SECONDS)
            known = list(self.ledger.placed.values())
            if not known:
                continue
            placed, gateway = self._dice.choice(known), self._dice.choice(self.world.gateways)
            status, said = await self._try(gateway, "GET", f"/v1/jobs/{placed.job_id}", {}, {})
            self.ledger.polls += 1
            if status == 200:
                before = ended.get((gateway, placed.job_id))
                retried = placed.order.retry_after is not None or placed.job_id in self._by_hand
                if before and said["state"] != before and not retried:
                    self.ledger.oddities.append(f"{gateway} said {before} of job {placed.job_id}, and {said['state']} later")
                if said["state"] in ("succeeded", "failed", "cancelled"):
                    ended[(gateway, placed.job_id)] = said["state"]
            elif status not in (0, 404, *PASSING):
                self.ledger.oddities.append(f"poll of {placed.job_id} was answered {status}: {said}")

    async def _play(self) -> None:
        """Fetches playlists with the token that the asset's page gave, and a new token when it is refused."""
        assert self._session is not None
        urls: list[str] = []
        while self._watching:
            await asyncio.sleep(POLL_SECONDS)
            gateway = self._dice.choice(self.world.gateways)
            if len(urls) < 6 or self._dice.random() < 0.1:
                status, said = await self._try(gateway, "GET", "/v1/assets?limit=20", {}, {})
                if status == 200:
                    urls = [a["hls_url"] for a in said["assets"] if a["hls_url"]] or urls
            if not urls:
                continue
            split = urlsplit(self._dice.choice(urls))
            try:
                async with self._session.get(f"{gateway}{split.path}?{split.query}") as answer:
                    raw = await answer.read()
            except (aiohttp.ClientError, TimeoutError, OSError):
                continue
            self.ledger.watched[answer.status] += 1
            if answer.status in (401, 403):
                urls = []
                if b"detail" not in raw:
                    self.ledger.oddities.append(f"a playlist was refused without a reason: {raw[:200]!r}")
            elif answer.status == 200:
                if not raw.startswith(b"#EXTM3U"):
                    self.ledger.oddities.append(f"a playlist is none: {split.path} {raw[:200]!r}")
            elif answer.status != 404 and answer.status not in PASSING:
                self.ledger.oddities.append(f"a playlist was answered {answer.status}: {split.path} {raw[:300]!r}")

    async def retry_exhausted(self, job_ids: list[str]) -> None:
        """As an operator does when all is well again."""
        self._by_hand.update(job_ids)
        for job_id in job_ids:
            await self._ask("POST", f"/v1/jobs/{job_id}/retry", fine={202, 409})
