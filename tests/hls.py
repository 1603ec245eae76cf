"""A strict reader of HLS playlists: what RFC 8216 does not allow, or our playlists do not need, raises.

playlist = hls.media(text)          a Media Playlist
playlist = hls.master(text)         a Master Playlist
hls.check_growth(older, newer)      what a playlist that grows may become
hls.check_folder(path)              all that a playlist on disk names, and what they name
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class NotHls(AssertionError):
    """A playlist that breaks a rule, and which."""


class ByteRange(NamedTuple):
    length: int
    offset: int


class Key(NamedTuple):
    method: str
    uri: str
    iv: str


class MediaSegment(NamedTuple):
    uri: str
    seconds: float
    init: str = ""
    key: Key | None = None
    byte_range: ByteRange | None = None


class MediaPlaylist(NamedTuple):
    version: int
    target: int
    kind: str
    ended: bool
    iframes_only: bool
    independent: bool
    segments: tuple[MediaSegment, ...]

    @property
    def seconds(self) -> float:
        return sum(s.seconds for s in self.segments)


class Variant(NamedTuple):
    uri: str
    attributes: dict[str, str]

    @property
    def bandwidth(self) -> int:
        return int(self.attributes["BANDWIDTH"])

    @property
    def average(self) -> int:
        return int(self.attributes["AVERAGE-BANDWIDTH"])

    @property
    def codecs(self) -> list[str]:
        return self.attributes["CODECS"].split(",")


class MasterPlaylist(NamedTuple):
    version: int
    independent: bool
    variants: tuple[Variant, ...]
    media: tuple[dict[str, str], ...]
    iframes: tuple[Variant, ...]


# ── Attributes (§4.2) ──────────────────────────────────────────────────────────────────────────────────────────────

_INTEGER, _HEX, _FLOAT, _QUOTED, _WORD, _SIZE = (
    r"\d{1,20}",
    r"0x[0-9a-f]+",
    r"\d+(?:\.\d+)?",
    r'"[^"\r\n]*"',
    r'[^",\s]+',
    r"\d+x\d+",
)
_STREAM = {
    "BANDWIDTH": _INTEGER, "AVERAGE-BANDWIDTH": _INTEGER, "CODECS": _QUOTED, "RESOLUTION": _SIZE, "FRAME-RATE": r"\d+(?:\.\d{1,3})?",
    "AUDIO": _QUOTED, "CLOSED-CAPTIONS": rf"(?:{_QUOTED}|NONE)", "URI": _QUOTED,
}  # fmt: skip
_MEDIA = {
    "TYPE": "AUDIO", "GROUP-ID": _QUOTED, "NAME": _QUOTED, "LANGUAGE": _QUOTED, "DEFAULT": "YES|NO", "AUTOSELECT": "YES|NO",
    "CHANNELS": _QUOTED, "URI": _QUOTED,
}  # fmt: skip
_KEY = {"METHOD": "AES-128|NONE", "URI": _QUOTED, "IV": r"0x[0-9a-f]{32}"}
_MAP = {"URI": _QUOTED, "BYTERANGE": _QUOTED}


def _attributes(text: str, known: dict[str, str], required: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    rest = text
    while rest:
        match = re.match(rf"([A-Z0-9-]+)=({_QUOTED}|[^,]*)(,|$)", rest)
        _must(match is not None, f"§4.2: {rest!r} is no attribute")
        assert match is not None
        name, value = match[1], match[2]
        _must(name in known, f"attribute {name} is not expected here")
        _must(name not in found, f"§4.2: attribute {name} twice")
        _must(re.fullmatch(known[name], value) is not None, f"§4.2: {name}={value}")
        found[name] = value.strip('"')
        _must(match[3] == "" or len(rest) > match.end(), "§4.2: a comma at the end")
        rest = rest[match.end() :]
    for name in required:
        _must(name in found, f"{name} is missing in {text!r}")
    return found


def _must(holds: bool, rule: str) -> None:
    if not holds:
        raise NotHls(rule)


def _lines(text: str) -> list[str]:
    _must(not text.startswith("\ufeff"), "§4.1: a byte order mark")
    _must(text.endswith("\n"), "the last line has no end")
    _must("\r" not in text, "carriage returns")
    lines = text.split("\n")[:-1]
    _must(lines[0] == "#EXTM3U", "§4.3.1.1: EXTM3U must be first")
    _must("#EXTM3U" not in lines[1:], "EXTM3U twice")
    _must(all(lines), "an empty line")
    return lines[1:]


class _Once:
    """Tags that stand in a playlist once at most."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def take(self, tag: str, value: str, *, pattern: str = "") -> None:
        _must(tag not in self.values, f"{tag} twice")
        _must(re.fullmatch(pattern, value) is not None, f"{tag}:{value}")
        self.values[tag] = value

    def number(self, tag: str, default: int = 0) -> int:
        return int(self.values.get(tag, default))


