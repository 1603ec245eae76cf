"""What goes wrong in a run, done to the world at its time, and undone at the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any, Final, NamedTuple

from schemas import topics
from tests.chaos.evidence import Follower
from tests.chaos.orders import Clients
from tests.chaos.schedule import Schedule, Trouble
from tests.chaos.world import Service, World
from tests.poison import poison
from tests.servers.faulty import BROKEN, LOST, RESET, UNAVAILABLE, Fault, error

BATCH: Final = 12
"""Requests to the store that meet a fault in a row, at most."""
FULL: Final = error(507, "QuotaExceeded")
WRITES: Final = ("PutObject", "UploadPart", "UploadPartCopy", "CopyObject", "CreateMultipartUpload", "CompleteMultipartUpload")
DAY: Final = 86_400
QUICK_START: Final = 0.5
POISON: Final = 5
"""Records at a time."""


class Blow(NamedTuple):
    """What ends or stops a process: which, and when."""

    service: str
    kind: str
    at: float


class Troubles:
    """Carries out a schedule. `count`: what was really done, by kind."""

    def __init__(self, world: World, clients: Clients, schedule: Schedule, follower: Follower) -> None:
        self.world, self.clients, self.schedule, self.follower = world, clients, schedule, follower
        self.count: Counter[str] = Counter()
        self.kills: list[Blow] = []
        self.blows: list[Blow] = []
        """Kills, processes that were told to end, processes that sleep."""
        self._broker = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()
        self._acts: dict[str, Callable[[Trouble], Coroutine[Any, Any, bool]]] = {
            "kill": self._kill,
            "stop": self._stop,
            "zombie": self._zombie,
            "more": self._more,
            "broker-kill": self._broker_kill,
            "broker-away": self._broker_kill,
            "store-broken": self._store,
            "store-slow": self._store_slow,
            "store-cut": self._store,
            "store-lost": self._store,
            "store-full": self._store_full,
            "scratch-full": self._scratch_full,
            "clock": self._clock,
            "receiver": self._receiver,
            "poison": self._poison,
        }

    async def make_all(self) -> None:
        """All troubles, each at its time. Returns when the last has begun; those that last are ended by `heal`."""
        for trouble in self.schedule.troubles:
            await asyncio.sleep(max(0.0, self.world.began + trouble.at - time.time()))
            task = asyncio.create_task(self._act(trouble))
            self._running.add(task)

    async def heal(self) -> None:
        """Wait for the end of what lasts, and put everything right."""
        await asyncio.gather(*self._running)
        for number in range(len(self.world.brokers)):
            if not self.world.brokers.alive(number):
                await asyncio.to_thread(self.world.brokers.start, number)
        self.world.proxy.faults.clear()
        self.world.callbacks.answers.clear()
        for service in self.world.services:
            service.clock.write_text("0")
            service.wake()
        self.world.told("healed")

    async def _act(self, trouble: Trouble) -> None:
        if await self._acts[trouble.kind](trouble):
            self.count[trouble.kind] += 1

    def _target(self, trouble: Trouble) -> Service:
        several = self.world.of(trouble.target)
        return several[trouble.pick % len(several)]

    def _blow(self, service: Service, at: float) -> Blow:
        self.blows.append(Blow(service.name, service.kind, at))
        return self.blows[-1]

    # ── Processes ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _kill(self, trouble: Trouble) -> bool:
        service = self._target(trouble)
        until = time.time() + trouble.seconds
        while time.time() < until and not self.follower.busy(service.name):
            await asyncio.sleep(0.05)
        at = time.time()
        if not service.kill():
            return False
        self.kills.append(self._blow(service, at))
        return True

    async def _stop(self, trouble: Trouble) -> bool:
        service = self._target(trouble)
        self._blow(service, time.time())
        return service.terminate()

    async def _zombie(self, trouble: Trouble) -> bool:
        service = self._target(trouble)
        if not service.sleep():
            return False
        self._blow(service, time.time())
        self.world.told(f"{service.name} sleeps for {trouble.seconds:.0f} s")
        await asyncio.sleep(trouble.seconds)
        service.wake()
        self.world.told(f"{service.name} wakes")
        return True

    async def _more(self, trouble: Trouble, **changes: str) -> bool:
        service = self.world.add(trouble.target, **changes)
        self.world.told(f"{service.name} is one more")
        await asyncio.sleep(trouble.seconds)
        await service.end()
        self.world.services.remove(service)
        return True

    async def _scratch_full(self, trouble: Trouble) -> bool:
        return await self._more(trouble._replace(target="transcoder"), REELWORKS_SCRATCH_QUOTA_BYTES="20000")

    async def _clock(self, trouble: Trouble) -> bool:
        service = self._target(trouble._replace(target="gateway"))
        off = (DAY, -DAY, 3600, -3600)[trouble.pick // 7 % 4]
        service.clock.write_text(str(off))
        self.world.told(f"the clock of {service.name} is off by {off} s")
        await asyncio.sleep(trouble.seconds)
        service.clock.write_text("0")
        return True

    # ── Brokers ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _broker_kill(self, trouble: Trouble) -> bool:
        brokers = self.world.brokers
        async with self._broker:
            number = 0 if len(brokers) == 1 else await asyncio.to_thread(brokers.leads, topics.JOBS)
            self.world.told(f"broker {number + 1} is killed")
            since = time.time()
            await asyncio.to_thread(brokers.kill, number)
            await asyncio.sleep(trouble.seconds or QUICK_START)
            await asyncio.to_thread(brokers.start, number)
            self.world.outages.append((since, time.time()))
            self.world.told(f"broker {number + 1} is there again")
        return True

    # ── The store ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _store(self, trouble: Trouble) -> bool:
        dice = random.Random(trouble.pick)
        kinds = {
            "store-broken": [BROKEN, UNAVAILABLE],
            "store-cut": [RESET, Fault(answer_bytes=300), Fault(request_bytes=900), Fault(answer_bytes=700, reset=True)],
            "store-lost": [LOST],
        }[trouble.kind]
        faults = [dice.choice(kinds) for _ in range(dice.randint(3, BATCH))]
        self.world.proxy.faults.extend(faults)
        self.world.told(f"{trouble.kind}: {len(faults)} requests")
        return True

    async def _store_slow(self, trouble: Trouble) -> bool:
        self.world.proxy.latency += 1.0
        self.world.told("the store is slow")
        await asyncio.sleep(trouble.seconds)
        self.world.proxy.latency -= 1.0
        return True

    async def _store_full(self, trouble: Trouble) -> bool:
        full = [Fault(operation=operation, reply=FULL, times=1 << 30) for operation in WRITES]
        self.world.proxy.faults[:0] = full
        self.world.told("the store is full")
        await asyncio.sleep(trouble.seconds)
        self.world.proxy.faults[:] = [fault for fault in self.world.proxy.faults if fault.reply != FULL]
        self.world.told("the store has room again")
        return True

    # ── Receivers of callbacks ────────────────────────────────────────────────────────────────────────────────────

    async def _receiver(self, trouble: Trouble) -> bool:
        dice = random.Random(trouble.pick)
        # 0: it has taken the callback, and nobody hears of that.
        answers = [dice.choice((0, 429, 500, 503)) for _ in range(dice.randint(3, BATCH))]
        self.world.callbacks.answers.extend(answers)
        self.world.told(f"the receiver of callbacks answers {answers}")
        return True

    # ── Records that nobody can read ──────────────────────────────────────────────────────────────────────────────

    async def _poison(self, trouble: Trouble) -> bool:
        for made in islice(poison(trouble.pick, large=False), POISON):
            if await self.clients.send(made):
                self.clients.ledger.poison.append(made)
        return True
