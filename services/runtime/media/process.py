"""The only spawner of media processes.

Each child is the leader of its own process group, is killed with that group when it is cancelled, too slow or abandoned,
and dies with its parent. No shell is involved, our environment and descriptors are not inherited, and `confinement` says what it may use.
Its command line is logged so that it can be pasted into bash.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shlex
import signal
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence

import structlog

from services.runtime.media.confinement import Confinement, confined, environment
from services.runtime.media.failures import MediaTrouble, StreamBroken
from services.runtime.together import together

log = structlog.get_logger("media")

Arguments = Callable[[Sequence[int]], Sequence[str]]
"""Builds the argument vector; it is given the descriptors that the child shall write its outputs to (`pipe:<n>`)."""

_PIPE_BYTES = 1 << 20
# Linux' usual upper limit for an unprivileged pipe: fewer switches between ffmpeg and us than with 64 KiB.
_STDERR_LINES = 60
_LEVEL = re.compile(r"\[(?:panic|fatal|error)\] ")
# Looking more often than this for cancellation and the deadline would cost more than it gains.
_LOOK_SECONDS = 0.2


class ProcessFailed(Exception):
    """The program ended with another status than 0."""

    def __init__(self, program: str, status: int, stderr: str) -> None:
        last = stderr.strip().rpartition("\n")[2] or "it said nothing"
        how = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
        super().__init__(f"{program} {how}: {last}")
        self.program, self.status, self.stderr = program, status, stderr

    @property
    def nothing_came(self) -> bool:
        """Whether ffmpeg gave up only because its input had nothing for one of the outputs."""
        return "received no packets" in self.stderr


class OutputTooLong(MediaTrouble):
    """A program said more than was wanted."""


class Running:
    """A started process: its standard output and its further outputs as streams."""

    def __init__(self, process: asyncio.subprocess.Process, outputs: list[asyncio.StreamReader], program: str) -> None:
        self._process = process
        self.outputs = outputs
        self.program = program
        self.pid = process.pid
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._gave_up = ""

    @property
    def stdout(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None
        return self._process.stdout

    async def feed(self, pieces: AsyncGenerator[bytes]) -> None:
        """Write all of them to its standard input, then end that. What it says on standard output meanwhile is read and dropped.

        Waits while the input is full. A program that has gone away is reported by its status, not here. Raises what `pieces` raises.
        """
        stdin = self._process.stdin
        assert stdin is not None

        async def write() -> None:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        stdin.write(piece)
                        await stdin.drain()
            stdin.close()

        async def drain() -> None:
            while await self.stdout.read(1 << 16):
                pass

        await together(write(), beside=drain())

    @property
    def stderr(self) -> str:
        """The last lines that it said."""
        return "\n".join(self._stderr)

    async def drain_stderr(self) -> None:
        """Keep the tail. A reader that stopped would let the child block on a full pipe."""
        reader = self._process.stderr
        assert reader is not None
        rest = b""
        while chunk := await reader.read(1 << 16):
            *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            rest = rest[-4096:]
            for line in lines:
                self._hear(line)
        self._hear(rest)

    def _hear(self, line: bytes) -> None:
        words = line.decode("utf-8", "replace")[:500]
        if "[warning] " not in words:
            if words.strip():
                self._stderr.append(_LEVEL.sub("", words, count=1))
        elif "HTTP error " in words:
            self._gave_up = words.rpartition("[warning] ")[2]
        elif "Will reconnect at " in words:
            self._gave_up = ""

    def trouble(self, status: int) -> Exception | None:
        """What is to be raised when it has ended: MediaTrouble when the store was away for longer than it tries, ProcessFailed."""
        if self._gave_up:
            return MediaTrouble("media-read", f"{self.program} could not read the input: {self._gave_up}")
        return ProcessFailed(self.program, status, self.stderr) if status else None

    async def wait(self) -> int:
        return await self._process.wait()

    async def soon_ended(self) -> int | None:
        """Its status, when it ends within the second that a dying process takes."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), 1.0)
        return None

    def kill(self) -> None:
        """End the whole group."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def pasteable(argv: Sequence[str], descriptors: Sequence[int] = ()) -> str:
    """The command as bash takes it; outputs through descriptors go to files of that name. Queries of URLs, which carry
    signatures, are left out."""
    words = [
        shlex.quote(word.partition("?")[0] + "?…" if word.startswith(("http://", "https://")) and "?" in word else word) for word in argv
    ]
    return " ".join([*words, *(f"{fd}>out-{fd}" for fd in descriptors)])


@contextlib.asynccontextmanager
async def spawn(
    arguments: Arguments | Sequence[str],
    *,
    within: Confinement | None,
    outputs: int = 0,
    stdin: bool = False,
    timeout: float,
    check: Callable[[], None] | None = None,
) -> AsyncGenerator[Running]:
    """Start a program and wait for its end when the block is left.

    `within`: what it may use; None, for what reads nothing of strangers: whatever we may. `outputs`: number of further pipes.
    `timeout` in seconds, over its whole life. `check` is called about five times a second; what it raises ends the program and
    leaves the block. Raises ProcessFailed when the status is not 0, MediaTrouble after `timeout` or when the input could not be read
    to its end, whatever the status. However the block is left, no
    process of the group remains.
    """
    pipes = [os.pipe() for _ in range(outputs)]
    writers = [w for _, w in pipes]
    argv = list(arguments(writers) if callable(arguments) else arguments)
    program = os.path.basename(argv[0])
    started = time.monotonic()
    try:
        with confined(argv[0], within, seconds=timeout) as fence:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=writers,
                start_new_session=True,
                preexec_fn=fence.prepare,
                env=environment(),
                limit=_PIPE_BYTES,
            )
    except BaseException:
        for reader, writer in pipes:
            os.close(reader)
            os.close(writer)
        raise
    for writer in writers:
        os.close(writer)
    readers: list[tuple[asyncio.StreamReader, asyncio.ReadTransport]] = []
    try:
        for reader, _ in pipes:
            readers.append(await _reader(reader))
    except BaseException:  # cancelled in between
        Running(process, [], program).kill()
        for _, transport in readers:
            transport.close()
        for reader, _ in pipes[len(readers) + 1 :]:  # the one at which it ended was closed with its file object
            os.close(reader)
        await asyncio.shield(process.wait())
        raise
    running = Running(process, [r for r, _ in readers], program)
    log.debug("media process", command=pasteable(argv, writers), child=process.pid)
    listening = asyncio.create_task(running.drain_stderr())
    guard = _Guard(running, timeout, check)
    watching = asyncio.create_task(guard.watch())
    try:
        yield running
        status = await running.wait()
        await listening
        if guard.reason is not None:
            raise guard.reason
        if (wrong := running.trouble(status)) is not None:
            raise wrong
    except asyncio.CancelledError:
        raise
    except Exception as wrong:
        # A pipe that broke because the guard killed the program is not the reason: the guard's is.
        if guard.reason is not None:
            raise guard.reason from None
        if isinstance(wrong, StreamBroken) and (status := await running.soon_ended()):
            raise (running.trouble(status) or wrong) from None
        raise
    finally:
        running.kill()
        watching.cancel()
        for _, transport in readers:
            transport.close()
        # Shielded: even a task that is being cancelled must not leave a zombie behind.
        await asyncio.shield(asyncio.gather(running.wait(), listening, return_exceptions=True))
        log.debug("media process ended", child=process.pid, status=process.returncode, seconds=round(time.monotonic() - started, 3))


async def output_of(
    argv: Sequence[str], *, within: Confinement | None, timeout: float, check: Callable[[], None] | None = None, limit: int = 32 * 1024**2
) -> tuple[bytes, str]:
    """Standard output and the tail of standard error of a program that says little.

    Raises what `spawn` raises; OutputTooLong when it says more than `limit` bytes.
    """
    async with spawn(argv, within=within, timeout=timeout, check=check) as running:
        said = bytearray()
        while chunk := await running.stdout.read(1 << 16):
            said += chunk
            if len(said) > limit:
                raise OutputTooLong("output-too-long", f"{running.program} wrote more than {limit} bytes")
        await running.wait()
    return bytes(said), running.stderr


class _Guard:
    """Ends a program on cancellation or after its time."""

    def __init__(self, running: Running, timeout: float, check: Callable[[], None] | None) -> None:
        self._running, self._timeout, self._check = running, timeout, check
        self.reason: Exception | None = None

    async def watch(self) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if time.monotonic() > deadline:
                self.reason = MediaTrouble(
                    "too-slow",
                    f"{self._running.program} was ended after {self._timeout:.0f} s",
                    "Raise REELWORKS_TASK_TIMEOUT_SECONDS, or give the machine more processors.",
                )
            elif self._check is not None:
                try:
                    self._check()
                except Exception as wrong:
                    self.reason = wrong
            if self.reason is not None:
                self._running.kill()
                return


async def _reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    reader = asyncio.StreamReader(limit=_PIPE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader, transport
