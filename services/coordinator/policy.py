"""How often something is tried again, and after how long. Pure."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from schemas.events import FailureClass, JobStatus

UNLIMITED = 1_000_000


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Retries of one kind of job. `limits`: how many attempts of one task may fail by each class before the job fails."""

    limits: dict[FailureClass, int]
    first_ms: int
    most_ms: int

    def limit(self, failure_class: FailureClass) -> int:
        return self.limits.get(failure_class, 1)

    def delay_ms(self, seed: str, failures: int) -> int:
        """Exponential, capped, with "equal jitter": half of it is fixed, the other half depends on `seed`.

        Taken from the seed instead of a random source, so that a coordinator that repeats the step decides the same.
        """
        full = min(self.most_ms, self.first_ms * 2 ** min(failures - 1, 20))
        return full // 2 + zlib.crc32(seed.encode()) % (full // 2 + 1)


STANDARD = Policy(limits={"permanent": 1, "transient": 6, "timed-out": 2, "worker-lost": 3, "cancelled": 3}, first_ms=500, most_ms=30_000)
# A callback goes to somebody else's server: it is tried until the job's deadline.
CALLBACK = Policy(
    limits={"permanent": 1, "transient": UNLIMITED, "timed-out": UNLIMITED, "worker-lost": 5, "cancelled": 3},
    first_ms=1_000,
    most_ms=300_000,
)
BY_KIND: dict[str, Policy] = {"callback": CALLBACK}


def always_then(job: JobStatus) -> list[dict[str, Any]]:
    """What follows upon a job though nobody asked for it: HLS upon a transcode, unless its recipe says otherwise or its `then` has it.

    Whoever sent the request: the playlists that grow while a film is being encoded must end some day.
    """
    if job.request_type != "UploadReceived" or job.state != "succeeded":
        return []
    recipe = job.request.get("recipe", {})
    if not recipe.get("hls", True) or recipe.get("layout") == "beside":
        return []
    if any(f["type"] == "StreamRequested" and f["data"].get("layout", "asset") == "asset" for f in job.request.get("then", [])):
        return []
    return [{"type": "StreamRequested", "data": {"asset_id": job.subject, "title": job.title[:300]}}]


def of(kind: str) -> Policy:
    """The policy of a kind of job."""
    return BY_KIND.get(kind, STANDARD)
