"""Kafka that asks who is there: every service under a name of its own, with the rights of deploy/kafka-acls.yaml and no others."""

# confluent_kafka.admin documents these names, but its stubs do not list them as exported.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import contextlib
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from schemas import acls, envelope, topics
from schemas.events import CancelRequested, ObjectRef, PlaylistChanged, StreamReady, ZipRequested
from services.cli.check import findings
from services.cli.exits import Exit
from services.cli.stack import LIVE, WORKERS
from services.runtime.kafka import access, admin, client
from services.runtime.kafka.producer import BrokerUnavailable, EventProducer, record
from services.runtime.kafka.refusals import Denied
from tests import clips
from tests.servers import webhooks
from tests.servers.processes import SERVICE, Cluster, Process, cluster
from tests.servers.secured import ROOT, Authority, SecuredKafka, secured_kafka
from tests.servers.up import until

pytestmark = pytest.mark.kafka
SERVICES = ("gateway", "coordinator", LIVE, *WORKERS)
DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
STRANGER = "stranger"
START_SECONDS = 150
"""Seven processes at once; ten are usual."""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """With a user for each principal of the list, who has the rights of the list, and one who has none."""
    with secured_kafka(tmp_path_factory.mktemp("secured")) as made:
        made.add_users([*(one.name for one in acls.PRINCIPALS), STRANGER])
        access.apply(made.settings(ROOT), acls.PRINCIPALS)
        until(lambda: granted(made, "reelworks-administrator"), 30)
        admin.apply(made.settings("reelworks-administrator"))
        yield made


def granted(kafka: SecuredKafka, user: str) -> bool:
    """Whether the broker knows of the rights: it hears of them a moment after they were given."""
    admin = administration(kafka, user)
    error = admin.describe_topics(TopicCollection([topics.JOBS]))[topics.JOBS].exception()
    return not (isinstance(error, KafkaException) and error.args[0].code() in DENIED)


def administration(kafka: SecuredKafka, user: str) -> AdminClient:
    return AdminClient(client.base(kafka.settings(user)))


