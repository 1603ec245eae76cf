"""Every rule of what breaks somebody, and that what breaks nobody is let through."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from schemas.compatibility import Contract, TopicShape, compare

EVENT = ()
BOTH = pytest.mark.parametrize("requests", [("Thing",), ()], ids=["request", "event"])


def schema(**fields: object) -> dict[str, object]:
    """Of a struct `Thing` with these fields: a type, or (type, default)."""
    made = msgspec.defstruct("Thing", [(n, *t) if isinstance(t, tuple) else (n, t) for n, t in fields.items()], kw_only=True)
    return of(made)


def of(kind: type) -> dict[str, object]:
    _, components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    return components[kind.__name__] | {"$defs": components}


def found(old: dict[str, object], new: dict[str, object], requests: tuple[str, ...] = ()) -> list[str]:
    return compare(
        Contract(topics={}, schemas={"Thing": old}, requests=requests), Contract(topics={}, schemas={"Thing": new}, requests=requests)
    )


@BOTH
def test_the_same_contract_is_compatible(requests: tuple[str, ...]) -> None:
    thing = schema(a=str, b=(int, 3), c=Literal["x", "y"], d=(list[str], []), e=(dict[str, int] | None, None))
    assert found(thing, thing, requests) == []


@BOTH
def test_a_field_with_a_default_may_be_added(requests: tuple[str, ...]) -> None:
    assert found(schema(a=str), schema(a=str, b=(int, 0)), requests) == []


@BOTH
def test_a_removed_field_loses_its_meaning_in_silence(requests: tuple[str, ...]) -> None:
    (line,) = found(schema(a=str, b=(int, 0)), schema(a=str), requests)
    assert line.startswith("Thing.b: removed or renamed")


@BOTH
def test_a_renamed_field_is_a_removed_one(requests: tuple[str, ...]) -> None:
    lines = found(schema(old=(str, "")), schema(new=(str, "")), requests)
    assert [line.partition(":")[0] for line in lines] == ["Thing.old"]


@BOTH
def test_a_newly_required_field_is_missing_in_what_was_written(requests: tuple[str, ...]) -> None:
    lines = found(schema(a=str), schema(a=str, b=int), requests)
    assert lines == ["Thing.b: required, though it may be left out (what was written for the release would be refused)"]


@BOTH
def test_a_field_that_becomes_required_is_missing_where_it_was_left_out(requests: tuple[str, ...]) -> None:
    (line,) = found(schema(b=(int, 0)), schema(b=int), requests)
    assert line.startswith("Thing.b: required")


def test_a_required_field_of_an_event_may_not_become_optional_since_old_readers_insist_on_it() -> None:
    (line,) = found(schema(b=int), schema(b=(int, 0)), EVENT)
    assert line == "Thing.b: required, though it may be left out (what is written now would be refused by readers of the release)"


def test_a_required_field_of_a_request_may_become_optional_since_only_we_read_it() -> None:
    assert found(schema(b=int), schema(b=(int, 0)), ("Thing",)) == []


@BOTH
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (float, int),
        (str, int),
        (str | None, str),
        (str, Annotated[str, Meta(max_length=10)]),
        (Annotated[str, Meta(max_length=20)], Annotated[str, Meta(max_length=10)]),
        (Annotated[str, Meta(min_length=1)], Annotated[str, Meta(min_length=2)]),
        (Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=1)]),
        (Annotated[int, Meta(le=9)], Annotated[int, Meta(le=8)]),
        (Annotated[float, Meta(gt=0)], Annotated[float, Meta(gt=1)]),
        (str, Annotated[str, Meta(pattern="^a")]),
        (str, Literal["a", "b"]),
        (list[str], list[int]),
        (list[str], Annotated[list[str], Meta(max_length=3)]),
        (dict[str, str], dict[str, int]),
    ],
)
def test_a_narrowed_type_refuses_what_was_written(old: object, new: object, requests: tuple[str, ...]) -> None:
    lines = found(schema(a=old), schema(a=new), requests)
    assert any("what was written for the release would be refused" in line for line in lines), lines


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (int, float),
        (str, str | None),
        (Annotated[str, Meta(max_length=10)], Annotated[str, Meta(max_length=20)]),
        (Annotated[str, Meta(pattern="^a")], str),
        (Literal["a"], Literal["a", "b"]),
        (Literal["a"], str),
    ],
)
def test_a_type_may_be_widened_in_requests_and_not_in_events(old: object, new: object) -> None:
    assert found(schema(a=old), schema(a=new), ("Thing",)) == []
    (line,) = found(schema(a=old), schema(a=new), EVENT)
    assert "what is written now would be refused by readers of the release" in line


@BOTH
def test_an_enumeration_may_not_lose_a_value(requests: tuple[str, ...]) -> None:
    lines = found(schema(a=Literal["x", "y"]), schema(a=Literal["x"]), requests)
    assert lines == ["Thing.a: the value 'y' is not accepted (what was written for the release would be refused)"]


@BOTH
def test_a_default_may_not_change_since_records_that_leave_it_out_would_mean_something_else(requests: tuple[str, ...]) -> None:
    (line,) = found(schema(a=(int, 1)), schema(a=(int, 2)), requests)
    assert line.startswith("Thing.a: its default was 1 and is 2")


class Inner(msgspec.Struct):
    x: str = ""


@pytest.mark.parametrize("kind", [Inner, list[Inner], Inner | None, tuple[Inner, ...]])
def test_structs_inside_are_compared_too(kind: object) -> None:
    old = schema(a=kind)
    new = msgspec.json.decode(msgspec.json.encode(old).replace(b'"x"', b'"y"'))
    (line,) = found(old, new, EVENT)
    assert ".x: removed or renamed" in line


def test_a_struct_inside_of_itself_ends() -> None:
    tree = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}, "default": []}},
        "required": [],
    }
    thing = tree | {"$defs": {"Tree": tree}}
    assert found(thing, thing) == []


def test_positions_of_arrays_may_be_added_at_the_end_and_neither_moved_nor_removed() -> None:
    def titled(*names: str, **defaults: int) -> dict[str, object]:
        items = [{"title": n, "type": "integer"} | ({"default": defaults[n]} if n in defaults else {}) for n in names]
        return {"type": "array", "prefixItems": items, "minItems": len([n for n in names if n not in defaults])}

    old = titled("number", "attempt", "due", due=0)
    assert found(old, titled("number", "attempt", "due", "worker", due=0, worker=0)) == []
    assert any("position" in line for line in found(old, titled("attempt", "number", "due", due=0)))
    assert found(old, titled("number", "attempt")) == ["Thing: removed at the end: due"]
    assert any("minItems" in line for line in found(old, titled("number", "attempt", "due", "worker", due=0)))
    assert any("its default was 0 and is 7" in line for line in found(old, titled("number", "attempt", "due", due=7)))


def test_an_event_may_not_disappear() -> None:
    before = Contract(topics={}, schemas={"Thing": schema(a=str)}, requests=())
    assert compare(before, Contract(topics={}, schemas={}, requests=())) == [
        "Thing: removed or renamed; what was written under this type cannot be read any more"
    ]


def test_a_new_event_is_welcome() -> None:
    before = Contract(topics={}, schemas={}, requests=())
    assert compare(before, Contract(topics={}, schemas={"Thing": schema(a=str)}, requests=())) == []


# ── Topics ─────────────────────────────────────────────────────────────────────────────────────────────────────────

JOBS = TopicShape(partitions=6, key="job id", cleanup="compact,delete", carries=("JobStatus",))
EVENTS = TopicShape(partitions=6, key="job id", cleanup="delete", carries=("TaskStarted", "TaskFailed"))
REQUESTS = TopicShape(partitions=6, key="any", cleanup="delete")


def topics_found(old: dict[str, TopicShape], new: dict[str, TopicShape]) -> list[str]:
    return compare(Contract(topics=old, schemas={}, requests=()), Contract(topics=new, schemas={}, requests=()))


def changed(topic: TopicShape, **changes: object) -> TopicShape:
    return msgspec.structs.replace(topic, **changes)


def test_a_topic_may_be_added_and_not_removed() -> None:
    assert topics_found({}, {"t": REQUESTS}) == []
    assert topics_found({"t": REQUESTS}, {}) == ["topic t: removed; its readers and writers lose it"]


def test_partitions_cannot_be_taken_away() -> None:
    (line,) = topics_found({"t": REQUESTS}, {"t": changed(REQUESTS, partitions=5)})
    assert line == "topic t: 6 partitions became 5; Kafka cannot take partitions away"


def test_partitions_may_be_added_where_no_state_hangs_on_the_key() -> None:
    assert topics_found({"t": REQUESTS}, {"t": changed(REQUESTS, partitions=12)}) == []


@pytest.mark.parametrize("name", ["jobs", "events"])
def test_partitions_may_not_be_added_where_a_compacted_topic_has_the_same_key(name: str) -> None:
    old = {"jobs": JOBS, "events": EVENTS}
    (line,) = topics_found(old, old | {name: changed(old[name], partitions=12)})
    assert line.startswith(f"topic {name}: 6 partitions became 12")


def test_the_key_may_not_change() -> None:
    (line,) = topics_found({"t": JOBS}, {"t": changed(JOBS, key="asset id")})
    assert line.startswith("topic t: its key was 'job id' and is 'asset id'")


def test_a_topic_may_not_begin_or_cease_to_be_compacted() -> None:
    assert len(topics_found({"t": JOBS}, {"t": changed(JOBS, cleanup="delete")})) == 1
    assert len(topics_found({"t": REQUESTS}, {"t": changed(REQUESTS, cleanup="compact")})) == 1


def test_a_topic_may_not_cease_to_carry_an_event() -> None:
    (line,) = topics_found({"t": EVENTS}, {"t": changed(EVENTS, carries=("TaskStarted",))})
    assert line == "topic t: does not carry TaskFailed any more"
