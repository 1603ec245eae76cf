"""The topics, as data. `reelworks topics apply` makes the broker agree; `reelworks topics diff` says where it does not."""

from __future__ import annotations

import msgspec

from schemas import events

DAY_MS = 24 * 3600 * 1000
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""The broker takes records this large on `media.requests` and `media.dead-letters`, so that one that is too large for
us can be set aside byte for byte instead of blocking its sender; `REQUEST_LIMIT_BYTES` is what we act upon."""
REQUEST_LIMIT_BYTES = 512 * 1024
"""A request larger than this goes to the dead letters. Long lists belong into an object whose key is sent."""
REQUEST_DEPTH = 64
"""Arrays and objects within each other in a request. What the coordinator makes of one lies a few deeper, and every reader gives up
at about a thousand."""
HEADERS_LIMIT_BYTES = 64 * 1024
"""Of a request; one with more goes to the dead letters, too."""
EVENT_LIMIT_BYTES = 900 * 1024
"""A job event is at most so large, uncompressed: what of it goes into the job's status, its tasks and its outcome fits there."""


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic and what it carries. `config` holds broker settings beside cleanup and retention."""

    name: str
    partitions: int
    key: str
    cleanup: str
    """`delete`, `compact` or `compact,delete`."""
    retention_ms: int = -1
    """-1: for ever."""
    config: dict[str, str] = {}
    carries: tuple[str, ...] = ()
    about: str = ""

    def broker_config(self) -> dict[str, str]:
        """All settings of the topic as the broker names them."""
        return {"cleanup.policy": self.cleanup, "retention.ms": str(self.retention_ms), **self.config}


def _names(types: tuple[type[msgspec.Struct], ...]) -> tuple[str, ...]:
    return tuple(t.__name__ for t in types)


LARGE = {"max.message.bytes": str(MAX_RECORD_BYTES)}
# The largest request, and the headers that say why it was set aside.
LETTERS = {"max.message.bytes": str(MAX_RECORD_BYTES + 1024 * 1024)}
# A status holds a request and what several events have told; whatever the coordinator has read it must be able to write.
ROOMY = {"max.message.bytes": str(8 * 1024 * 1024)}
# Statuses and positions are rewritten all the time: small segments and an eager cleaner keep recovery short.
COMPACTED = {
    "segment.ms": str(3600 * 1000),
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": str(6 * 3600 * 1000),
}

REQUESTS = "media.requests"
JOB_EVENTS = "media.job-events"
JOBS = "media.jobs"
ASSETS = "media.assets"
COMPLETIONS = "media.completions"
SEGMENTS = "media.segments"
PLAYLISTS = "media.playlists"
LIVE_APP = "reelworks-live"
LIVE_TABLE = f"{LIVE_APP}-segments-changelog"
"""The table of the streamer's live app, as Faust names it; it must have as many partitions as SEGMENTS."""
WORKERS = "media.workers"
CONTROL = "media.control"
DEAD_LETTERS = "media.dead-letters"


def tasks(service: str) -> str:
    """Name of a service's task topic."""
    return f"media.tasks.{service}"


JOB_PARTITIONS = 6
"""Of job-events, jobs and completions, which belong together partition by partition. Each is one transactional writer:
more of them spread over more coordinators, fewer of them make larger transactions. 6 serve three coordinators."""
TASK_PARTITIONS = 24

TOPICS: tuple[Topic, ...] = (
    Topic(name=REQUESTS, partitions=6, key="any", cleanup="delete", retention_ms=14 * DAY_MS, config=LARGE,
          carries=_names(events.REQUESTS), about="What is wanted, from the gateway and from other systems."),
    *(Topic(name=tasks(service), partitions=TASK_PARTITIONS, key="task id", cleanup="delete", retention_ms=3 * DAY_MS,
            config=ROOMY, carries=("TaskReleased",), about=f"Work for the slots of the {service}.") for service in events.SERVICES),
    Topic(name=JOB_EVENTS, partitions=JOB_PARTITIONS, key="job id", cleanup="delete", retention_ms=7 * DAY_MS,
          carries=_names(events.JOB_EVENTS), about="What happened to jobs. No transactional writer."),
    Topic(name=JOBS, partitions=JOB_PARTITIONS, key="job id", cleanup="compact,delete", retention_ms=30 * DAY_MS, config=COMPACTED | ROOMY,
          carries=("JobStatus", "Position"), about="The state of every job; keys that begin with @ are the coordinator's own."),
    Topic(name=ASSETS, partitions=6, key="asset id", cleanup="compact", config=COMPACTED,
          carries=("AssetChanged",), about="What people decide about assets."),
    Topic(name=COMPLETIONS, partitions=JOB_PARTITIONS, key="{subject}:{kind}", cleanup="compact", config=COMPACTED | ROOMY,
          carries=_names(events.COMPLETIONS), about="The public outcome of jobs."),
    Topic(name=SEGMENTS, partitions=6, key="asset id", cleanup="delete", retention_ms=DAY_MS,
          carries=("SegmentsReady",), about="Parts of films that can be played already."),
    Topic(name=LIVE_TABLE, partitions=6, key="rendition and segment", cleanup="compact,delete", retention_ms=DAY_MS, config=COMPACTED,
          about="What the streamer's live app remembers. Nobody else reads it."),
    Topic(name=PLAYLISTS, partitions=6, key="playlist's key", cleanup="compact,delete", retention_ms=DAY_MS, config=COMPACTED,
          carries=("PlaylistChanged",), about="Playlists that grow while a film is being encoded, each time one was written."),
    Topic(name=WORKERS, partitions=1, key="worker id", cleanup="delete", retention_ms=3600 * 1000,
          config={"message.timestamp.type": "LogAppendTime", "segment.ms": str(600 * 1000)},
          carries=("WorkerSeen",), about="Heartbeats; their append times are the clock of the leases."),
    Topic(name=CONTROL, partitions=1, key="job id", cleanup="delete", retention_ms=DAY_MS,
          carries=("JobCancelled",), about="To every worker."),
    Topic(name=DEAD_LETTERS, partitions=1, key="as it came", cleanup="delete", retention_ms=90 * DAY_MS, config=LETTERS,
          about="What could not be read or was given up, byte for byte, with the reason in headers."),
)  # fmt: skip
