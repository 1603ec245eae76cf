"""Whether sound and picture lie together: a clip that flashes and beeps at the same moments, and when what was made of it does.

clip = sync.clip(60)
sync.of_file(path).check(60)                        anything that ffmpeg reads: transport streams, MP4, their playlists
sync.of_segments(folder, "video-180", "audio-und")  CMAF, with the times that its boxes tell
"""

from __future__ import annotations

import subprocess
from array import array
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests import clips

PERIOD = 5
"""Seconds between two flashes; the first is at 0."""
_RATE = 48_000
_WINDOW = 48
"""Samples that are looked at together: a millisecond."""
_LOUD, _BRIGHT = 3000, 128
_QUIET_SECONDS = 0.5


class Events(NamedTuple):
    flashes: list[float]
    beeps: list[float]
    frames: int

    def check(self, seconds: float, *, frame: float = 0.04) -> None:
        """Beginning, middle and end: each flash has its beep within a frame, and lies where it lay in the clip."""
        expected = [float(at) for at in range(0, int(seconds), PERIOD)]
        assert len(self.flashes) == len(self.beeps) == len(expected), self
        for at, flash, beep in zip(expected, self.flashes, self.beeps, strict=True):
            assert abs(flash - beep) < frame, f"at {at} s: flash {flash:.3f}, beep {beep:.3f}"
            assert abs(flash - self.flashes[0] - at) < frame, f"the flash at {at} s is at {flash - self.flashes[0]:.3f}"
            assert abs(beep - self.beeps[0] - at) < frame, f"the beep at {at} s is at {beep - self.beeps[0]:.3f}"


def clip(seconds: float = 60, *, rate: int = 25, gop: float = 2, suffix: str = ".mp4", options: tuple[str, ...] = ()) -> Path:
    """Black and silent, but for two white frames and a tenth of a second of 1 kHz every five seconds. Groups of pictures are short."""
    flash = f"drawbox=c=white:t=fill:enable='lt(mod(t,{PERIOD}),{1.5 / rate})'"
    frames = str(round(rate * gop))
    return clips.make(
        *("-f", "lavfi", "-i", f"color=black:s=320x180:r={rate}:d={seconds},{flash}"),
        *("-f", "lavfi", "-i", f"aevalsrc='if(lt(mod(t,{PERIOD}),0.1),0.5*sin(2*PI*1000*t),0)':s={_RATE}:d={seconds}"),
        *("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-bf", "3", "-g", frames, "-keyint_min", frames),
        *("-sc_threshold", "0", "-c:a", "aac", "-b:a", "96k", *options),
        suffix=suffix,
    )


def of_file(path: Path | str, *options: str) -> Events:
    """Times as the file tells them. `options`: of ffmpeg, for its input."""
    times = sorted(_packets(path, "v:0", options))
    return _events(times, _luma(path, options), min(_packets(path, "a:0", options)), _samples(path, options))


def of_segments(folder: Path, video: str, audio: str) -> Events:
    """Of CMAF segments on disk, not encrypted. Times are those of the boxes: ffmpeg's reader shows reordered pictures later."""
    film, sound = folder / "film.joined.mp4", folder / "sound.joined.mp4"
    try:
        shown = _join(folder / video, film)
        heard = _join(folder / audio, sound)
        return _events(sorted(shown), _luma(film, ()), heard[0], _samples(sound, ()))
    finally:
        film.unlink(missing_ok=True)
        sound.unlink(missing_ok=True)


def shown_at(rendition: Path) -> list[float]:
    """When each sample of a rendition is shown, in the order of decoding: `tfdt`, durations and offsets of its segments."""
    init = (rendition / "init.mp4").read_bytes()
    mdhd = init.index(b"mdhd") + 4
    timescale = int.from_bytes(init[mdhd + 12 : mdhd + 16], "big")
    times: list[float] = []
    for path in sorted(rendition.glob("*.m4s")):
        for traf in _boxes(path.read_bytes(), b"moof", b"traf"):
            times += [ticks / timescale for ticks in _sample_times(traf)]
    return times


