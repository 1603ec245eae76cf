"""A film for where none can be fetched: a test picture with a tone, made by ffmpeg."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from services.runtime.media import binaries
from services.runtime.media.process import output_of
from services.runtime.settings import Settings

FILENAME: Final = "test-picture.mp4"
SECONDS: Final = 8


async def make_picture(settings: Settings, folder: Path) -> Path:
    """Eight seconds of 1280 × 720 at 25 frames a second. The folder is there already.

    Raises BinaryMissing without ffmpeg.
    """
    path = folder / FILENAME
    found = await binaries.find(settings)
    command = [found.ffmpeg, "-y", "-loglevel", "error", "-nostdin"]
    # A picture that moves and counts, so that one sees it play.
    command += ["-f", "lavfi", "-i", f"testsrc2=size=1280x720:rate=25:duration={SECONDS}"]
    command += ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={SECONDS}"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "96k", str(path)]
    await output_of(command, within=None, timeout=120.0)
    return path
