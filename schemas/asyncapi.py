"""AsyncAPI 3.1 of the topics and of what they carry. Pure.

Operations are seen from Reelworks: it *receives* requests and *sends* what becomes of them. Topics between its own
services have both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from schemas import json_schema, topics
from schemas.dead_letters import HEADERS as DEAD_LETTER_HEADERS
from schemas.events import TYPE_PREFIX
from schemas.topics import TOPICS, Topic

Node = dict[str, Any]
KAFKA_BINDING: Final = "0.5.0"
DEAD_LETTER: Final = "DeadLetter"
FROM_OUTSIDE: Final = (topics.REQUESTS,)
TO_OUTSIDE: Final = (topics.JOBS, topics.ASSETS, topics.COMPLETIONS, topics.SEGMENTS, topics.DEAD_LETTERS)
"""Topics that other systems may read and rely on. The others are between our own services, described for whoever looks inside."""

DESCRIPTION: Final = """\
Reelworks turns a bucket of video into a library that people can watch, search and take away. Other systems ask for work on
`media.requests` and hear of it on `media.jobs`, `media.completions`, `media.segments` and `media.dead-letters`.

Every record but a dead letter is a CloudEvent 1.0 in Kafka's binary mode: attributes in headers `ce_*`, the event alone as
JSON in the value. `media.requests` is also read in structured mode (`content-type: application/cloudevents+json`). Readers
ignore fields that they do not know; a field that is left out has its default.
"""


def document(version: str) -> Node:
    """The description of this version of the program."""
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Reelworks",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap_servers}",
                "protocol": "kafka",
                "description": "The brokers that KAFKA_BOOTSTRAP_SERVERS names.",
                "variables": {"bootstrap_servers": {"default": "127.0.0.1:9092"}},
            }
        },
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {name: operation for topic in TOPICS for name, operation in _operations(topic).items()},
        "components": {
            "messages": {name: _message(name) for name in _carried()} | {DEAD_LETTER: _dead_letter()},
            "schemas": {name: _draft07(schema) for name, schema in json_schema.components("#/components/schemas/{name}").items()},
        },
    }


def _carried() -> list[str]:
    return sorted({name for topic in TOPICS for name in topic.carries})


def _names(topic: Topic) -> tuple[str, ...]:
    return topic.carries or (DEAD_LETTER,)


def _channel(topic: Topic) -> Node:
    configuration: Node = {name: _number(value) for name, value in topic.broker_config().items()}
    configuration["cleanup.policy"] = topic.cleanup.split(",")
    return {
        "address": topic.name,
        "title": topic.name,
        "summary": topic.about,
        "description": f"Key: {topic.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _names(topic)},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _operations(topic: Topic) -> dict[str, Node]:
    made: dict[str, Node] = {}
    for action in ("receive", "send"):
        if (action == "receive" and topic.name in TO_OUTSIDE) or (action == "send" and topic.name in FROM_OUTSIDE):
            continue
        made[f"{action}.{topic.name}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{topic.name}"},
            "summary": topic.about,
            "messages": [{"$ref": f"#/channels/{topic.name}/messages/{name}"} for name in _names(topic)],
        }
    return made


def _message(name: str) -> Node:
    schema = json_schema.PUBLISHED[name]
    made: Node = {
        "name": name,
        "title": name,
        "summary": " ".join((schema.__doc__ or "").split()) or name,
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": _key(name)}, "bindingVersion": KAFKA_BINDING}},
    }
    if name == "Position":  # the coordinator's own record, recognised by its key
        return made
    made["headers"] = _headers(name)
    if "job_id" in schema.__struct_fields__:
        made["correlationId"] = {"location": "$message.payload#/job_id", "description": "The job."}
    return made


def _key(name: str) -> str:
    if name == "Position":
        return "@offset"
    if name == "JobFailed":
        return "{subject}:{kind}:failed"
    return " or ".join(dict.fromkeys(topic.key for topic in TOPICS if name in topic.carries))


def _headers(name: str) -> Node:
    found: Node = {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_type": {"type": "string", "const": TYPE_PREFIX + name},
        "ce_source": {"type": "string", "description": "Who produced it, a URI reference."},
        "ce_id": {"type": "string", "description": "Unique for its source. The same source and id are the same event."},
        "content-type": {"type": "string", "examples": ["application/json"]},
        "traceparent": {"type": "string", "description": "W3C trace context; carried through all that follows."},
    }
    if name == "JobStatus":
        found["reelworks-state"] = {"type": "string", "description": "`state` of the value."}
        found["reelworks-cleanup"] = {"type": "string", "description": "`cleanup` of the value."}
    return {"type": "object", "required": ["ce_type", "ce_source", "ce_id"], "properties": found}


def _dead_letter() -> Node:
    return {
        "name": DEAD_LETTER,
        "title": DEAD_LETTER,
        "summary": "A record that could not be read, byte for byte with key and headers; or a RetryRequested for a job that was given up.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "properties": {name: {"type": "string", "description": text} for name, text in DEAD_LETTER_HEADERS.items()},
        },
        "payload": {"description": "As it came."},
        "bindings": {"kafka": {"key": {"type": "string", "description": "As it came."}, "bindingVersion": KAFKA_BINDING}},
    }


def _draft07(schema: Any) -> Any:
    """AsyncAPI's own schema format is draft 07: a tuple is an array of `items`, and nothing may stand beside a `$ref`."""
    if isinstance(schema, list):
        return [_draft07(item) for item in schema]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(schema, Mapping):
        return schema
    made: Node = {("items" if name == "prefixItems" else name): _draft07(value) for name, value in schema.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(made.get("$ref"), str) and len(made) > 1:
        reference = made.pop("$ref")
        return {"allOf": [{"$ref": reference}]} | made
    return made


def _number(value: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
