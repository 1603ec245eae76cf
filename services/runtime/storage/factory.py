"""From settings to the buckets on the allow-list."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from services.runtime.settings import Settings, SettingsError
from services.runtime.storage.base import ObjectStore, Refused, Storage
from services.runtime.storage.local import LocalStore
from services.runtime.storage.roles import Role
from services.runtime.storage.signing_key import load_signing_key

# Amazon S3 User Guide, "General purpose bucket naming rules"; other stores also accept capitals and underscores.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_ACCEPTED = "accepted are file:///folder and s3://bucket"


class Buckets:
    """The Storage of one process. Buckets are opened when they are first named."""

    def __init__(self, default: str, others: tuple[str, ...], open_bucket: Callable[[str], ObjectStore]) -> None:
        self.default_bucket = default
        self.names = tuple(dict.fromkeys((default, *others)))
        self._open = open_bucket
        self._opened: dict[str, ObjectStore] = {}

    def bucket(self, name: str = "") -> ObjectStore:
        name = name or self.default_bucket
        if name not in self.names:
            raise Refused(
                f"bucket {name[:80]!r} is not on the allow-list; it has: {', '.join(self.names)} "
                "(REELWORKS_STORAGE_URL and REELWORKS_BUCKETS)"
            )
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    async def close(self) -> None:
        opened, self._opened = self._opened, {}
        for store in opened.values():
            await store.close()


def default_bucket(settings: Settings) -> str:
    """Name of the bucket that a request means when it names none; "" where no storage is set. Opens nothing."""
    url = urlsplit(settings.storage_url)
    return url.netloc or Path(unquote(url.path)).name


def open_storage(settings: Settings, *, role: Role = "app") -> Storage:
    """The buckets that the settings allow. Folders are made where they are missing; nothing is asked of a network yet.

    `role` says whose credentials this process's own reads and writes use; signed PUTs are always ingest's, signed GETs
    delivery's. Raises SettingsError for a URL that is unset or not understood.
    """
    text = settings.storage_url
    if not text:
        raise SettingsError(f"REELWORKS_STORAGE_URL is not set; {_ACCEPTED}")
    try:
        url = urlsplit(text)
    except ValueError as wrong:
        raise SettingsError(f"REELWORKS_STORAGE_URL={text!r}: {wrong}; {_ACCEPTED}") from None
    if url.query or url.fragment or "@" in url.netloc:
        raise SettingsError(
            f"REELWORKS_STORAGE_URL={text.partition('?')[0]!r}: a query, a fragment or credentials are not read from it; {_ACCEPTED}"
        )
    match url.scheme:
        case "file":
            return _folders(settings, text, url)
        case "s3":
            return _s3(settings, text, url, role)
        case "oci":
            raise SettingsError(
                f"REELWORKS_STORAGE_URL={text!r}: this version does not have OCI's own interface; OCI Object Storage can be used "
                "through its S3 compatibility endpoint (s3://bucket with AWS_ENDPOINT_URL_S3)"
            )
        case _:
            raise SettingsError(f"REELWORKS_STORAGE_URL={text!r} is not understood; {_ACCEPTED}")


def _folders(settings: Settings, text: str, url: SplitResult) -> Storage:
    path = Path(unquote(url.path))
    if url.netloc not in ("", "localhost") or not path.is_absolute() or not path.name or ".." in path.parts or "\0" in str(path):
        raise SettingsError(
            f"REELWORKS_STORAGE_URL={text!r}: a folder is written with three slashes and its whole path, file:///var/lib/media"
        )
    for name in settings.buckets:
        if "/" in name or "\\" in name or name in ("", ".", "..") or "\0" in name:
            raise SettingsError(f"REELWORKS_BUCKETS: {name!r} cannot be a folder beside {path}; accepted is a plain name")
    key = load_signing_key(settings)

    def open_folder(name: str) -> ObjectStore:
        folder = path.parent / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as wrong:
            raise SettingsError(
                f"the folder {folder} of bucket {name!r} cannot be used: {wrong.strerror}; see REELWORKS_STORAGE_URL"
            ) from None
        return LocalStore(folder, bucket=name, signing_key=key)

    buckets = Buckets(path.name, settings.buckets, open_folder)
    for name in buckets.names:
        buckets.bucket(name)
    return buckets


def _s3(settings: Settings, text: str, url: SplitResult, role: Role) -> Storage:
    if url.path.strip("/"):
        raise SettingsError(f"REELWORKS_STORAGE_URL={text!r}: a bucket is used as a whole; accepted is s3://{url.netloc or 'bucket'}")
    for name in (url.netloc, *settings.buckets):
        if not _BUCKET.fullmatch(name):
            raise SettingsError(
                f"{name!r} in REELWORKS_STORAGE_URL or REELWORKS_BUCKETS is no name of a bucket: 3 to 63 letters, digits, '.', '-'"
            )
    # boto3 takes a third of a second to import: not for those who use a folder.
    from services.runtime.storage.s3_store import S3Connection, S3Store

    connection = S3Connection(settings, role)
    return Buckets(url.netloc, settings.buckets, lambda name: S3Store(name, connection))
