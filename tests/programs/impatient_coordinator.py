"""A coordinator whose watchdog waits `HANG_SECONDS` of the environment, so that a test need not wait as long as the product does."""

from __future__ import annotations

import os
import sys

from services.coordinator import host
from services.runtime.settings import load
from services.runtime.telemetry import logging

if __name__ == "__main__":
    host.HANG_SECONDS = float(os.environ["HANG_SECONDS"])
    settings = load()
    logging.configure(settings, "coordinator")
    sys.exit(host.serve(settings))
