"""URLs under which clients fetch what jobs have made."""

from __future__ import annotations

from schemas.events import Output
from services.runtime.storage.base import Storage, StorageError


class OutputUrls:
    """Signed URLs. The stores round their expiry, so that equal calls give equal URLs for three quarters of their life."""

    def __init__(self, storage: Storage, *, life_seconds: int) -> None:
        self._storage = storage
        self._life = life_seconds

    def of(self, output: Output, *, filename: str = "") -> str:
        """Absolute, or from the path on where the gateway serves it itself. "" when the output's bucket is not ours.

        `filename`: browsers save it under this name.
        """
        try:
            return self._storage.bucket(output.bucket).sign_get(output.key, expires_seconds=self._life, filename=filename)
        except StorageError:
            return ""
