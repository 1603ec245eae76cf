"""What a program that was taken over could still do: each test is such a program."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from services.runtime.media import confinement
from services.runtime.media.confinement import Confinement, Faculties, faculties
from services.runtime.media.process import ProcessFailed, output_of
from tests import clips

landlock = pytest.mark.skipif(not faculties().landlock, reason="this kernel has no Landlock")
seccomp = pytest.mark.skipif(not faculties().seccomp, reason="this kernel has no seccomp")
ports = pytest.mark.skipif(faculties().landlock < 4, reason="this kernel's Landlock knows no ports")

# A Python that can start in there: its own files, and nothing of the project.
PYTHON = Confinement(reads=(sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), "/usr/lib/python3"))
SECRET = "AWS_SECRET_ACCESS_KEY"


async def says(script: str, **changes: Any) -> str:
    """What a Python within PYTHON prints. Its faults are printed by their names."""
    body = "".join(f"    {line}\n" for line in script.splitlines())
    wrapped = f"import os, socket, sys, threading\ntry:\n{body}except Exception as wrong:\n    print(type(wrong).__name__)\n"
    within = msgspec.structs.replace(PYTHON, reads=(*PYTHON.reads, *changes.pop("reads", ())), **changes)
    said, _ = await output_of([sys.executable, "-I", "-S", "-c", wrapped], within=within, timeout=60)
    return said.decode().strip()


@pytest.fixture
def listener() -> Iterator[int]:
    """A server's port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        yield port


def connecting(port: int) -> str:
    return f"socket.create_connection(('127.0.0.1', {port}), 5).close()\nprint('connected')"


