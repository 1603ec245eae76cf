"""The watchdog, in processes of its own: it ends one whose thread hangs, and spares one that was itself stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from services.coordinator import watchdog

PROGRAM = """
import sys, time
from services.coordinator import watchdog

watchdog.TICK_SECONDS, watchdog.STOPPED_SECONDS = 0.05, 1.0
dog = watchdog.Watchdog()
beating, other = dog.watch("beating", 4.0), dog.watch("other", 4.0)
dog.start()
print("ready", flush=True)
for line in sys.stdin:
    if line == "end\\n":
        break
    if line == "done\\n":
        other.done()
    if line == "beat\\n":
        beating.beat()
        print("beaten", flush=True)
"""


def program() -> subprocess.Popen[str]:
    made = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert made.stdout is not None
    assert made.stdout.readline() == "ready\n"
    return made


def say(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def test_a_thread_that_does_not_beat_ends_the_process():
    process = program()
    assert process.wait(30) == watchdog.EXIT_CODE
    assert process.stdout is not None
    assert "a thread hangs" in process.stdout.read()


def test_a_process_that_was_stopped_gets_a_new_term():
    process = program()
    say(process, "done")
    process.send_signal(signal.SIGSTOP)
    time.sleep(6.0)  # longer than the term: what is tested is that this time does not count
    process.send_signal(signal.SIGCONT)
    say(process, "beat")
    assert process.stdout is not None
    assert process.stdout.readline() == "beaten\n"
    say(process, "end")
    assert process.wait(30) == 0
