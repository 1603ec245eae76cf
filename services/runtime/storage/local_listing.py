"""Listing a folder in the order of its keys' UTF-8 bytes, one directory in memory at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import suppress

from services.runtime.storage.base import ObjectInfo, StorageError
from services.runtime.storage.keys import key_fault
from services.runtime.storage.local_files import HIDDEN, Folder, etag_of


def objects(folder: Folder, prefix: str = "", start_after: str = "") -> Generator[ObjectInfo]:
    """Objects below `prefix` whose key is greater than `start_after`.

    Left out: links, pipes and the like, files whose name is no key, and what is unfinished.
    """
    above = prefix.rpartition("/")[0]
    if above and key_fault(above):
        return
    with folder.translated(prefix):
        try:
            with folder.directory(above.split("/") if above else []) as fd:
                yield from _walk(folder, fd, above + "/" if above else "", prefix, start_after)
        except (FileNotFoundError, NotADirectoryError):
            return


def _walk(folder: Folder, fd: int, path: str, prefix: str, start_after: str) -> Generator[ObjectInfo]:
    # A directory's keys all begin with its name and a slash, so with the slash it sorts among files where its keys do.
    with os.scandir(fd) as entries:
        names = sorted(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries)
    for name in names:
        key = path + name
        if not path and name == HIDDEN + "/":
            continue
        if name.endswith("/"):
            if (key.startswith(prefix) or prefix.startswith(key)) and (key > start_after or start_after.startswith(key)):
                with suppress(FileNotFoundError, NotADirectoryError):  # removed meanwhile
                    deeper = os.open(name[:-1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                    try:
                        yield from _walk(folder, deeper, key, prefix, start_after)
                    finally:
                        os.close(deeper)
            continue
        if not key.startswith(prefix) or key <= start_after or key_fault(key):
            continue
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as wrong:
            raise StorageError(f"{key!r} in bucket {folder.bucket!r}: {wrong.strerror}") from wrong
        if stat.S_ISREG(status.st_mode):
            yield ObjectInfo(
                bucket=folder.bucket, key=key, size=status.st_size, etag=etag_of(status), modified_ms=status.st_mtime_ns // 1_000_000
            )