class Installation:
    """All services, each under its own name, and somebody who watches."""

    def __init__(self, kafka: SecuredKafka, servers: Cluster, receiver: webhooks.Receiver) -> None:
        self.kafka, self.servers, self.receiver = kafka, servers, receiver
        self.processes = {name: self._start(name) for name in SERVICES}
        self.gateway = until(self._listening, START_SECONDS, servers.tails)
        for name in SERVICES:
            until(lambda name=name: self.ready(name) == 200, START_SECONDS, lambda name=name: f"{name} is not ready\n{servers.tails()}")

    def _start(self, name: str, **environment: str) -> Process:
        # Everything that the client would tell of itself, for one of them.
        more = {"debug": "all", "log_level": "7"} if name == "notifier" else {}
        file = self.kafka.file(f"reelworks-{name}", more)
        run = str(self.servers.folder / "run")
        port = {"REELWORKS_PORT": "0"} if name == "gateway" else {"REELWORKS_METRICS_PORT": "0", "REELWORKS_RUN_DIR": run}
        return self.servers.start([*SERVICE, name], name, keep=False, REELWORKS_KAFKA_CONFIG=str(file), **port, **environment)

    def _listening(self) -> str:
        for line in self.log("gateway").splitlines():
            if '"listening"' in line:
                return str(json.loads(line)["url"])
        return ""

    def log(self, name: str) -> str:
        return self.processes[name].tail(1_000_000)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.gateway + path, data, headers, method=method), timeout=60) as answer:
            return json.load(answer)

    def ready(self, name: str) -> int:
        """Status of /readyz; 0 as long as it does not answer."""
        url = self.gateway
        if name != "gateway":
            told = self.servers.folder / "run" / f"{self.processes[name].process.pid}.json"
            if not told.exists():
                return 0
            url = f"http://127.0.0.1:{json.loads(told.read_text())['port']}"
        try:
            with urllib.request.urlopen(url + "/readyz", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code
        except OSError:
            return 0


@pytest.fixture(scope="module")
def installation(kafka: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("installation")
    watcher = {"REELWORKS_KAFKA_CONFIG": str(kafka.file("reelworks-operator")), "REELWORKS_LOG_LEVEL": "debug"}
    callbacks = {"REELWORKS_CALLBACK_ALLOW": "127.0.0.1", "REELWORKS_CALLBACK_ALLOW_PRIVATE": "true"}
    with (
        webhooks.receiver() as receiver,
        cluster(kafka.bootstrap_servers, folder, **watcher, **callbacks, REELWORKS_WEBHOOK_SECRET=webhooks.SECRET) as servers,
    ):
        yield Installation(kafka, servers, receiver)


def test_a_film_is_taken_in_and_can_be_watched_while_it_is_encoded(installation: Installation) -> None:
    servers = installation.servers
    servers.library.joinpath("in").mkdir()
    servers.library.joinpath("in/film.mp4").write_bytes(clips.moving(seconds=12).read_bytes())
    then = [{"type": "CallbackRequested", "data": {"url": installation.receiver.url}}]
    told = installation.call("POST", "/v1/jobs", {"type": "UploadReceived", "data": {"key": "in/film.mp4", "then": then}})
    film = servers.end(told["job_id"])
    assert (film.state, film.error) == ("succeeded", None)
    assert installation.receiver.next(60).json()["job_id"] == film.job_id
    streams = lambda: [j for j in servers.jobs.values() if j.kind == "stream" and j.state == "succeeded"]  # noqa: E731
    assert until(streams, 60, servers.tails)[0].subject == film.subject
    kinds = [
        (r.topic, envelope.read(r.headers, r.value).type, r.key) for t in (topics.PLAYLISTS, topics.COMPLETIONS) for r in servers.read(t)
    ]
    assert (topics.PLAYLISTS, PlaylistChanged.__name__) in {(topic, kind) for topic, kind, _ in kinds}
    assert (topics.COMPLETIONS, StreamReady.__name__, f"{film.subject}:stream:progressive".encode()) in kinds
    shown = until(lambda: installation.call("GET", f"/v1/assets/{film.subject}").get("hls_url"), 30)
    with urllib.request.urlopen(shown, timeout=30) as master:
        assert master.read().startswith(b"#EXTM3U")


def test_what_another_system_asks_for_is_done(installation: Installation) -> None:
    servers = installation.servers
    servers.library.joinpath("words.txt").write_text("words " * 100)
    request = ZipRequested(target=ObjectRef(key="out/words.zip"), prefix="words")
    producer = EventProducer(installation.kafka.settings("outside-producer"))
    try:
        producer.send(record(request, "any", source="outside", event_id="archive")).result(30)
    finally:
        producer.close()
    job = servers.end(envelope.derived_id("outside", "archive"))
    assert (job.state, job.error) == ("succeeded", None)
    assert servers.library.joinpath("out/words.zip").read_bytes()[:2] == b"PK"


def test_a_job_is_cancelled(installation: Installation) -> None:
    servers = installation.servers
    servers.library.joinpath("long.mp4").write_bytes(clips.moving(size="640x360", seconds=60).read_bytes())
    job_id = installation.call("POST", "/v1/jobs", {"type": "UploadReceived", "data": {"key": "long.mp4"}})["job_id"]
    servers.wait(job_id, lambda job: any(task.worker for task in job.outstanding))
    installation.call("POST", f"/v1/jobs/{job_id}/cancel", {})
    assert servers.end(job_id, 60).state == "cancelled"
    # A worker that took its task in that moment is told once more.
    assert {r.key for r in servers.read(topics.CONTROL)} == {job_id.encode()}


def test_a_request_that_cannot_be_read_is_set_aside(installation: Installation) -> None:
    producer = Producer(client.producer(installation.kafka.settings("outside-producer")))
    producer.produce(topics.REQUESTS, b"nonsense", b"key")
    assert producer.flush(30) == 0
    letters = until(lambda: installation.servers.read(topics.DEAD_LETTERS), 30, installation.servers.tails)
    assert [letter.value for letter in letters] == [b"nonsense"]


def test_a_right_that_is_taken_away_is_missed_in_words_and_its_return_is_noticed(installation: Installation) -> None:
    tasks = topics.tasks("zipper")
    taken = [
        ("zipper", ResourceType.TOPIC, tasks, f"lacks Read on the topic {tasks}; deploy/kafka-acls.yaml"),
        ("coordinator", ResourceType.GROUP, acls.INTAKE_GROUP, f"lacks Read on the group {acls.INTAKE_GROUP}; deploy/kafka-acls.yaml"),
    ]
    root = administration(installation.kafka, ROOT)
    for service, kind, name, _ in taken:
        everywhere = (ResourcePatternType.LITERAL, f"User:reelworks-{service}", "*", AclOperation.READ, AclPermissionType.ALLOW)
        for future in root.delete_acls([AclBindingFilter(kind, name, *everywhere)]).values():
            assert len(future.result()) == 1
    for service, _, _, words in taken:
        until(lambda service=service: installation.ready(service) == 503, 60, installation.servers.tails)
        until(lambda service=service, words=words: f"user reelworks-{service} {words}" in installation.log(service), 60)
    access.apply(installation.kafka.settings(ROOT), [acls.of_service(service) for service, *_ in taken])
    for service, *_ in taken:
        until(lambda service=service: installation.ready(service) == 200, 60, installation.servers.tails)


def test_no_password_is_logged_or_on_a_command_line(installation: Installation) -> None:
    assert "SASL" in installation.log("notifier"), "the client was to tell all it knows"
    for name, process in installation.processes.items():
        command = Path(f"/proc/{process.process.pid}/cmdline").read_text()
        for user, password in installation.kafka.passwords.items():
            assert password not in command, (name, user)
            assert password not in installation.log(name), (name, user)


def test_each_has_the_rights_of_the_list_and_no_others(kafka: SecuredKafka) -> None:
    for one in acls.PRINCIPALS:
        admin = administration(kafka, one.name)
        described = admin.describe_topics(TopicCollection([t.name for t in topics.TOPICS]), include_authorized_operations=True)
        for name, future in described.items():
            wanted = declared(one, name)
            allowed = {operation.name for operation in future.result().authorized_operations} if wanted else set[str]()
            assert allowed == wanted, (one.name, name)
            if not wanted:
                assert cast(KafkaException, future.exception()).args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def declared(one: acls.Principal, topic: str) -> set[str]:
    """Operations as the client calls them, with those that follow from others (https://kafka.apache.org/documentation/#operations_in_kafka)."""
    rules = [r for r in one.rules if r.kind == "topic" and (r.name == topic or (r.prefix and topic.startswith(r.name)))]
    found = {operation for rule in rules for operation in rule.operations}
    follows = {"Describe"} if found & {"Read", "Write", "Alter"} else set[str]()
    follows |= {"DescribeConfigs"} if "AlterConfigs" in found else set()
    return {{"DescribeConfigs": "DESCRIBE_CONFIGS", "AlterConfigs": "ALTER_CONFIGS"}.get(name, name.upper()) for name in found | follows}


# ── Attempts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def write(kafka: SecuredKafka, user: str, topic: str) -> KafkaError | None:
    errors: list[KafkaError | None] = []
    producer = Producer(client.producer(kafka.settings(user)) | {"delivery.timeout.ms": 20_000})
    producer.produce(topic, b"{}", on_delivery=lambda error, _: errors.append(error))
    try:
        producer.flush(30)
    except (KafkaException, SystemError) as wrong:  # of somebody who may write nowhere, it gives up at once
        return cast(KafkaException, wrong.__cause__ or wrong).args[0]
    return errors[0]


def read(kafka: SecuredKafka, user: str, topic: str) -> KafkaError | None:
    with contextlib.closing(Consumer(client.reader(kafka.settings(user)))) as consumer:
        if (error := consumer.list_topics(topic, timeout=30).topics[topic].error) is not None:
            return error  # of a topic that is hidden nothing is fetched
        consumer.assign([TopicPartition(topic, 0, 0)])
        return first_error(consumer)


def join(kafka: SecuredKafka, user: str, group: str) -> KafkaError | None:
    with contextlib.closing(Consumer(client.consumer(kafka.settings(user), group))) as consumer:
        consumer.subscribe([topics.JOBS])
        return first_error(consumer)


def first_error(consumer: Consumer) -> KafkaError | None:
    """What the client says first; that it cannot find a reader's group is nobody's business here."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None:
            continue
        error = message.error()
        if error is None or error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED or not consumer.assignment():
            return error
    raise AssertionError("nothing came")


def transact(kafka: SecuredKafka, user: str, name: str) -> KafkaError | None:
    producer = Producer(client.producer(kafka.settings(user)) | {"transactional.id": name})
    try:
        producer.init_transactions(30)
    except KafkaException as wrong:
        return wrong.args[0]
    return None


def create(kafka: SecuredKafka, user: str, topic: str) -> KafkaError | None:
    return outcome(administration(kafka, user), "create_topics", [NewTopic(topic, 1)])


def delete(kafka: SecuredKafka, user: str, topic: str) -> KafkaError | None:
    return outcome(administration(kafka, user), "delete_topics", [topic])


def outcome(admin: AdminClient, call: str, argument: Any) -> KafkaError | None:
    try:
        next(iter(getattr(admin, call)(argument).values())).result()
    except KafkaException as wrong:
        return wrong.args[0]
    return None


Attempt = Callable[[SecuredKafka, str, str], KafkaError | None]
REFUSED: list[tuple[str, Attempt, str]] = [
    ("reelworks-zipper", write, topics.JOBS),
    ("reelworks-gateway", write, topics.COMPLETIONS),
    ("reelworks-gateway", write, topics.JOB_EVENTS),
    ("reelworks-streamer", write, topics.COMPLETIONS),
    ("reelworks-notifier", write, topics.tasks("notifier")),
    ("reelworks-transcoder", write, topics.CONTROL),
    ("reelworks-administrator", write, topics.REQUESTS),
    ("outside-producer", write, topics.JOB_EVENTS),
    ("outside-consumer", write, topics.REQUESTS),
    ("reelworks-transcoder", read, topics.REQUESTS),
    ("reelworks-notifier", read, topics.tasks("zipper")),
    ("reelworks-gateway", read, topics.DEAD_LETTERS),
    ("reelworks-administrator", read, topics.JOBS),
    ("outside-producer", read, topics.REQUESTS),
    ("outside-consumer", read, topics.ASSETS),
    (STRANGER, read, topics.DEAD_LETTERS),
    ("reelworks-zipper", transact, acls.transactional_id(0)),
    ("reelworks-gateway", transact, acls.transactional_id(3)),
    ("outside-producer", transact, "outside-producer"),
    ("reelworks-zipper", join, acls.group("transcoder")),
    ("reelworks-streamer", join, topics.LIVE_APP),
    ("outside-consumer", join, acls.COORDINATOR_GROUP),
    ("reelworks-coordinator", create, "media.new"),
    ("reelworks-operator", create, "media.new"),
    ("reelworks-administrator", create, "else.new"),
    ("reelworks-administrator", delete, topics.JOBS),
]


@pytest.mark.parametrize(("user", "attempt", "name"), REFUSED, ids=lambda value: getattr(value, "__name__", value))
def test_what_nobody_gave_is_refused(kafka: SecuredKafka, user: str, attempt: Attempt, name: str) -> None:
    error = attempt(kafka, user, name)
    assert error is not None
    assert error.code() in DENIED, error


def test_rights_are_not_given_by_those_who_only_use_them(kafka: SecuredKafka) -> None:
    with pytest.raises(Denied, match=r"^user reelworks-administrator lacks Alter on the cluster; deploy/kafka-acls\.yaml"):
        access.apply(kafka.settings("reelworks-administrator"), acls.PRINCIPALS[:1])


def test_who_was_refused_and_is_given_the_right_goes_on_without_a_restart(kafka: SecuredKafka) -> None:
    kafka.add_users(["newcomer"])
    producer = EventProducer(kafka.settings("newcomer"), delivery_seconds=10)
    wanted = record(CancelRequested(job_id="none"), "none", source="newcomer")
    try:
        with pytest.raises(BrokerUnavailable, match="uthorization failed"):
            producer.send(wanted).result(30)
        rule = acls.Rule(kind="topic", name=topics.REQUESTS, operations=("Write",), why="")
        access.apply(kafka.settings(ROOT), [acls.Principal(name="newcomer", about="", rules=(rule,))])
        assert until(lambda: producer.send(wanted).exception(30) is None, 60)
    finally:
        producer.close()


# ── Words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("user", "changes", "expected"),
    [
        ("reelworks-operator", {}, {"Kafka": ("ok", "answers at "), "topics": ("ok", "as declared")}),
        ("reelworks-operator", {"sasl.password": "not-its-password"}, {"Kafka": ("fault", "the broker refuses the sign-in of user ")}),
        ("reelworks-operator", {"security.protocol": "plaintext"}, {"Kafka": ("fault", "no Kafka broker answers at ")}),
        ("reelworks-zipper", {}, {"Kafka": ("fault", "user reelworks-zipper lacks DescribeConfigs on the topic media.")}),
        (STRANGER, {}, {"Kafka": ("fault", "user stranger lacks Describe on the topic ")}),
    ],
)  # fmt: skip
def test_check_tells_how_it_is(kafka: SecuredKafka, user: str, changes: dict[str, str], expected: dict[str, tuple[str, str]]) -> None:
    found = {f.what: f for f in findings(kafka.settings(user, changes)) if f.what in ("Kafka", "topics")}
    for what, (state, words) in expected.items():
        assert (found[what].state, found[what].words[: len(words)]) == (state, words)
    assert set(found) == {"Kafka", "topics"} if "topics" in expected else {"Kafka"}


def test_a_service_that_is_not_let_in_says_why_and_ends(kafka: SecuredKafka, tmp_path: Path) -> None:
    other = str(Authority(tmp_path / "other", "somebody else").path)
    with cluster(kafka.bootstrap_servers, tmp_path, REELWORKS_KAFKA_CONFIG=str(kafka.file("reelworks-operator"))) as servers:

        def start(service: str, user: str, changes: Mapping[str, str] = {}, **environment: str) -> Process:
            return servers.start(
                [*SERVICE, service], service, keep=False, REELWORKS_KAFKA_CONFIG=str(kafka.file(user, changes)), **environment
            )

        gateway = start("gateway", STRANGER, REELWORKS_PORT="0")
        ended = [
            (
                start("zipper", "reelworks-zipper", {"sasl.password": "not-its-password"}),
                "the broker refuses the sign-in of user reelworks-zipper: .*Check sasl.username, sasl.password",
            ),
            (
                start("coordinator", "reelworks-coordinator", {"ssl.ca.location": other}),
                "no secure connection .*certificate verify failed.*Check ssl",
            ),
            (
                start(LIVE, STRANGER),
                "user stranger lacks Read on the topic media.segments, Read and Write on the topic reelworks-live-segments-changelog, ",
            ),
            (
                start("transcoder", "reelworks-notifier"),
                "user reelworks-notifier lacks Read on the topic media.tasks.transcoder, Write on the topic media.segments, "
                "Read on the group reelworks-transcoder; deploy/kafka-acls.yaml",
            ),
        ]
        for process, words in ended:
            assert process.process.wait(90) == Exit.USAGE, process.tail()
            assert re.search(words, process.tail()), process.tail()
            assert "Traceback" not in process.tail()
            assert "not-its-password" not in process.tail()
        until(lambda: "user stranger lacks Read and Write on the topic media.requests, " in gateway.tail(), 60, gateway.tail)
        assert gateway.process.poll() is None
        assert "Traceback" not in gateway.tail()
