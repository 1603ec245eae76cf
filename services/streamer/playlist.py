"""HLS playlists as text. Pure: what is in a playlist is a function of the renditions. Sections are those of RFC 8216."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from services.runtime.media.presentation import IFRAMES, INIT, KEY, MEDIA, Encryption, Rendition, segment_name

VERSION = 7
"""§7: 6 for EXT-X-MAP; 7 is what Apple's specification asks of fragmented MP4."""
VERSION_TS = 3
"""§7: durations with decimals. What the old servers' players know."""
AUDIO_GROUP = "audio"
LANGUAGES = {
    "ara": ("ar", "العربية"), "ces": ("cs", "Čeština"), "chi": ("zh", "中文"), "cze": ("cs", "Čeština"), "dan": ("da", "Dansk"),
    "deu": ("de", "Deutsch"), "dut": ("nl", "Nederlands"), "ell": ("el", "Ελληνικά"), "eng": ("en", "English"), "fin": ("fi", "Suomi"),
    "fra": ("fr", "Français"), "fre": ("fr", "Français"), "ger": ("de", "Deutsch"), "gre": ("el", "Ελληνικά"), "heb": ("he", "עברית"),
    "hin": ("hi", "हिन्दी"), "hun": ("hu", "Magyar"), "ita": ("it", "Italiano"), "jpn": ("ja", "日本語"), "kor": ("ko", "한국어"),
    "nld": ("nl", "Nederlands"), "nor": ("no", "Norsk"), "pol": ("pl", "Polski"), "por": ("pt", "Português"), "ron": ("ro", "Română"),
    "rum": ("ro", "Română"), "rus": ("ru", "Русский"), "spa": ("es", "Español"), "swe": ("sv", "Svenska"), "tur": ("tr", "Türkçe"),
    "ukr": ("uk", "Українська"), "vie": ("vi", "Tiếng Việt"), "zho": ("zh", "中文"),
}  # fmt: skip
"""ISO 639-2 codes, as containers hold them: RFC 5646's shortest tag, and what speakers call it."""


def media(rendition: Rendition, *, ended: bool, encryption: Encryption | None = None) -> str:
    """A rendition's Media Playlist: EVENT (§4.3.3.5) while it grows, VOD with EXT-X-ENDLIST (§4.3.3.4) when it has ended.

    What was in a growing one stays in the same place, so the next can only be longer (§6.2.1).
    """
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{target_duration(rendition)}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        f"#EXT-X-PLAYLIST-TYPE:{'VOD' if ended else 'EVENT'}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{INIT}"',
    ]
    if encryption is not None:
        # Behind EXT-X-MAP: a key holds for what follows it (§4.3.2.4), and init segments are clear.
        lines.append(f'#EXT-X-KEY:METHOD=AES-128,URI="../{KEY}",IV=0x{encryption.iv}')
    for number, seconds in enumerate(rendition.durations()):
        lines += [f"#EXTINF:{seconds:.6f},", segment_name(number)]
    if ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def iframes(rendition: Rendition) -> str:
    """The I-frame playlist (§4.3.3.6): the first picture of each segment by byte range (§4.3.2.2), shown as long as the segment."""
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{target_duration(rendition)}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-I-FRAMES-ONLY",
        f'#EXT-X-MAP:URI="{INIT}"',
    ]
    for number, (segment, seconds) in enumerate(zip(rendition.segments, rendition.durations(), strict=True)):
        lines += [f"#EXTINF:{seconds:.6f},", f"#EXT-X-BYTERANGE:{segment.intra}@0", segment_name(number)]
    lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def has_iframes(rendition: Rendition) -> bool:
    """Whether an I-frame playlist can be written."""
    return rendition.kind == "video" and bool(rendition.segments) and all(s.intra for s in rendition.segments)


def master(renditions: Sequence[Rendition], *, ended: bool) -> str:
    """The Master Playlist (§4.3.4). Bit rates are measured when the film has `ended`, else at least what the encoder may use."""
    videos = sorted((r for r in renditions if r.kind == "video"), key=lambda r: -r.width * r.height)
    audios = [r for r in renditions if r.kind == "audio"]
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    grouped = bool(audios) and (bool(videos) or len(audios) > 1)
    if grouped:
        default = next((a.name for a in audios if a.default), audios[0].name)
        lines += [_audio(a, audios, default=a.name == default) for a in audios]
    for rendition in videos or audios[:1]:
        lines += [_variant(rendition, audios if grouped else [], ended=ended), f"{rendition.name}/{MEDIA}"]
    if ended:
        lines += [_iframe_variant(r) for r in videos if has_iframes(r)]
    return "\n".join(lines) + "\n"


def _audio(rendition: Rendition, audios: Sequence[Rendition], *, default: bool) -> str:
    """§4.3.4.1. Names within a group must differ (§4.3.4.1.1)."""
    tag, word = LANGUAGES.get(rendition.language, (rendition.language, rendition.language))
    name = rendition.label or ("Sound" if rendition.language == "und" else word)
    same = [a.name for a in audios if (a.label or a.language) == (rendition.label or rendition.language)]
    if len(same) > 1:
        name += f" {same.index(rendition.name) + 1}"
    attributes = ["TYPE=AUDIO", f'GROUP-ID="{AUDIO_GROUP}"', f"NAME={_quoted(name)}"]
    if rendition.language != "und":
        attributes.append(f"LANGUAGE={_quoted(tag)}")
    attributes += [f"DEFAULT={'YES' if default else 'NO'}", "AUTOSELECT=YES"]
    if rendition.channels:
        attributes.append(f'CHANNELS="{rendition.channels}"')
    attributes.append(f'URI="{rendition.name}/{MEDIA}"')
    return "#EXT-X-MEDIA:" + ",".join(attributes)


