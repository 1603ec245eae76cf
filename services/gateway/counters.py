"""Metrics of the gateway. Polls only add to plain integers; Prometheus reads them when it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class Counters(msgspec.Struct):
    """Since the start."""

    polls: int = 0
    not_modified: int = 0
    problems: int = 0
    failures: int = 0
    """Answers of 500 and above."""
    uploads: int = 0
    upload_bytes: int = 0
    uploads_broken_off: int = 0
    uploads_refused: int = 0
    uploads_running: int = 0
    events_sent: int = 0
    requests_refused: int = 0
    media_bytes: int = 0
    playlists: int = 0
    playlist_hits: int = 0
    playlist_reads: int = 0
    playlist_stale: int = 0
    segments_redirected: int = 0
    segments_sent: int = 0
    playback_refused: int = 0
    archives_running: int = 0
    archives_refused: int = 0
    archives_broken_off: int = 0
    archives_cut: int = 0


class GatewayCollector(Collector):
    """Turns the counters, and gauges that are computed when asked for, into metrics."""

    def __init__(self, counters: Counters, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for name, about in _COUNTERS.items():
            yield CounterMetricFamily(f"reelworks_gateway_{name}", about, value=getattr(self._counters, name))
        yield GaugeMetricFamily(
            "reelworks_gateway_uploads_running", "Uploads through the gateway at this moment.", value=self._counters.uploads_running
        )
        yield GaugeMetricFamily(
            "reelworks_gateway_archives_running", "Archives that are being sent at this moment.", value=self._counters.archives_running
        )
        for name, (about, value) in self._gauges.items():
            yield GaugeMetricFamily(f"reelworks_gateway_{name}", about, value=value())


_COUNTERS = {
    "polls": "Answers to GET /v1/jobs/{id}.",
    "not_modified": "Those of them that were 304.",
    "problems": "Answers that were problem details.",
    "failures": "Answers of 500 and above.",
    "uploads": "Uploads that were stored and announced.",
    "upload_bytes": "Bytes of uploads that were stored.",
    "uploads_broken_off": "Uploads that ended before their last byte.",
    "uploads_refused": "Uploads beyond REELWORKS_UPLOAD_CONCURRENCY.",
    "events_sent": "Events that the broker acknowledged.",
    "requests_refused": "Requests refused because as many as the gateway takes were before it.",
    "media_bytes": "Bytes of objects sent through the gateway.",
    "playlists": "Playlists asked for with a valid token.",
    "playlist_hits": "Those of them that were in memory.",
    "playlist_reads": "Playlists read from storage.",
    "playlist_stale": "Playlists answered from an older copy, because storage did not answer.",
    "segments_redirected": "Segments answered with a signed URL of the store.",
    "segments_sent": "Segments sent through the gateway.",
    "playback_refused": "Requests for streams without a valid token.",
    "archives_refused": "Archives that were not sent because REELWORKS_ARCHIVE_DOWNLOADS were being sent.",
    "archives_broken_off": "Archives that clients left before their end.",
    "archives_cut": "Archives cut off because an object had changed or could not be read.",
}


def registry(collector: GatewayCollector) -> CollectorRegistry:
    """A registry of its own: several gateways may live in one test process."""
    made = CollectorRegistry()
    made.register(collector)
    return made
