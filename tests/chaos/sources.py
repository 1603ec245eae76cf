"""What lies in the bucket before a run begins: films, films that are broken, and files for archives."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from tests import clips
from tests.chaos.schedule import Order
from tests.servers.s3 import S3Server

FILES: Final = 24
BIG_BYTES: Final = 11 * 1024 * 1024
"""Copied by ranges inside of the store, which takes parts of 5 MiB and more."""
_OLD_CODEC: Final = ("-c:v", "mpeg4", "-q:v", "5", "-c:a", "aac")
_GOP: Final = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "25", "-c:a", "aac")


@dataclass
class Sources:
    """Keys and bodies, as they were put."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)


def films() -> list[bytes]:
    """Films of one to five seconds: with and without sound, portrait, an odd rate."""
    shapes = [("160x90", "25", 2.0, True), ("160x90", "25", 1.0, False), ("90x160", "30", 2.0, True), ("192x108", "24000/1001", 5.0, True)]
    return [clips.moving(size, rate, seconds, sound=sound).read_bytes() for size, rate, seconds, sound in shapes]


def packageable() -> bytes:
    """A film that becomes HLS without being encoded."""
    return clips.moving("160x90", "25", 3.0, codec=_GOP).read_bytes()


def of_old() -> bytes:
    """A film that must be transcoded before it becomes HLS."""
    return clips.moving("160x90", "25", 2.0, codec=_OLD_CODEC).read_bytes()


def broken(pick: int) -> bytes:
    """No film, in one of some ways."""
    film = films()[0]
    dice = random.Random(pick)
    return [film[: len(film) // 3], b"<html>no film</html>", dice.randbytes(5000), film[:40] + bytes(2000), b"\0"][pick % 5]


def missing_key(order: Order) -> str:
    """An object that is not there until the order is tried again."""
    return f"late/{order.number}.txt"


def key_of(order: Order) -> str:
    """The object that an order is about."""
    return f"in/{order.number}.mp4"


def put_all(store: S3Server, bucket: str, orders: tuple[Order, ...]) -> Sources:
    """Put everything that the orders need. Straight to the store: it is another system that does it."""
    made = Sources()
    dice = random.Random(1)
    for n in range(FILES):
        words = " ".join(str(dice.getrandbits(16)) for _ in range(dice.choice((1, 50, 2000, 20_000)))).encode()
        made.bodies[f"files/{n:02} déjà vu.txt"] = words
    made.bodies["files/big.bin"] = dice.randbytes(BIG_BYTES)
    several, copied, old = films(), packageable(), of_old()
    for order in orders:
        match order.kind:
            case "upload-topic":
                made.bodies[key_of(order)] = several[order.pick % len(several)]
            case "stream" | "stream-flat":
                made.bodies[key_of(order)] = copied
            case "stream-needs":
                made.bodies[key_of(order)] = old
            case "broken":
                made.bodies[key_of(order)] = broken(order.pick)
            case _:
                pass
    with closing(store.client()) as client:
        for key, body in made.bodies.items():
            made.etags[key] = client.put_object(Bucket=bucket, Key=key, Body=body)["ETag"]
    return made


def put(store: S3Server, bucket: str, sources: Sources, key: str, body: bytes) -> None:
    """One more."""
    with closing(store.client()) as client:
        sources.etags[key] = client.put_object(Bucket=bucket, Key=key, Body=body)["ETag"]
    sources.bodies[key] = body
