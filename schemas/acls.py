"""Who may do what on the broker, as data: `deploy/kafka-acls.yaml` is made from it, and `reelworks topics acls` prints and applies it.

Kafka's own rules of what follows from what: Read, Write, Delete and Alter let one Describe, AlterConfigs lets one DescribeConfigs
(https://kafka.apache.org/documentation/#operations_in_kafka). An idempotent producer needs nothing beside Write (KIP-679).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

from schemas import events, topics

Operation = Literal["Read", "Write", "Create", "Alter", "Describe", "DescribeConfigs", "AlterConfigs"]
Kind = Literal["topic", "group", "transactionalId"]

READERS: Final = "reelworks-reader"
"""What readers without a group name as theirs. Nobody ever joins it."""
COORDINATOR_GROUP: Final = "reelworks-coordinator"
INTAKE_GROUP: Final = "reelworks-intake"
TRANSACTIONS: Final = "reelworks-coordinator-"
"""Before the number of a partition: the transactional id of its owner."""
OUTSIDE: Final = "outside-"
"""Groups of other systems."""


def group(service: str) -> str:
    """The group of a service's workers."""
    return f"reelworks-{service}"


def transactional_id(partition: int) -> str:
    """Of whoever owns the partition of media.jobs."""
    return f"{TRANSACTIONS}{partition}"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What is allowed on one thing, or with `prefix` on all whose names begin so."""

    kind: Kind
    name: str
    operations: tuple[Operation, ...]
    why: str
    prefix: bool = False


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who signs in, and all that this one may do."""

    name: str
    about: str
    rules: tuple[Rule, ...]


def _topic(name: str, *operations: Operation, why: str, prefix: bool = False) -> Rule:
    return Rule(kind="topic", name=name, operations=operations, why=why, prefix=prefix)


def _member(name: str, why: str, *, prefix: bool = False) -> Rule:
    return Rule(kind="group", name=name, operations=("Read",), why=why, prefix=prefix)


_READER: Final = Rule(
    kind="group",
    name=READERS,
    operations=("Describe",),
    why="readers are in no group; Kafka's C client looks for the coordinator of one all the same",
)


def _worker(service: str, about: str, *more: Rule) -> Principal:
    return Principal(
        name=f"reelworks-{service}",
        about=about,
        rules=(
            _topic(topics.tasks(service), "Read", why="its work"),
            _member(group(service), "shares the work with others of its kind"),
            _topic(topics.CONTROL, "Read", why="hears of cancelled jobs"),
            _READER,
            _topic(topics.JOB_EVENTS, "Write", why="says that a task has begun, and how it ended"),
            _topic(topics.WORKERS, "Write", why="heartbeats"),
            *more,
        ),
    )


def _coordinator() -> Principal:
    released = (_topic(topics.tasks(service), "Write", why="releases tasks") for service in events.SERVICES)
    return Principal(
        name="reelworks-coordinator",
        about="Takes requests in, decides on every job. The only one that writes statuses.",
        rules=(
            _topic(topics.REQUESTS, "Read", "Write", why="takes requests in; asks for what follows a job"),
            _member(INTAKE_GROUP, "shares the requests with other coordinators"),
            _topic(topics.JOB_EVENTS, "Read", "Write", why="the intake writes, the owner of a partition reads"),
            _member(COORDINATOR_GROUP, "shares the partitions with other coordinators"),
            _topic(topics.JOBS, "Read", "Write", why="the state of every job, read back at the start"),
            _topic(topics.COMPLETIONS, "Write", why="outcomes"),
            *released,
            _topic(topics.CONTROL, "Write", why="tells workers of cancelled jobs"),
            _topic(topics.DEAD_LETTERS, "Write", why="sets aside what it cannot read, and what was given up"),
            _topic(topics.WORKERS, "Read", "Write", why="the clock of the leases: everybody's heartbeats, and its own echo"),
            _READER,
            Rule(
                kind="transactionalId",
                name=TRANSACTIONS,
                operations=("Write",),
                why="owns partitions; whoever may use one of these ids can turn the owner out",
                prefix=True,
            ),
        ),
    )