_HEADER = {
    "#EXT-X-VERSION": r"[1-9]\d*",
    "#EXT-X-TARGETDURATION": r"[1-9]\d*",
    "#EXT-X-MEDIA-SEQUENCE": r"\d+",
    "#EXT-X-PLAYLIST-TYPE": "EVENT|VOD",
    "#EXT-X-I-FRAMES-ONLY": "",
    "#EXT-X-INDEPENDENT-SEGMENTS": "",
}


# ── Media Playlists (§4.3.2, §4.3.3) ───────────────────────────────────────────────────────────────────────────────


def media(text: str) -> MediaPlaylist:
    """Raises NotHls."""
    once, segments = _Once(), list[MediaSegment]()
    seconds: float | None = None
    byte_range: ByteRange | None = None
    init, key, ended = "", None, False
    least = 1
    for line in _lines(text):
        _must(not ended, "something behind EXT-X-ENDLIST")
        tag, _, value = line.partition(":")
        if tag in _HEADER:
            _must(not segments and seconds is None, f"{tag} behind the first segment")
            once.take(tag, value, pattern=_HEADER[tag])
        elif tag == "#EXTINF":
            match = re.fullmatch(r"(\d+(?:\.\d+)?),", value)
            _must(match is not None and seconds is None, f"§4.3.2.1: {line}")
            assert match is not None
            seconds = float(match[1])
            least = max(least, 3 if "." in value else 1)
        elif tag == "#EXT-X-BYTERANGE":
            match = re.fullmatch(r"(\d+)@(\d+)", value)
            _must(match is not None and byte_range is None and seconds is not None, f"§4.3.2.2: {line}")
            assert match is not None
            byte_range, least = ByteRange(int(match[1]), int(match[2])), max(least, 4)
            _must(byte_range.length > 0, "an empty byte range")
        elif tag == "#EXT-X-MAP":
            _must(seconds is None, "EXT-X-MAP between EXTINF and its URI")
            init = _attributes(value, _MAP, ("URI",))["URI"]
            least = max(least, 5 if "#EXT-X-I-FRAMES-ONLY" in once.values else 6)
        elif tag == "#EXT-X-KEY":
            _must(seconds is None, "EXT-X-KEY between EXTINF and its URI")
            given = _attributes(value, _KEY, ("METHOD",))
            _must((given["METHOD"] == "NONE") == ("URI" not in given), "§4.3.2.4: a method other than NONE has a URI")
            key = None if given["METHOD"] == "NONE" else Key(given["METHOD"], given["URI"], given.get("IV", ""))
            least = max(least, 2 if "IV" in given else 1)
        elif tag == "#EXT-X-ENDLIST":
            _must(not value and seconds is None, "§4.3.3.4")
            ended = True
        else:
            _must(not line.startswith("#"), f"unknown tag {line!r}")
            _must(seconds is not None, "§4.3.2.1: a segment without EXTINF")
            assert seconds is not None
            segments.append(MediaSegment(_uri(line), seconds, init, key, byte_range))
            seconds = byte_range = None
    _must(seconds is None, "EXTINF without a segment")
    _must("#EXT-X-TARGETDURATION" in once.values, "§4.3.3.1: EXT-X-TARGETDURATION is missing")
    made = MediaPlaylist(
        version=once.number("#EXT-X-VERSION", 1),
        target=once.number("#EXT-X-TARGETDURATION"),
        kind=once.values.get("#EXT-X-PLAYLIST-TYPE", ""),
        ended=ended,
        iframes_only="#EXT-X-I-FRAMES-ONLY" in once.values,
        independent="#EXT-X-INDEPENDENT-SEGMENTS" in once.values,
        segments=tuple(segments),
    )
    least = max(least, 4 if made.iframes_only else 1)
    _must(made.version >= least, f"§7: version {made.version} says less than {least}, which this needs")
    for segment in segments:
        _must(int(segment.seconds + 0.5) <= made.target, f"§4.3.3.1: {segment.seconds} s in a target duration of {made.target}")
    _must(made.kind != "VOD" or ended, "a VOD without an end")
    return made


def check_growth(older: str, newer: str) -> None:
    """§6.2.1: nothing of an EVENT playlist changes but its end; when it ends it becomes a VOD. Raises NotHls."""
    before, after = media(older), media(newer)
    _must(before.kind == "EVENT" and not before.ended, "only an EVENT grows")
    _must(after.kind == ("VOD" if after.ended else "EVENT"), f"{after.kind} in the wrong place")
    lines = [line for line in older.splitlines() if not line.startswith("#EXT-X-PLAYLIST-TYPE")]
    grown = [line for line in newer.splitlines() if not line.startswith("#EXT-X-PLAYLIST-TYPE")]
    _must(grown[: len(lines)] == lines, "§6.2.1: what was there before is not there in the same place")


# ── Master Playlists (§4.3.4) ──────────────────────────────────────────────────────────────────────────────────────


