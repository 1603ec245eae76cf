"""The supervisor, over real processes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.cli.supervisor import Spec, Supervisor, backoff
from services.runtime.settings import Settings, child_environment

HEALTHY = """
    from services.runtime.settings import load
    from services.runtime.telemetry import health
    import signal, sys
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("up", flush=True)
    health.start(load(), {}, service="sleeper")
    signal.pause()
"""


def until(supervisor: Supervisor, condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Tick until the condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        supervisor.tick()
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    made.kill()


def program(supervisor: Supervisor, code: str, name: str = "sleeper") -> Spec:
    environment = child_environment(Settings(run_dir=str(supervisor.run)))
    return Spec(name=name, command=[sys.executable, "-c", textwrap.dedent(code)], environment=environment)


def test_a_process_is_ready_when_the_port_that_it_announced_says_so(supervisor: Supervisor):
    child = supervisor.add(program(supervisor, HEALTHY))
    assert supervisor.not_ready() == [child]
    until(supervisor, child.ready)
    assert supervisor.not_ready() == []


def test_a_process_that_is_killed_is_started_again(supervisor: Supervisor):
    child = supervisor.add(program(supervisor, HEALTHY))
    until(supervisor, child.ready)
    assert child.process is not None
    first = child.process.pid
    os.kill(first, signal.SIGKILL)
    until(supervisor, lambda: child.process is not None and child.process.pid != first and child.ready())
    assert (child.last_code, child.restarts) == (-signal.SIGKILL, 1)
    assert not (supervisor.run / f"{first}.json").exists()


def test_a_process_that_keeps_ending_is_started_ever_more_slowly(supervisor: Supervisor):
    child = supervisor.add(program(supervisor, "raise SystemExit(7)"))
    begun = time.monotonic()
    until(supervisor, lambda: child.restarts >= 3)
    assert child.last_code == 7
    assert time.monotonic() - begun >= 0.2 + 0.4


def test_the_back_off_doubles_up_to_five_seconds():
    assert [backoff(n) for n in (1, 2, 3, 4, 5, 6, 60)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_lines_go_to_a_file_and_with_the_name_to_the_terminal(tmp_path: Path):
    with (tmp_path / "terminal").open("w") as terminal:
        supervisor = Supervisor(tmp_path, echo=terminal)
        child = supervisor.add(program(supervisor, HEALTHY))
        until(supervisor, child.ready)
        supervisor.stop(10.0)
    assert (tmp_path / "logs" / "sleeper.log").read_text() == "up\n"
    assert (tmp_path / "terminal").read_text() == "sleeper        up\n"
    assert child.log_tail() == ["up"]


STUBBORN = HEALTHY.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")


@pytest.mark.parametrize(("code", "grace", "ended"), [(HEALTHY, 30.0, 0), (STUBBORN, 0.5, -signal.SIGKILL)], ids=["polite", "stubborn"])
def test_stop_asks_first_and_kills_those_that_do_not_listen(supervisor: Supervisor, code: str, grace: float, ended: int):
    child = supervisor.add(program(supervisor, code))
    until(supervisor, child.ready)
    assert child.process is not None
    supervisor.stop(grace)
    assert child.process.returncode == ended
    assert list(supervisor.run.iterdir()) == []


def test_processes_end_when_their_supervisor_is_killed(tmp_path: Path):
    code = f"""
        import sys, time
        from pathlib import Path
        from services.cli.supervisor import Spec, Supervisor
        s = Supervisor(Path({str(tmp_path)!r}))
        c = s.add(Spec(name="child", command=[sys.executable, "-c", "import signal; signal.pause()"], environment={{}}))
        s.tick()
        print(c.process.pid, flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline, "the child outlived its supervisor"
        time.sleep(0.02)
