"""The broker's start-up cache: made once, by one process, and never in the way."""

import fcntl
from pathlib import Path

import pytest

from services.runtime.kafka import training


@pytest.fixture
def libs(tmp_path: Path) -> Path:
    folder = tmp_path / "kafka" / "libs"
    folder.mkdir(parents=True)
    return folder


class Trainer:
    """Stands for the run of a broker: writes what its JVM would."""

    def __init__(self, writes: bytes = b"classes", fails: bool = False) -> None:
        self.runs = 0
        self._writes, self._fails = writes, fails

    def __call__(self, data: Path, option: str) -> None:
        self.runs += 1
        if self._fails:
            raise RuntimeError("no memory")
        Path(option.removeprefix("-XX:AOTCacheOutput=")).write_bytes(self._writes)


def test_the_cache_is_made_once_and_then_used(libs: Path):
    train = Trainer()
    first = training.options("/jvm/bin/java", libs, train)
    assert training.options("/jvm/bin/java", libs, train) == first
    assert first == [f"-XX:AOTCache={training.archive('/jvm/bin/java', libs)}"]
    assert train.runs == 1
    assert training.archive("/jvm/bin/java", libs).read_bytes() == b"classes"


def test_each_jvm_has_its_own(libs: Path):
    assert training.archive("/jvm/bin/java", libs) != training.archive("/other/bin/java", libs)


def test_where_it_cannot_be_made_the_broker_starts_without_and_it_is_not_tried_again(libs: Path):
    train = Trainer(fails=True)
    assert training.options("/jvm/bin/java", libs, train) == []
    assert training.options("/jvm/bin/java", libs, train) == []
    assert train.runs == 1
    assert [path.name for path in libs.parent.iterdir() if path.name.startswith("train-")] == []


def test_while_another_process_makes_it_nobody_waits(libs: Path):
    train = Trainer()
    with training.archive("/jvm/bin/java", libs).with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert training.options("/jvm/bin/java", libs, train) == []
    assert train.runs == 0
