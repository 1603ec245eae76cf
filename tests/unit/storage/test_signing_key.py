"""The key behind signed URLs."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.runtime.settings import Settings, SettingsError
from services.runtime.storage.signing_key import load_signing_key


def load(folder: str) -> bytes:
    return load_signing_key(Settings(data_dir=folder))


def test_a_setting_is_taken_as_it_is(tmp_path: Path) -> None:
    assert load_signing_key(Settings(signing_key="mine", data_dir=str(tmp_path))) == b"mine"
    assert list(tmp_path.iterdir()) == []


def test_one_is_made_and_kept_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = load(str(folder))
    assert (len(first), load(str(folder))) == (64, first)
    assert [path.name for path in folder.iterdir()] == ["signing.key"]
    assert stat.S_IMODE((folder / "signing.key").stat().st_mode) == 0o600


def test_those_that_start_at_once_agree(tmp_path: Path) -> None:
    start = threading.Barrier(16)

    def together(folder: str) -> bytes:
        start.wait(10)
        return load(folder)

    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(together, [str(tmp_path / "data")] * 16))
    assert len(set(keys)) == 1


def test_a_spoilt_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "signing.key").write_bytes(b"short")
    with pytest.raises(SettingsError, match=r"signing\.key is 5 bytes long"):
        load(str(tmp_path))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match="REELWORKS_DATA_DIR"):
        load(str(tmp_path / "file"))