PRINCIPALS: Final[tuple[Principal, ...]] = (
    Principal(
        name="reelworks-gateway",
        about="Sends what clients want, shows what became of it.",
        rules=(
            _topic(topics.REQUESTS, "Read", "Write", why="sends requests; what is acknowledged is shown before the coordinator has it"),
            _topic(topics.ASSETS, "Read", "Write", why="what people decide about assets"),
            _topic(topics.JOBS, "Read", why="its view"),
            _topic(topics.COMPLETIONS, "Read", why="its view"),
            _topic(topics.PLAYLISTS, "Read", why="hears of new versions of growing playlists"),
            _topic(topics.WORKERS, "Read", why="says whether a service has workers, and how long the line is"),
            _READER,
        ),
    ),
    _coordinator(),
    _worker(
        "transcoder",
        "Encodes.",
        _topic(topics.SEGMENTS, "Write", why="says which segments can be played already"),
    ),
    _worker("streamer", "Writes what is played of a whole film."),
    Principal(
        name="reelworks-streamer-live",
        about="Writes what is played of a film that is being encoded. It takes no tasks.",
        rules=(
            _topic(topics.SEGMENTS, "Read", why="segments that can be played already"),
            _member(topics.LIVE_APP, "shares the films with another of its kind"),
            _topic(topics.LIVE_TABLE, "Read", "Write", why="what it remembers"),
            _topic(topics.PLAYLISTS, "Write", why="announces each version of a playlist"),
            _topic(topics.COMPLETIONS, "Write", why="says that a film can be played, under keys of its own: {asset}:stream:progressive"),
        ),
    ),
    _worker("zipper", "Makes archives."),
    _worker("notifier", "Sends callbacks."),
    _worker("indexer", "Will make films searchable. This version has none."),
    Principal(
        name="reelworks-operator",
        about="A person at `reelworks dead-letters`, `reelworks topics diff` and `reelworks check`.",
        rules=(
            _topic("media.", "Read", "DescribeConfigs", why="looks at everything", prefix=True),
            _topic(topics.LIVE_TABLE, "Describe", "DescribeConfigs", why="compares its settings"),
            _READER,
            _topic(topics.DEAD_LETTERS, "Write", why="notes what was replayed"),
            _topic(topics.REQUESTS, "Write", why="replays what came from there"),
            _topic(topics.JOB_EVENTS, "Write", why="replays what came from there"),
        ),
    ),
    Principal(
        name="reelworks-administrator",
        about="`reelworks topics apply`. ACLs themselves and users are for somebody with rights on the cluster.",
        rules=(
            _topic("media.", "Create", "Alter", "AlterConfigs", why="makes topics, adds partitions, corrects settings", prefix=True),
            _topic(topics.LIVE_TABLE, "Create", "Alter", "AlterConfigs", why="the same"),
        ),
    ),
    Principal(
        name="outside-producer",
        about="Another system that asks for work.",
        rules=(_topic(topics.REQUESTS, "Write", why="requests"),),
    ),
    Principal(
        name="outside-consumer",
        about="Another system that wants to know what became of it.",
        rules=(
            _topic(topics.JOBS, "Read", why="statuses"),
            _topic(topics.COMPLETIONS, "Read", why="outcomes"),
            _topic(topics.SEGMENTS, "Read", why="parts of films that can be played already"),
            _member(OUTSIDE, "groups of its own", prefix=True),
        ),
    ),
)


def of_service(service: str) -> Principal:
    """By the name that `reelworks serve` takes. Raises KeyError."""
    return {one.name: one for one in PRINCIPALS}[f"reelworks-{service}"]


def commands(principals: Iterable[Principal]) -> Iterator[str]:
    """Arguments of Kafka's `kafka-acls.sh`, one line for each rule. Pure."""
    names: dict[Kind, str] = {"topic": "--topic", "group": "--group", "transactionalId": "--transactional-id"}
    for one in principals:
        for rule in one.rules:
            operations = " ".join(f"--operation {operation}" for operation in rule.operations)
            pattern = " --resource-pattern-type prefixed" if rule.prefix else ""
            yield f"--add --allow-principal User:{one.name} {operations} {names[rule.kind]} {rule.name}{pattern}"


def document() -> str:
    """All of it as YAML: users of Strimzi, with the reason of each rule. Pure."""
    return "---\n".join([_HEAD, *(_user(one) for one in PRINCIPALS)])


_HEAD: Final = """\
# Least privilege: what each service and each person needs on Kafka, and nothing more.
# Made by `make generate` from schemas/acls.py. Not to be edited.
#
# On Kubernetes with Strimzi: `kubectl apply -f deploy/kafka-acls.yaml`, with the name of your cluster in place of `kafka`.
# Elsewhere `reelworks topics acls` prints the same for Kafka's kafka-acls.sh, or applies it. docs/operations.md tells more.
"""


def _user(one: Principal) -> str:
    lines = [
        f"# {one.about}",
        "apiVersion: kafka.strimzi.io/v1",
        "kind: KafkaUser",
        "metadata:",
        f"  name: {one.name}",
        "  labels: {strimzi.io/cluster: kafka}",
        "spec:",
        "  authentication: {type: scram-sha-512}",
        "  authorization:",
        "    type: simple",
        "    acls:",
    ]
    for rule in one.rules:
        pattern = "prefix" if rule.prefix else "literal"
        resource = f"{{type: {rule.kind}, name: {rule.name}, patternType: {pattern}}}"
        lines += [f"      # {rule.why}", f"      - {{resource: {resource}, operations: [{', '.join(rule.operations)}]}}"]
    return "\n".join(lines) + "\n"
