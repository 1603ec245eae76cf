"""The first build that can do everything is taken, and people are told about the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.runtime.media import binaries
from services.runtime.media.confinement import faculties
from services.runtime.media.failures import BinaryMissing
from services.runtime.settings import Settings


def stub(path: Path, *, encoders: str) -> Path:
    """A build that lists these encoders only."""
    path.write_text(
        f"#!/bin/sh\ncase \"$*\" in *-encoders*) echo ' V....D {encoders} x';; *-version*) echo 'ffmpeg version 0.1 Copyright';; esac\n"
    )
    path.chmod(0o755)
    return path


async def test_ffmpeg_and_ffprobe_are_found_and_can_do_what_is_needed() -> None:
    found = await binaries.look(Settings(), "ffmpeg")
    assert found.chosen is not None
    assert found.chosen.lacks == ()
    assert found.chosen.version.startswith("ffmpeg version")
    assert (await binaries.find(Settings())).ffmpeg == found.chosen.path


async def test_a_build_on_the_path_that_lacks_an_encoder_is_passed_over_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = stub(tmp_path / "ffmpeg", encoders="mpeg4")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = await binaries.look(Settings(media_confinement="limits"), "ffmpeg")
    assert found.chosen is not None
    assert found.chosen.origin == "wheel"
    assert [(b.path, b.origin) for b in found.passed_over] == [(str(poor), "PATH")]
    assert f"passed over {poor} (PATH): lacks encoder libx264" in found.explain()


async def test_a_configured_build_that_lacks_something_is_an_error_and_not_replaced(tmp_path: Path) -> None:
    poor = stub(tmp_path / "ffmpeg", encoders="aac")
    with pytest.raises(BinaryMissing, match="lacks encoder libx264") as missing:
        await binaries.find(Settings(ffmpeg=str(poor), media_confinement="limits"))
    assert "REELWORKS_FFMPEG" in missing.value.hint


@pytest.mark.skipif(not faculties().landlock, reason="this kernel has no Landlock")
async def test_a_script_in_place_of_the_program_is_passed_over_with_the_setting_to_change(tmp_path: Path) -> None:
    script = stub(tmp_path / "ffmpeg", encoders="aac")
    with pytest.raises(BinaryMissing, match=r"it is a script, .*REELWORKS_MEDIA_CONFINEMENT"):
        await binaries.find(Settings(ffmpeg=str(script)))


async def test_a_configured_path_where_nothing_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(BinaryMissing, match=r"none that can be used.*ability to start"):
        await binaries.find(Settings(ffprobe=str(tmp_path / "nothing")))
