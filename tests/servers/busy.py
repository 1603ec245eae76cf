"""Every service in the middle of real work, each with what must hold once it was told to stop: for the test and the figure of draining."""

from __future__ import annotations

import contextlib
import http.client
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from schemas import envelope, topics
from schemas.events import (
    CallbackRequested,
    JobStatus,
    ObjectRef,
    Outcome,
    StreamRequested,
    TaskFailed,
    TaskFinished,
    TaskReturned,
    TaskStarted,
    UploadReceived,
    ZipRequested,
)
from services.runtime.kafka.producer import record
from services.runtime.media.presentation import folder_of, init_key, segment_key
from tests import clips, trees
from tests.servers.processes import Cluster, Process, script
from tests.unit.streamer.segments import ALL, RECIPE, listed, ready

MIB: Final = 1024**2
OUTCOMES: Final = (TaskFinished, TaskFailed, TaskReturned)


@dataclass(frozen=True)
class Busy:
    """A process that works, and what is to be looked at when it has ended."""

    process: Process
    doing: str
    check: Callable[[], None]


@contextmanager
def coordinator(made: Cluster) -> Iterator[Busy]:
    """Sixty tasks of a job come and go."""
    process = made.coordinator()
    made.scripted()
    job_id = made.send(script("drain-coordinator", tasks=60, seconds=0.2), "drain-coordinator")
    made.wait(job_id, lambda j: j.stage == 1 and j.stages[1].done >= 5)

    def check() -> None:
        made.coordinator()
        job = made.end(job_id)
        assert (job.state, job.stages[1].done, job.attempts) == ("succeeded", 60, []), job

    yield Busy(process, "decides about the tasks of a job", check)


@contextmanager
def transcoder(made: Cluster) -> Iterator[Busy]:
    """A film of a minute is being encoded."""
    _put(made, "in/film.mp4", clips.fetch("trailer_bbb.mp4"))
    event = UploadReceived(key="in/film.mp4")
    yield _worker(made, "transcoder", event, "encodes a film", lambda j: j.stage == 1 and any(o.progress for o in j.outstanding))


