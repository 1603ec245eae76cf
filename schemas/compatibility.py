"""Which changes of the contract break somebody. Pure.

Who reads what whom decides:

- **Everything is read by newer versions of ourselves**: requests of producers that were never updated, and records that
  stay in the log for days or for ever. So what the old contract allowed to be written, the new one must accept.
- **Events are also read by older readers**: other systems built on the release, and our own processes during a rolling
  upgrade. So what the new contract may write, the old one must accept. Requests are read by us alone and may be widened.

Both are one question, asked in two directions: what may the writer write that the reader refuses? Readers ignore fields
they do not know and take the default for one that is left out; hence two rules more: a field that disappears loses its
meaning in silence, and so does one whose default changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from schemas.acceptance import Found, Schema, properties, refused, resolve


class TopicShape(msgspec.Struct, frozen=True, kw_only=True):
    """What others rely on in a topic."""

    partitions: int
    key: str
    cleanup: str
    carries: tuple[str, ...] = ()


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One version: topics by name, self-contained JSON Schemas by event, and which of the events are requests."""

    topics: dict[str, TopicShape]
    schemas: dict[str, dict[str, Any]]
    requests: tuple[str, ...]


def compare(old: Contract, new: Contract) -> list[str]:
    """Every incompatible change, in words; [] when there is none."""
    return [*_topics(old.topics, new.topics), *_events(old, new)]


# ── Topics ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _topics(old: Mapping[str, TopicShape], new: Mapping[str, TopicShape]) -> Iterator[str]:
    entities = {topic.key for topic in old.values() if "compact" in topic.cleanup}
    for name, before in old.items():
        after = new.get(name)
        if after is None:
            yield f"topic {name}: removed; its readers and writers lose it"
            continue
        if after.partitions < before.partitions:
            yield f"topic {name}: {before.partitions} partitions became {after.partitions}; Kafka cannot take partitions away"
        elif after.partitions > before.partitions and before.key in entities:
            yield (
                f"topic {name}: {before.partitions} partitions became {after.partitions}; "
                f"records of one {before.key} would lie in two of them, out of order"
            )
        if after.key != before.key:
            yield f"topic {name}: its key was {before.key!r} and is {after.key!r}; readers find and compact records by it"
        if ("compact" in before.cleanup) != ("compact" in after.cleanup):
            yield f"topic {name}: its clean-up was {before.cleanup!r} and is {after.cleanup!r}; readers rely on what is kept"
        for event in before.carries:
            if event not in after.carries:
                yield f"topic {name}: does not carry {event} any more"


# ── Events ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _events(old: Contract, new: Contract) -> Iterator[str]:
    for name, before in old.schemas.items():
        after = new.schemas.get(name)
        if after is None:
            yield f"{name}: removed or renamed; what was written under this type cannot be read any more"
            continue
        for place, what in _lost(name, before, after, before, after, frozenset()):
            yield f"{place}: {what}"
        for place, what in refused(before, after, name):
            yield f"{place}: {what} (what was written for the release would be refused)"
        if name not in old.requests:
            for place, what in refused(after, before, name):
                yield f"{place}: {what} (what is written now would be refused by readers of the release)"


# ── What no reader refuses, and what is lost all the same ──────────────────────────────────────────────────────────


def _lost(place: str, old: Schema, new: Schema, o_root: Schema, n_root: Schema, seen: frozenset[str]) -> Found:
    """Fields that are there no more, and defaults that are others."""
    name = str(old.get("$ref", ""))
    if name:
        if name in seen:
            return
        seen |= {name}
    old, new = resolve(old, o_root), resolve(new, n_root)
    now = properties(new)
    for field, before in properties(old).items():
        after = now.get(field)
        if after is None:
            yield f"{place}.{field}", "removed or renamed; readers ignore what they do not know, so its meaning would be lost in silence"
            continue
        if "default" in before and "default" in after and before["default"] != after["default"]:
            yield (
                f"{place}.{field}",
                f"its default was {before['default']!r} and is {after['default']!r}; records that leave it out change meaning",
            )
        yield from _lost(f"{place}.{field}", before, after, o_root, n_root, seen)
    before_items, after_items = old.get("prefixItems", []), new.get("prefixItems", [])
    if len(after_items) < len(before_items):
        titles = ", ".join(str(i.get("title")) for i in before_items[len(after_items) :])
        yield place, f"removed at the end: {titles}"
    for n, (before, after) in enumerate(zip(before_items, after_items, strict=False)):
        if "default" in before and "default" in after and before["default"] != after["default"]:
            yield f"{place}[{n}]", f"its default was {before['default']!r} and is {after['default']!r}"
    if isinstance(old.get("items"), Mapping) and isinstance(new.get("items"), Mapping):
        yield from _lost(f"{place}[]", old["items"], new["items"], o_root, n_root, seen)
    for before, after in _paired(old, new):
        yield from _lost(place, before, after, o_root, n_root, seen)


def _paired(old: Schema, new: Schema) -> Iterator[tuple[Schema, Schema]]:
    """Alternatives that are the same struct in both."""
    for before in old.get("anyOf", []):
        for after in new.get("anyOf", [new]):
            if "$ref" in before and before["$ref"] == after.get("$ref"):
                yield before, after
