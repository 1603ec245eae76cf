"""What is asked for and what goes wrong in a run, and when. Pure: the same seed gives the same schedule."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

ORDERS_A_MINUTE: Final = 48
QUIET_SHARE: Final = 0.85
"""Nothing is asked for in the last part, so that what comes late is troubled, too."""

ORDERS: Final[dict[str, int]] = {
    "upload": 20,
    "upload-topic": 12,
    "zip-http": 22,
    "zip-topic": 16,
    "zip-old": 8,
    "stream": 14,
    "stream-flat": 6,
    "stream-needs": 3,
    "broken": 11,
    "zip-missing": 8,
}
"""Kinds of requests, and how often they come among 120."""

TROUBLES: Final[dict[str, int]] = {
    "kill": 26,
    "stop": 10,
    "zombie": 12,
    "more": 6,
    "broker-kill": 4,
    "broker-away": 2,
    "store-broken": 6,
    "store-slow": 3,
    "store-cut": 5,
    "store-lost": 4,
    "store-full": 3,
    "scratch-full": 2,
    "clock": 4,
    "receiver": 4,
    "poison": 13,
}
"""Kinds of faults, and how often they come among 104. Every kind comes at least once in a run of three minutes."""

SERVICES: Final[dict[str, int]] = {
    "gateway": 2,
    "coordinator": 2,
    "transcoder": 3,
    "streamer": 2,
    "streamer-live": 1,
    "zipper": 2,
    "notifier": 1,
}
"""Processes of each."""
WORKERS: Final = ("transcoder", "streamer", "zipper", "notifier")


class Order(NamedTuple):
    """Something that a client asks for."""

    number: int
    at: float
    """Seconds after the beginning."""
    kind: str
    pick: int
    """Chooses the clip, the entries, the way of being broken."""
    copies: int
    """So often it is sent; more than once with the same id."""
    callback: bool
    cancel_after: float | None
    retry_after: float | None
    """Seconds after its cancel, or after it was sent, when it is tried again by hand."""


class Trouble(NamedTuple):
    """Something that goes wrong."""

    at: float
    kind: str
    target: str
    """A service, where it is about one."""
    pick: int
    """Chooses among the service's processes."""
    seconds: float
    """How long it lasts. Of a kill: how long it may wait until the worker has a task in hand."""


class Schedule(NamedTuple):
    seed: int
    seconds: float
    orders: tuple[Order, ...]
    troubles: tuple[Trouble, ...]


def of(seed: int, seconds: float) -> Schedule:
    """The schedule of a seed. `seconds`: how long there is trouble; healing comes after it."""
    return Schedule(seed, seconds, _orders(seed, seconds), _troubles(seed, seconds))


def _orders(seed: int, seconds: float) -> tuple[Order, ...]:
    dice = random.Random(f"{seed}/orders")
    count = max(len(ORDERS), round(ORDERS_A_MINUTE * seconds / 60))
    kinds = _each_once(dice, ORDERS, count)
    times = sorted(dice.uniform(0, seconds * QUIET_SHARE) for _ in kinds)
    return tuple(_order(dice, number, at, kind) for number, (at, kind) in enumerate(zip(times, kinds, strict=True)))


def _order(dice: random.Random, number: int, at: float, kind: str) -> Order:
    cancel = dice.uniform(0, 4) if dice.random() < 0.12 else None
    retry = dice.uniform(3, 15) if (cancel is not None or kind in ("broken", "zip-missing")) and dice.random() < 0.6 else None
    copies = dice.choice((2, 2, 3)) if dice.random() < 0.2 else 1
    return Order(number, at, kind, dice.getrandbits(31), copies, dice.random() < 0.25, cancel, retry)


def _troubles(seed: int, seconds: float) -> tuple[Trouble, ...]:
    dice = random.Random(f"{seed}/troubles")
    kinds = _each_once(dice, TROUBLES, round(seconds / 4))
    # The first jobs are under way by then.
    times = sorted(dice.uniform(min(4.0, seconds / 10), seconds) for _ in kinds)
    return tuple(_trouble(dice, at, kind) for at, kind in zip(times, kinds, strict=True))


def _trouble(dice: random.Random, at: float, kind: str) -> Trouble:
    names, weights = list(SERVICES), list(SERVICES.values())
    target = dice.choices(names, weights)[0]
    seconds = {
        # Workers: so long somebody waits for a moment at which it is busy.
        "kill": dice.choice((0.0, 8.0)) if target in WORKERS else 0.0,
        # Longer than the session of six seconds and the lease of eight.
        "zombie": dice.uniform(9, 16),
        "more": dice.uniform(8, 20),
        "broker-away": 20.0,
        "store-slow": dice.uniform(3, 8),
        "store-full": dice.uniform(2, 6),
        "scratch-full": dice.uniform(5, 12),
        "clock": dice.uniform(5, 20),
    }.get(kind, 0.0)
    return Trouble(at, kind, target, dice.getrandbits(31), seconds)


def _each_once(dice: random.Random, weights: dict[str, int], count: int) -> list[str]:
    kinds = list(weights)
    dice.shuffle(kinds)
    chosen = kinds[:count] + dice.choices(list(weights), list(weights.values()), k=max(0, count - len(kinds)))
    dice.shuffle(chosen)
    return chosen
