"""Every metric of the workers and the coordinator, declared once. Served by `health.py` at /metrics.

Label values come from closed sets (services, states, failure classes), so the number of series is bounded.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, Info

# Workers. A task is planned to about 30 s; the hard deadline's default is 1800 s.
_TASK_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800)

TASKS_STARTED = Counter("reelworks_tasks_started_total", "Tasks that a worker has begun.", ["service", "role"])
TASKS_FINISHED = Counter("reelworks_tasks_finished_total", "Tasks that ended well.", ["service", "role"])
TASKS_FAILED = Counter("reelworks_tasks_failed_total", "Tasks that failed, by class of failure.", ["service", "role", "failure_class"])
TASKS_RETURNED = Counter("reelworks_tasks_returned_total", "Tasks handed back because the worker was stopped.", ["service"])
TASK_SECONDS = Histogram("reelworks_task_seconds", "Wall-clock time of a task.", ["service", "role"], buckets=_TASK_BUCKETS)
SLOTS = Gauge("reelworks_worker_slots", "Tasks that this worker can run at once.", ["service"])
RUNNING = Gauge("reelworks_worker_running_tasks", "Tasks that this worker runs now.", ["service"])
BUFFERED = Gauge("reelworks_worker_buffered_tasks", "Tasks read from Kafka that wait for a slot.", ["service"])

# Coordinator. A transaction takes 4 to 7 ms on one machine.
_TRANSACTION_BUCKETS = (0.002, 0.004, 0.006, 0.01, 0.02, 0.035, 0.06, 0.1, 0.25, 0.5, 1, 2.5, 10)

TRANSACTIONS = Counter("reelworks_coordinator_transactions_total", "Kafka transactions, by how they ended.", ["outcome"])
TRANSACTION_SECONDS = Histogram(
    "reelworks_coordinator_transaction_seconds", "From begin to commit acknowledged.", buckets=_TRANSACTION_BUCKETS
)
EVENTS = Counter("reelworks_coordinator_events_total", "Records of media.job-events that were applied.", ["type"])
JOBS = Gauge("reelworks_coordinator_jobs_waiting", "Jobs with tasks to release or released, by service.", ["service"])
JOBS_ENDED = Counter("reelworks_coordinator_jobs_ended_total", "Jobs that ended, by kind and state.", ["kind", "state"])
OUTSTANDING = Gauge(
    "reelworks_coordinator_outstanding_tasks",
    "Tasks waiting and running, by service: what workers are scaled by. Consumer lag alone would not count running work.",
    ["service"],
)
RECOVERY_SECONDS = Histogram(
    "reelworks_coordinator_recovery_seconds",
    "From the assignment of a partition to its state rebuilt.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60),
)
RECOVERIES = Counter("reelworks_coordinator_recoveries_total", "Times that a partition's state was rebuilt, by cause.", ["cause"])
LEASES_LOST = Counter("reelworks_coordinator_leases_lost_total", "Tasks taken from silent workers.", ["service"])
DEAD_LETTERS = Counter("reelworks_dead_letters_total", "Records set aside, by reason.", ["reason"])
INTAKE = Counter("reelworks_intake_requests_total", "Requests read from media.requests, by what became of them.", ["outcome"])

# Streamer's live app.
LIVE_EVENTS = Counter("reelworks_live_events_total", "Records of media.segments, by what became of them.", ["outcome"])
LIVE_PLAYLISTS = Counter("reelworks_live_playlists_written_total", "Playlists that were written while they grow.", ["kind"])
LIVE_FILMS = Gauge("reelworks_live_films", "Films whose playlists grow now.")

# Everybody who produces.
DELIVERY_ERRORS = Counter("reelworks_producer_delivery_errors_total", "Records that the broker did not acknowledge.", ["topic"])

BUILD = Info("reelworks_build", "Version of the program and the service that this process is.")
