"""The secret behind the folder store's signed URLs: a setting, or made once and kept in the data folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from services.runtime.settings import Settings, SettingsError

_BYTES = 32
"""As long as the hash (RFC 2104 §3)."""


def load_signing_key(settings: Settings) -> bytes:
    """`REELWORKS_SIGNING_KEY`, else `signing.key` in the data folder, which is made (mode 0600) where there is none.

    Processes that start at once agree on one key. Raises SettingsError when the file cannot be read or made.
    """
    if settings.signing_key:
        return settings.signing_key.encode()
    folder = settings.data_path()
    path = folder / "signing.key"
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _make(path)
        key = path.read_bytes()
    except OSError as wrong:
        raise SettingsError(
            f"the signing key {path} cannot be read or made ({wrong.strerror}); set REELWORKS_SIGNING_KEY or REELWORKS_DATA_DIR"
        ) from None
    if len(key) < _BYTES:
        raise SettingsError(f"the signing key {path} is {len(key)} bytes long, less than {_BYTES}; remove it and a new one is made")
    return key


def _make(path: Path) -> None:
    """Write the key beside its place, then link it there: whoever comes first gives the key to all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            os.write(fd, secrets.token_hex(_BYTES).encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
