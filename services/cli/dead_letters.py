"""`reelworks dead-letters list|show|replay`: records that could not be read or were given up, byte for byte.

A replay sends the record to the topic that it came from: the same key, value and headers, or repaired ones, and some that say
where from. `replaying.py` says how it happens once.
"""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table

from schemas import topics
from services.cli import replaying
from services.cli.exits import Missing, Refused, Unreachable
from services.cli.output import console, json_option, notes, print_json
from services.cli.replaying import UNCHANGED, DeadLetter, Repair
from services.cli.topics import connected
from services.runtime import settings as settings_module
from services.runtime.kafka.producer import BrokerUnavailable, EventProducer, Record
from services.runtime.kafka.reader import LogReader, Place
from services.runtime.settings import Settings
from services.runtime.storage.factory import default_bucket

SEND_SECONDS: Final = 30.0


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at records that could not be read or were given up, and send them again."""


@dead_letters.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that were replayed, too.")
@json_option
def list_letters(everything: bool, as_json: bool) -> None:
    """One line each, oldest first."""
    found = [letter for letter in _read(connected(settings_module.load()))[0].values() if everything or letter.replayed_at is None]
    if as_json:
        for letter in found:
            print_json(_summary(letter))
        return
    if not found:
        click.echo("There are no dead letters.")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "set aside", "from", "type", "bytes", "reason"):
        table.add_column(heading, overflow="fold" if heading == "reason" else "ellipsis")
    for letter in found:
        words = f"{_replays(letter)} {letter.reason}".strip()
        table.add_row(letter.id, letter.at[:19].replace("T", " "), letter.topic, letter.type, str(letter.size), words)
    console().print(table, markup=False)


@dead_letters.command()
@click.argument("identity", metavar="ID")
@click.option("--raw", is_flag=True, help="Only the value, byte for byte.")
@json_option
def show(identity: str, raw: bool, as_json: bool) -> None:
    """All of one record. ID as `list` shows it."""
    letter = _one(_read(connected(settings_module.load()))[0], identity)
    value = letter.record.value or b""
    if raw:
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()
        return
    headers = [(name, (content or b"").decode("utf-8", "replace")) for name, content in letter.record.headers]
    if as_json:
        key = letter.record.key
        content = {"key": None if key is None else base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()}
        print_json(_summary(letter) | {"headers": headers, "base64": content})
        return
    click.echo(f"{letter.id} from {letter.topic} {letter.origin}, set aside {letter.at}\n{letter.reason}\n")
    for name, text in headers:
        if name != "reelworks-reason":
            click.echo(f"{name}: {text}")
    click.echo()
    click.echo(_readable(value))


@dead_letters.command()
@click.argument("identities", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that were not replayed yet.")
@click.option("--again", is_flag=True, help="Also those that were replayed already.")
@click.option("--value", "value", metavar="FILE", help="Of one record: the value to send in place of its own; - is stdin.")
@click.option("--header", "headers", metavar="NAME=VALUE", multiple=True, help="Of one record: a header to add or to replace.")
@json_option
def replay(identities: tuple[str, ...], everything: bool, again: bool, value: str | None, headers: tuple[str, ...], as_json: bool) -> None:
    """Send records to the topics that they came from, byte for byte or repaired, once.

    A repaired record is looked at first: what is still wrong with it is said, and nothing is sent. It stays the job that it was.
    """
    if bool(identities) == everything:
        raise Refused("name the dead letters to replay, or give --all")
    repair = _repair(value, headers)
    if repair != UNCHANGED and len(identities) != 1:
        raise Refused("--value and --header repair one dead letter: name it")
    settings = connected(settings_module.load())
    found, seen = _read(settings)
    chosen = (
        [letter for letter in found.values() if again or letter.replayed_at is None] if everything else [_one(found, i) for i in identities]
    )
    if not again:
        for letter in chosen if not everything else ():
            replaying.refuse_twice(letter)
        chosen = [letter for letter in chosen if not letter.unsure]
    producer = EventProducer(settings)
    try:
        for letter in chosen:
            _replay(settings, producer, letter, repair, seen, as_json=as_json, alone=not everything)
    finally:
        producer.close()
    unsure = [letter.id for letter in found.values() if letter.unsure] if everything and not again else []
    if unsure:
        notes().print(f"left alone, since it is not known whether their replay came to its end: {', '.join(unsure)}; --again sends them")
    if not chosen and not unsure and not as_json:
        click.echo("There is nothing to replay.")


def _replay(
    settings: Settings, producer: EventProducer, letter: DeadLetter, repair: Repair, seen: dict[Place, int], *, as_json: bool, alone: bool
) -> None:
    by = settings.instance_name()
    record = replaying.again(letter, repair, by, _now_ms())
    job_id = replaying.check(letter, record, default_bucket(settings)) if repair != UNCHANGED else ""
    ours = _send(producer, replaying.claim(letter, by, _now_ms()))
    reader = LogReader(settings, [topics.DEAD_LETTERS], seen)
    try:
        if other := replaying.overtaken(letter, reader, ours):
            words = f"dead letter {letter.id} is being replayed by {other}, who was quicker; `reelworks dead-letters list --all` shows it"
            if alone:
                raise Refused(words)
            notes().print(words, markup=False)
            return
    finally:
        reader.close()
    try:
        offset = _send(producer, record)
        _send(producer, replaying.note(letter, repair, by, _now_ms()))
    except Unreachable as wrong:
        raise Unreachable(
            f"{wrong}. Whether dead letter {letter.id} was sent is not known; --again sends it, and it stays the same job"
        ) from None
    if as_json:
        print_json({"id": letter.id, "topic": letter.topic, "offset": offset} | ({"job_id": job_id} if job_id else {}))
    else:
        click.echo(f"{letter.id} was sent to {letter.topic} again" + (f", repaired: job {job_id}" if job_id else ""))


def _send(producer: EventProducer, record: Record) -> int:
    try:
        return producer.send(record).result(SEND_SECONDS)
    except (BrokerUnavailable, TimeoutError) as wrong:
        raise Unreachable(f"the broker did not take the record: {wrong}") from None


def _repair(value: str | None, headers: tuple[str, ...]) -> Repair:
    replaced: dict[str, bytes] = {}
    for header in headers:
        name, equals, content = header.partition("=")
        if not equals or not name:
            raise Refused(f"--header {header!r}: accepted is NAME=VALUE, such as ce_type=reelworks.UploadReceived")
        replaced[name] = content.encode()
    return Repair(value=None if value is None else _content(value), headers=replaced)


def _content(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except FileNotFoundError:
        raise Missing(f"there is no file {name!r}") from None
    except OSError as wrong:
        raise Refused(f"--value {name}: {wrong.strerror}") from None


def _read(settings: Settings) -> tuple[dict[str, DeadLetter], dict[Place, int]]:
    """The dead letters, and up to where they were read."""
    reader = LogReader(settings, [topics.DEAD_LETTERS])
    try:
        return replaying.fold(reader), dict(reader.ends)
    finally:
        reader.close()


def _one(found: dict[str, DeadLetter], identity: str) -> DeadLetter:
    letter = found.get(identity if "/" in identity else f"0/{identity}")
    if letter is None:
        raise Missing(f"there is no dead letter {identity!r}; `reelworks dead-letters list --all` shows all of them")
    return letter


def _summary(letter: DeadLetter) -> dict[str, Any]:
    shown = ("id", "at", "topic", "origin", "type", "reason", "size", "replayed_at", "begun_at", "begun_by")
    return {name: getattr(letter, name) for name in shown}


def _replays(letter: DeadLetter) -> str:
    if letter.replayed_at:
        return f"(replayed {letter.replayed_at})"
    return f"(replay begun {letter.begun_at} by {letter.begun_by}, end unknown)" if letter.unsure else ""


def _readable(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"(not text; {len(value)} bytes in base64)\n{base64.b64encode(value).decode()}"


def _now_ms() -> int:
    return int(time.time() * 1000)
