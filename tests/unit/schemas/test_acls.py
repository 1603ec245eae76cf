"""The list of rights against the code that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas import acls, events, topics
from services.cli.stack import LIVE, WORKERS
from services.coordinator import host, intake
from services.gateway.views import fold
from services.runtime.kafka import client
from services.runtime.settings import Settings

FILE = Path(__file__).parents[3] / "deploy" / "kafka-acls.yaml"
READ_BY_PEOPLE = ("reelworks-operator", "reelworks-administrator")


def rules(kind: str, operation: str) -> dict[str, list[str]]:
    """Names of principals by what they may do this to, without people."""
    found: dict[str, list[str]] = {}
    for one in acls.PRINCIPALS:
        for rule in one.rules:
            if rule.kind == kind and operation in rule.operations and one.name not in READ_BY_PEOPLE:
                found.setdefault(rule.name, []).append(one.name.removeprefix("reelworks-"))
    return found


def test_the_file_is_what_is_declared() -> None:
    assert FILE.read_text() == acls.document(), "run `make generate`"
    users: list[dict[str, Any]] = [user for user in yaml.safe_load_all(FILE.read_text()) if user]
    assert [user["metadata"]["name"] for user in users] == [one.name for one in acls.PRINCIPALS]
    for user, one in zip(users, acls.PRINCIPALS, strict=True):
        assert (user["kind"], user["spec"]["authentication"]) == ("KafkaUser", {"type": "scram-sha-512"})
        told = [
            (r["resource"]["type"], r["resource"]["name"], r["resource"]["patternType"] == "prefix", tuple(r["operations"]))
            for r in user["spec"]["authorization"]["acls"]
        ]
        assert told == [(rule.kind, rule.name, rule.prefix, rule.operations) for rule in one.rules]


def test_every_process_has_a_principal() -> None:
    for service in ("gateway", "coordinator", LIVE, *WORKERS):
        assert acls.of_service(service).rules


def test_every_topic_has_those_who_write_it_and_those_who_read_it() -> None:
    names = {topic.name for topic in topics.TOPICS}
    assert set(rules("topic", "Write")) == names
    assert set(rules("topic", "Read")) == names - {topics.DEAD_LETTERS}, "dead letters are read by people"
    for one in acls.PRINCIPALS:
        for rule in one.rules:
            if rule.kind == "topic":
                assert any(n.startswith(rule.name) for n in names) if rule.prefix else rule.name in names


def test_a_service_reads_its_own_tasks_and_shares_them_in_its_own_group() -> None:
    readers, members = rules("topic", "Read"), rules("group", "Read")
    for service in events.SERVICES:
        assert readers[topics.tasks(service)] == [service]
        assert members[acls.group(service)] == [service]


def test_what_only_the_coordinator_may_do_nobody_else_may() -> None:
    writers = rules("topic", "Write")
    for topic in (topics.JOBS, topics.CONTROL, topics.DEAD_LETTERS, *map(topics.tasks, events.SERVICES)):
        assert writers[topic] == ["coordinator"]
    assert writers[topics.COMPLETIONS] == ["coordinator", LIVE]
    assert rules("transactionalId", "Write") == {acls.TRANSACTIONS: ["coordinator"]}
    assert all(acls.transactional_id(n).startswith(acls.TRANSACTIONS) for n in range(topics.JOB_PARTITIONS))


def test_what_another_system_may_do_is_little() -> None:
    assert [topic for topic, who in rules("topic", "Write").items() if any(name.startswith("outside") for name in who)] == [topics.REQUESTS]


def test_groups_are_those_of_the_code() -> None:
    assert rules("group", "Read") == {
        host.GROUP: ["coordinator"],
        intake.GROUP: ["coordinator"],
        **{acls.group(service): [service] for service in events.SERVICES},
        topics.LIVE_APP: [LIVE],
        acls.OUTSIDE: ["outside-consumer"],
    }
    assert client.reader(Settings(bootstrap_servers="kafka:9092"))["group.id"] == acls.READERS
    assert acls.READERS not in rules("group", "Read"), "nobody joins it"


def test_the_gateway_may_read_what_its_view_is_made_of() -> None:
    readers = rules("topic", "Read")
    assert all("gateway" in readers[topic] for topic in (*fold.TOPICS, topics.PLAYLISTS, topics.WORKERS))


def test_no_name_is_given_twice_to_one_principal_and_no_rule_is_without_a_reason() -> None:
    for one in acls.PRINCIPALS:
        names = [(rule.kind, rule.name) for rule in one.rules]
        assert len(names) == len(set(names))
        assert all(rule.why and rule.operations for rule in one.rules)


@pytest.mark.parametrize(
    ("principal", "line"),
    [
        ("gateway", "--add --allow-principal User:reelworks-gateway --operation Read --operation Write --topic media.requests"),
        (
            "coordinator",
            "--add --allow-principal User:reelworks-coordinator --operation Write --transactional-id reelworks-coordinator- "
            "--resource-pattern-type prefixed",
        ),
        ("zipper", "--add --allow-principal User:reelworks-zipper --operation Read --group reelworks-zipper"),
    ],
)
def test_rules_are_told_in_the_words_of_kafkas_tool(principal: str, line: str) -> None:
    assert line in list(acls.commands([acls.of_service(principal)]))
