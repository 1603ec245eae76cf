"""Makes the embedded broker start in a third of the time: the JVM's ahead-of-time cache of loaded and linked classes.

The wheel's JVM comes without any class archive, so it parses and verifies some 10,000 classes at each start. A training run
(JEP 514, `-XX:AOTCacheOutput`) writes them down once, beside the jars. Measured on 2 cores: 4.7 s of CPU before, 2.1 s
after; 68 MB of disk. The JVM itself verifies that the cache belongs to it and to the jars, and goes on without it where not.
"""

from __future__ import annotations

import fcntl
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, Producer

from schemas import topics
from services.runtime.kafka import admin, client
from services.runtime.settings import Settings
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)

EXERCISE_SECONDS: Final = 30.0
"""For any one thing that is asked of the broker; tenths of a second are usual."""
Train = Callable[[Path, str], None]
"""Runs a broker in a folder with one more option of the JVM, uses it a little, and waits until its JVM has ended."""


def archive(runtime: str, libs: Path) -> Path:
    """Where the cache of this JVM for these jars lies, made or not."""
    modules = Path(runtime).resolve().parents[1] / "lib" / "modules"
    known = modules.stat() if modules.exists() else None
    identity = f"{runtime}:{libs}:{known and (known.st_size, known.st_mtime_ns)}"
    return libs.parent / f"start-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.aot"


def options(runtime: str, libs: Path, train: Train) -> list[str]:
    """Options of the JVM that use the cache; the first call makes it, which takes some ten seconds.

    While another process makes it, and where it could not be made, there are none.
    """
    path = archive(runtime, libs)
    if not path.exists():
        _make(path, train)
    # An empty file says that it was tried in vain: not at every start again.
    return [f"-XX:AOTCache={path}"] if path.exists() and path.stat().st_size else []


def exercise(bootstrap_servers: str) -> None:
    """Have a broker do once what our services will ask of it: topics, transactions, groups, records both ways."""
    settings = Settings(bootstrap_servers=bootstrap_servers)
    admin.apply(settings)
    topic = topics.tasks("notifier")
    producer = Producer(client.producer(settings) | {"transactional.id": "training"})
    producer.init_transactions(EXERCISE_SECONDS)
    consumer = Consumer(client.consumer(settings, "training") | {"isolation.level": "read_committed"})
    consumer.subscribe([topic])
    deadline = time.monotonic() + EXERCISE_SECONDS
    try:
        for _ in range(3):
            producer.begin_transaction()
            for place in (topic, topics.JOBS, topics.COMPLETIONS):
                producer.produce(place, b"{}", b"training", headers=[("ce_type", b"training")])
            producer.commit_transaction(EXERCISE_SECONDS)
        while (message := consumer.poll(0.2)) is None and time.monotonic() < deadline:
            pass
        if message is not None and message.error() is None:
            consumer.commit(message=message, asynchronous=False)
    finally:
        consumer.close()


def _make(path: Path, train: Train) -> None:
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if path.exists():
            return
        with tempfile.TemporaryDirectory(prefix="train-", dir=path.parent) as work:
            draft = Path(work) / "start.aot"
            try:
                train(Path(work) / "data", f"-XX:AOTCacheOutput={draft}")
            except Exception as wrong:  # it is for speed alone
                log.info("the broker's start-up cache could not be made", error=str(wrong))
            if not draft.exists():
                draft.touch()
            draft.replace(path)
