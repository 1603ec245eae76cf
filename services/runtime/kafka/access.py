"""The rights that schemas/acls.py declares: given, and looked at, so that what is missing is told at the start and not in the middle."""

# confluent_kafka.admin documents these names, but its stubs do not list them as exported.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType

from schemas.acls import Principal, Rule
from services.runtime.kafka import refusals
from services.runtime.kafka.admin import TopicError, unreachable
from services.runtime.kafka.client import base
from services.runtime.kafka.producer import BrokerUnavailable
from services.runtime.settings import Settings, kafka_properties

REACH_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 15.0
GROUP_SECONDS: Final = 3.0
"""A broker that never had a group does not know for a while who coordinates one; then nothing is known to be missing."""

_KINDS: Final = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactionalId": ResourceType.TRANSACTIONAL_ID}
_OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Alter": AclOperation.ALTER,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
}


def apply(settings: Settings, principals: Iterable[Principal]) -> int:
    """Give the principals what they are declared to need, and answer how many ACLs that are. What else they may do stays.

    Raises refusals.Denied when that is not for us to do, TopicError when the broker asks nobody for rights.
    """
    wanted = [binding for one in principals for rule in one.rules for binding in _bindings(one.name, rule)]
    client = AdminClient(base(settings))  # its calls end with it
    for future in client.create_acls(wanted, request_timeout=LOOK_SECONDS).values():
        try:
            future.result()
        except KafkaException as wrong:
            refusals.check(wrong.args[0], settings, what="Alter on the cluster")
            raise TopicError(f"the ACLs were not given: {wrong.args[0].str()}") from None
    return len(wanted)


def require(settings: Settings, principal: Principal) -> None:
    """Nothing, when the broker lets us in and do all that the principal is declared to need. Whose name we go by does not matter.

    Raises SettingsError, BrokerUnavailable when no broker answers, TopicError when a topic is absent, refusals.Denied with all that is
    missing. What the broker does not tell (rights on prefixes and transactional ids) is not looked at, nor anything where nobody signs in.
    """
    if not kafka_properties(settings):
        return
    if reason := unreachable(settings, timeout=REACH_SECONDS):
        raise BrokerUnavailable(reason)
    client = AdminClient(base(settings))
    topics = [rule for rule in principal.rules if rule.kind == "topic" and not rule.prefix]
    groups = [rule for rule in principal.rules if rule.kind == "group" and not rule.prefix]
    missing: list[str] = []
    described = client.describe_topics(
        TopicCollection([rule.name for rule in topics]), include_authorized_operations=True, request_timeout=LOOK_SECONDS
    )
    for rule in topics:
        missing += _lacking(rule, described[rule.name])
    for rule in groups:
        described = client.describe_consumer_groups([rule.name], include_authorized_operations=True, request_timeout=GROUP_SECONDS)
        missing += _lacking(rule, described[rule.name])
    if missing:
        error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
        raise refusals.Denied(error, refusals.explain(error, kafka_properties(settings), what=", ".join(missing)))


def _lacking(rule: Rule, asked: Any) -> list[str]:
    """`["Write on the topic media.jobs"]`, or []. `asked` is the future of a description."""
    try:
        allowed = asked.result().authorized_operations
    except KafkaException as wrong:
        code = wrong.args[0].code()
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise TopicError(f"the topic {rule.name} does not exist: run `reelworks topics apply`") from None
        if code not in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
            return []  # of a group that nobody is in, a broker that has just started knows nothing
        allowed = [AclOperation.UNKNOWN]
    # A broker may not tell. Then nothing is known to be missing.
    lacking = [operation for operation in rule.operations if allowed and _OPERATIONS[operation] not in allowed]
    return [f"{' and '.join(lacking)} on the {rule.kind} {rule.name}"] if lacking else []


def _bindings(name: str, rule: Rule) -> list[AclBinding]:
    pattern = ResourcePatternType.PREFIXED if rule.prefix else ResourcePatternType.LITERAL
    return [
        AclBinding(_KINDS[rule.kind], rule.name, pattern, f"User:{name}", "*", _OPERATIONS[operation], AclPermissionType.ALLOW)
        for operation in rule.operations
    ]
