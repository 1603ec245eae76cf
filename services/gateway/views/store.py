"""The materialised view: SQLite in WAL mode, with the log's offsets in the same transaction.

One writer at a time (the follower's thread, and requests that were just acknowledged); reading happens on the event loop.
It is a cache: a file that is damaged, old, or of another log is filled again from Kafka.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal

import msgspec

from services.gateway.views.fold import Folded
from services.runtime.kafka.reader import Place

VERSION = "3"
"""Of the tables. Another version is not migrated but filled again."""
STALE_MS = 20 * 3600 * 1000
"""Compaction drops tombstones after a day (`delete.retention.ms`): a view that slept longer may have missed one."""
JOBS_KEPT_MS = 30 * 24 * 3600 * 1000
"""As `media.jobs` keeps them: its retention removes records without a tombstone."""

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS offsets (topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
  job_id TEXT PRIMARY KEY, kind TEXT NOT NULL, type TEXT NOT NULL, state TEXT NOT NULL, subject TEXT NOT NULL, owner TEXT NOT NULL,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, recorded_ms INTEGER NOT NULL, waiting TEXT NOT NULL, record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS jobs_recent ON jobs (created_ms DESC, job_id DESC);
CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, created_ms DESC, job_id DESC);
CREATE INDEX IF NOT EXISTS jobs_kind ON jobs (kind, created_ms DESC, job_id DESC);
CREATE INDEX IF NOT EXISTS jobs_subject ON jobs (subject, kind, created_ms DESC);
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs (waiting, created_ms) WHERE waiting <> '';
CREATE INDEX IF NOT EXISTS jobs_unfinished ON jobs (kind, owner) WHERE state NOT IN ('succeeded', 'failed', 'cancelled');
CREATE TABLE IF NOT EXISTS assets (
  asset_id TEXT PRIMARY KEY, created_ms INTEGER NOT NULL, deleted_ms INTEGER NOT NULL, newest_job_ms INTEGER NOT NULL, record BLOB);
CREATE INDEX IF NOT EXISTS assets_recent ON assets (created_ms DESC, asset_id DESC);
CREATE TABLE IF NOT EXISTS completions (
  key TEXT PRIMARY KEY, subject TEXT NOT NULL, kind TEXT NOT NULL, type TEXT NOT NULL, finished_ms INTEGER NOT NULL, record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS completions_subject ON completions (subject);
"""


class StoredJob(msgspec.Struct, frozen=True):
    """A job's row."""

    job_id: str
    recorded_ms: int
    waiting: str
    record: bytes


class StoredAsset(msgspec.Struct, frozen=True):
    """An asset's row. `record` is None when only jobs spoke of it."""

    asset_id: str
    created_ms: int
    visible: bool
    record: bytes | None


class StoredCompletion(msgspec.Struct, frozen=True):
    """A completion's row."""

    type: str
    record: bytes


_JOB = "job_id, recorded_ms, waiting, record"
_VISIBLE = "(deleted_ms = 0 OR newest_job_ms > deleted_ms)"

# Outcomes of one subject lie in the partitions of their jobs, so a rebuilt view may read the older one last.
_NEWER_COMPLETION = """
INSERT INTO completions VALUES (?,?,?,?,?,?) ON CONFLICT (key) DO UPDATE SET
  subject = excluded.subject, kind = excluded.kind, type = excluded.type, finished_ms = excluded.finished_ms, record = excluded.record
WHERE excluded.finished_ms >= completions.finished_ms
"""


