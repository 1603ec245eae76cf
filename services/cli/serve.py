"""`reelworks serve SERVICE`: one service as a process, as an orchestrator or our supervisor runs it."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Any

import click
import uvloop

from schemas import acls
from services.cli.exits import Exit
from services.cli.stack import LIVE, WORKERS
from services.runtime import settings as settings_module
from services.runtime.telemetry import logging as telemetry
from services.runtime.telemetry import metrics
from services.runtime.version import VERSION

SERVICES = ("gateway", "coordinator", LIVE, *WORKERS)


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
@click.option("--metrics-port", type=int, help="Port of /metrics, /healthz, /readyz; 0: a free one, -1: none.")
@click.option("--slots", type=int, help="Tasks that a worker runs at once.")
def serve(service: str, metrics_port: int | None, slots: int | None) -> None:
    """Run one SERVICE in the foreground; settings come from the environment.

    SIGTERM ends it in order. It ends by itself when it cannot go on: run it under something that starts it again
    (systemd, Kubernetes, `reelworks up`). Starting is the same as recovering.
    """
    # Until the service hears it itself. Before it has begun, there is nothing to end in order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.OK))
    settings = settings_module.load(metrics_port=metrics_port, slots=slots)
    telemetry.configure(settings, service)
    metrics.BUILD.info({"service": service, "version": VERSION})
    if service == "gateway":
        module: Any = importlib.import_module("services.gateway.app")
        uvloop.run(module.serve(settings))
        return
    # The gateway looks for itself: it answers polls without Kafka. The others can do nothing without all of it.
    access: Any = importlib.import_module("services.runtime.kafka.access")
    access.require(settings, acls.of_service(service))
    if service == "coordinator":
        host: Any = importlib.import_module("services.coordinator.host")
        raise SystemExit(host.serve(settings))
    if service == LIVE:
        live: Any = importlib.import_module("services.streamer.live")
        raise SystemExit(live.serve(settings))
    worker: Any = importlib.import_module("services.runtime.jobs.worker")
    handler: Any = importlib.import_module(f"services.{service}.handler")
    raise SystemExit(worker.serve(handler.handler(), settings))
