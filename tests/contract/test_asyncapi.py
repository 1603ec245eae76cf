"""`schemas/asyncapi.yaml` is AsyncAPI 3.1: by the official parser where there is node, and by what can be seen without it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

import schemas
from schemas import topics
from schemas.json_schema import references
from tests.unit.schemas.test_json_schema import EXAMPLES

COMMITTED = Path(schemas.__file__).parent / "asyncapi.yaml"
TOOLING = Path(__file__).parents[1] / "tooling" / "asyncapi"
INSTALL_SECONDS = 300
"""55 MB of packages, once a machine."""


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMMITTED.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="session")
def parser() -> Path:
    """Folder with the official parser, installed into the cache by the lock file."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed: the official AsyncAPI parser cannot run")
    lock = (TOOLING / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reelworks"
    folder = cache / f"asyncapi-parser-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="npm-", dir=cache) as place:
            draft = Path(place) / "draft"
            shutil.copytree(TOOLING, draft, ignore=shutil.ignore_patterns("node_modules"))
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=draft, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
            if done.returncode:
                pytest.skip(f"npm could not install the official AsyncAPI parser: {done.stderr.strip()[-300:]}")
            if not folder.is_dir():
                draft.rename(folder)
    return folder


def parse(parser: Path, *documents: Path) -> list[dict[str, Any]]:
    """What the parser says of each."""
    command = ["node", "parse.js", *map(str, documents)]
    shutil.copyfile(TOOLING / "parse.js", parser / "parse.js")
    done = subprocess.run(command, cwd=parser, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_official_parser_accepts_it_and_sees_every_topic_with_its_messages(
    parser: Path, document: dict[str, Any], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.yaml"
    channel = document["channels"]["media.requests"] | {"bindings": {"kafka": {"partitions": 0, "bindingVersion": "0.5.0"}}}
    broken.write_text(yaml.safe_dump(document | {"channels": document["channels"] | {"media.requests": channel}}))
    committed, wrong = parse(parser, COMMITTED, broken)
    assert committed["diagnostics"] == []
    assert committed["accepted"]
    assert committed["version"] == "3.1.0"
    assert committed["channels"] == {topic.name: list(topic.carries) or ["DeadLetter"] for topic in topics.TOPICS}
    # The parser is awake: a topic with no partition is refused.
    assert not wrong["accepted"]
    assert any("partitions" in said["path"] for said in wrong["diagnostics"])


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = references(document)
    assert len(found) > 100
    for reference in found:
        node: Any = document
        for name in reference.removeprefix("#/").split("/"):
            node = node[name]


def test_channels_are_the_topics_with_their_settings(document: dict[str, Any]) -> None:
    assert list(document["channels"]) == [topic.name for topic in topics.TOPICS]
    for topic in topics.TOPICS:
        channel = document["channels"][topic.name]
        binding = channel["bindings"]["kafka"]
        assert (channel["address"], binding["topic"], binding["partitions"]) == (topic.name, topic.name, topic.partitions)
        assert binding["topicConfiguration"]["cleanup.policy"] == topic.cleanup.split(",")
        assert binding["topicConfiguration"]["retention.ms"] == topic.retention_ms
        assert list(channel["messages"]) == (list(topic.carries) or ["DeadLetter"])


def test_other_systems_send_requests_and_receive_what_becomes_of_them(document: dict[str, Any]) -> None:
    operations = document["operations"]
    assert operations["receive.media.requests"]["action"] == "receive"
    assert "send.media.requests" not in operations
    for name in ("media.jobs", "media.completions", "media.segments", "media.dead-letters"):
        assert operations[f"send.{name}"]["action"] == "send"
        assert f"receive.{name}" not in operations


def test_headers_are_those_of_cloud_events(document: dict[str, Any]) -> None:
    headers = document["components"]["messages"]["UploadReceived"]["headers"]
    assert headers["properties"]["ce_type"]["const"] == "reelworks.UploadReceived"
    assert {"ce_type", "ce_source", "ce_id"} == set(headers["required"])


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda e: type(e).__name__)
def test_payloads_are_draft_07_and_describe_what_is_written(event: Any, document: dict[str, Any]) -> None:
    schema = {"$ref": f"#/components/schemas/{type(event).__name__}", "components": document["components"]}
    for own in document["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(own)
    assert [e.message for e in jsonschema.Draft7Validator(schema).iter_errors(json.loads(msgspec.json.encode(event)))] == []
