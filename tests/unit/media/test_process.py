"""No process outlives what it was started for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from services.runtime.media.failures import MediaTrouble, StreamBroken
from services.runtime.media.process import ProcessFailed, output_of, pasteable, spawn

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
FAMILY = [
    sys.executable,
    "-c",
    f"import subprocess, time; print(subprocess.Popen({SLEEP!r}).pid, flush=True); time.sleep(60)",
]


class Enough(Exception):
    """What a check raises."""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return not alive(pid)


async def test_output_and_the_tail_of_standard_error_are_kept() -> None:
    said, complaints = await output_of(
        [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr)"], within=None, timeout=30
    )
    assert (said, complaints) == (b"out\n", "err")


async def test_a_status_other_than_zero_raises_with_the_last_lines() -> None:
    script = "import sys; sys.stderr.write(''.join(f'line {n}\\n' for n in range(100_000))); sys.exit(3)"
    with pytest.raises(ProcessFailed, match="ended with 3: line 99999") as failed:
        await output_of([sys.executable, "-c", script], within=None, timeout=60)
    assert len(failed.value.stderr.splitlines()) <= 60


async def test_the_deadline_ends_it() -> None:
    pids: list[int] = []

    async def work() -> None:
        async with spawn(SLEEP, within=None, timeout=0.5) as running:
            pids.append(running.pid)

    with pytest.raises(MediaTrouble, match="after 0 s"):
        await work()
    assert await gone(pids[0])


async def test_what_the_check_raises_ends_the_whole_group_and_comes_out() -> None:
    pids: list[int] = []

    def check() -> None:
        if len(pids) == 2:
            raise Enough

    async def work() -> None:
        async with spawn(FAMILY, within=None, timeout=60, check=check) as running:
            pids.append(running.pid)
            pids.append(int(await running.stdout.readline()))
            # As a reader of boxes does whose ffmpeg was killed: the reason is the check's, not the broken pipe.
            await running.wait()
            raise StreamBroken("the stream ends inside of a box")

    with pytest.raises(Enough):
        await work()
    assert [await gone(pid) for pid in pids] == [True, True]


async def test_a_cancelled_task_leaves_no_process() -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with spawn(SLEEP, within=None, timeout=60) as running:
            started.set_result(running.pid)
            await running.wait()

    task = asyncio.create_task(work())
    pid = await started
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(pid)


async def test_a_killed_parent_takes_its_processes_along() -> None:
    script = f"""
import asyncio
from services.runtime.media.process import spawn
async def main():
    async with spawn({SLEEP!r}, within=None, timeout=60) as running:
        print("pid", running.pid, flush=True)
        await running.wait()
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = next(int(line.split()[1]) for line in parent.stdout if line.startswith("pid "))
        assert alive(child)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert await gone(child)


async def test_further_outputs_are_streams_and_their_descriptors_do_not_leak() -> None:
    def arguments(descriptors: Sequence[int]) -> list[str]:
        first, second = descriptors
        return [sys.executable, "-c", f"import os; os.write({first}, b'one'); os.write({second}, b'two')"]

    before = len(os.listdir("/proc/self/fd"))
    async with spawn(arguments, outputs=2, within=None, timeout=30) as running:
        assert [await stream.read() for stream in running.outputs] == [b"one", b"two"]
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def megabytes(count: int) -> AsyncGenerator[bytes]:
    for _ in range(4 * count):
        yield bytes(1 << 18)


async def test_a_program_that_talks_is_fed_to_the_end(tmp_path: Path) -> None:
    """Nobody reads what it says: neither of the two may wait for the other."""
    took = tmp_path / "took"
    # It answers each byte with one: more than its pipe and our buffer (2 MiB) hold.
    script = f"import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer); open({str(took)!r}, 'w').write('all')"
    async with spawn([sys.executable, "-c", script], stdin=True, within=None, timeout=60) as running:
        await running.feed(megabytes(4))
    assert took.read_text() == "all"


async def test_a_program_that_goes_away_while_it_is_fed_is_told_by_its_status() -> None:
    with pytest.raises(ProcessFailed, match="ended with 3"):
        async with spawn([sys.executable, "-c", "import sys; sys.exit(3)"], stdin=True, within=None, timeout=60) as running:
            await running.feed(megabytes(4))


async def test_what_the_pieces_raise_comes_out() -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        yield b"x"
        raise Enough

    pids: list[int] = []

    async def work() -> None:
        async with spawn(SLEEP, stdin=True, within=None, timeout=60) as running:
            pids.append(running.pid)
            await running.feed(pieces())

    with pytest.raises(Enough):
        await work()
    assert not alive(pids[0])


async def test_a_program_that_cannot_be_started_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        await output_of(["/nowhere/ffmpeg"], within=None, timeout=5)


def test_a_logged_command_can_be_pasted_and_tells_no_signature() -> None:
    line = pasteable(["ffmpeg", "-i", "it's.mp4", "https://store/film?X-Amz-Signature=secret", "pipe:7"], [7])
    assert line == """ffmpeg -i 'it'"'"'s.mp4' 'https://store/film?…' pipe:7 7>out-7"""
