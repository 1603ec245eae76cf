"""Multipart uploads of the folder store: `.reelworks/uploads/{id}/` has `upload.json` and a file for each part. Blocking calls."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from services.runtime.storage.base import MIN_PART_BYTES, MultipartUpload, NotFound, Part, PreconditionFailed, Refused
from services.runtime.storage.local_files import HIDDEN, Draft, Folder, etag_of
from services.runtime.storage.parts import check_number, check_order

_ABOUT = "upload.json"
_COMPARED_BYTES = 1 << 20
_ID = re.compile(r"[0-9a-f]{32}")
_PART = re.compile(r"[0-9]{5}")


class _About(msgspec.Struct, frozen=True):
    key: str
    content_type: str
    initiated_ms: int


class Uploads:
    """The multipart uploads of one folder."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def begin(self, key: str, content_type: str) -> MultipartUpload:
        self._folder.check(key)
        about = _About(key, content_type, time.time_ns() // 1_000_000)
        upload = MultipartUpload(bucket=self._folder.bucket, key=key, upload_id=secrets.token_hex(16), initiated_ms=about.initiated_ms)
        draft = self._folder.draft()
        try:
            draft.write(msgspec.json.encode(about))
            draft.finish()
            with (
                self._folder.translated(key, writing=True),
                self._folder.directory([HIDDEN, "uploads", upload.upload_id], create=True) as home,
            ):
                os.replace(draft.name, _ABOUT, src_dir_fd=draft.folder, dst_dir_fd=home)
                os.fsync(home)
        finally:
            draft.close()
        return upload

    def content_type(self, upload: MultipartUpload) -> str:
        """The media type it was begun with. Raises NotFound when the upload is over."""
        with self._home(upload) as home:
            return _about(home).content_type

    def store(self, upload: MultipartUpload, number: int, draft: Draft) -> Part:
        """Make a finished draft a part.

        One of the same bytes that is there stays, with its ETag, as with the stores whose ETags are sums of the content: so two
        processes that do the same work do not disturb each other.
        """
        check_number(number)
        draft.finish()
        name = f"{number:05}"
        with self._home(upload) as home:
            status = os.fstat(draft.fd)
            if not draft.link(home, name):
                if there := _same(home, name, draft.fd):
                    status = there
                else:
                    os.replace(draft.name, name, src_dir_fd=draft.folder, dst_dir_fd=home)
            return Part(number=number, etag=etag_of(status), size=draft.size)

    def parts(self, upload: MultipartUpload) -> list[Part]:
        with self._home(upload) as home:
            found: list[Part] = []
            for name in sorted(n for n in os.listdir(home) if _PART.fullmatch(n)):
                status = os.stat(name, dir_fd=home, follow_symlinks=False)
                found.append(Part(number=int(name), etag=etag_of(status), size=status.st_size))
            return found

    def verified(self, upload: MultipartUpload, parts: Sequence[Part]) -> list[Part]:
        """The stored parts that `parts` names. Raises PreconditionFailed and Refused as CompleteMultipartUpload does."""
        stored = {part.number: part for part in self.parts(upload)}
        check_order(upload.key, parts)
        chosen: list[Part] = []
        for part in parts:
            there = stored.get(part.number)
            if there is None or there.etag != part.etag:
                what = "is not stored" if there is None else f"has the ETag {there.etag}"
                raise PreconditionFailed(f"part {part.number} of the upload of {upload.key!r} {what}; named was {part.etag}")
            chosen.append(there)
        for part in chosen[:-1]:
            if part.size < MIN_PART_BYTES:
                raise Refused(
                    f"part {part.number} of {upload.key!r} is {part.size} bytes long; all but the last have at least {MIN_PART_BYTES}"
                )
        return chosen

    def open(self, upload: MultipartUpload, part: Part) -> int:
        """A descriptor of a part for reading. Raises PreconditionFailed when it was replaced."""
        with self._home(upload) as home:
            fd = os.open(f"{part.number:05}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=home)
        if etag_of(os.fstat(fd)) != part.etag:
            os.close(fd)
            raise PreconditionFailed(f"part {part.number} of the upload of {upload.key!r} was replaced while it was completed")
        return fd

    def forget(self, upload: MultipartUpload) -> None:
        """Remove it with its parts."""
        with suppress(NotFound):
            with self._home(upload):
                pass  # an upload of another key is not this one
            self._remove(upload.upload_id)

    def under_way(self, prefix: str) -> list[MultipartUpload]:
        found: list[MultipartUpload] = []
        for upload_id in self._ids():
            with suppress(FileNotFoundError, NotFound), self._folder.directory([HIDDEN, "uploads", upload_id]) as home:
                about = _about(home)
                if about.key.startswith(prefix):
                    found.append(
                        MultipartUpload(bucket=self._folder.bucket, key=about.key, upload_id=upload_id, initiated_ms=about.initiated_ms)
                    )
        return sorted(found, key=lambda u: (u.key, u.initiated_ms, u.upload_id))

    def sweep(self, before: float) -> int:
        """Remove uploads and temporary files that nothing was written to since `before` (seconds since 1970)."""
        removed = 0
        for upload_id in self._ids():
            with suppress(FileNotFoundError), self._folder.directory([HIDDEN, "uploads", upload_id]) as home:
                if os.fstat(home).st_mtime >= before:
                    continue
            self._remove(upload_id)
            removed += 1
        with suppress(FileNotFoundError), self._folder.directory([HIDDEN, "tmp"]) as folder:
            for name in os.listdir(folder):
                with suppress(FileNotFoundError):
                    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < before:
                        os.unlink(name, dir_fd=folder)
                        removed += 1
        return removed

    def _ids(self) -> list[str]:
        try:
            with self._folder.directory([HIDDEN, "uploads"]) as home:
                return [name for name in os.listdir(home) if _ID.fullmatch(name)]
        except FileNotFoundError:
            return []

    @contextmanager
    def _home(self, upload: MultipartUpload) -> Generator[int]:
        over = NotFound(f"no multipart upload {upload.upload_id!r} of {upload.key!r} is under way in bucket {self._folder.bucket!r}")
        if not _ID.fullmatch(upload.upload_id):
            raise over
        try:
            with self._folder.translated(upload.key), self._folder.directory([HIDDEN, "uploads", upload.upload_id]) as home:
                if _about(home).key != upload.key:
                    raise over
                yield home
        except NotFound:
            raise over from None

    def _remove(self, upload_id: str) -> None:
        with suppress(FileNotFoundError), self._folder.directory([HIDDEN, "uploads"]) as above:
            # Under a temporary name nobody finds it any more.
            grave = f"{upload_id}.{secrets.token_hex(4)}"
            os.rename(upload_id, grave, src_dir_fd=above, dst_dir_fd=above)
            fd = os.open(grave, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above)
            try:
                while not _emptied(fd, grave, above):
                    pass  # who had it open may have put a part into it meanwhile
            finally:
                os.close(fd)


def _emptied(fd: int, name: str, above: int) -> bool:
    """Remove the files in an open folder and then the folder itself. False when something came between the two."""
    for file in os.listdir(fd):
        with suppress(FileNotFoundError):
            os.unlink(file, dir_fd=fd)
    try:
        os.rmdir(name, dir_fd=above)
    except OSError as wrong:
        if wrong.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _same(home: int, name: str, other: int) -> os.stat_result | None:
    """The status of a part that has the bytes of an open file; None when it has others."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=home)
    try:
        status, at = os.fstat(fd), 0
        if status.st_size != os.fstat(other).st_size:
            return None
        while piece := os.pread(fd, _COMPARED_BYTES, at):
            if piece != os.pread(other, len(piece), at):
                return None
            at += len(piece)
        return status
    finally:
        os.close(fd)


def _about(home: int) -> _About:
    fd = os.open(_ABOUT, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=home)
    try:
        return msgspec.json.decode(os.read(fd, 64 * 1024), type=_About)
    finally:
        os.close(fd)
