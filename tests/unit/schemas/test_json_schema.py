"""The generated schemas say what the structs say, and describe every field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from schemas import envelope, events, json_schema

DOCUMENTS = json_schema.documents()
EXAMPLES: list[msgspec.Struct] = [
    events.UploadReceived(
        key="incoming/a.mov",
        title="A",
        recipe=events.Recipe(heights=(720,), watermark=events.Watermark(key="logo.png")),
        then=(events.FollowUp(type="CallbackRequested", data={"url": "https://cms.example.org/hook"}),),
    ),
    events.ZipRequested(target=events.ObjectRef(key="all.zip"), entries=(events.ZipEntry(key="a"),)),
    events.CallbackRequested(
        url="https://cms.example.org/hook", cause=events.Outcome(job_id="j", kind="transcode", subject="s", state="succeeded")
    ),
    events.TaskFailed(job_id="j", stage=1, number=2, attempt=1, worker="w", error=events.ErrorInfo(code="c", message="m")),
    events.TaskReleased(job_id="j", kind="transcode", role="run", stage=1, number=0, attempt=1),
    events.WorkerSeen(worker="w", service="transcoder", running=(events.RunningTask(job_id="j", stage=1, number=0, attempt=1),)),
    events.JobStatus(
        job_id="j",
        kind="transcode",
        service="transcoder",
        subject="s",
        state="running",
        request_type="UploadReceived",
        request={"key": "a"},
        created_ms=1,
        updated_ms=2,
        stages=[events.StageStatus(name="plan", service="transcoder", total=1, done=1)],
        outstanding=[events.Outstanding(0, 1, 3, "w", 0.5)],
        again=[events.Again(1, 2, 5)],
        failures=[events.FailureCount(1, "transient", 1)],
        attempts=[events.AttemptNote(task="encode", attempt=1, failure_class="transient", message="m", at_ms=3)],
    ),
    events.TranscodeCompleted(job_id="j", subject="s", kind="transcode", asset_id="s"),
    events.JobFailed(job_id="j", subject="s", kind="transcode", state="failed", error=events.ErrorInfo(code="c", message="m")),
    events.SegmentsReady(
        asset_id="a",
        job_id="j",
        bucket="b",
        recipe="r",
        rendition="video-720",
        init_key="i",
        segments=(events.Segment(number=0, key="k", duration_seconds=4.0, size=1),),
    ),
]


def test_every_event_has_one() -> None:
    assert {*events.BY_NAME, "Outcome"} == set(DOCUMENTS)


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_it_is_a_valid_schema_of_the_dialect_it_names(name: str) -> None:
    assert DOCUMENTS[name]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(DOCUMENTS[name])


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_reference_is_inside_of_it(name: str) -> None:
    wanted = {reference.removeprefix("#/$defs/") for reference in json_schema.references(DOCUMENTS[name])}
    assert wanted == set(DOCUMENTS[name].get("$defs", {}))


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_field_is_described(name: str) -> None:
    assert _undescribed(name, DOCUMENTS[name]) == []


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda e: type(e).__name__)
def test_what_is_written_is_valid(event: msgspec.Struct) -> None:
    validator = jsonschema.Draft202012Validator(DOCUMENTS[type(event).__name__])
    assert [e.message for e in validator.iter_errors(json.loads(envelope.encode_value(event)))] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UploadReceived", {}),
        ("UploadReceived", {"key": ""}),
        ("UploadReceived", {"key": "a", "asset_id": "-a"}),
        ("UploadReceived", {"key": "a", "recipe": {"heights": [15]}}),
        ("CallbackRequested", {"url": "short"}),
        ("CancelRequested", {"job_id": 7}),
    ],
)
def test_schema_and_decoder_refuse_the_same(name: str, value: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(DOCUMENTS[name]).is_valid(value)
    with pytest.raises(envelope.Unreadable, match=name):
        envelope.decode(json.dumps(value).encode(), events.BY_NAME[name])


def test_a_field_s_own_docstring_goes_before_the_glossary() -> None:
    assert DOCUMENTS["UploadReceived"]["properties"]["bucket"]["description"] == "Left out: the bucket of `REELWORKS_STORAGE_URL`."
    assert DOCUMENTS["ObjectRef" if "ObjectRef" in DOCUMENTS else "ZipRequested"]["$defs"]["ObjectRef"]["properties"]["bucket"][
        "description"
    ].startswith("Bucket of the object")


def test_the_committed_files_are_these() -> None:
    folder = Path(json_schema.__file__).parent / "generated" / "json"
    assert {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")} == DOCUMENTS


def _undescribed(name: str, schema: dict[str, Any]) -> list[str]:
    missing: list[str] = []
    for owner, node in [(name, schema), *schema.get("$defs", {}).items()]:
        named = [(n, p) for n, p in node.get("properties", {}).items()] + [(p["title"], p) for p in node.get("prefixItems", [])]
        missing += [f"{owner}.{n}" for n, p in named if not p.get("description")]
    return missing