def master(text: str) -> MasterPlaylist:
    """Raises NotHls."""
    once, pending = _Once(), dict[str, str]()
    variants: list[Variant] = []
    renditions: list[dict[str, str]] = []
    iframes: list[Variant] = []
    for line in _lines(text):
        tag, _, value = line.partition(":")
        _must(not pending or not line.startswith("#"), "§4.3.4.2: a URI must follow EXT-X-STREAM-INF")
        if tag in ("#EXT-X-VERSION", "#EXT-X-INDEPENDENT-SEGMENTS"):
            once.take(tag, value, pattern=_HEADER[tag])
        elif tag == "#EXT-X-STREAM-INF":
            known = {name: pattern for name, pattern in _STREAM.items() if name != "URI"}
            pending = _attributes(value, known, ("BANDWIDTH", "AVERAGE-BANDWIDTH", "CODECS"))
        elif tag == "#EXT-X-I-FRAME-STREAM-INF":
            known = {name: pattern for name, pattern in _STREAM.items() if name not in ("FRAME-RATE", "AUDIO", "CLOSED-CAPTIONS")}
            given = _attributes(value, known, ("BANDWIDTH", "AVERAGE-BANDWIDTH", "CODECS", "RESOLUTION", "URI"))
            iframes.append(Variant(_uri(given["URI"]), given))
        elif tag == "#EXT-X-MEDIA":
            renditions.append(_attributes(value, _MEDIA, ("TYPE", "GROUP-ID", "NAME", "URI")))
        else:
            _must(not line.startswith("#"), f"unknown tag {line!r}")
            _must(bool(pending), "a URI without EXT-X-STREAM-INF")
            variants.append(Variant(_uri(line), pending))
            pending = {}
    _must(not pending and bool(variants), "§4.3.4.2: there is no variant")
    made = MasterPlaylist(
        version=once.number("#EXT-X-VERSION", 1),
        independent="#EXT-X-INDEPENDENT-SEGMENTS" in once.values,
        variants=tuple(variants),
        media=tuple(renditions),
        iframes=tuple(iframes),
    )
    _check_groups(made)
    for variant in (*variants, *iframes):
        _must(variant.average <= variant.bandwidth, "the average is above the peak")
    return made


def _check_groups(made: MasterPlaylist) -> None:
    """§4.3.4.1.1, §4.3.4.2.1."""
    groups = {m["GROUP-ID"] for m in made.media}
    for group in groups:
        members = [m for m in made.media if m["GROUP-ID"] == group]
        _must(len({m["NAME"] for m in members}) == len(members), "two of a group have the same NAME")
        _must(sum(m.get("DEFAULT") == "YES" for m in members) <= 1, "two of a group are the default")
        # Ours, and Apple's specification: a group that nobody chose from must have something to play.
        _must(any(m.get("DEFAULT") == "YES" for m in members), "none of a group is the default")
    for m in made.media:
        _must(m.get("DEFAULT") != "YES" or m.get("AUTOSELECT", "YES") == "YES", "§4.3.4.1: a default that is not selected by itself")
    used = {v.attributes["AUDIO"] for v in made.variants if "AUDIO" in v.attributes}
    _must(used == groups, f"groups {groups} are declared, and {used} are used")


def _uri(text: str) -> str:
    """Ours are relative and stay below the playlist, or at most beside its folder."""
    _must(re.fullmatch(r"(\.\./)?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", text) is not None, f"{text!r} is no relative URI of ours")
    return text


# ── On disk ────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_folder(path: Path, *, root: Path | None = None, each: Callable[[Path, MediaPlaylist], None] | None = None) -> list[Path]:
    """Everything that a playlist names is there, byte ranges are inside of it, and nothing lies outside of `root` (default: the
    playlist's folder). Answers the Media Playlists. Raises NotHls."""
    root = (root or path.parent).resolve()
    text = path.read_text()
    if "#EXT-X-STREAM-INF" not in text:
        _check_media(path, media(text), root)
        if each is not None:
            each(path, media(text))
        return [path]
    made = master(text)
    uris = [v.uri for v in (*made.variants, *made.iframes)] + [m["URI"] for m in made.media]
    found: list[Path] = []
    for uri in dict.fromkeys(uris):
        found += check_folder(_there(path.parent / uri, root), root=root, each=each)
    for variant in made.iframes:
        _must(media((path.parent / variant.uri).read_text()).iframes_only, f"{variant.uri} is no I-frame playlist")
    return found


def _check_media(path: Path, made: MediaPlaylist, root: Path) -> None:
    for segment in made.segments:
        size = _there(path.parent / segment.uri, root).stat().st_size
        _must(size > 0, f"{segment.uri} is empty")
        if segment.byte_range is not None:
            _must(segment.byte_range.offset + segment.byte_range.length <= size, f"a byte range behind the end of {segment.uri}")
        if segment.init:
            _there(path.parent / segment.init, root)
        if segment.key is not None:
            _must(_there(path.parent / segment.key.uri, root).stat().st_size == 16, "§4.3.2.4: a key has 16 bytes")


def _there(path: Path, root: Path) -> Path:
    resolved = path.resolve()
    _must(resolved.is_relative_to(root), f"{path} lies outside of {root}")
    _must(resolved.is_file(), f"{path} is not there")
    return resolved
