"""What the kernel lets a media program do while it reads what a stranger made: the second fence, behind `sandbox`'s lists.

    with confined(program, Confinement(reads=("/library/film.mov",), writes=(scratch,)), seconds=1800) as fence:
        subprocess.Popen([program, …], preexec_fn=fence.prepare, env=environment())

A fault in one of ffmpeg's many readers may give a file's author our process. What that process then has: the one input, the task's own
folder, no secrets in its environment, no address but the store's (none at all for a file), no other program, an end to its memory.

Resource limits hold on every POSIX system. The rest is Linux': Landlock (since 5.13; network since 6.7) for files and TCP ports, seccomp
for sockets and processes, on x86-64 and ARM64. Where the kernel has one of them not, the others hold; `faculties` tells.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import platform
import resource
import shutil
import struct
import sys
from collections.abc import Callable, Generator, Iterable
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from services.runtime.children import dies_with_parent

MEMORY: Final = 6 * 1024**3
"""Bytes. Ten-bit pictures of 8192 × 4352 in sixteen threads took 2.5 GB; decoders that hold more of them take more."""


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """What one process may use."""

    reads: tuple[str, ...] = ()
    """Files and folders, beside the program and its libraries."""
    writes: tuple[str, ...] = ()
    """Folders, to read, write and remove in."""
    port: int = 0
    """TCP port that it may connect to, by name or address; 0: no sockets."""
    memory: int = MEMORY
    """Bytes of address space."""
    file_bytes: int = 0
    """Most that one file may grow to; 0: none is limited."""
    fenced: bool = True
    """False: resource limits only."""


class Faculties(msgspec.Struct, frozen=True, kw_only=True):
    """What this kernel can do."""

    landlock: int
    """Version of its interface; 0: none."""
    seccomp: bool

    def explain(self) -> str:
        """For a person: what does not hold here; empty when all does."""
        lacking = [
            *([] if self.landlock else ["files (Landlock, Linux 5.13)"]),
            *([] if self.landlock >= _NETWORK_SINCE else ["TCP ports (Landlock, Linux 6.7)"]),
            *([] if self.seccomp else ["sockets and processes (seccomp)"]),
        ]
        return f"media programs are not kept from other {', '.join(lacking)}" if lacking else ""


_KEPT = ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ")


def environment() -> dict[str, str]:
    """The environment of media programs: nothing of ours, which has the store's secrets."""
    # Each arena of glibc's allocator takes 64 MiB of address space and gives little back: threads share two.
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"LC_ALL": "C", "MALLOC_ARENA_MAX": "2"}


class Fence:
    """Ready to be put around a child."""

    def __init__(self, steps: Iterable[Callable[[], object]]) -> None:
        self._steps = list(steps)

    def prepare(self) -> None:
        """To be called in the child, between fork and exec. It does not return when it cannot keep what it promises."""
        try:
            for step in self._steps:
                step()
        except BaseException:
            os._exit(126)


@contextlib.contextmanager
def confined(program: str, allowed: Confinement | None, *, seconds: float) -> Generator[Fence]:
    """A fence for one start of `program`, an absolute path. None: it only dies with its parent. `seconds`: how long it may run."""
    dying = dies_with_parent()
    steps: list[Callable[[], object]] = [dying] if dying is not None else []
    if allowed is None:
        yield Fence(steps)
        return
    able = faculties() if allowed.fenced else Faculties(landlock=0, seccomp=False)
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: the child may not take locks
    if able.landlock or able.seccomp:
        steps.append(lambda: _done(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))
    ruleset = _ruleset(libc, able.landlock, program, allowed) if able.landlock else -1
    try:
        if ruleset >= 0:
            steps.append(lambda: _done(_call(libc, _RESTRICT_SELF, ruleset, 0)))
        if able.seccomp:
            code = _filter(network=allowed.port != 0)
            buffer = ctypes.create_string_buffer(code, len(code))
            described = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
            steps.append(lambda: _done(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described, 0, 0)))
        # Last: the copy of our own process in which this runs is larger than the program may be.
        steps += [_limit(which, wanted) for which, wanted in _limits(allowed, seconds)]
        yield Fence(steps)
    finally:
        if ruleset >= 0:
            os.close(ruleset)


def _call(libc: ctypes.CDLL, number: int, *arguments: bytes | int | None) -> int:
    """A system call that libc has no function for (syscall(2)): its numbers are as wide as a register."""
    return libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))


