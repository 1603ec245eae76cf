"""Whose credentials a request to S3 is signed with."""

from __future__ import annotations

from typing import Final, Literal

Role = Literal["app", "ingest", "delivery"]
"""`app` reads and writes, `ingest` only writes, `delivery` only reads."""

ROLES: Final[tuple[Role, ...]] = ("app", "ingest", "delivery")
