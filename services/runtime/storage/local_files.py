"""Files below one root: how a key becomes a file, and how a file appears whole. Blocking calls; `local.py` runs them in threads.

A key is walked segment by segment with `openat` and O_NOFOLLOW, so that neither `..` nor a symbolic link, not even one
that is put in place meanwhile, leads out of the root. What is not finished lies in the hidden folder `.reelworks` of the root.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from services.runtime.storage.base import NotFound, ObjectInfo, PreconditionFailed, Refused, StorageError, StorageFull
from services.runtime.storage.keys import check_key, content_type_of

HIDDEN = ".reelworks"
MAX_SEGMENT_BYTES = 255
"""NAME_MAX of the file systems in use (ext4, XFS, Btrfs, APFS)."""
TYPE_ATTRIBUTE = "user.reelworks.content-type"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to hang on a named pipe that lies in the folder.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Whoever removes an emptied folder competes with whoever writes into it: the writer makes it again, at most so often.
_ATTEMPTS = 100
# More locks than processes that write at once; fewer would only make them wait for each other.
_LOCKS = 64


def etag_of(status: os.stat_result) -> str:
    """Cheap and stable over restarts: every write is a new file with its own time, in nanoseconds."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


class Folder:
    """One bucket's folder."""

    def __init__(self, root: Path, bucket: str) -> None:
        self.root = Path(os.path.realpath(root))
        self.bucket = bucket

    def check(self, key: str) -> list[str]:
        """The segments of a key. Raises Refused for what a folder cannot hold."""
        segments = check_key(key).split("/")
        if segments[0] == HIDDEN:
            raise Refused(f"the key {key!r} cannot be used: {HIDDEN!r} is where this store keeps unfinished files")
        for segment in segments:
            if len(segment.encode()) > MAX_SEGMENT_BYTES:
                raise Refused(
                    f"the key {key[:120]!r} cannot be used: a segment is {len(segment.encode())} bytes long, and a folder store "
                    f"accepts at most {MAX_SEGMENT_BYTES} between two slashes"
                )
        return segments

    @contextmanager
    def translated(self, key: str, *, writing: bool = False) -> Generator[None]:
        """Errors of the system as errors of storage."""
        where = f"{key!r} in bucket {self.bucket!r}"
        try:
            yield
        except OSError as wrong:
            match wrong.errno:
                case errno.ELOOP:
                    raise Refused(f"{where}: its path holds a symbolic link, and those are not followed") from wrong
                case errno.ENOTDIR | errno.EISDIR | errno.EEXIST | errno.ENOTEMPTY if writing:
                    raise Refused(
                        f"{where} cannot be stored: in a folder, an object and objects below it ('a' and 'a/b') cannot exist side by side"
                    ) from wrong
                case errno.ENOENT | errno.ENOTDIR | errno.EISDIR | errno.ENXIO:
                    raise NotFound(f"no object {where}") from wrong
                case errno.EACCES | errno.EPERM | errno.EROFS:
                    raise Refused(f"{where}: {wrong.strerror}; this process needs the right to it in {self.root}") from wrong
                case errno.ENOSPC | errno.EDQUOT:
                    raise StorageFull(f"{where} could not be stored: no space is left in {self.root}") from wrong
                case _:
                    raise StorageError(f"{where}: {wrong.strerror or wrong}") from wrong

    @contextmanager
    def directory(self, segments: Sequence[str], *, create: bool = False) -> Generator[int]:
        """A descriptor of a folder below the root."""
        try:
            current = os.open(self.root, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"bucket {self.bucket!r}: there is no folder {self.root}") from None
        try:
            for segment in segments:
                deeper = _enter(current, segment, create)
                os.close(current)
                current = deeper
            yield current
        finally:
            os.close(current)

    @contextmanager
    def locked(self, key: str) -> Generator[None]:
        """Exclusion of other writers of this key, in this process and others, while an object is put in its place."""
        with self.directory([HIDDEN, "locks"], create=True) as folder:
            lock = os.open(
                f"{zlib.crc32(key.encode()) % _LOCKS:02}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=folder
            )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def open(self, key: str, *, if_match: str = "") -> tuple[int, ObjectInfo]:
        """A descriptor for reading, and what it is. Raises NotFound, PreconditionFailed."""
        *parents, name = self.check(key)
        with self.translated(key), self.directory(parents) as parent:
            fd = os.open(name, _READ, dir_fd=parent)
        try:
            info = self.info(key, fd)
            if if_match and info.etag != if_match:
                raise PreconditionFailed(f"{key!r} in bucket {self.bucket!r} has changed: its ETag is {info.etag}, expected was {if_match}")
        except BaseException:
            os.close(fd)
            raise
        return fd, info

    def info(self, key: str, fd: int) -> ObjectInfo:
        """What HEAD tells of an open file."""
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotFound(f"no object {key!r} in bucket {self.bucket!r}")
        return ObjectInfo(
            bucket=self.bucket,
            key=key,
            size=status.st_size,
            etag=etag_of(status),
            modified_ms=status.st_mtime_ns // 1_000_000,
            content_type=_stored_type(fd) or content_type_of(key),
        )

    def publish(self, draft: Draft, key: str, *, if_none_match: bool = False, if_match: str = "") -> ObjectInfo:
        """Give a finished draft its key: from now on it is there, whole, also after a power failure."""
        *parents, name = self.check(key)
        with self.translated(key, writing=True):
            draft.finish()
            for attempt in range(_ATTEMPTS):
                try:
                    with self.locked(key), self.directory(parents, create=True) as parent:
                        self._place(draft, parent, name, key, if_none_match, if_match)
                        os.fsync(parent)
                        return self.info(key, draft.fd)
                except FileNotFoundError:  # a folder was removed as empty after we had opened it
                    if attempt == _ATTEMPTS - 1:
                        raise
        raise AssertionError("not reached")

    def _place(self, draft: Draft, parent: int, name: str, key: str, if_none_match: bool, if_match: str) -> None:
        present = _status(parent, name)
        if present is not None and stat.S_ISDIR(present.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if if_match and (present is None or etag_of(present) != if_match):
            found = "it is not there" if present is None else f"its ETag is {etag_of(present)}"
            raise PreconditionFailed(f"{key!r} in bucket {self.bucket!r} was not replaced: {found}, expected was {if_match}")
        if not if_none_match:
            os.replace(draft.name, name, src_dir_fd=draft.folder, dst_dir_fd=parent)
            return
        exists = PreconditionFailed(f"{key!r} exists already in bucket {self.bucket!r}")
        if present is not None:
            raise exists
        if not draft.link(parent, name):
            raise exists
        # Under its other name the draft is removed by Draft.close.

    def remove(self, key: str) -> None:
        """Remove an object and the folders that it leaves empty. Not synchronised to disk: to lose a removal harms nothing."""
        *parents, name = self.check(key)
        with self.translated(key):
            try:
                with self.locked(key), self.directory(parents) as parent:
                    os.unlink(name, dir_fd=parent)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            except PermissionError:
                # macOS and POSIX answer EPERM for a folder, Linux EISDIR.
                with self.directory(parents) as parent:
                    present = _status(parent, name)
                if present is None or stat.S_ISDIR(present.st_mode):
                    return
                raise
        for depth in range(len(parents), 0, -1):
            try:
                with self.directory(parents[: depth - 1]) as above:
                    os.rmdir(parents[depth - 1], dir_fd=above)
            except (OSError, StorageError):
                return

    def draft(self) -> Draft:
        """A new file that has no key yet."""
        with self.translated("a temporary file", writing=True):
            with self.directory([HIDDEN, "tmp"], create=True) as folder:
                return Draft(os.dup(folder), owner=self)


class Draft:
    """A file that is being written. `close` removes it unless it was published."""

    def __init__(self, folder: int, *, owner: Folder) -> None:
        self.folder = folder
        self.name = f"{os.getpid()}-{secrets.token_hex(8)}"
        self.size = 0
        self._owner = owner
        self.fd = os.open(self.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)

    def write(self, data: bytes) -> None:
        """Append all of it."""
        with self._owner.translated("a temporary file", writing=True):
            view = memoryview(data)
            while view:
                written = os.pwrite(self.fd, view, self.size)
                self.size += written
                view = view[written:]

    def copy(self, source: int, start: int, count: int) -> None:
        """Append `count` bytes of an open file, inside the kernel where it can. Holes stay holes where the file system has them.

        On XFS and Btrfs the kernel shares the blocks instead of copying them, where both positions are whole blocks.
        """
        with self._owner.translated("a temporary file", writing=True):
            if os.fstat(source).st_size < start + count:
                raise self._ended()
            end = start + count
            while start < end:
                begins, ends = _data(source, start, end)
                if begins > start:
                    self.size += begins - start
                    os.ftruncate(self.fd, self.size)
                start = begins
                while start < ends:
                    moved = _move(source, start, self.fd, self.size, ends - start)
                    if not moved:
                        raise self._ended()
                    self.size, start = self.size + moved, start + moved

    def _ended(self) -> StorageError:
        return StorageError(f"a source file in {self._owner.root} ended early: it was changed while it was copied")

    def set_type(self, content_type: str) -> None:
        """Keep a media type that the key does not tell. On a file system without attributes the key decides."""
        if content_type and hasattr(os, "setxattr"):
            with suppress(OSError):
                os.setxattr(self.fd, TYPE_ATTRIBUTE, content_type.encode())

    def link(self, folder: int, name: str) -> bool:
        """Give it a name that is free; False when there is something of that name."""
        try:
            os.link(self.name, name, src_dir_fd=self.folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as wrong:
            if wrong.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # A file system without hard links (exFAT, some network shares): where it matters, a lock keeps other processes of ours away.
            os.replace(self.name, name, src_dir_fd=self.folder, dst_dir_fd=folder)
        return True

    def finish(self) -> None:
        """All of it is on the disk; its time is exact, since the kernel's own clock for files ticks in milliseconds."""
        now = time.time_ns()
        os.utime(self.fd, ns=(now, now))
        os.fsync(self.fd)

    def close(self) -> None:
        """Release the descriptors; remove the temporary name where it is still there."""
        os.close(self.fd)
        with suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self.folder)
        os.close(self.folder)


def _enter(parent: int, segment: str, create: bool) -> int:
    """Descriptor of a folder in a folder. A symbolic link raises ELOOP."""
    for attempt in range(_ATTEMPTS):
        try:
            return os.open(segment, _DIRECTORY, dir_fd=parent)
        except NotADirectoryError:
            present = _status(parent, segment)
            if present is not None and stat.S_ISLNK(present.st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
            raise
        except FileNotFoundError:
            if not create or attempt == _ATTEMPTS - 1:
                raise
        with suppress(FileExistsError):
            os.mkdir(segment, 0o755, dir_fd=parent)
            os.fsync(parent)
    raise AssertionError("not reached")


def _status(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _stored_type(fd: int) -> str:
    if not hasattr(os, "getxattr"):
        return ""
    try:
        return os.getxattr(fd, TYPE_ATTRIBUTE).decode("utf-8", "replace")
    except OSError:
        return ""


def _data(source: int, start: int, end: int) -> tuple[int, int]:
    """The first data in [start, end) of a file, as a range; what lies before it is a hole. The whole where holes are not told."""
    if not hasattr(os, "SEEK_DATA"):
        return start, end
    try:
        begins = os.lseek(source, start, os.SEEK_DATA)
        return (begins, min(end, os.lseek(source, begins, os.SEEK_HOLE))) if begins < end else (end, end)
    except OSError as wrong:
        if wrong.errno == errno.ENXIO:  # a hole up to the end of the file
            return end, end
        if wrong.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY):
            raise
    return start, end


def _move(source: int, start: int, target: int, position: int, count: int) -> int:
    """Some bytes from file to file; 0 at the end of the source."""
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, count, start, position)
        except OSError as wrong:
            if wrong.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF):
                raise
    return os.pwrite(target, os.pread(source, min(count, 1024**2), start), position)