@contextmanager
def streamer(made: Cluster) -> Iterator[Busy]:
    """A film is packaged as it is."""
    film = clips.moving("640x360", seconds=60, codec=("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "50", "-crf", "40", "-c:a", "aac"))
    _put(made, "in/streamed.mp4", film)
    yield _worker(made, "streamer", StreamRequested(key="in/streamed.mp4"), "packages a film", lambda j: j.stage == 1)


@contextmanager
def zipper(made: Cluster) -> Iterator[Busy]:
    """Two hundred tables are deflated into an archive."""
    first = made.library / "tables" / "000.csv"
    first.parent.mkdir(parents=True)
    first.write_bytes(b"".join(b"%d,%d\n" % (n, n * 7919 % 1000) for n in range(700_000)))
    for n in range(1, 200):
        os.link(first, first.with_name(f"{n:03}.csv"))
    event = ZipRequested(prefix="tables/", target=ObjectRef(key="out/tables.zip"))
    yield _worker(made, "zipper", event, "packs an archive", lambda j: j.stage == 1)


@contextmanager
def notifier(made: Cluster) -> Iterator[Busy]:
    """A receiver takes its time."""
    called, answer = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            called.set()
            answer.wait(2.0)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    allowed = {"REELWORKS_CALLBACK_ALLOW": "127.0.0.1", "REELWORKS_CALLBACK_ALLOW_PRIVATE": "true"}
    cause = Outcome(job_id="film-job", kind="transcode", subject="film", state="succeeded")
    event = CallbackRequested(url=f"http://127.0.0.1:{server.server_address[1]}/hook", cause=cause)
    try:
        busy = _worker(made, "notifier", event, "waits for a receiver of a callback", lambda j: j.stage == 1, **allowed)
        assert called.wait(60), made.tails()  # no status tells of it
        yield busy
    finally:
        answer.set()
        server.shutdown()
        server.server_close()


@contextmanager
def live(made: Cluster) -> Iterator[Busy]:
    """A film's playlists grow."""
    process = made.service("streamer-live")
    folder = folder_of("drain-film", RECIPE)
    playlist = made.library / folder / ALL[0] / "index.m3u8"
    told = 0

    def tell() -> None:
        nonlocal told
        for rendition in ALL:
            for key in (init_key(folder, rendition), segment_key(folder, rendition, told)):
                path = made.library / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"media")
            event = ready("drain-film", rendition, [told], total=600)
            made.send_raw(record(event, "drain-film", source="test", topic=topics.SEGMENTS))
        told += 1

    while not playlist.exists():
        assert told < 600, f"the live app writes no playlist\n{made.tails()}"
        tell()
        time.sleep(0.2)

    def check() -> None:
        text = playlist.read_text()
        assert text.startswith("#EXTM3U"), text
        assert all((playlist.parent / name).exists() for name in listed(text)), text
        tell()
        made.service("streamer-live")  # goes on where it stopped
        _until(lambda: len(listed(playlist.read_text())) == told, f"of {told} segments {len(listed(text))} were listed before")

    yield Busy(process, "writes playlists that grow", check)


@contextmanager
def gateway(made: Cluster) -> Iterator[Busy]:
    """An upload that takes seconds, a download that is read slowly, a long poll."""
    process, url = made.gateway()
    path = made.library / "films" / "large.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(MIB) * 64)
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/uploads/first.mp4", b"film", method="PUT"), timeout=30) as answer:
        status_url = f"{url}/v1/jobs/{answer.headers['Location'].rpartition('/')[2]}"
    said: dict[str, int] = {}
    clients = [
        threading.Thread(target=lambda: said.update(upload=_slow_upload(url))),
        threading.Thread(target=lambda: said.update(download=_slow_download(f"{url}/v1/archives?prefix=films/"))),
        threading.Thread(target=lambda: said.update(poll=_long_poll(status_url))),
    ]
    for client in clients:
        client.start()
    _until(
        lambda: all(_gauge(url, f"reelworks_gateway_{name}") > 0 for name in ("uploads_running", "archives_running", "watchers")),
        "all wait",
    )

    def check() -> None:
        for client in clients:
            client.join(30)
        assert said["upload"] == 202, said
        assert said["download"] > 64 * MIB, said
        assert said["poll"] in (200, 304, 503), said
        names = [path.name for path in trees.files(made.library / "assets")]
        assert names.count("slow.mp4") == 1
        assert not [name for name in names if name.endswith(".part")], "half an upload can be seen"

    yield Busy(process, "takes an upload, sends a download, holds a poll", check)


SERVICES: Final[dict[str, Callable[[Cluster], AbstractContextManager[Busy]]]] = {
    "coordinator": coordinator, "gateway": gateway, "transcoder": transcoder, "streamer": streamer, "streamer-live": live,
    "zipper": zipper, "notifier": notifier,
}  # fmt: skip
"""All that `reelworks serve` has."""


def children(process: Process) -> list[psutil.Process]:
    """What a process has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.process.pid).children(recursive=True)
    return []


def _worker(made: Cluster, service: str, event: Any, doing: str, busy: Callable[[JobStatus], bool], **environment: str) -> Busy:
    made.coordinator()
    process = made.service(service, **environment)
    job_id = made.send(event, f"drain-{service}")
    made.wait(job_id, lambda j: any(o.worker for o in j.outstanding) and busy(j), 120)

    def check() -> None:
        """Every task that it began has an outcome, none of which counts as a failure."""
        events = [envelope.decode_any(envelope.read(r.headers, r.value)) for r in made.read(topics.JOB_EVENTS) if r.key == job_id.encode()]
        begun = {(e.stage, e.number, e.attempt) for e in events if isinstance(e, TaskStarted)}
        ended = {(e.stage, e.number, e.attempt) for e in events if isinstance(e, OUTCOMES)}
        assert begun == ended, f"without an outcome: {begun - ended}"
        assert not any(isinstance(e, TaskFailed) for e in events), events
        assert made.jobs[job_id].attempts == []
        assert made.jobs[job_id].state in ("running", "finishing", "succeeded")

    return Busy(process, doing, check)


def _put(made: Cluster, key: str, source: Any) -> None:
    path = made.library / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read_bytes())


def _slow_upload(url: str) -> int:
    address = urlsplit(url)
    client = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)

    def body() -> Iterator[bytes]:
        for _ in range(20):
            yield b"film" * 1000
            time.sleep(0.2)

    client.request("PUT", "/v1/uploads/slow.mp4", body(), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    with contextlib.closing(client):
        return client.getresponse().status


def _slow_download(url: str) -> int:
    taken = 0
    with urllib.request.urlopen(url, timeout=30) as answer:
        while chunk := answer.read(MIB):
            taken += len(chunk)
            time.sleep(0.06)
    return taken


def _long_poll(url: str) -> int:
    with urllib.request.urlopen(url, timeout=30) as answer:
        tag = answer.headers["ETag"]
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}?wait=30", headers={"If-None-Match": tag}), timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code


def _gauge(url: str, name: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)


def _until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} s it is not so: {what}"
        time.sleep(0.05)