class View:
    """One gateway's copy of what the log says."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self._lock_file = _take_file(folder)
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._open()
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            self._open()

    def _open(self) -> None:
        self._writer = _connect(self.path)
        self._writer.executescript("PRAGMA journal_mode = WAL;")
        if (found := self._meta("version")) != VERSION and found is not None:
            raise sqlite3.DatabaseError("another version of the tables")
        self._writer.executescript(_TABLES)
        self._writer.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (VERSION,))
        self._reader = _connect(self.path)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._reader.close()
            self._writer.close()
        self._lock_file.close()

    # ── Writing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self, log: str, now_ms: int) -> dict[Place, int]:
        """Offsets to go on from in this log: none, and an empty view, when it is another or the view slept too long."""
        with self._lock:
            saved = int(self._meta("saved_ms") or 0)
            if self._meta("log") != log or now_ms - saved > STALE_MS:
                self._wipe(log)
            return {(t, p): n for t, p, n in self._writer.execute("SELECT topic, partition, next FROM offsets")}

    def wipe(self, log: str) -> None:
        """Forget everything: it is going to be read again."""
        with self._lock:
            self._wipe(log)

    def _wipe(self, log: str) -> None:
        with self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            for table in ("jobs", "assets", "completions", "offsets"):
                self._writer.execute(f"DELETE FROM {table}")  # noqa: S608 (names from the line above)
            self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('log', ?)", (log,))

    def write(self, folded: Folded, offsets: Mapping[Place, int] | None = None) -> None:
        """Everything or nothing, offsets included."""
        with self._lock:
            if self._closed:
                return
            with self._writer as db:
                db.execute("BEGIN IMMEDIATE")
                _write_jobs(db, folded)
                _write_assets(db, folded)
                db.executemany("DELETE FROM completions WHERE key = ?", [(k,) for k in folded.completions_gone])
                db.executemany(_NEWER_COMPLETION, [(k, *row) for k, row in folded.completions.items()])
                if offsets is not None:
                    db.executemany("INSERT OR REPLACE INTO offsets VALUES (?,?,?)", [(t, p, n) for (t, p), n in offsets.items()])
                    db.execute("INSERT OR REPLACE INTO meta VALUES ('saved_ms', ?)", (str(int(time.time() * 1000)),))

    def expire(self, now_ms: int) -> list[str]:
        """Remove jobs that the log no longer keeps. Answers their ids."""
        with self._lock, self._writer as db:
            gone = [i for (i,) in db.execute("DELETE FROM jobs WHERE updated_ms < ? RETURNING job_id", (now_ms - JOBS_KEPT_MS,))]
        return gone

    def _meta(self, name: str) -> str | None:
        try:
            row = self._writer.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        except sqlite3.OperationalError:  # a new file
            return None
        return row[0] if row else None

    # ── Reading, on the event loop: a row costs microseconds ───────────────────────────────────────────────────────

    def job(self, job_id: str) -> StoredJob | None:
        row = self._reader.execute(f"SELECT {_JOB} FROM jobs WHERE job_id = ?", (job_id,)).fetchone()  # noqa: S608
        return StoredJob(*row) if row else None

    def jobs(
        self, *, state: str = "", kind: str = "", request_type: str = "", before: tuple[int, str] | None = None, limit: int
    ) -> list[StoredJob]:
        """A page, newest first, after the job that `before` names by creation time and id."""
        where, values = ["1"], []
        for column, value in (("state", state), ("kind", kind), ("type", request_type)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        if before is not None:
            where.append("(created_ms, job_id) < (?, ?)")
            values.extend(before)
        sql = f"SELECT {_JOB} FROM jobs WHERE {' AND '.join(where)} ORDER BY created_ms DESC, job_id DESC LIMIT ?"  # noqa: S608
        return [StoredJob(*row) for row in self._reader.execute(sql, (*values, limit))]

    def waiting(self) -> list[tuple[str, str]]:
        """(service, job_id) of the jobs that wait for a slot, in the order of their creation."""
        sql = "SELECT waiting, job_id FROM jobs WHERE waiting <> '' ORDER BY waiting, created_ms, job_id"
        return self._reader.execute(sql).fetchall()

    def jobs_of(self, subject: str, kind: str = "", limit: int = 100) -> list[StoredJob]:
        """Jobs about a subject, newest first."""
        sql = f"SELECT {_JOB} FROM jobs WHERE subject = ? AND (? = '' OR kind = ?) ORDER BY created_ms DESC LIMIT ?"  # noqa: S608
        return [StoredJob(*row) for row in self._reader.execute(sql, (subject, kind, kind, limit))]

    def unfinished(self, kind: str, owner: str) -> int:
        """How many jobs of a kind an owner has that have not ended."""
        # Word for word the condition of the index: else SQLite would not use it.
        sql = "SELECT count(*) FROM jobs WHERE kind = ? AND owner = ? AND state NOT IN ('succeeded', 'failed', 'cancelled')"
        return int(self._reader.execute(sql, (kind, owner)).fetchone()[0])

    def asset(self, asset_id: str) -> StoredAsset | None:
        """An asset, deleted ones included."""
        sql = f"SELECT asset_id, created_ms, {_VISIBLE}, record FROM assets WHERE asset_id = ?"  # noqa: S608
        row = self._reader.execute(sql, (asset_id,)).fetchone()
        return StoredAsset(row[0], row[1], bool(row[2]), row[3]) if row else None

    def assets(self, *, before: tuple[int, str] | None = None, limit: int) -> list[StoredAsset]:
        """A page of the library, newest first."""
        sql = (
            f"SELECT asset_id, created_ms, 1, record FROM assets WHERE {_VISIBLE} "  # noqa: S608
            "AND (created_ms, asset_id) < (?, ?) ORDER BY created_ms DESC, asset_id DESC LIMIT ?"
        )
        at = before or (1 << 62, "")
        return [StoredAsset(a, c, bool(v), r) for a, c, v, r in self._reader.execute(sql, (*at, limit))]

    def completions(self, subject: str) -> list[StoredCompletion]:
        """Outcomes about a subject, oldest first."""
        sql = "SELECT type, record FROM completions WHERE subject = ? ORDER BY finished_ms"
        return [StoredCompletion(*row) for row in self._reader.execute(sql, (subject,))]

    def count(self, table: Literal["jobs", "assets"]) -> int:
        """Rows, for metrics."""
        return int(self._reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def _write_jobs(db: sqlite3.Connection, folded: Folded) -> None:
    db.executemany("DELETE FROM jobs WHERE job_id = ?", [(j,) for j in folded.jobs_gone])
    db.executemany("INSERT OR REPLACE INTO jobs VALUES (?,?,?,?,?,?,?,?,?,?,?)", folded.jobs.values())
    db.executemany("INSERT OR IGNORE INTO jobs VALUES (?,?,?,?,?,?,?,?,?,?,?)", folded.accepted.values())


def _write_assets(db: sqlite3.Connection, folded: Folded) -> None:
    db.executemany("UPDATE assets SET record = NULL, deleted_ms = 0 WHERE asset_id = ?", [(a,) for a in folded.assets_gone])
    db.executemany("DELETE FROM assets WHERE asset_id = ? AND newest_job_ms = 0", [(a,) for a in folded.assets_gone])
    db.executemany(
        "INSERT INTO assets VALUES (?1, ?2, ?3, 0, ?4) ON CONFLICT (asset_id) DO UPDATE SET created_ms = ?2, deleted_ms = ?3, record = ?4",
        folded.assets.values(),
    )
    db.executemany(
        "INSERT INTO assets VALUES (?1, ?2, 0, ?3, NULL) ON CONFLICT (asset_id) DO UPDATE SET "
        "newest_job_ms = max(newest_job_ms, ?3), created_ms = CASE WHEN record IS NULL THEN min(created_ms, ?2) ELSE created_ms END",
        [(asset, first, newest) for asset, (first, newest) in folded.seen_assets.items()],
    )


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    # NORMAL: a power failure may take the last transactions, offsets with them, never the file.
    db.executescript("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -8000; PRAGMA temp_store = MEMORY;")
    return db


def _take_file(folder: Path) -> tuple[Path, IO[bytes]]:
    """The first file that no other gateway of this machine holds; the lock is held until the process ends."""
    for number in range(1000):
        lock = (folder / f"gateway-{number}.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        os.set_inheritable(lock.fileno(), False)
        return folder / f"gateway-{number}.sqlite", lock
    raise OSError(f"a thousand gateways hold files in {folder}")