def _sample_times(traf: bytes) -> list[int]:
    """ISO/IEC 14496-12, 8.8.7, 8.8.8 and 8.8.12; read here once more, so that what the services read and write is not checked by itself."""
    (tfhd,), (tfdt,) = _boxes(traf, b"tfhd"), _boxes(traf, b"tfdt")
    flags = int.from_bytes(tfhd[1:4], "big")
    skipped = 8 + 8 * (flags & 1) + 4 * (flags >> 1 & 1)
    default = int.from_bytes(tfhd[skipped : skipped + 4], "big") if flags & 8 else 0
    at = int.from_bytes(tfdt[4:12] if tfdt[0] else tfdt[4:8], "big")
    times: list[int] = []
    for trun in _boxes(traf, b"trun"):
        flags, count = int.from_bytes(trun[1:4], "big"), int.from_bytes(trun[4:8], "big")
        position = 8 + 4 * (flags & 1) + 4 * (flags >> 2 & 1)
        for _ in range(count):
            fields = {}
            for bit in (0x100, 0x200, 0x400, 0x800):
                if flags & bit:
                    fields[bit] = int.from_bytes(trun[position : position + 4], "big", signed=bit == 0x800 and trun[0] == 1)
                    position += 4
            times.append(at + fields.get(0x800, 0))
            at += fields.get(0x100, default)
    return times


def _boxes(data: bytes, *path: bytes) -> list[bytes]:
    """Bodies of all boxes of a path."""
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == path[0]:
            body = data[at + 8 : at + size]
            found += _boxes(body, *path[1:]) if path[1:] else [body]
        at += size
    return found


def _join(rendition: Path, path: Path) -> list[float]:
    path.write_bytes(b"".join(p.read_bytes() for p in [rendition / "init.mp4", *sorted(rendition.glob("*.m4s"))]))
    return shown_at(rendition)


def _events(times: list[float], luma: bytes, start: float, samples: array[int]) -> Events:
    assert len(luma) == len(times), f"{len(luma)} pictures, and {len(times)} times"
    bright = [at for at, value in zip(times, luma, strict=True) if value > _BRIGHT]
    loud = [
        start + first / _RATE
        for first in range(0, len(samples) - _WINDOW, _WINDOW)
        if max(map(abs, samples[first : first + _WINDOW])) > _LOUD
    ]
    return Events(_onsets(bright), _onsets(loud), len(times))


def _onsets(times: list[float]) -> list[float]:
    return times[:1] + [after for before, after in pairwise(times) if after - before > _QUIET_SECONDS]


def _luma(path: Path | str, options: tuple[str, ...]) -> bytes:
    """Mean brightness of each picture, a byte each."""
    return _decoded(path, options, "-map", "0:v:0", "-vf", "scale=1:1:flags=area,format=gray", "-fps_mode", "passthrough", "-f", "rawvideo")


def _samples(path: Path | str, options: tuple[str, ...]) -> array[int]:
    made = array("h")
    made.frombytes(_decoded(path, options, "-map", "0:a:0", "-ac", "1", "-ar", str(_RATE), "-f", "s16le"))
    return made


def _decoded(path: Path | str, options: tuple[str, ...], *arguments: str) -> bytes:
    argv = [clips.programs()[0], "-v", "error", "-nostdin", "-xerror", "-copyts", *options, "-i", str(path), *arguments, "-"]
    done = subprocess.run(argv, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert not done.stderr, done.stderr.decode()[-2000:]
    return done.stdout


def _packets(path: Path | str, stream: str, options: tuple[str, ...]) -> list[float]:
    argv = ("-select_streams", stream, "-show_entries", "packet=pts_time", "-of", "csv=p=0", *options)
    return [float(line.strip(",")) for line in clips.ffprobe(path, *argv).split()]
