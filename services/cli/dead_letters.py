"""`reelworks dead-letters list|show|replay`: records that could not be read or were given up, byte for byte.

A replay sends the record to the topic that it came from: the same key, value and headers, and two more that say where from.
It is noted in media.dead-letters itself, so that a second replay of the same record is refused on any machine. The note
follows the record: when the program is killed in between, the record may be sent twice, which is the same job.
"""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.table import Table

from schemas import envelope, topics
from services.cli.exits import Missing, Refused, Unreachable
from services.cli.output import console, json_option, print_json
from services.cli.topics import connected
from services.runtime import settings as settings_module
from services.runtime.kafka.producer import BrokerUnavailable, EventProducer, Record
from services.runtime.kafka.reader import LogReader, Received

OURS = "reelworks-"
"""Prefix of the headers that a dead letter has beside those it came with (services/coordinator/intake.py)."""
REPLAYED = "reelworks-replayed"
"""Header of a note: the id of the dead letter that was sent again."""
FROM, AT = "reelworks-replayed-from", "reelworks-replayed-at-ms"
SEND_SECONDS = 30.0


class DeadLetter(msgspec.Struct, kw_only=True):
    """A record of media.dead-letters and what its headers say."""

    id: str
    """`partition/offset` in media.dead-letters."""
    at: str
    topic: str
    """Where it came from."""
    origin: str
    """`partition/offset` there."""
    type: str
    reason: str
    size: int
    replayed_at: str | None = None
    record: Received


def fold(records: Iterable[Received]) -> dict[str, DeadLetter]:
    """Dead letters by id, with the notes on them. Pure."""
    found: dict[str, DeadLetter] = {}
    for record in records:
        headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
        if REPLAYED in headers:
            if (letter := found.get(headers[REPLAYED])) is not None:
                letter.replayed_at = _time(int(headers.get(AT, "0") or 0))
            continue
        identity = f"{record.partition}/{record.offset}"
        found[identity] = DeadLetter(
            id=identity,
            at=_time(record.timestamp_ms),
            topic=headers.get("reelworks-origin-topic", ""),
            origin=f"{headers.get('reelworks-origin-partition', '?')}/{headers.get('reelworks-origin-offset', '?')}",
            type=headers.get("ce_type", ""),
            reason=headers.get("reelworks-reason", ""),
            size=len(record.value or b""),
            record=record,
        )
    return found


def replay_records(letter: DeadLetter, now_ms: int) -> tuple[Record, Record]:
    """What a replay sends: the record as it came, and the note that it was. Pure. Raises Refused without an origin."""
    if not letter.topic:
        raise Refused(f"dead letter {letter.id} does not say which topic it came from; it cannot be replayed")
    kept: envelope.Headers = [(name, value) for name, value in letter.record.headers if not name.startswith(OURS)]
    provenance: envelope.Headers = [(FROM, f"{topics.DEAD_LETTERS}/{letter.id}".encode()), (AT, str(now_ms).encode())]
    again = Record(topic=letter.topic, key=letter.record.key, value=letter.record.value, headers=[*kept, *provenance])
    note_headers: envelope.Headers = [(REPLAYED, letter.id.encode()), (AT, str(now_ms).encode())]
    note = Record(topic=topics.DEAD_LETTERS, key=letter.record.key, value=None, headers=note_headers, partition=letter.record.partition)
    return again, note


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at records that could not be read or were given up, and send them again."""


@dead_letters.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that were replayed, too.")
@json_option
def list_letters(everything: bool, as_json: bool) -> None:
    """One line each, oldest first."""
    found = [letter for letter in _read().values() if everything or letter.replayed_at is None]
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
        reason = f"(replayed {letter.replayed_at}) {letter.reason}" if letter.replayed_at else letter.reason
        table.add_row(letter.id, letter.at[:19].replace("T", " "), letter.topic, letter.type, str(letter.size), reason)
    console().print(table, markup=False)


@dead_letters.command()
@click.argument("identity", metavar="ID")
@click.option("--raw", is_flag=True, help="Only the value, byte for byte.")
@json_option
def show(identity: str, raw: bool, as_json: bool) -> None:
    """All of one record. ID as `list` shows it."""
    letter = _one(_read(), identity)
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
@json_option
def replay(identities: tuple[str, ...], everything: bool, again: bool, as_json: bool) -> None:
    """Send records to the topics that they came from, byte for byte, once."""
    if bool(identities) == everything:
        raise Refused("name the dead letters to replay, or give --all")
    found = _read()
    chosen = (
        [letter for letter in found.values() if again or letter.replayed_at is None] if everything else [_one(found, i) for i in identities]
    )
    for letter in chosen:
        if letter.replayed_at is not None and not again:
            raise Refused(f"dead letter {letter.id} was replayed at {letter.replayed_at}; --again sends it once more")
    producer = EventProducer(settings_module.load())
    try:
        for letter in chosen:
            record, note = replay_records(letter, int(time.time() * 1000))
            offset = producer.send(record).result(SEND_SECONDS)
            producer.send(note).result(SEND_SECONDS)
            if as_json:
                print_json({"id": letter.id, "topic": letter.topic, "offset": offset})
            else:
                click.echo(f"{letter.id} was sent to {letter.topic} again")
    except (BrokerUnavailable, TimeoutError) as wrong:
        raise Unreachable(f"the broker did not take the record: {wrong}") from None
    finally:
        producer.close()
    if not chosen and not as_json:
        click.echo("There is nothing to replay.")


def _read() -> dict[str, DeadLetter]:
    reader = LogReader(connected(settings_module.load()), [topics.DEAD_LETTERS])
    try:
        return fold(reader)
    finally:
        reader.close()


def _one(found: dict[str, DeadLetter], identity: str) -> DeadLetter:
    letter = found.get(identity if "/" in identity else f"0/{identity}")
    if letter is None:
        raise Missing(f"there is no dead letter {identity!r}; `reelworks dead-letters list --all` shows all of them")
    return letter


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in ("id", "at", "topic", "origin", "type", "reason", "size", "replayed_at")}


def _readable(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"(not text; {len(value)} bytes in base64)\n{base64.b64encode(value).decode()}"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
