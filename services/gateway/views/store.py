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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from services.gateway.views.fold import TRANSCODE, Folded
from services.runtime.kafka.reader import Place

VERSION = "4"
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
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs (waiting, created_ms) WHERE waiting <> '';
CREATE INDEX IF NOT EXISTS jobs_unfinished ON jobs (kind, owner) WHERE state NOT IN ('succeeded', 'failed', 'cancelled');
CREATE TABLE IF NOT EXISTS assets (
  asset_id TEXT PRIMARY KEY, created_ms INTEGER NOT NULL, deleted_ms INTEGER NOT NULL, newest_job_ms INTEGER NOT NULL,
  first_job_ms INTEGER NOT NULL, record BLOB);
CREATE TABLE IF NOT EXISTS completions (
  key TEXT PRIMARY KEY, subject TEXT NOT NULL, kind TEXT NOT NULL, type TEXT NOT NULL, finished_ms INTEGER NOT NULL, record BLOB NOT NULL);
"""
_INDEXES = {
    "jobs_recent": "jobs (created_ms DESC, job_id DESC)",
    "jobs_state": "jobs (state, created_ms DESC, job_id DESC)",
    "jobs_kind": "jobs (kind, created_ms DESC, job_id DESC)",
    "jobs_subject": "jobs (subject, kind, created_ms DESC)",
    "assets_recent": "assets (created_ms DESC, asset_id DESC)",
    "completions_subject": "completions (subject)",
}
"""Made when an empty view has been filled: sorting once costs less than a hundred thousand insertions at random places."""
_STEADY = "PRAGMA cache_size = -8000; PRAGMA wal_autocheckpoint = 1000; PRAGMA shrink_memory;"
_FILLING = "PRAGMA cache_size = -64000; PRAGMA wal_autocheckpoint = 16000;"
"""Ids are random, so each transaction touches all of the file: most of it is kept in memory, and written down less often."""


def is_damage(error: Exception) -> bool:
    """Whether SQLite says that a file is none of its own, or broken: not that it is locked, or the disk full."""
    return type(error) is sqlite3.DatabaseError


class Filling(RuntimeError):
    """The view is being filled from the log: what it could list now would not be all."""


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
        self._reading = threading.Lock()
        self.filling = False
        """Whether it was empty and has not caught up yet."""
        try:
            self._open()
        except sqlite3.DatabaseError as wrong:
            if not is_damage(wrong):
                raise
            self._remove()
            self._open()

    def _open(self) -> None:
        self._writer = _connect(self.path)
        self._writer.executescript("PRAGMA journal_mode = WAL;")
        if (found := self._meta("version")) != VERSION and found is not None:
            raise sqlite3.DatabaseError("another version of the tables")
        self._writer.executescript(_TABLES)
        self._writer.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (VERSION,))
        if self._offsets():
            self._index()
        else:
            self._begin_filling()
        self._reader = _connect(self.path)

    def _index(self) -> None:
        for name, columns in _INDEXES.items():
            self._writer.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}")

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def renew(self) -> None:
        """An empty file in place of one that is damaged."""
        # Nobody may have the old one open then: SQLite removes a WAL by its name, which is the new one's too.
        with self._lock, self._reading:
            if self._closed:
                return
            self._reader.close()
            self._writer.close()
            self._remove()
            self._open()

    def close(self) -> None:
        with self._lock, self._reading:
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
            return self._offsets()

    def wipe(self, log: str) -> None:
        """Forget everything: it is going to be read again."""
        with self._lock:
            self._wipe(log)

    def _begin_filling(self) -> None:
        self.filling = True
        self._writer.executescript(_FILLING)
        for name in _INDEXES:
            self._writer.execute(f"DROP INDEX IF EXISTS {name}")

    def filled(self) -> None:
        """The view has caught up: from now on a record comes now and then, and pages are asked for."""
        with self._lock:
            if self.filling and not self._closed:
                self._index()
                self._writer.executescript(_STEADY)
                self.filling = False

    def _wipe(self, log: str) -> None:
        with self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            for table in ("jobs", "assets", "completions", "offsets"):
                self._writer.execute(f"DELETE FROM {table}")  # noqa: S608 (names from the line above)  # nosec B608
            self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('log', ?)", (log,))
        self._begin_filling()

    def _offsets(self) -> dict[Place, int]:
        return {(t, p): n for t, p, n in self._writer.execute("SELECT topic, partition, next FROM offsets")}

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

    def subject_of_film(self, job_id: str) -> str:
        """Subject of a transcode that is there, "" when there is none. For the thread that writes."""
        with self._lock:
            row = self._writer.execute("SELECT subject FROM jobs WHERE job_id = ? AND kind = ?", (job_id, TRANSCODE)).fetchone()
        return row[0] if row else ""

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

    def _check_filled(self) -> None:
        if self.filling:
            raise Filling

    def _rows(self, sql: str, values: Sequence[str | int] = ()) -> list[tuple[Any, ...]]:
        with self._reading:
            return self._reader.execute(sql, values).fetchall()

    def job(self, job_id: str) -> StoredJob | None:
        rows = self._rows(f"SELECT {_JOB} FROM jobs WHERE job_id = ?", (job_id,))  # noqa: S608 (constants of ours)  # nosec B608
        return StoredJob(*rows[0]) if rows else None

    def jobs(
        self, *, state: str = "", kind: str = "", request_type: str = "", before: tuple[int, str] | None = None, limit: int
    ) -> list[StoredJob]:
        """A page, newest first, after the job that `before` names by creation time and id. Raises Filling."""
        self._check_filled()
        where, values = ["1"], []
        for column, value in (("state", state), ("kind", kind), ("type", request_type)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        if before is not None:
            where.append("(created_ms, job_id) < (?, ?)")
            values.extend(before)
        sql = f"SELECT {_JOB} FROM jobs WHERE {' AND '.join(where)} ORDER BY created_ms DESC, job_id DESC LIMIT ?"  # noqa: S608 (constants of ours)  # nosec B608
        return [StoredJob(*row) for row in self._rows(sql, (*values, limit))]

    def waiting(self) -> list[tuple[str, str]]:
        """(service, job_id) of the jobs that wait for a slot, in the order of their creation."""
        sql = "SELECT waiting, job_id FROM jobs WHERE waiting <> '' ORDER BY waiting, created_ms, job_id"
        return [(service, job_id) for service, job_id in self._rows(sql)]

    def jobs_of(self, subject: str, kind: str = "", limit: int = 100) -> list[StoredJob]:
        """Jobs about a subject, newest first."""
        sql = f"SELECT {_JOB} FROM jobs WHERE subject = ? AND (? = '' OR kind = ?) ORDER BY created_ms DESC LIMIT ?"  # noqa: S608 (constants of ours)  # nosec B608
        return [StoredJob(*row) for row in self._rows(sql, (subject, kind, kind, limit))]

    def unfinished(self, kind: str, owner: str) -> int:
        """How many jobs of a kind an owner has that have not ended."""
        # Word for word the condition of the index: else SQLite would not use it.
        sql = "SELECT count(*) FROM jobs WHERE kind = ? AND owner = ? AND state NOT IN ('succeeded', 'failed', 'cancelled')"
        return int(self._rows(sql, (kind, owner))[0][0])

    def asset(self, asset_id: str) -> StoredAsset | None:
        """An asset, deleted ones included."""
        sql = f"SELECT asset_id, created_ms, {_VISIBLE}, record FROM assets WHERE asset_id = ?"  # noqa: S608 (constants of ours)  # nosec B608
        return next((StoredAsset(a, c, bool(v), r) for a, c, v, r in self._rows(sql, (asset_id,))), None)

    def assets(self, *, before: tuple[int, str] | None = None, limit: int) -> list[StoredAsset]:
        """A page of the library, newest first. Raises Filling."""
        self._check_filled()
        sql = (
            f"SELECT asset_id, created_ms, 1, record FROM assets WHERE {_VISIBLE} "  # noqa: S608 (constants of ours)  # nosec B608
            "AND (created_ms, asset_id) < (?, ?) ORDER BY created_ms DESC, asset_id DESC LIMIT ?"
        )
        at = before or (1 << 62, "")
        return [StoredAsset(a, c, bool(v), r) for a, c, v, r in self._rows(sql, (*at, limit))]

    def completions(self, subject: str) -> list[StoredCompletion]:
        """Outcomes about a subject, oldest first."""
        sql = "SELECT type, record FROM completions WHERE subject = ? ORDER BY finished_ms"
        return [StoredCompletion(*row) for row in self._rows(sql, (subject,))]

    def count(self, table: Literal["jobs", "assets"]) -> int:
        """Rows, for metrics."""
        return int(self._rows(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608 (constants of ours)  # nosec B608


def _write_jobs(db: sqlite3.Connection, folded: Folded) -> None:
    db.executemany("DELETE FROM jobs WHERE job_id = ?", [(j,) for j in folded.jobs_gone])
    db.executemany("INSERT OR REPLACE INTO jobs VALUES (?,?,?,?,?,?,?,?,?,?,?)", folded.jobs.values())
    db.executemany("INSERT OR IGNORE INTO jobs VALUES (?,?,?,?,?,?,?,?,?,?,?)", folded.accepted.values())


# Of an asset: asset_id, created_ms, deleted_ms, newest_job_ms, first_job_ms, record. `created_ms` is what was decided, else what
# the first status says, else what was promised: the same in whatever order the topics are read.
_DECIDED = """
INSERT INTO assets VALUES (?1, ?2, ?3, 0, 0, ?4) ON CONFLICT (asset_id) DO UPDATE SET created_ms = ?2, deleted_ms = ?3, record = ?4
"""
_UNDECIDED = """
UPDATE assets SET record = NULL, deleted_ms = 0, created_ms = CASE WHEN first_job_ms > 0 THEN first_job_ms ELSE created_ms END
WHERE asset_id = ?
"""
_SEEN = """
INSERT INTO assets VALUES (?1, ?2, 0, ?3, ?2, NULL) ON CONFLICT (asset_id) DO UPDATE SET
  newest_job_ms = max(newest_job_ms, ?3), first_job_ms = CASE WHEN first_job_ms > 0 THEN min(first_job_ms, ?2) ELSE ?2 END,
  created_ms = CASE WHEN record IS NOT NULL THEN created_ms WHEN first_job_ms > 0 THEN min(first_job_ms, ?2) ELSE ?2 END
"""
_PROMISED = """
INSERT INTO assets VALUES (?1, ?2, 0, ?3, 0, NULL) ON CONFLICT (asset_id) DO UPDATE SET
  newest_job_ms = max(newest_job_ms, ?3),
  created_ms = CASE WHEN record IS NULL AND first_job_ms = 0 THEN min(created_ms, ?2) ELSE created_ms END
"""


def _write_assets(db: sqlite3.Connection, folded: Folded) -> None:
    db.executemany(_UNDECIDED, [(a,) for a in folded.assets_gone])
    db.executemany("DELETE FROM assets WHERE asset_id = ? AND newest_job_ms = 0", [(a,) for a in folded.assets_gone])
    db.executemany(_DECIDED, folded.assets.values())
    db.executemany(_PROMISED, [(asset, first, newest) for asset, (first, newest) in folded.promised_assets.items()])
    db.executemany(_SEEN, [(asset, first, newest) for asset, (first, newest) in folded.seen_assets.items()])


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    # NORMAL: a power failure may take the last transactions, offsets with them, never the file.
    db.executescript("PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;" + _STEADY)
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
