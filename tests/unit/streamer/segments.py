"""Events of a film that is being encoded, as the transcoder tells them."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.events import Segment, SegmentsReady
from services.runtime.media.presentation import folder_of, init_key, segment_key

RECIPE = "0123456789ab"
HIGH, LOW, SOUND = "video-720", "video-360", "audio-eng"
ALL = (HIGH, LOW, SOUND)
SECONDS = 4.0
_SIZES = {HIGH: (1280, 720), LOW: (640, 360)}


def ready(
    asset_id: str,
    rendition: str,
    numbers: Sequence[int],
    *,
    announced: tuple[str, ...] = ALL,
    bucket: str = "library",
    job_id: str = "job-1",
    iv: str = "",
    total: int = 0,
) -> SegmentsReady:
    """What is told when these segments are in storage; the last one of `total` is shorter."""
    folder = folder_of(asset_id, RECIPE)
    width, height = _SIZES.get(rendition, (0, 0))
    return SegmentsReady(
        asset_id=asset_id, job_id=job_id, bucket=bucket, recipe=RECIPE, rendition=rendition, init_key=init_key(folder, rendition),
        segments=tuple(
            Segment(number=n, key=segment_key(folder, rendition, n), duration_seconds=1.5 if n + 1 == total else SECONDS, size=100_000 + n)
            for n in numbers
        ),
        renditions=announced, total=total, codecs="avc1.64001f" if width else "mp4a.40.2", width=width, height=height,
        frame_rate=24.0 if width else 0.0, language="und" if width else "eng", channels=0 if width else 2,
        ceiling=3_000_000 if width else 128_000, iv=iv,
    )  # fmt: skip


def listed(text: str) -> list[str]:
    """Names of the segments in a media playlist."""
    return [line for line in text.splitlines() if line.endswith(".m4s")]
