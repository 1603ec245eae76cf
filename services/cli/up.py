"""`reelworks up`: everything on one machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from services.cli.exits import Refused
from services.cli.output import json_option, notes, print_json
from services.cli.stack import WORKERS, Stack, Stopped, stop_on_signals
from services.runtime import settings as settings_module
from services.runtime.telemetry import logging as telemetry


def worker_counts(given: tuple[str, ...]) -> dict[str, int]:
    """`("transcoder=2",)` → how many processes of each service; one of those not named. Raises Refused."""
    counts = dict.fromkeys(WORKERS, 1)
    for text in given:
        name, _, number = text.partition("=")
        if name not in counts or not number.isdigit() or int(number) > 64:
            raise Refused(f"--workers {text!r}: accepted is SERVICE=COUNT, with a SERVICE of {', '.join(WORKERS)} and a COUNT of 0 to 64")
        counts[name] = int(number)
    return counts


def load_settings(data: Path | None, **overrides: Any) -> tuple[settings_module.Settings, Path]:
    """The settings, and the folder for everything."""
    settings = settings_module.load(**overrides)
    return settings, (data or settings.data_path()).absolute()


data_option = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Folder for everything. Default: REELWORKS_DATA_DIR."
)
workers_option = click.option(
    "--workers", multiple=True, metavar="SERVICE=COUNT", help="Processes of a service, e.g. transcoder=2. Repeatable."
)


@click.command()
@data_option
@click.option("--host", help="Address of the gateway. Other than loopback needs REELWORKS_API_TOKEN.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the gateway; 0: a free one. Default 8080.")
@workers_option
@json_option
def up(data: Path | None, host: str | None, port: int | None, workers: tuple[str, ...], as_json: bool) -> None:
    """Run all services as processes on this machine, until SIGTERM or Ctrl-C.

    Apache Kafka is embedded unless KAFKA_BOOTSTRAP_SERVERS names one; objects lie in DIR/library unless
    REELWORKS_STORAGE_URL says where. A process that ends is started again. Logs: DIR/logs, and here without --json.

    With --json exactly one line is printed, when everything is ready:
    {"ready":true,"gateway":"http://127.0.0.1:PORT","bootstrap_servers":"…","data":"…"}
    """
    settings, folder = load_settings(data, host=host, port=port)
    telemetry.configure(settings, "supervisor")
    counts = worker_counts(workers)
    stop_on_signals()
    try:
        with Stack(settings, folder, workers=counts, echo=None if as_json else sys.stderr) as stack:
            if not as_json:
                notes().print(stack.announcement())
            ready = stack.start()
            if as_json:
                print_json(ready)
            else:
                click.echo(f"Reelworks is ready: {ready.gateway}")
                notes().print(f"Kafka {ready.bootstrap_servers}, data {ready.data}. Ctrl-C ends everything.")
            stack.watch()
    except Stopped:
        return