@landlock
async def test_it_reads_its_input_and_no_other_file(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.write_text("mine")
    other.write_text("other")
    assert await says(f"print(open({str(mine)!r}).read())", reads=(str(mine),)) == "mine"
    assert await says(f"print(open({str(other)!r}).read())", reads=(str(mine),)) == "PermissionError"
    assert await says(f"print(os.listdir({str(tmp_path)!r}))", reads=(str(mine),)) == "PermissionError"
    assert await says("print(open('/etc/passwd').read())") == "PermissionError"


@landlock
async def test_it_writes_into_its_own_folder_and_nowhere_else(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    (other / "there").write_text("as it was")
    script = "open({!r}, 'w').write('x'); print('written')"
    assert await says(script.format(str(mine / "a")), writes=(str(mine),)) == "written"
    assert await says(script.format(str(other / "a")), writes=(str(mine),)) == "PermissionError"
    assert await says(script.format(str(other / "there")), writes=(str(mine),), reads=(str(other),)) == "PermissionError"
    assert await says(f"os.remove({str(other / 'there')!r})", writes=(str(mine),)) == "PermissionError"
    assert (other / "there").read_text() == "as it was"
    # By a link or by a name with dots it is the same file.
    (mine / "link").symlink_to(other / "there")
    assert await says(f"print(open({str(mine / 'link')!r}).read())", writes=(str(mine),)) == "PermissionError"


@seccomp
async def test_what_reads_a_file_has_no_network(listener: int) -> None:
    assert await says(connecting(listener)) == "PermissionError"
    assert await says("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)") == "PermissionError"
    assert await says("socket.socket(socket.AF_UNIX)") == "PermissionError"


@ports
async def test_what_reads_from_the_store_reaches_its_port_and_no_other(listener: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as store:
        port: int = store.getsockname()[1]
        assert await says(connecting(port), port=port) == "connected"
        assert await says(connecting(listener), port=port) == "PermissionError"
        assert await says("socket.create_server(('127.0.0.1', 0))", port=port) == "PermissionError"


@seccomp
async def test_it_starts_threads_and_no_processes() -> None:
    assert await says("t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()") == "thread"
    assert await says("os.fork()") == "PermissionError"
    assert await says("import subprocess\nsubprocess.run(['/bin/true'])") == "PermissionError"
    assert await says("import subprocess\nsubprocess.run(['/bin/true'], preexec_fn=os.getpid)") == "PermissionError"


@landlock
async def test_it_becomes_no_other_program() -> None:
    assert await says("os.execv('/bin/cat', ['cat', '/etc/passwd'])") == "PermissionError"


async def test_it_has_no_more_memory_than_that() -> None:
    assert await says("print(len(bytearray(300 << 20)))", memory=512 << 20) == str(300 << 20)
    assert await says("bytearray(600 << 20)", memory=512 << 20) == "MemoryError"


async def test_a_file_grows_to_its_limit(tmp_path: Path) -> None:
    script = f"file = open({str(tmp_path / 'a')!r}, 'wb')\nfile.write(bytes(2 << 20))\nfile.flush()\nprint('written')"
    assert await says(script, writes=(str(tmp_path),), file_bytes=4 << 20) == "written"
    # Python ignores the signal; ffmpeg dies of it.
    assert await says(script, writes=(str(tmp_path),), file_bytes=1 << 20) == "OSError"
    card = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", "1024x1024", "-i", "/dev/zero", "-frames:v", "9", "-f", "rawvideo")
    with pytest.raises(ProcessFailed) as failed:
        await output_of(
            [clips.programs()[0], "-v", "error", "-nostdin", "-y", *card, str(tmp_path / "b")],
            within=Confinement(reads=("/dev/zero",), writes=(str(tmp_path),), file_bytes=1 << 20), timeout=60,
        )  # fmt: skip
    assert failed.value.status == -signal.SIGXFSZ or "File too large" in failed.value.stderr
    assert (tmp_path / "b").stat().st_size <= 1 << 20


async def test_it_runs_no_longer_than_it_may_even_when_nobody_looks() -> None:
    limits = await says("import resource\nprint(resource.getrlimit(resource.RLIMIT_CPU)[1], resource.getrlimit(resource.RLIMIT_CORE)[1])")
    assert limits == f"{60 * (os.cpu_count() or 1) + 1} 0"


async def test_it_is_told_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "hunter2")
    monkeypatch.setenv("REELWORKS_WEBHOOK_SECRET", "hunter2")
    told = set((await says("print(*os.environ)")).split())
    assert told <= {"PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ", "LC_ALL", "LC_CTYPE", "MALLOC_ARENA_MAX"}
    script = "print('hunter2' in open(f'/proc/{os.getppid()}/environ').read())"
    assert await says(script) == ("PermissionError" if faculties().landlock else "True")


async def test_it_inherits_no_descriptors() -> None:
    with Path("/etc/hostname").open() as file:
        os.set_inheritable(file.fileno(), True)
        names = "[os.readlink(f'/proc/self/fd/{n}') for n in range(3, 500) if os.path.lexists(f'/proc/self/fd/{n}')]"
        assert await says(f"print([n for n in {names} if n[0] == '/'])", reads=("/proc",)) == "[]"
        assert await says("print(os.readlink('/proc/self/fd/0'))", reads=("/proc",)) == os.devnull


def test_it_is_the_same_on_the_loop_of_the_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "hunter2")
    on_uvloop: Callable[[Coroutine[Any, Any, str]], str] = uvloop.run
    assert on_uvloop(says(f"print(os.environ.get({SECRET!r}))")) == "None"
    if faculties().landlock:
        assert on_uvloop(says("print(open('/etc/passwd').read())")) == "PermissionError"
    if faculties().seccomp:
        assert on_uvloop(says("socket.socket()")) == "PermissionError"
    assert on_uvloop(says("bytearray(600 << 20)", memory=512 << 20)) == "MemoryError"


async def test_where_the_kernel_can_do_nothing_the_limits_hold_and_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "faculties", lambda: Faculties(landlock=0, seccomp=False))
    assert await says("print(len(open('/etc/passwd').read()) > 0)") == "True"
    assert await says("bytearray(600 << 20)", memory=512 << 20) == "MemoryError"
    assert confinement.faculties().explain() == (
        "media programs are not kept from other files (Landlock, Linux 5.13), TCP ports (Landlock, Linux 6.7), "
        "sockets and processes (seccomp)"
    )
    assert Faculties(landlock=4, seccomp=True).explain() == ""


@landlock
async def test_ffmpeg_itself_cannot_open_what_is_not_its_input(tmp_path: Path) -> None:
    """Even when no list of protocols or formats keeps it from that."""
    film = clips.moving(seconds=1)
    script = tmp_path / "a.ffconcat"
    script.write_text(f"ffconcat version 1.0\nfile '{film}'\n")
    argv = [clips.programs()[0], "-v", "error", "-nostdin", "-safe", "0", "-f", "concat", "-i", str(script), "-f", "null", "-"]
    await output_of(argv, within=Confinement(reads=(str(script), str(film))), timeout=60)
    with pytest.raises(ProcessFailed, match=r"Permission denied|Impossible to open"):
        await output_of(argv, within=Confinement(reads=(str(script),)), timeout=60)


async def test_a_fence_leaves_no_descriptor_behind() -> None:
    await output_of([clips.programs()[1], "-version"], within=Confinement(), timeout=60)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await output_of([clips.programs()[1], "-version"], within=Confinement(), timeout=60)
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) <= before
