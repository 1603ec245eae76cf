"""Folders as they are while a service works in them."""

from __future__ import annotations

import os
from pathlib import Path


def files(folder: Path) -> list[Path]:
    """Every file below a folder. One that is removed meanwhile is passed over, as `Path.rglob` does not do before Python 3.13."""
    return sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
