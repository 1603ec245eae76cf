"""JSON Schema (draft 2020-12) of everything that travels, from the structs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from schemas import events, field_docs

Schema = dict[str, Any]
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
PUBLISHED: Final[dict[str, type[msgspec.Struct]]] = {**events.BY_NAME, "Outcome": events.Outcome}
"""Every event, and the body of callbacks."""


def components(ref_template: str) -> dict[str, Schema]:
    """All structs by name, each with the descriptions of its fields. `ref_template` says where `{name}` is found."""
    _, found = msgspec.json.schema_components(tuple(PUBLISHED.values()), ref_template=ref_template)
    kinds = _structs()
    made = {name: _described(kinds[name], schema) for name, schema in sorted(found.items())}
    plain: dict[str, Schema] = msgspec.json.decode(msgspec.json.encode(made))  # a default may be a tuple; in JSON it is an array
    return plain


def documents() -> dict[str, Schema]:
    """A self-contained schema for each event."""
    known = components("#/$defs/{name}")
    return {name: _document(name, known) for name in sorted(PUBLISHED)}


def _document(name: str, known: Mapping[str, Schema]) -> Schema:
    needed: dict[str, Schema] = {}
    _collect(known[name], known, needed)
    head: Schema = {"$schema": DIALECT, "$id": f"urn:reelworks:{name}"}
    return head | known[name] | ({"$defs": dict(sorted(needed.items()))} if needed else {})


def _collect(node: object, known: Mapping[str, Schema], found: dict[str, Schema]) -> None:
    for reference in references(node):
        name = reference.rpartition("/")[2]
        if name not in found:
            found[name] = known[name]
            _collect(known[name], known, found)


def references(node: Any) -> list[str]:
    """Every `$ref` below a node."""
    if isinstance(node, Mapping):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [r for value in node.values() for r in references(value)]
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [r for value in node for r in references(value)]
    return []


def _described(kind: type[msgspec.Struct], schema: Schema) -> Schema:
    docs = field_docs.of(kind)
    if "prefixItems" in schema:  # array_like: positions have no names on the wire, so they get them here
        items = [
            {"title": name} | _with(item, docs.get(name, ""))
            for name, item in zip(kind.__struct_encode_fields__, schema["prefixItems"], strict=True)
        ]
        return schema | {"prefixItems": items}
    properties = {name: _with(item, docs.get(name, "")) for name, item in schema.get("properties", {}).items()}
    return schema | ({"properties": properties} if properties else {})


def _with(schema: Schema, text: str) -> Schema:
    own = schema.get("description", "")
    text = f"{text} {own}".strip() if own not in text else text
    return ({"description": text} if text else {}) | {k: v for k, v in schema.items() if k != "description"}


def _structs() -> dict[str, type[msgspec.Struct]]:
    return {
        name: kind
        for name, kind in vars(events).items()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not msgspec.Struct
    }
