"""CloudEvents 1.0 over Kafka: binary mode on output, binary and structured mode on input.

Binary mode (CloudEvents Kafka binding, section 3.2): attributes in headers `ce_*`, the event alone as JSON value.
Structured mode (section 3.3): `content-type: application/cloudevents+json`, attributes and `data` in the value.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from schemas import events

T = TypeVar("T", bound=msgspec.Struct)
Headers = list[tuple[str, str | bytes | None]]
"""As the client takes them; the values that we write are bytes."""

STRUCTURED = "application/cloudevents+json"
JOB_NAMESPACE = uuid.UUID("6b0c1f0e-7d0f-5d9e-8a35-0f2f5d3c9a71")
"""Namespace of derived ids. Never to be changed: it decides which requests are the same."""

_encode = msgspec.json.Encoder(order=None).encode
# Made here, once, for all events: msgspec fills in what it knows of a type while it makes the first decoder, and a second
# thread that meets the half-known type ends the process (segmentation fault, seen with 0.22).
_decoders: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (*events.BY_NAME.values(), events.Completion, events.Request)
}
_making = threading.Lock()


class Unreadable(ValueError):
    """A record that is not one of our events; the message says what is wrong and what is accepted."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its CloudEvents attributes."""

    type: str
    """Without the prefix `reelworks.`."""
    id: str
    source: str
    data: bytes
    """JSON."""
    traceparent: str = ""
    subject: str = ""
    time: str = ""

    def job_id(self) -> str:
        """uuid5(source, id): the same request twice is the same job."""
        return derived_id(self.source, self.id)


def derived_id(*parts: str) -> str:
    """uuid5 of the parts, each with its length, so that ("a", "bc") and ("ab", "c") differ."""
    return str(uuid.uuid5(JOB_NAMESPACE, "".join(f"{len(p)}:{p}" for p in parts)))


def shown(text: str) -> str:
    """In quotes, and not longer than a person wants to read of what may be of any length."""
    return repr(text if len(text) <= 100 else text[:99] + "…")


def encode_value(event: msgspec.Struct) -> bytes:
    """JSON of an event."""
    return _encode(event)


def headers_for(event_type: str, *, source: str, event_id: str | None = None, traceparent: str = "") -> Headers:
    """The headers of binary mode for an event whose struct is called `event_type`."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", (events.TYPE_PREFIX + event_type).encode()),
        ("ce_source", source.encode()),
        ("ce_id", (event_id or str(uuid.uuid4())).encode()),
        ("content-type", b"application/json"),
    ]
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    return headers


def read(headers: Iterable[tuple[str, bytes | None]] | None, value: bytes | None) -> Envelope:
    """The envelope of a record in either mode.

    Raises Unreadable when it is in neither or lacks an attribute.
    """
    found = _texts(headers or ())
    if value is None:
        raise Unreadable("the record has no value; a JSON object is needed")
    if found.get("content-type", "").partition(";")[0].strip().lower() == STRUCTURED:
        attributes, data = _structured(value)
    else:
        attributes = {name[3:]: text for name, text in found.items() if name.startswith("ce_")}
        data = value
    for needed in ("type", "id", "source"):
        if not attributes.get(needed):
            raise Unreadable(
                f"the CloudEvents attribute {needed!r} is missing: send it as header ce_{needed} (binary mode), "
                f"or the whole event with content-type {STRUCTURED} (structured mode)"
            )
    name = attributes["type"].removeprefix(events.TYPE_PREFIX)
    return Envelope(
        type=name,
        id=attributes["id"],
        source=attributes["source"],
        data=data,
        traceparent=found.get("traceparent", attributes.get("traceparent", "")),
        subject=attributes.get("subject", ""),
        time=attributes.get("time", ""),
    )


def _texts(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Headers as text, their names in small letters. Raises Unreadable where an attribute says two things or is no text."""
    found: dict[str, str] = {}
    for name, raw in headers:
        name = name.lower()
        ours = name.startswith("ce_")
        try:
            text = (raw or b"").decode("utf-8", "strict" if ours else "replace")
        except UnicodeDecodeError:
            # Two ids that differ only there would become one, and so would their jobs.
            raise Unreadable(f"the header {shown(name)} is not UTF-8") from None
        if ours and found.get(name, text) != text:
            raise Unreadable(f"the header {shown(name)} is there twice, with different values")
        found[name] = text
    return found


def _structured(value: bytes) -> tuple[dict[str, str], bytes]:
    try:
        body = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
        attributes = {k: msgspec.json.decode(v, type=str) for k, v in body.items() if k in _ATTRIBUTES}
    except _NO_JSON as wrong:
        raise Unreadable(f"not a structured CloudEvent: {wrong}") from None
    if "data" not in body:
        raise Unreadable("a structured CloudEvent needs its event under 'data'")
    return attributes, bytes(body["data"])


_ATTRIBUTES = frozenset({"type", "id", "source", "subject", "time", "traceparent"})
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are none; the last one for arrays and objects within each other, about a thousand of them."""


def check_depth(data: bytes, most: int) -> None:
    """Raises Unreadable for JSON with more than `most` arrays and objects within each other. What is no JSON is left to the decoder."""
    if data.count(b"[") + data.count(b"{") <= most:
        return
    bare = b"".join(data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])  # without strings
    left = bare.translate(_AS_ARRAYS, _NO_BRACKETS)
    for _ in range(most):
        if b"[" * (most + 1) in left:
            break
        inner = left.replace(b"[]", b"")
        if inner == left:
            return
        left = inner
    if left:
        raise Unreadable(f"more than {most} arrays and objects lie within each other")


_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def decode(data: bytes, kind: type[T]) -> T:
    """The event in `data`. Unknown fields are ignored. Raises Unreadable with the place of the first fault."""
    decoder = _decoders.get(kind)
    if decoder is None:
        with _making:
            decoder = _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    try:
        return decoder.decode(data)
    except _NO_JSON as wrong:
        raise Unreadable(f"{kind.__name__}: {wrong}") from None


def decode_any(envelope: Envelope) -> msgspec.Struct:
    """The event of an envelope, whichever it is. Raises Unreadable for a type that is not ours."""
    kind = events.BY_NAME.get(envelope.type)
    if kind is None:
        raise Unreadable(
            f"unknown event type {shown(envelope.type)}; known are " + ", ".join(events.TYPE_PREFIX + n for n in sorted(events.BY_NAME))
        )
    return decode(envelope.data, kind)
