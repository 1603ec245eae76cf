"""What one JSON Schema allows and another refuses. Pure.

For the schemas that msgspec makes of structs (types, enumerations, limits, objects that ignore what they do not know,
arrays, alternatives, references below `$defs`), not for all of JSON Schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

Schema = Mapping[str, Any]
ANYTHING: Final = ("array", "boolean", "integer", "null", "number", "object", "string")

# Limits by which a reader is stricter when its value is higher, or lower.
_LEAST: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")

Found = Iterator[tuple[str, str]]
"""Place and what is wrong there."""


def refused(writer: Schema, reader: Schema, name: str = "value") -> Found:
    """Places at which a document that `writer` allows is refused by `reader`. Both are self-contained."""
    yield from _refused(name, writer, reader, writer, reader, frozenset())


def _refused(place: str, writer: Schema, reader: Schema, w_root: Schema, r_root: Schema, seen: frozenset[tuple[str, str]]) -> Found:
    pair = (str(writer.get("$ref", "")), str(reader.get("$ref", "")))
    if all(pair):
        if pair in seen:
            return  # a struct inside of itself
        seen |= {pair}
    writer, reader = resolve(writer, w_root), resolve(reader, r_root)
    if "anyOf" in writer:
        for choice in writer["anyOf"]:
            yield from _refused(place, choice, reader, w_root, r_root, seen)
        return
    if "anyOf" in reader:
        yield from _best(place, writer, reader["anyOf"], w_root, r_root, seen)
        return
    if not _validates(reader):
        return
    if (values := _values(writer)) is not None and (accepted := _values(reader)) is not None:
        gone = [v for v in values if v not in accepted]
        if gone:
            yield place, f"the value {', '.join(map(repr, gone))} is not accepted"
        return
    if _values(reader) is not None:
        yield place, f"only {', '.join(map(repr, _values(reader) or []))} are accepted where there was no such list"
        return
    missing = [t for t in _types(writer) if t not in _types(reader) and not (t == "integer" and "number" in _types(reader))]
    if missing:
        yield place, f"the type {' or '.join(missing)} is not accepted, only {' or '.join(_types(reader))}"
        return
    yield from _limits(place, writer, reader)
    yield from _object(place, writer, reader, w_root, r_root, seen)
    yield from _array(place, writer, reader, w_root, r_root, seen)


def _best(place: str, writer: Schema, choices: list[Schema], w_root: Schema, r_root: Schema, seen: frozenset[tuple[str, str]]) -> Found:
    """The complaints of the alternative that has least; none when one accepts."""
    each = [list(_refused(place, writer, choice, w_root, r_root, seen)) for choice in choices]
    yield from min(each, key=len, default=[])


def _limits(place: str, writer: Schema, reader: Schema) -> Found:
    for name in _LEAST:
        if name in reader and (name not in writer or writer[name] < reader[name]):
            yield place, f"{name} {reader[name]} is stricter than {writer.get(name, 'none')}"
    for name in _MOST:
        if name in reader and (name not in writer or writer[name] > reader[name]):
            yield place, f"{name} {reader[name]} is stricter than {writer.get(name, 'none')}"
    if "pattern" in reader and reader["pattern"] != writer.get("pattern"):
        values = _values(writer)
        if values is None or not all(re.search(reader["pattern"], str(v)) for v in values):
            yield place, f"the pattern {reader['pattern']} was {writer.get('pattern', 'none')}"


def _object(place: str, writer: Schema, reader: Schema, w_root: Schema, r_root: Schema, seen: frozenset[tuple[str, str]]) -> Found:
    offered, wanted = properties(writer), properties(reader)
    for name in reader.get("required", ()):
        if name not in writer.get("required", ()):
            yield f"{place}.{name}", "required, though it may be left out"
    for name, schema in offered.items():
        if name in wanted:
            yield from _refused(f"{place}.{name}", schema, wanted[name], w_root, r_root, seen)
    other = reader.get("additionalProperties")
    if isinstance(other, Mapping):
        theirs = writer.get("additionalProperties", {})
        yield from _refused(f"{place}.*", theirs if isinstance(theirs, Mapping) else {}, cast(Schema, other), w_root, r_root, seen)


def _array(place: str, writer: Schema, reader: Schema, w_root: Schema, r_root: Schema, seen: frozenset[tuple[str, str]]) -> Found:
    theirs, ours = writer.get("prefixItems", []), reader.get("prefixItems", [])
    for n, (offered, wanted) in enumerate(zip(theirs, ours, strict=False)):
        if offered.get("title") != wanted.get("title"):
            yield f"{place}[{n}]", f"the position of {offered.get('title')!r} is that of {wanted.get('title')!r}"
        else:
            yield from _refused(f"{place}[{n}]", offered, wanted, w_root, r_root, seen)
    if isinstance(reader.get("items"), Mapping):
        yield from _refused(f"{place}[]", writer.get("items", {}), reader["items"], w_root, r_root, seen)


# ── Small parts ────────────────────────────────────────────────────────────────────────────────────────────────────


def resolve(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    return cast(Schema, root["$defs"][reference.rpartition("/")[2]])


def properties(schema: Schema) -> Mapping[str, Schema]:
    return cast(Mapping[str, Schema], schema.get("properties", {}))


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _types(schema: Schema) -> tuple[str, ...]:
    if (values := _values(schema)) is not None:
        return tuple(sorted({_type_of(v) for v in values}))
    kind = schema.get("type", ANYTHING)
    return (kind,) if isinstance(kind, str) else tuple(kind)


def _type_of(value: object) -> str:
    names: dict[type[Any], str] = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null", list: "array"}
    return names.get(cast(type[Any], type(value)), "object")


def _validates(schema: Schema) -> bool:
    """Whether it says anything but words."""
    return any(key not in ("description", "title", "default", "examples", "$schema", "$id", "$defs") for key in schema)
