"""What ffmpeg may open while it reads an input that a stranger made.

A playlist, a concat script or an SVG names other files or addresses, which ffmpeg would open with our rights. So an input
is read by demuxers that hold their media themselves, and through one kind of protocol only.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

# Containers that people upload. Left out on purpose: hls, dash, concat, imf, webm_dash_manifest, sdp, rtsp, image2, svg_pipe,
# tty, lavfi, vobsub, avisynth, dvdvideo: they read other files, or turn anything at all into a picture.
CONTAINERS: tuple[str, ...] = (
    "mov", "matroska", "webm", "avi", "asf", "flv", "mpeg", "mpegts", "ogg", "rm", "gif", "mxf", "dv", "wtv", "nut", "ivf",
    "mp3", "aac", "wav", "w64", "flac", "ac3", "eac3", "aiff", "amr", "caf",
)  # fmt: skip
VERBOSITY = "repeat+level+warning"
"""Of `-v`, for what may read from a store: that a read failed for good is a warning, and then the film counts as broken."""
IMAGES: tuple[str, ...] = ("png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe")
IMAGE_PIXELS = 8192 * 4352
"""Most of a picture that is laid over a film. A PNG of some kilobytes may be of gigabytes."""


def reading(url: str, *, images: bool = False) -> dict[str, Any]:
    """Input options for a path, a pipe or a signed URL."""
    if url.startswith("https:"):
        protocols = "https,tls,tcp"
    elif url.startswith("http:"):
        protocols = "http,tcp"
    elif url.startswith("pipe:"):
        protocols = "pipe"
    else:
        protocols = "file"
    options: dict[str, Any] = {"protocol_whitelist": protocols, "format_whitelist": ",".join(IMAGES if images else CONTAINERS)}
    if images:
        options["max_pixels"] = IMAGE_PIXELS
    if protocols.startswith("http"):
        # A store that closes an idle connection in the middle of a film, or has trouble of its own, is asked again from that byte on.
        options |= {
            "reconnect": 1, "reconnect_on_network_error": 1, "reconnect_on_http_error": "429,5xx", "reconnect_delay_max": 10,
            "rw_timeout": 60_000_000,
        }  # fmt: skip
    return options


def port(url: str) -> int:
    """The TCP port of an `http:` or `https:` URL."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def as_arguments(options: dict[str, Any]) -> list[str]:
    """The options as words."""
    return [word for name, value in options.items() for word in (f"-{name}", str(value))]


def as_url(location: str) -> str:
    """A path that cannot be taken for another protocol: `concat:a|b` and `-i` are possible names of files."""
    return location if location.startswith(("http://", "https://", "pipe:", "file:")) else f"file:{location}"
