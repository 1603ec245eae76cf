"""The film of the demo: the beginning of Big Buck Bunny, as it is packaged with the documentation of moviepy.

(c) 2008 Blender Foundation, www.bigbuckbunny.org, Creative Commons Attribution 3.0. 1280 × 720, H.264 with MP3, 55 s: long enough
to be watched while it is being encoded. pip verifies the package's sha256, and we verify the file's.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from services.cli.exits import Unreachable
from services.runtime.children import dies_with_parent

PACKAGE: Final = "moviepy==2.2.1"
PACKAGE_SHA256: Final = "c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1"
MEMBER: Final = "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/trailer_bbb.mp4"
FILE_SHA256: Final = "ce0d2ba68822a89ae65ee41b53be9de621771130c2aa1d0ff02d935df75b59ae"
FILENAME: Final = "big-buck-bunny.mp4"
TITLE: Final = "Big Buck Bunny"
DOWNLOAD_SECONDS: Final = 600.0
"""For 58 megabytes, on a slow line."""


def sample(cache: Path) -> Path:
    """The film's file, fetched when it is not in the cache. Raises Unreachable when it cannot be had."""
    path = cache / "samples" / FILENAME
    if path.exists() and _sha256(path) == FILE_SHA256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=path.parent) as work:
        draft = Path(work) / FILENAME
        _unpack(_download(Path(work)), draft)
        draft.replace(path)  # it appears whole
    return path


def _download(folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1"]
    pip += ["--no-deps", "--no-binary", PACKAGE.partition("==")[0], "--require-hashes", "--dest", str(folder), "--requirement", str(wanted)]
    try:
        done = subprocess.run(
            pip,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
            preexec_fn=dies_with_parent(),
        )
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{PACKAGE}, which holds the sample film, could not be downloaded within {DOWNLOAD_SECONDS:.0f} s") from None
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "pip gave no reason")
        raise Unreachable(f"{PACKAGE}, which holds the sample film, could not be downloaded: {last}")
    return next(folder.glob("*.tar.gz"))


def _unpack(package: Path, target: Path) -> None:
    with tarfile.open(package) as archive:
        source = archive.extractfile(MEMBER)
        assert source is not None
        with source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    found = _sha256(target)
    if found != FILE_SHA256:
        raise Unreachable(f"{MEMBER} of {PACKAGE} has sha256 {found}, expected {FILE_SHA256}: it was not used")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