def _done(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused")


# ── Resource limits (getrlimit(2)).


def _limits(allowed: Confinement, seconds: float) -> list[tuple[int, int]]:
    limits = [
        (resource.RLIMIT_AS, allowed.memory),
        # Each processor for all of its time: a backstop for when we are stopped and cannot end it.
        (resource.RLIMIT_CPU, math.ceil(seconds) * (os.cpu_count() or 1) + 1),
        (resource.RLIMIT_CORE, 0),
    ]
    return [*limits, *([(resource.RLIMIT_FSIZE, allowed.file_bytes)] if allowed.file_bytes else [])]


def _limit(which: int, wanted: int) -> Callable[[], None]:
    _, hard = resource.getrlimit(which)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    return lambda: resource.setrlimit(which, (most, most))


# ── Landlock (landlock(7), linux/landlock.h).

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_REG, _TRUNCATE = (1 << bit for bit in (0, 1, 2, 3, 5, 8, 14))
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_READ = _READ_FILE | _READ_DIR
_CONNECT_TCP = 1 << 1
_NETWORK_SINCE = 4
# Rights over files by version of the interface: REFER came with 2, TRUNCATE with 3, IOCTL_DEV with 5.
_ALL_RIGHTS = (0, (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1)
_BIND_AND_CONNECT = 0b11
_SCOPED_SINCE = 6
_SOCKETS_AND_SIGNALS = 0b11
"""Abstract sockets of others, and signals to them."""

# The loader, shared libraries, and where they are looked up: nothing in there is anybody's secret.
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store")
_LOOKED_AT = (
    "/etc/ld.so.cache", "/etc/ld.so.preload", "/dev/zero", "/dev/random", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo",
    "/proc/sys/vm/overcommit_memory", "/sys/devices/system/cpu", "/etc/localtime", "/usr/share/zoneinfo",
)  # fmt: skip
# To find a host by its name and to trust its certificate.
_OF_THE_NETWORK = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services",
    "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
)  # fmt: skip
_DNS_PORT = 53


def _ruleset(libc: ctypes.CDLL, version: int, program: str, allowed: Confinement) -> int:
    rights = _ALL_RIGHTS[min(version, len(_ALL_RIGHTS) - 1)]
    attributes = struct.pack(
        "=QQQ", rights, _BIND_AND_CONNECT if version >= _NETWORK_SINCE else 0, _SOCKETS_AND_SIGNALS if version >= _SCOPED_SINCE else 0
    )
    # Older kernels know only the first fields.
    known = 8 if version < _NETWORK_SINCE else 16 if version < _SCOPED_SINCE else 24
    ruleset = _call(libc, _CREATE_RULESET, attributes, known, 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "no Landlock ruleset could be made")
    own = Path(shutil.which(program) or program).resolve()
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for paths, granted in (
        ((str(own),), _READ_FILE | _EXECUTE),
        # Programs of a bundle find their libraries in `../lib`.
        ((*_LIBRARIES, str(own.parent.parent / "lib"), *filter(None, libraries)), _READ | _EXECUTE),
        ((*_LOOKED_AT, *(_certificates() if allowed.port else ()), *allowed.reads), _READ),
        ((os.devnull,), _READ_FILE | _WRITE_FILE),
        (allowed.writes, _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE),
    ):
        for path in paths:
            _allow(libc, ruleset, path, granted & rights)
    if version >= _NETWORK_SINCE and allowed.port:
        for port in (allowed.port, _DNS_PORT):
            _call(libc, _ADD_RULE, ruleset, _NET_PORT, struct.pack("=QQ", _CONNECT_TCP, port), 0)
    return ruleset


def _certificates() -> tuple[str, ...]:
    return (*_OF_THE_NETWORK, *(os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)))


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    """What is not there is not allowed: the program will say so itself."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        folder = os.path.isdir(path)
        _call(libc, _ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights if folder else rights & _OF_FILES, handle), 0)
    finally:
        os.close(handle)


# ── seccomp (seccomp(2), linux/filter.h).

_PR_SET_NO_NEW_PRIVS, _PR_GET_SECCOMP, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 21, 22, 2
_LOAD, _EQUAL, _HAS_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_FIRST_ARGUMENT = 0, 4, 16
_CLONE_THREAD = 0x10000
_X32 = 0x40000000
"""Bit of the x32 interface of x86-64, whose numbers are others'."""


class _Machine(msgspec.Struct, frozen=True):
    """Numbers of system calls, as asm/unistd.h has them."""

    architecture: int
    clone: int
    socket: int
    others: tuple[int, ...]
    """Processes (fork, vfork), others' memory (ptrace, process_vm_readv, process_vm_writev), and io_uring_setup, which no filter sees
    through."""
    clone3: int = 435


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 56, 41, (57, 58, 101, 310, 311, 425)),
    "aarch64": _Machine(0xC00000B7, 220, 198, (117, 270, 271, 425)),
}


def _filter(*, network: bool) -> bytes:
    """A program that lets threads be made and no processes, and no sockets either unless there is to be a `network`."""
    machine = _MACHINES[platform.machine()]
    refused = (*machine.others, *(() if network else (machine.socket,)))
    steps = [
        _step(_LOAD, _OFFSET_ARCHITECTURE),
        _step(_EQUAL, machine.architecture, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _OFFSET_NUMBER),
        _step(_HAS_BITS, _X32, 0, 1),
        _step(_RETURN, _ERRNO | errno.ENOSYS),
    ]
    for number in refused:
        steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ERRNO | errno.EACCES)]
    steps += [
        # Its flags lie behind a pointer, which a filter cannot follow: C libraries then take `clone`.
        _step(_EQUAL, machine.clone3, 0, 1),
        _step(_RETURN, _ERRNO | errno.ENOSYS),
        _step(_EQUAL, machine.clone, 0, 3),
        _step(_LOAD, _OFFSET_FIRST_ARGUMENT),
        _step(_HAS_BITS, _CLONE_THREAD, 1, 0),
        _step(_RETURN, _ERRNO | errno.EACCES),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(steps)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; the jumps count the instructions that are passed over."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


@cache
def faculties() -> Faculties:
    """Of the kernel that runs."""
    if not sys.platform.startswith("linux"):
        return Faculties(landlock=0, seccomp=False)
    libc = ctypes.CDLL(None, use_errno=True)
    version = _call(libc, _CREATE_RULESET, None, 0, _VERSION_FLAG)
    return Faculties(
        landlock=max(0, version),
        # EINVAL says that it was built without; the filter itself is understood by every kernel that has it.
        seccomp=platform.machine() in _MACHINES and libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0,
    )
