"""The notifier against a real HTTP server on this machine."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from schemas.events import CallbackDelivered, CallbackRequested, ErrorInfo, Outcome, Output
from services.notifier.delivery import checked_addresses
from services.notifier.handler import Notifier, handler
from services.runtime.jobs.failures import Permanent, Transient
from services.runtime.settings import Settings
from services.runtime.testing import Done, JobEnvironment

SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, or so").decode()
CAUSE = Outcome(
    job_id="film-job",
    kind="transcode",
    subject="film",
    state="succeeded",
    outputs=(Output(role="rendition", bucket="library", key="in/film.mp4"), Output(role="thumbnail", bucket="library", key="in/film.jpg")),
    finished_ms=1_700_000_000_000,
)
SETTINGS = Settings(
    callback_allow=("127.0.0.1", "receiver.example", "*.rebind.example", "[::ffff:127.0.0.1]", "169.254.169.254"),
    callback_allow_private=True,
    webhook_secret=SECRET,
    callback_timeout_seconds=5,
)


class Receiver:
    """A server that answers what it is told to and remembers what it was sent."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.wait: asyncio.Event | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, request: web.Request) -> web.Response:
        self.received.append((request.path, {k.lower(): v for k, v in request.headers.items()}, await request.read()))
        if self.wait is not None:
            await self.wait.wait()
        status = self.answers.pop(0) if self.answers else 204
        return web.Response(status=status, headers={"Location": "/elsewhere"} if 300 <= status < 400 else {})


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    yield made
    if made.wait is not None:
        made.wait.set()
    await runner.cleanup()


async def deliver(folder: Path, url: str, *, notifier: Notifier | None = None, settings: Settings = SETTINGS, **fields: Any) -> Done:
    request = CallbackRequested(url=url, cause=fields.pop("cause", CAUSE), **fields)
    async with JobEnvironment(notifier or handler(), folder, settings=settings) as environment:
        return await environment.run(request, job_id="callback-job")


async def test_the_outcome_is_delivered_with_a_signature_that_anybody_can_verify(receiver: Receiver, tmp_path: Path):
    done = await deliver(tmp_path, receiver.url)
    [(path, headers, body)] = receiver.received
    assert path == "/hook"
    assert json.loads(body)["outputs"][0]["key"] == "in/film.mp4"
    assert (headers["accept"], headers["content-type"], headers["webhook-id"]) == ("*/*", "application/json", "callback-job")
    signed = b"%s.%s.%s" % (headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body)
    expected = base64.b64encode(hmac.new(b"a key of thirty-two bytes, or so", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert done.data == {"url": receiver.url, "http_status": 204, "tries": 1}
    completion = msgspec.convert(done.data | {"job_id": "j", "subject": "s", "kind": "callback"}, CallbackDelivered)
    assert completion.http_status == 204


async def test_without_a_secret_there_is_no_signature(receiver: Receiver, tmp_path: Path):
    await deliver(tmp_path, receiver.url, settings=msgspec.structs.replace(SETTINGS, webhook_secret=""))
    assert "webhook-signature" not in receiver.received[0][1]


async def test_an_older_receiver_gets_what_it_knows(receiver: Receiver, tmp_path: Path):
    await deliver(tmp_path, receiver.url, format="videos", input_object="in/film.mov")
    failed = Outcome(job_id="x", kind="transcode", subject="x", state="failed", error=ErrorInfo(code="c", message="m"))
    await deliver(tmp_path, receiver.url, format="videos", input_object="in/film.mov", cause=failed)
    assert [json.loads(body) for _, _, body in receiver.received] == [
        {"status": "success", "inputObject": "in/film.mov", "outputObject": "in/film.mp4", "thumbnail": "in/film.jpg"},
        {"status": "failure", "inputObject": "in/film.mov"},
    ]


@pytest.mark.parametrize("status", [200, 202, 204, 400, 401, 404, 410, 422])
async def test_a_2xx_and_a_4xx_are_the_receivers_last_word(receiver: Receiver, tmp_path: Path, status: int):
    receiver.answers = [status]
    done = await deliver(tmp_path, receiver.url)
    assert (done.data["http_status"], len(receiver.received)) == (status, 1)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 599])
async def test_trouble_is_left_to_the_coordinator_to_try_again(receiver: Receiver, tmp_path: Path, status: int):
    receiver.answers = [status]
    with pytest.raises(Transient, match=str(status)):
        await deliver(tmp_path, receiver.url)
    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(receiver: Receiver, tmp_path: Path, status: int):
    receiver.answers = [status]
    with pytest.raises(Permanent, match="redirects are not followed"):
        await deliver(tmp_path, receiver.url)
    assert [path for path, _, _ in receiver.received] == ["/hook"]