def _variant(rendition: Rendition, audios: Sequence[Rendition], *, ended: bool) -> str:
    """§4.3.4.2: BANDWIDTH is the peak of every combination with one of the group, so the sum of the peaks."""
    loudest = max((_peak(a, ended=ended) for a in audios), default=0)
    average = mean_rate(rendition) + max((mean_rate(a) for a in audios), default=0)
    codecs = ",".join(dict.fromkeys([rendition.codecs, *(a.codecs for a in audios)]))
    attributes = [
        f"BANDWIDTH={max(_peak(rendition, ended=ended) + loudest, average)}",
        f"AVERAGE-BANDWIDTH={average}",
        f'CODECS="{codecs}"',
    ]
    if audios:
        attributes.append(f'AUDIO="{AUDIO_GROUP}"')
    return "#EXT-X-STREAM-INF:" + ",".join(attributes) + (_shown(rendition) if rendition.kind == "video" else "")


def _shown(rendition: Rendition) -> str:
    """Attributes of a variant with pictures (§4.3.4.2)."""
    rate = f",FRAME-RATE={rendition.frame_rate:.3f}" if rendition.frame_rate else ""
    return f",RESOLUTION={rendition.width}x{rendition.height}{rate},CLOSED-CAPTIONS=NONE"


def _iframe_variant(rendition: Rendition) -> str:
    """§4.3.4.3."""
    pictures = [(seconds, segment.intra) for seconds, segment in zip(rendition.durations(), rendition.segments, strict=True)]
    peak = peak_rate(pictures, target_duration(rendition))
    average = _rate(sum(size for _, size in pictures), rendition.seconds)
    return (
        f"#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH={max(peak, average)},AVERAGE-BANDWIDTH={average},"
        f'CODECS="{rendition.codecs}",RESOLUTION={rendition.width}x{rendition.height},URI="{rendition.name}/{IFRAMES}"'
    )


class FlatVariant(msgspec.Struct, frozen=True, kw_only=True):
    """One of several renditions in MPEG-TS."""

    name: str
    """Of its Media Playlist."""
    rendition: Rendition
    """The picture in it."""
    sound: Rendition | None
    """In the same segments."""
    segments: Sequence[tuple[float, int]]
    """Seconds and bytes of each."""


def flat_media(segments: Sequence[tuple[str, float]]) -> str:
    """The Media Playlist of MPEG-TS segments: names relative to it, and seconds."""
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION_TS}",
        f"#EXT-X-TARGETDURATION:{_target(seconds for _, seconds in segments)}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
    ]
    for name, seconds in segments:
        lines += [f"#EXTINF:{seconds:.6f},", name]
    lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def flat_master(variants: Sequence[FlatVariant]) -> str:
    """The Master Playlist of several renditions in MPEG-TS, each with its sound in it."""
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{VERSION_TS}"]
    for variant in variants:
        seconds, size = sum(s for s, _ in variant.segments), sum(b for _, b in variant.segments)
        average = _rate(size, seconds)
        peak = max(peak_rate(variant.segments, _target(s for s, _ in variant.segments)), average)
        codecs = ",".join([variant.rendition.codecs, *([variant.sound.codecs] if variant.sound else [])])
        lines += [
            f'#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS="{codecs}"' + _shown(variant.rendition),
            variant.name,
        ]
    return "\n".join(lines) + "\n"


def target_duration(rendition: Rendition) -> int:
    """§4.3.3.1: no segment, rounded, is longer. Must never change, so it does not depend on the segments that are still to come
    as long as those are no longer than the first."""
    return _target(rendition.durations())


def peak_rate(segments: Sequence[tuple[float, int]], target: int) -> int:
    """§4.1, Peak Segment Bit Rate: the largest of any run of segments that lasts 0.5 to 1.5 target durations, in bits per second.

    `segments`: seconds and bytes of each. A film that is shorter than that has the rate of all of it.
    """
    peak = 0
    for first in range(len(segments)):
        seconds, size = 0.0, 0
        for length, weight in segments[first:]:
            seconds, size = seconds + length, size + weight
            if seconds > 1.5 * target:
                break
            if seconds >= 0.5 * target:
                peak = max(peak, _rate(size, seconds))
    return peak or _rate(sum(size for _, size in segments), sum(seconds for seconds, _ in segments))


def mean_rate(rendition: Rendition) -> int:
    """§4.1, Average Segment Bit Rate."""
    return _rate(rendition.size, rendition.seconds)


def _peak(rendition: Rendition, *, ended: bool) -> int:
    measured = peak_rate(list(zip(rendition.durations(), (s.size for s in rendition.segments), strict=True)), target_duration(rendition))
    # Over a segment a bit rate that is bounded over two seconds cannot go further than half above its bound.
    return measured if ended else max(measured, rendition.ceiling * 3 // 2)


def _rate(size: int, seconds: float) -> int:
    """Rounded up: a player that plans with it must not be short."""
    return -int(-size * 8 // seconds) if seconds else 0


def _target(durations: Iterable[float]) -> int:
    return max([1, *(int(seconds + 0.5) for seconds in durations)])


def _quoted(text: str) -> str:
    """A quoted-string (§4.2) cannot hold quotes or line breaks."""
    return '"' + "".join("'" if c == '"' else " " if c in "\r\n" else c for c in text) + '"'
