"""What `up` makes of settings and of what is in its way. Without starting anything."""

import socket
from pathlib import Path

import pytest

from services.cli.exits import Refused
from services.cli.stack import WORKERS, Stack, port_problem
from services.cli.up import worker_counts
from services.runtime.settings import Settings, load


def test_the_workers_are_those_whose_requests_this_version_serves():
    assert WORKERS == ("notifier", "streamer", "transcoder", "zipper")


def test_counts_begin_with_one_each():
    assert worker_counts(("transcoder=3",)) == {"notifier": 1, "streamer": 1, "transcoder": 3, "zipper": 1}
    assert worker_counts(()) == {"notifier": 1, "streamer": 1, "transcoder": 1, "zipper": 1}


def test_everything_lies_below_the_data_folder(tmp_path: Path):
    settings = Stack(Settings(port=0), tmp_path, workers={}, echo=None).settings
    assert settings.storage_url == (tmp_path / "library").as_uri()
    assert (settings.data_dir, settings.run_dir, settings.scratch_dir) == (str(tmp_path), f"{tmp_path}/run", f"{tmp_path}/scratch")
    assert settings.port > 0


def test_what_was_set_stays(tmp_path: Path):
    given = Settings(storage_url="s3://films", scratch_dir="/scratch", port=8099)
    settings = Stack(given, tmp_path, workers={}, echo=None).settings
    assert (settings.storage_url, settings.scratch_dir, settings.port) == ("s3://films", "/scratch", 8099)


def test_children_get_the_settings_and_nothing_of_ours_that_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REELWORKS_PORT", "1234")
    stack = Stack(load(port=8099), tmp_path, workers={"transcoder": 2, "notifier": 1}, echo=None)
    specs = {spec.name: spec for spec in stack._specs(tmp_path)}
    assert sorted(specs) == ["coordinator", "gateway", "notifier", "streamer-live", "transcoder-1", "transcoder-2"]
    environment = specs["gateway"].environment
    assert (environment["REELWORKS_PORT"], environment["REELWORKS_DATA_DIR"]) == ("8099", str(tmp_path))
    assert load(environment).port == 8099
    assert specs["gateway"].ready_url == "http://127.0.0.1:8099/readyz"
    assert "PATH" in environment


def test_a_taken_port_is_refused_with_what_to_do(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port_problem("127.0.0.1", port) == f"port {port} on 127.0.0.1 is taken"
        with Stack(Settings(port=port), tmp_path, workers={}, echo=None) as stack:
            with pytest.raises(Refused, match="give another one with --port"):
                stack.start()


def test_two_of_us_do_not_share_a_folder(tmp_path: Path):
    with Stack(Settings(port=0), tmp_path, workers={}, echo=None) as first:
        first._take_folder()
        with Stack(Settings(port=0), tmp_path, workers={}, echo=None) as second:
            with pytest.raises(Refused, match="another `reelworks up` or `demo` uses"):
                second.start()