async def test_the_id_is_the_same_at_every_attempt(receiver: Receiver, tmp_path: Path):
    receiver.answers = [503, 204]
    with pytest.raises(Transient):
        await deliver(tmp_path, receiver.url)
    await deliver(tmp_path, receiver.url)
    (_, first, one), (_, second, other) = receiver.received
    assert (first["webhook-id"], one) == (second["webhook-id"], other)


async def test_a_name_is_resolved_once_and_the_address_that_was_checked_is_connected_to(receiver: Receiver, tmp_path: Path):
    """DNS rebinding: the second look at the name would give another address. There is none."""
    asked: list[str] = []

    async def look_up(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    done = await deliver(tmp_path, f"http://a.rebind.example:{receiver.port}/hook", notifier=Notifier(look_up=look_up))
    assert (asked, done.data["http_status"]) == (["a.rebind.example"], 204)
    assert receiver.received[0][1]["host"] == f"a.rebind.example:{receiver.port}"


@pytest.mark.parametrize(
    ("answers", "allow_private"),
    [
        (["169.254.169.254"], True),
        (["169.254.169.254"], False),
        (["::ffff:169.254.169.254"], True),
        (["10.1.2.3"], False),
        (["::ffff:10.1.2.3"], False),
        (["93.184.215.14", "127.0.0.1"], False),
        (["fd00:ec2::254"], True),
    ],
)
async def test_a_name_that_stands_for_a_forbidden_address_is_refused_for_good(answers: list[str], allow_private: bool):
    async def look_up(host: str, port: int) -> list[str]:
        return answers

    with pytest.raises(Permanent, match=r"the callback was not sent: 'receiver\.example' is at"):
        await checked_addresses("receiver.example", 443, allow_private=allow_private, look_up=look_up)


async def test_the_metadata_address_itself_is_refused_even_where_the_settings_allow_private_ones(tmp_path: Path):
    with pytest.raises(Permanent, match="metadata service"):
        await deliver(tmp_path, "http://169.254.169.254/latest/meta-data/")


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "2130706433", "0x7f.1", "127.1"])
async def test_loopback_in_other_clothes_is_loopback(host: str):
    """Resolved by the system, as a connection would be."""
    with pytest.raises(Permanent, match="a loopback address"):
        await checked_addresses(host, 443, allow_private=False)


async def test_hosts_that_are_not_on_the_list_and_http_are_refused_with_the_reason(receiver: Receiver, tmp_path: Path):
    strict = Settings(callback_allow=("receiver.example",))
    with pytest.raises(Permanent, match="REELWORKS_CALLBACK_ALLOW"):
        await deliver(tmp_path, "https://other.example/hook", settings=strict)
    with pytest.raises(Permanent, match="https"):
        await deliver(tmp_path, "http://receiver.example/hook", settings=strict)
    assert receiver.received == []


async def test_a_silent_receiver_is_given_up_in_time(receiver: Receiver, tmp_path: Path):
    receiver.wait = asyncio.Event()
    with pytest.raises(Transient, match=r"did not answer within 0\.3 s"):
        await deliver(tmp_path, receiver.url, settings=msgspec.structs.replace(SETTINGS, callback_timeout_seconds=0.3))


async def test_a_closed_port_may_open_again(tmp_path: Path):
    with socket.socket() as taken:  # bound and not listening: nobody else gets the port meanwhile
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Transient, match="could not be reached"):
            await deliver(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}/hook")


async def test_a_name_that_does_not_resolve_may_resolve_later(tmp_path: Path):
    async def look_up(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(Transient, match="cannot be resolved"):
        await deliver(tmp_path, "https://receiver.example/hook", notifier=Notifier(look_up=look_up))


async def test_a_callback_that_follows_upon_nothing_is_refused(tmp_path: Path):
    with pytest.raises(Permanent, match="nothing to tell"):
        await deliver(tmp_path, "https://receiver.example/hook", cause=None)


async def test_nothing_is_left_in_storage(receiver: Receiver, tmp_path: Path):
    async with JobEnvironment(handler(), tmp_path, settings=SETTINGS) as environment:
        await environment.run(CallbackRequested(url=receiver.url, cause=CAUSE))
        assert await environment.keys() == []
