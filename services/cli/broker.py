"""`reelworks broker`: the embedded Kafka in the foreground."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from services.cli.exits import Unreachable
from services.cli.output import json_option, notes
from services.cli.stack import Stopped, stop_on_signals
from services.runtime import settings as settings_module
from services.runtime.kafka import admin
from services.runtime.kafka.local import EmbeddedKafka


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of its log and port. Default: kafka in the data folder."
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Its port. 0: the one it had, or a free one.")
@click.option("--topics/--no-topics", default=True, help="Make the declared topics, too.")
@json_option
def broker(data: Path | None, port: int, topics: bool, as_json: bool) -> None:
    """Run Apache Kafka on this machine until Ctrl-C, without Java or Docker; topics and offsets stay in the folder.

    Prints KAFKA_BOOTSTRAP_SERVERS for other commands; with --json one line {"ready":true,"bootstrap_servers":…}.
    """
    settings = settings_module.load()
    stop_on_signals()
    try:
        if not as_json:
            notes().print("Starting Apache Kafka; the first time its jars (43 MB) are downloaded …")
        with EmbeddedKafka((data or settings.data_path() / "kafka").absolute(), cache=settings.cache_path(), port=port) as kafka:
            if topics:
                admin.apply(msgspec.structs.replace(settings, bootstrap_servers=kafka.bootstrap_servers))
            click.echo(kafka.describe() if as_json else f"KAFKA_BOOTSTRAP_SERVERS={kafka.bootstrap_servers}")
            while kafka.alive():
                time.sleep(0.2)
            raise Unreachable(f"the broker ended by itself; its log ends so:\n{kafka.log_tail()}")
    except Stopped:
        return
